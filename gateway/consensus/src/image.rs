//! A state as one piece of bytes: what a snapshot is made of.

use crate::logs::Logs;
use crate::types::SnapshotMeta;
use crate::whole::Whole;
use portcullis_policy::{State, decode_snapshot, encode_snapshot};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// The bytes of a state (`portcullis_policy::encode_snapshot`). Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image(pub(crate) Arc<Vec<u8>>);

/// The largest image, in bytes.
pub(crate) const MAX_IMAGE: usize = 1 << 30;

/// Before a state, where the audit logs precede it: no format of a state has this number.
const WITH_LOGS: u8 = 0xa1;

fn logs_in(bytes: &[u8]) -> io::Result<Logs> {
    let (logs, rest): (Logs, &[u8]) = postcard::take_from_bytes(bytes).map_err(damaged)?;
    match rest.is_empty() && logs.has_begun() && logs.is_whole() {
        true => Ok(logs),
        false => Err(damaged("its audit logs do not fit together")),
    }
}

/// What a file of an image begins with.
const MAGIC: &[u8; 16] = b"portcullis img 1";

impl Image {
    /// The image of a state alone.
    pub(crate) fn of_state(state: &State) -> io::Result<Self> {
        Self::of(state, &Logs::default())
    }

    /// The image of a state and of the audit logs; in the older form, which every version reads, where
    /// that can say it.
    pub(crate) fn of(state: &State, logs: &Logs) -> io::Result<Self> {
        let mut bytes = Vec::new();
        if logs.has_begun() {
            let logs = postcard::to_stdvec(logs).map_err(io::Error::other)?;
            let length = u64::try_from(logs.len()).unwrap_or(u64::MAX);
            bytes.push(WITH_LOGS);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&logs);
        }
        bytes.extend(encode_snapshot(&state.snapshot()).map_err(io::Error::other)?);
        if bytes.len() > MAX_IMAGE {
            return Err(io::Error::other("the state is larger than an image may be"));
        }
        Ok(Self(Arc::new(bytes)))
    }

    /// The state that it is of.
    pub(crate) fn state(&self) -> io::Result<State> {
        self.whole().map(|whole| whole.state)
    }

    /// All that it is of.
    pub(crate) fn whole(&self) -> io::Result<Whole> {
        let (logs, state) = match self.0.split_first() {
            Some((&WITH_LOGS, rest)) => {
                let short = || damaged("it is too short");
                let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
                let length = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX);
                let (logs, state) = rest.split_at_checked(length).ok_or_else(short)?;
                (logs_in(logs)?, state)
            }
            Some(_) | None => (Logs::default(), self.0.as_slice()),
        };
        let snapshot = decode_snapshot(state).map_err(damaged)?;
        let state = State::restore(snapshot).map_err(damaged)?;
        Ok(Whole { state, logs })
    }

    /// SHA-256 of the bytes.
    pub(crate) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_slice()).into()
    }

    /// Writes it beside `path` and moves it there: what is there is whole and survives the loss of
    /// power.
    pub(crate) fn write(&self, path: &Path, meta: &SnapshotMeta) -> io::Result<()> {
        let meta = postcard::to_stdvec(meta).map_err(io::Error::other)?;
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        let mut hash = Sha256::new();
        let length = u64::try_from(meta.len()).unwrap_or(u64::MAX).to_be_bytes();
        for part in [MAGIC.as_slice(), &length, &meta, self.0.as_slice()] {
            hash.update(part);
            file.write_all(part)?;
        }
        file.write_all(&hash.finalize())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Reads what [`Image::write`] wrote, all of it, against its checksum.
    pub(crate) fn read(path: &Path) -> io::Result<(SnapshotMeta, Self)> {
        let most = u64::try_from(MAX_IMAGE).unwrap_or(u64::MAX);
        let mut bytes = Vec::new();
        File::open(path)?
            .take(most.saturating_add(1 << 20))
            .read_to_end(&mut bytes)?;
        let whole = bytes.len();
        let body = whole
            .checked_sub(32)
            .and_then(|end| bytes.split_at_checked(end));
        let (body, sum) = body.ok_or_else(|| damaged("it is too short"))?;
        if Sha256::digest(body).as_slice() != sum {
            return Err(damaged("its checksum is wrong"));
        }
        let rest = body
            .strip_prefix(MAGIC.as_slice())
            .ok_or_else(|| damaged("it is no image"))?;
        let (length, rest) = rest
            .split_first_chunk::<8>()
            .ok_or_else(|| damaged("it is too short"))?;
        let length = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (meta, image) = rest
            .split_at_checked(length)
            .ok_or_else(|| damaged("it is too short"))?;
        let meta = postcard::from_bytes(meta).map_err(damaged)?;
        Ok((meta, Self(Arc::new(image.to_vec()))))
    }
}

pub(crate) fn damaged(problem: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.to_string())
}
