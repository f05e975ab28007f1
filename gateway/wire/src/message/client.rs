//! What a client answers to an authentication request: always type 'p', its meaning given by the question.

use std::fmt;

use zeroize::Zeroizing;

use super::whole;
use crate::bytes::Reader;
use crate::limits::MAX_SASL_MECHANISM;
use crate::{Complaint, Step};

/// Reads a whole message of type 'p' whose body may have at most `maximum` bytes
/// ([`MAX_SASL_MESSAGE`](crate::limits::MAX_SASL_MESSAGE) or [`MAX_TOKEN_MESSAGE`](crate::limits::MAX_TOKEN_MESSAGE)).
/// `Done` holds the body: for [`SaslInitialResponse::decode`], [`read_password`], or a SASLResponse as it stands.
///
/// # Errors
/// Another type (told as soon as its byte is there) or an impossible length.
pub fn password_message(bytes: &[u8], maximum: usize) -> Result<Step<&[u8]>, Complaint> {
    match bytes.first() {
        Some(&kind) if kind != b'p' => Err(Complaint::UnexpectedMessage {
            kind,
            expected: b'p',
        }),
        Some(_) | None => Ok(whole(bytes, maximum)?.map(|(_, body)| body)),
    }
}

/// The password in the body of a PasswordMessage. It is wiped when dropped.
///
/// # Errors
/// [`Complaint::MalformedMessage`] unless it is one C string of UTF-8, not empty, to the end of the body.
pub fn read_password(body: &[u8]) -> Result<Zeroizing<String>, Complaint> {
    let mut reader = Reader::new(body);
    let password = reader
        .c_string()
        .ok_or(malformed("a password without a terminator"))?;
    if !reader.is_empty() {
        return Err(malformed("bytes after the password"));
    }
    if password.is_empty() {
        return Err(malformed("an empty password"));
    }
    std::str::from_utf8(password)
        .map(|password| Zeroizing::new(password.to_owned()))
        .map_err(|_| malformed("a password that is not UTF-8"))
}

/// SASLInitialResponse: which mechanism the client chose, and its first message.
#[derive(Clone, PartialEq, Eq)]
pub struct SaslInitialResponse {
    /// The mechanism's name as sent; whether it was offered is the mechanism's to check.
    pub mechanism: String,
    /// The first message; `None` when the client waits for the server to begin, which SCRAM does not allow.
    pub data: Option<Vec<u8>>,
}

impl SaslInitialResponse {
    /// Reads the body of the first 'p' message after AuthenticationSASL.
    ///
    /// # Errors
    /// [`Complaint::MalformedMessage`].
    pub fn decode(body: &[u8]) -> Result<Self, Complaint> {
        let mut reader = Reader::new(body);
        let mechanism = reader
            .c_string()
            .ok_or(malformed("a mechanism name without a terminator"))?;
        let mechanism = std::str::from_utf8(mechanism)
            .ok()
            .filter(|name| (1..=MAX_SASL_MECHANISM).contains(&name.len()))
            .ok_or(malformed("an impossible mechanism name"))?;
        let length = reader
            .u32()
            .ok_or(malformed("a mechanism name and nothing else"))?;
        let data = match length {
            NO_DATA => None,
            length => Some(
                usize::try_from(length)
                    .ok()
                    .and_then(|length| reader.take(length))
                    .ok_or(malformed("less data than announced"))?,
            ),
        };
        if !reader.is_empty() {
            return Err(malformed("more data than announced"));
        }
        Ok(Self {
            mechanism: mechanism.to_owned(),
            data: data.map(<[u8]>::to_vec),
        })
    }
}

/// Prints sizes only: with some mechanisms the first message is the secret.
impl fmt::Debug for SaslInitialResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslInitialResponse")
            .field("mechanism", &self.mechanism)
            .field("data_len", &self.data.as_ref().map(Vec::len))
            .finish()
    }
}

/// -1.
const NO_DATA: u32 = u32::MAX;

fn malformed(problem: &'static str) -> Complaint {
    Complaint::MalformedMessage {
        kind: b'p',
        problem,
    }
}
