//! Messages with a type byte: what servers and clients say once the startup packet is through.
//!
//! `to_client` and `to_backend` write, `backend` and `client` read what each of them sends. All of it is about the
//! start of a session; an established one is walked by [`Boundary`](crate::boundary::Boundary), never decoded.
//!
//! Source: PostgreSQL documentation, "Message Formats".

mod backend;
mod client;
mod to_backend;
mod to_client;

pub use backend::{Backend, TransactionStatus};
pub use client::{SaslInitialResponse, password_message, read_password};
pub use to_backend::{password, sasl_initial_response, sasl_response, terminate};
pub use to_client::{
    authentication_cleartext, authentication_ok, authentication_sasl, backend_key_data,
    parameter_status, ready_for_query, sasl_continue, sasl_final,
};

use crate::bytes::Reader;
use crate::{Complaint, Step};

/// Bytes before the body: type and length.
pub const HEADER: usize = 5;

/// The type and size of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The type byte.
    pub kind: u8,
    /// Bytes of the body, which follows the header.
    pub len: usize,
}

impl Header {
    /// Reads the header of a message whose body may have at most `maximum` bytes. `Done` consumes [`HEADER`] bytes;
    /// the body is the [`len`](Self::len) bytes behind them.
    ///
    /// # Errors
    /// [`Complaint::MessageLength`].
    pub fn read(bytes: &[u8], maximum: usize) -> Result<Step<Self>, Complaint> {
        match bytes.split_first_chunk::<HEADER>() {
            None => Ok(Step::Need(HEADER - bytes.len())),
            Some((header, _)) => Ok(Step::Done(Self::parse(*header, maximum)?, HEADER)),
        }
    }

    /// The same for bytes that are sure to be there.
    ///
    /// # Errors
    /// [`Complaint::MessageLength`].
    pub fn parse(header: [u8; HEADER], maximum: usize) -> Result<Self, Complaint> {
        let [kind, l0, l1, l2, l3] = header;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_sub(LENGTH))
            .filter(|&len| len <= maximum)
            .map(|len| Self { kind, len })
            .ok_or(Complaint::MessageLength {
                kind,
                length,
                maximum,
            })
    }
}

/// A whole message, header and body, whose body may have at most `maximum` bytes.
pub(crate) fn whole(bytes: &[u8], maximum: usize) -> Result<Step<(u8, &[u8])>, Complaint> {
    let (header, after) = match Header::read(bytes, maximum)? {
        Step::Need(more) => return Ok(Step::Need(more)),
        Step::Done(header, consumed) => (header, consumed),
    };
    let mut reader = Reader::new(bytes.get(after..).unwrap_or_default());
    let available = reader.rest().len();
    Ok(match reader.take(header.len) {
        None => Step::Need(header.len - available),
        Some(body) => Step::Done((header.kind, body), after + header.len),
    })
}

/// A whole message to send. Bodies are bounded by what they are made of, all far below four gigabytes.
pub(crate) fn message(kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![kind, 0, 0, 0, 0];
    body(&mut out);
    // A body that did not fit would need 4 GiB of memory first; the peer would refuse such a length.
    let length = u32::try_from(out.len() - 1).unwrap_or(u32::MAX);
    for (slot, byte) in out.iter_mut().skip(1).zip(length.to_be_bytes()) {
        *slot = byte;
    }
    out
}

/// The length field, which counts itself.
const LENGTH: usize = 4;
