//! What a witness must not forget, in a directory: the latest checkpoint of each log that it cosigned, its key, and checkpoints that
//! contradict each other.
//!
//! A witness that forgets may cosign a second history. So what it remembers is on disk before a cosignature leaves; what is damaged,
//! missing, or older than what the key has signed is refused, not repaired; and one process at a time has it. A mark beside the key says
//! how often the key has signed: a directory that came back from a backup alone is found out. One that came back together with the key
//! is not, and nothing in it could tell.

mod evidence;
mod files;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use portcullis_audit::tlog::{Against, Hash, Note, Remembered, Witnessed};
use portcullis_certs::fleet::WitnessKey;
use serde_json::{Value, json};

use self::evidence::Evidence;
pub use self::evidence::Kept;
use self::files::{locked, make_folder, replace};
use super::limits::WITNESS_STATE_BYTES;
use super::tiles::read;

/// A witness's directory and key, held by this process alone.
#[derive(Debug)]
pub struct Home {
    state: PathBuf,
    mark: PathBuf,
    /// How often it was written.
    sequence: u64,
    /// Set once something could not be made durable: what the system then says of its files is not to be believed.
    broken: bool,
    evidence: Evidence,
    _directory_lock: File,
    _key_lock: File,
}

/// What was found, or begun.
#[derive(Debug)]
pub struct Opened {
    /// Where it is kept.
    pub home: Home,
    /// What it signs with.
    pub key: WitnessKey,
    /// What it remembers.
    pub remembered: Remembered,
}

impl Home {
    /// Opens the directory (0700) and the key's file (0600), or begins both. `seed` is 32 random bytes for a new key.
    ///
    /// # Errors
    /// [`HomeError`]
    pub fn open(directory: &Path, key: &Path, seed: [u8; 32]) -> Result<Opened, HomeError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| HomeError::Io { path, error }
        };
        make_folder(directory).map_err(io(directory))?;
        let lock = directory.join("lock");
        let directory_lock = locked(&lock).map_err(io(&lock))?;
        let (state, mark) = (directory.join("state"), mark_of(key));
        let old_key = read(key, KEY_BYTES).map_err(io(key))?;
        let old_state = read(&state, WITNESS_STATE_BYTES).map_err(io(&state))?;
        let old_state = old_state.map(|bytes| decode(&bytes)).transpose();
        let old_state = old_state.map_err(|problem| HomeError::Damaged {
            path: state.clone(),
            problem,
        })?;
        let (key_text, sequence, remembered) = match (old_key, old_state) {
            (Some(text), Some((sequence, remembered))) => {
                let marked = read(&mark, MARK_BYTES).map_err(io(&mark))?;
                let marked = marked.as_deref().and_then(decode_mark);
                let marked = marked.ok_or_else(|| HomeError::Damaged {
                    path: mark.clone(),
                    problem: "it is missing, or no mark".to_owned(),
                })?;
                if Some(sequence) == marked.checked_add(1) {
                    // It ended between the two files, and nothing was signed. Were it to happen again, the state would be two ahead.
                    replace(&mark, encode_mark(sequence).as_bytes()).map_err(io(&mark))?;
                } else if sequence != marked {
                    return Err(HomeError::Older {
                        state,
                        sequence,
                        marked,
                    });
                }
                let text = String::from_utf8(text);
                (text.map_err(|_| not_a_key(key))?, sequence, remembered)
            }
            (Some(_), None) => return Err(HomeError::Forgotten { state }),
            (None, Some((_, remembered))) if !remembered.is_empty() => {
                return Err(HomeError::KeyLost {
                    key: key.to_owned(),
                });
            }
            (None, Some(_) | None) => {
                let made = WitnessKey::from_seed(seed).map_err(|_| not_a_key(key))?;
                let text = made.to_pem();
                replace(&state, &encode(0, &Remembered::new())).map_err(io(&state))?;
                if let Some(folder) = key.parent().filter(|it| !it.as_os_str().is_empty()) {
                    make_folder(folder).map_err(io(folder))?;
                }
                replace(&mark, encode_mark(0).as_bytes()).map_err(io(&mark))?;
                // The key comes last: where there is one, there is the rest.
                replace(key, text.as_bytes()).map_err(io(key))?;
                (text.as_str().to_owned(), 0, Remembered::new())
            }
        };
        let witness_key = WitnessKey::from_pem(&key_text).map_err(|_| not_a_key(key))?;
        let key_lock = locked(key).map_err(io(key))?;
        let evidence = directory.join("evidence");
        let evidence = Evidence::open(&evidence).map_err(io(&evidence))?;
        Ok(Opened {
            home: Self {
                state,
                mark,
                sequence,
                broken: false,
                evidence,
                _directory_lock: directory_lock,
                _key_lock: key_lock,
            },
            key: witness_key,
            remembered,
        })
    }

    /// Makes durable what is remembered from now on.
    ///
    /// # Errors
    /// [`HomeError`]; from then on always: the witness must be started again.
    pub fn keep(&mut self, remembered: &Remembered) -> Result<(), HomeError> {
        if self.broken {
            return Err(HomeError::Broken);
        }
        // Until it is known to be done.
        self.broken = true;
        let sequence = self.sequence.saturating_add(1);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| HomeError::Io { path, error }
        };
        replace(&self.state, &encode(sequence, remembered)).map_err(failed(&self.state))?;
        replace(&self.mark, encode_mark(sequence).as_bytes()).map_err(failed(&self.mark))?;
        self.sequence = sequence;
        self.broken = false;
        Ok(())
    }

    /// Keeps two checkpoints that do not fit each other.
    ///
    /// # Errors
    /// What the system says.
    pub fn keep_evidence(&mut self, against: &Against) -> io::Result<Kept> {
        self.evidence.keep(against)
    }

    /// How many pairs are kept that prove two histories, and how many that prove nothing by themselves.
    #[must_use]
    pub fn evidence(&self) -> (usize, usize) {
        self.evidence.counts()
    }
}

/// Bytes of a key's file.
const KEY_BYTES: usize = 4 * 1024;

/// Bytes of a mark.
const MARK_BYTES: usize = 64;

const STATE: &str = "portcullis-witness-state 1";
const MARK: &str = "portcullis-witness-mark 1";

fn mark_of(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".mark");
    PathBuf::from(name)
}

fn not_a_key(key: &Path) -> HomeError {
    HomeError::Damaged {
        path: key.to_owned(),
        problem: "it is no Ed25519 key (PKCS#8, PEM, not encrypted)".to_owned(),
    }
}

fn encode_mark(sequence: u64) -> String {
    format!("{MARK}\n{sequence}\n")
}

fn decode_mark(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let sequence = text.strip_prefix(MARK)?.trim().parse().ok()?;
    (encode_mark(sequence) == text).then_some(sequence)
}

/// A line that says what it is, one with a hash of the rest, one with how often it was written, and the logs as JSON.
fn encode(sequence: u64, remembered: &Remembered) -> Vec<u8> {
    let logs = remembered.values();
    let logs: Vec<Value> = logs
        .map(|it| json!({ "at": it.at(), "note": it.note().to_string() }))
        .collect();
    let rest = format!("{sequence}\n{}\n", Value::from(logs));
    let hash = Hash::of_leaf(rest.as_bytes());
    format!("{STATE}\n{hash}\n{rest}").into_bytes()
}

fn decode(bytes: &[u8]) -> Result<(u64, Remembered), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let text = text
        .strip_prefix(STATE)
        .and_then(|it| it.strip_prefix('\n'));
    let text = text.ok_or_else(|| {
        format!("it does not begin with `{STATE}`: it is damaged, or of another version")
    })?;
    let whole = text.split_once('\n').and_then(|(hash, rest)| {
        let hash = Hash::parse(hash)?;
        (hash == Hash::of_leaf(rest.as_bytes())).then_some(rest)
    });
    let rest = whole.ok_or_else(|| "it is not as it was written".to_owned())?;
    let read = || {
        let (sequence, logs) = rest.split_once('\n')?;
        let logs: Vec<Value> = serde_json::from_str(logs).ok()?;
        let mut remembered = Remembered::new();
        for log in logs {
            let note = Note::parse(log.get("note")?.as_str()?.as_bytes()).ok()?;
            let one = Witnessed::of(note, log.get("at")?.as_u64()?).ok()?;
            remembered.insert(one.checkpoint().origin.clone(), one);
        }
        Some((sequence.parse().ok()?, remembered))
    };
    read().ok_or_else(|| "it was not written by a witness".to_owned())
}

/// Why a witness does not go on.
#[derive(Debug)]
pub enum HomeError {
    /// The system said no.
    Io {
        /// The file or folder,
        path: PathBuf,
        /// and why.
        error: io::Error,
    },
    /// A file does not hold what it should.
    Damaged {
        /// Which,
        path: PathBuf,
        /// and how.
        problem: String,
    },
    /// The key has signed more than is remembered.
    Older {
        /// The file,
        state: PathBuf,
        /// how often it was written,
        sequence: u64,
        /// and how often the key's mark says that it was.
        marked: u64,
    },
    /// There is a key, and nothing that says what it signed.
    Forgotten {
        /// What is missing.
        state: PathBuf,
    },
    /// Something was signed, and the key is gone.
    KeyLost {
        /// Where it should be.
        key: PathBuf,
    },
    /// Something could not be made durable before.
    Broken,
}

/// What to do about a witness that forgot.
const BEGIN_ANEW: &str = "a witness that forgets what it signed may sign a second history, so it does not start. Begin anew: move the \
     state directory and the key away, start again, and give out the new key instead of the old one";

impl fmt::Display for HomeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Damaged { path, problem } => {
                write!(f, "{}: {problem}: {BEGIN_ANEW}", path.display())
            }
            Self::Older {
                state,
                sequence,
                marked,
            } => write!(
                f,
                "{}: it was written {sequence} times and the key's mark says {marked}: it comes from a backup, or is another key's: \
                 {BEGIN_ANEW}",
                state.display()
            ),
            Self::Forgotten { state } => write!(
                f,
                "{}: there is a key, and nothing that says what it signed: {BEGIN_ANEW}",
                state.display()
            ),
            Self::KeyLost { key } => write!(
                f,
                "{}: the key is gone with which the checkpoints in the state directory were signed: put it back with its mark, or \
                 begin anew: move the state directory away, start again, and give out the new key instead of the old one",
                key.display()
            ),
            Self::Broken => f.write_str(
                "something could not be written before: the witness must be started again",
            ),
        }
    }
}

impl std::error::Error for HomeError {}
