//! The first eight bytes of a connection: who is knocking, and how long what they say will be.
//!
//! Source: PostgreSQL documentation, "Message Formats" (StartupMessage, SSLRequest, GSSENCRequest, CancelRequest), and
//! `ProcessStartupPacket` in PostgreSQL's `backend_startup.c`.

use crate::limits::{MAX_CANCEL_KEY, MAX_STARTUP_PACKET, MIN_CANCEL_KEY, MIN_STARTUP_PACKET};
use crate::negotiate::ProtocolVersion;
use crate::{Complaint, Step};

/// How many bytes are read before anything is decided. Every opening that we know has at least as many.
pub const FIRST_BYTES: usize = 8;

/// What the first eight bytes ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstBytes {
    /// SSLRequest: answer one byte, 'S' or 'N'. Anything read after it and before the ClientHello is
    /// [`Complaint::BytesBeforeTls`].
    SslRequest,
    /// GSSENCRequest: answer 'N' and read the first bytes again.
    GssEncRequest,
    /// CancelRequest: `len` bytes follow, for [`CancelRequest::decode`](crate::cancel::CancelRequest::decode).
    CancelRequest {
        /// Bytes that follow these eight: process id and secret, 8 to 260.
        len: usize,
    },
    /// StartupMessage: `len` bytes follow, for [`StartupMessage::decode`](crate::startup::StartupMessage::decode).
    Startup {
        /// Bytes that follow these eight, 1 to 9992.
        len: usize,
        /// The version that was asked for; its major may be anything.
        version: ProtocolVersion,
    },
    /// The beginning of a TLS ClientHello without SSLRequest. Nothing is consumed: all bytes belong to the TLS engine.
    DirectTls,
}

impl FirstBytes {
    /// Decides on exactly the first [`FIRST_BYTES`] bytes; further ones are not looked at. `Done` consumes 8, or 0 for
    /// [`FirstBytes::DirectTls`].
    ///
    /// # Errors
    /// An impossible length or an unknown request code; HTTP, PROXY and TLS-like bytes are told apart.
    pub fn read(bytes: &[u8]) -> Result<Step<Self>, Complaint> {
        let Some((&opening, _)) = bytes.split_first_chunk::<FIRST_BYTES>() else {
            return Ok(Step::Need(FIRST_BYTES - bytes.len()));
        };
        if looks_like_client_hello(&opening) {
            return Ok(Step::Done(Self::DirectTls, 0));
        }
        let [l0, l1, l2, l3, c0, c1, c2, c3] = opening;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let code = u32::from_be_bytes([c0, c1, c2, c3]);
        let len = usize::try_from(length).unwrap_or(usize::MAX);
        if !(FIRST_BYTES..=MAX_STARTUP_PACKET).contains(&len) {
            return Err(stranger(&opening).unwrap_or(Complaint::StartupLength { length }));
        }
        let following = len - FIRST_BYTES;
        let first = match (code >> 16, code) {
            (REQUEST_MAJOR, SSL_REQUEST_CODE | GSSENC_REQUEST_CODE) if following != 0 => {
                return Err(Complaint::StartupLength { length });
            }
            (REQUEST_MAJOR, SSL_REQUEST_CODE) => Self::SslRequest,
            (REQUEST_MAJOR, GSSENC_REQUEST_CODE) => Self::GssEncRequest,
            (REQUEST_MAJOR, CANCEL_REQUEST_CODE) => cancel(following)?,
            (REQUEST_MAJOR, _) => return Err(Complaint::UnknownRequestCode { code }),
            (_, _) if len < MIN_STARTUP_PACKET => {
                return Err(Complaint::StartupLength { length });
            }
            (_, _) => Self::Startup {
                len: following,
                version: ProtocolVersion::from_u32(code),
            },
        };
        Ok(Step::Done(first, FIRST_BYTES))
    }
}

/// Refuses bytes that a client sent in clear after its SSLRequest (CVE-2021-23214): `buffered` is whatever was read
/// beyond the request before the handshake began.
///
/// # Errors
/// [`Complaint::BytesBeforeTls`] unless the slice is empty.
pub fn nothing_before_tls(buffered: &[u8]) -> Result<(), Complaint> {
    if buffered.is_empty() {
        Ok(())
    } else {
        Err(Complaint::BytesBeforeTls {
            count: buffered.len(),
        })
    }
}

/// The major number of all requests that are not versions.
const REQUEST_MAJOR: u32 = 1234;
/// 1234.5678.
pub(crate) const CANCEL_REQUEST_CODE: u32 = 80_877_102;
/// 1234.5679.
const SSL_REQUEST_CODE: u32 = 80_877_103;
/// 1234.5680.
const GSSENC_REQUEST_CODE: u32 = 80_877_104;

/// The eight bytes of an SSLRequest, for the upstream side.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];

fn cancel(following: usize) -> Result<FirstBytes, Complaint> {
    let secret = following.checked_sub(PROCESS_ID);
    match secret {
        Some(MIN_CANCEL_KEY..=MAX_CANCEL_KEY) => Ok(FirstBytes::CancelRequest { len: following }),
        Some(_) | None => Err(Complaint::CancelLength { secret }),
    }
}

/// The process id of a cancel key.
const PROCESS_ID: usize = 4;

/// A handshake record (RFC 8446 section 5.1) whose first message is a ClientHello: 16 03 0x, a length, type 01. No
/// startup packet begins so, because its length would be at least 0x16000000. A record may hold as little as the type
/// byte, so its length is the TLS engine's to judge.
fn looks_like_client_hello(opening: &[u8; FIRST_BYTES]) -> bool {
    const HANDSHAKE_RECORD: u8 = 0x16;
    matches!(*opening, [HANDSHAKE_RECORD, 3, 0..=4, high, low, CLIENT_HELLO, ..] if (high, low) != (0, 0))
}

/// The handshake type of a ClientHello, in TLS and in SSL 2.
const CLIENT_HELLO: u8 = 1;

/// Whose bytes these are, when they are recognisably not a PostgreSQL client's.
fn stranger(opening: &[u8; FIRST_BYTES]) -> Option<Complaint> {
    const HTTP_METHODS: [&[u8]; 9] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"CONNECT ",
        b"OPTIONS ",
        b"TRACE ",
        b"PATCH ",
    ];
    if HTTP_METHODS
        .iter()
        .any(|method| opening.starts_with(method))
        || opening == b"PRI * HT"
    {
        return Some(Complaint::HttpRequest);
    }
    if opening.starts_with(b"PROXY") || opening == b"\r\n\r\n\0\r\nQ" {
        return Some(Complaint::UnexpectedProxyHeader);
    }
    let [first, second, third, ..] = *opening;
    // Record types 20 to 23 of TLS, or the two-byte header of an SSL 2 hello (RFC 6101 appendix E).
    let tls = (20..=23).contains(&first) && second == 3;
    let ssl2 = first & 0x80 != 0 && third == CLIENT_HELLO;
    (tls || ssl2).then_some(Complaint::TlsRecord)
}
