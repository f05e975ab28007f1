//! What travels between a feed and a follower, in postcard after one byte for the format.
//!
//! `testdata/view` keeps bytes of each message; they must decode for ever. An enum here grows at
//! its end; a change that an older node would misread needs a new number.

use super::statement::{Recovery, Signed, Succession};
use portcullis_policy::ViewUpdate;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a follower is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// The whole view: what it omits is gone.
    Whole {
        /// The view, as an update of an empty one.
        update: ViewUpdate,
        /// Who says so.
        signed: Signed,
    },
    /// What leads from one revision to a later one, in one step.
    Changes {
        /// The revision from which it leads.
        from: u64,
        /// What changed.
        update: ViewUpdate,
        /// Who says so, of the view at which it arrives.
        signed: Signed,
    },
    /// Others vote since a revision.
    Succeeded(Succession),
    /// A new epoch began.
    Recovered(Recovery),
    /// The sender is there, and this is what a follower of it holds.
    Alive {
        /// The latest revision that a majority signed.
        revision: u64,
        /// Whether a quorum confirms what the sender knows.
        confirmed: bool,
    },
}

/// What a follower says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// Go on from this revision of this epoch; 0 is from nothing.
    From {
        /// The epoch.
        epoch: u64,
        /// The revision.
        revision: u64,
    },
    /// This revision is in force and kept.
    Ack {
        /// The revision.
        revision: u64,
    },
}

/// The format that is written today.
const CURRENT: u8 = 1;

/// The bytes of a message.
///
/// # Errors
/// In words: it is larger than postcard can hold.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, String> {
    postcard::to_extend(message, vec![CURRENT]).map_err(|error| error.to_string())
}

/// The message in these bytes, all of them.
///
/// # Errors
/// In words: what is wrong with them.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&CURRENT, body)) => match postcard::take_from_bytes(body) {
            Ok((message, [])) => Ok(message),
            Ok(_) => Err("bytes after its end".to_owned()),
            Err(error) => Err(error.to_string()),
        },
        Some((format, _)) => Err(format!("format {format} is not known here")),
        None => Err("no bytes".to_owned()),
    }
}

/// The largest message, in bytes.
pub const MAX_FRAME: usize = 512 << 20;
/// The largest piece of one.
pub const MAX_PIECE: usize = 1 << 20;

/// The pieces of a message, each with a byte before it that says whether it is the last.
pub fn pieces(message: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let count = message.len().div_ceil(MAX_PIECE);
    let piece = move |(index, piece): (usize, &[u8])| {
        let last = u8::from(index.saturating_add(1) == count);
        [&[last], piece].concat()
    };
    message.chunks(MAX_PIECE).enumerate().map(piece)
}

/// Puts messages together again.
#[derive(Debug, Default)]
pub struct Assembler(Vec<u8>);

impl Assembler {
    /// Takes a piece; the message, if that was its last.
    ///
    /// # Errors
    /// In words: it is no piece, or the message is too large.
    pub fn take(&mut self, piece: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
        let (last, body) = piece.split_first().ok_or("a piece without bytes")?;
        if self.0.len().saturating_add(body.len()) > MAX_FRAME {
            return Err("a message that is too large");
        }
        self.0.extend_from_slice(body);
        match last {
            0 => Ok(None),
            1 => Ok(Some(std::mem::take(&mut self.0))),
            _ => Err("a piece of an unknown kind"),
        }
    }
}
