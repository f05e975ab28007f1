//! Commands as bytes: one byte for the format, then the command in postcard.
//!
//! Every format ever written stays readable. `testdata/commands` keeps bytes of each command; a change of the types that
//! alters what these bytes mean needs a new number and a reader for the old.

use super::command::Command;
use super::keeping::Keeping;
use super::proposal::Proposal;
use super::snapshot::Snapshot;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// The format that is written today.
const CURRENT: u8 = 1;
/// The format of a snapshot that holds operators' keys.
const SNAPSHOT_WITH_KEYS: u8 = 2;
/// The format of a snapshot that holds up to where nodes recorded.
const SNAPSHOT_WITH_RECORDS: u8 = 3;
/// The format of a snapshot that says for how long the audit logs are kept.
const SNAPSHOT_WITH_KEEPING: u8 = 4;
/// The format of a snapshot that knows authorities or what is revoked of a tenant's clients.
const SNAPSHOT_WITH_AUTHORITIES: u8 = 5;

/// The bytes of a command in today's format.
///
/// # Errors
/// [`CodecError::Unwritable`], which no command is known to cause.
pub fn encode_command(command: &Command) -> Result<Vec<u8>, CodecError> {
    encode(command)
}

/// Reads a command in any format that was ever written.
///
/// # Errors
/// [`CodecError`] when it is none, or a later version's.
pub fn decode_command(bytes: &[u8]) -> Result<Command, CodecError> {
    decode(bytes)
}

/// The bytes of a proposal in today's format.
///
/// # Errors
/// As [`encode_command`].
pub fn encode_proposal(proposal: &Proposal) -> Result<Vec<u8>, CodecError> {
    encode(proposal)
}

/// Reads a proposal in any format that was ever written.
///
/// # Errors
/// As [`decode_command`].
pub fn decode_proposal(bytes: &[u8]) -> Result<Proposal, CodecError> {
    decode(bytes)
}

/// The bytes of a snapshot: in the first format that can say it, which the most versions read.
///
/// # Errors
/// As [`encode_command`].
pub fn encode_snapshot(snapshot: &Snapshot) -> Result<Vec<u8>, CodecError> {
    let mut bytes = encode(snapshot)?;
    // What the last fields are while nothing was set: a byte 0 for each list, and for each time that is none.
    let revoked = snapshot.tenants.iter().any(|it| !it.revoked.is_empty());
    let (format, empty) = if revoked || !snapshot.authorities.is_empty() {
        (SNAPSHOT_WITH_AUTHORITIES, 0)
    } else if snapshot.keeping != Keeping::default() {
        (SNAPSHOT_WITH_KEEPING, 2)
    } else if !snapshot.recorded.is_empty() {
        (SNAPSHOT_WITH_RECORDS, 5)
    } else if !snapshot.operator_keys.is_empty() {
        (SNAPSHOT_WITH_KEYS, 6)
    } else {
        (CURRENT, 7)
    };
    bytes.truncate(bytes.len().saturating_sub(empty));
    if let Some(first) = bytes.first_mut() {
        *first = format;
    }
    Ok(bytes)
}

/// Reads a snapshot in any format that was ever written.
///
/// # Errors
/// As [`decode_command`].
pub fn decode_snapshot(bytes: &[u8]) -> Result<Snapshot, CodecError> {
    match bytes.split_first() {
        Some((&CURRENT, body)) => decode_body(&[body, &[0; 7]].concat()),
        Some((&SNAPSHOT_WITH_KEYS, body)) => decode_body(&[body, &[0; 6]].concat()),
        Some((&SNAPSHOT_WITH_RECORDS, body)) => decode_body(&[body, &[0; 5]].concat()),
        Some((&SNAPSHOT_WITH_KEEPING, body)) => decode_body(&[body, &[0; 2]].concat()),
        Some((&SNAPSHOT_WITH_AUTHORITIES, body)) => decode_body(body),
        Some((&format, _)) if format > SNAPSHOT_WITH_AUTHORITIES => Err(CodecError::Newer(format)),
        Some(_) | None => decode(bytes),
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    postcard::to_extend(value, vec![CURRENT])
        .map_err(|error| CodecError::Unwritable(error.to_string()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        Some((&CURRENT, body)) => decode_body(body),
        Some((&format, _)) if format > CURRENT => Err(CodecError::Newer(format)),
        Some((format, _)) => malformed(&format!("format {format}")),
        None => malformed("no bytes"),
    }
}

fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) => malformed("bytes after its end"),
        Err(error) => malformed(&error.to_string()),
    }
}

fn malformed<T>(found: &str) -> Result<T, CodecError> {
    Err(CodecError::Malformed(found.to_owned()))
}

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// A format that only a later version knows: this one must stop, not skip it.
    Newer(u8),
    /// Not what the format is, or a command that only a later version knows.
    Malformed(String),
    /// It cannot be written in any format.
    Unwritable(String),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer(format) => {
                write!(f, "it was written by a later version, in format {format}")
            }
            Self::Malformed(found) => write!(f, "it cannot be understood: {found}"),
            Self::Unwritable(why) => write!(f, "it cannot be written: {why}"),
        }
    }
}

impl std::error::Error for CodecError {}
