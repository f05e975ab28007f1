//! CancelRequest: "stop what the holder of this key is doing". It is never answered.
//!
//! It carries no version, so the secret is as long as the packet leaves room for. Source: PostgreSQL documentation,
//! "CancelRequest" and "Canceling Requests in Progress".

use std::fmt;

use crate::Complaint;
use crate::bytes::Reader;
use crate::first::CANCEL_REQUEST_CODE;
use crate::limits::{MAX_CANCEL_KEY, MIN_CANCEL_KEY};

/// The key of a cancel request, as it was issued in BackendKeyData.
#[derive(Clone)]
pub struct CancelRequest {
    pid: u32,
    secret: Vec<u8>,
}

impl CancelRequest {
    /// A request for this key.
    ///
    /// # Errors
    /// [`Complaint::CancelLength`] unless the secret has 4 to 256 bytes.
    pub fn new(pid: u32, secret: &[u8]) -> Result<Self, Complaint> {
        match secret.len() {
            MIN_CANCEL_KEY..=MAX_CANCEL_KEY => Ok(Self {
                pid,
                secret: secret.to_vec(),
            }),
            length => Err(Complaint::CancelLength {
                secret: Some(length),
            }),
        }
    }

    /// Reads the bytes after length and request code: process id and secret, to the end of the packet.
    ///
    /// # Errors
    /// [`Complaint::CancelLength`] unless the secret has 4 to 256 bytes.
    pub fn decode(body: &[u8]) -> Result<Self, Complaint> {
        let mut reader = Reader::new(body);
        let pid = reader
            .u32()
            .ok_or(Complaint::CancelLength { secret: None })?;
        Self::new(pid, reader.rest())
    }

    /// The whole packet, length and request code included.
    pub fn encode(&self) -> Vec<u8> {
        // At most 12 + 256 bytes, by `new`.
        let length = u32::try_from(self.secret.len() + 12).unwrap_or(u32::MAX);
        let mut packet = length.to_be_bytes().to_vec();
        packet.extend_from_slice(&CANCEL_REQUEST_CODE.to_be_bytes());
        packet.extend_from_slice(&self.pid.to_be_bytes());
        packet.extend_from_slice(&self.secret);
        packet
    }

    /// The process id, a number that the issuer chose.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The secret, 4 to 256 bytes.
    pub fn secret(&self) -> &[u8] {
        &self.secret
    }
}

impl fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelRequest")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}
