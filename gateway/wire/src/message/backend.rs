//! What a server says while a session begins.

use std::fmt;

use super::whole;
use crate::bytes::Reader;
use crate::error::ErrorFields;
use crate::limits::{
    MAX_BACKEND_STARTUP_MESSAGE, MAX_CANCEL_KEY, MAX_NEGOTIATED_OPTIONS, MAX_SASL_MECHANISM,
    MAX_SASL_MECHANISMS, MIN_CANCEL_KEY,
};
use crate::negotiate::ProtocolVersion;
use crate::{Complaint, Step};

/// One message of a server, as far as the start of a session needs to understand it.
#[derive(Clone, PartialEq, Eq)]
pub enum Backend {
    /// AuthenticationOk.
    AuthenticationOk,
    /// AuthenticationCleartextPassword.
    Cleartext,
    /// AuthenticationMD5Password.
    Md5 {
        /// The salt for this attempt.
        salt: [u8; 4],
    },
    /// AuthenticationSASL: the mechanisms on offer, in the server's order.
    Sasl(Vec<String>),
    /// AuthenticationSASLContinue: the mechanism's own message.
    SaslContinue(Vec<u8>),
    /// AuthenticationSASLFinal: the mechanism's own message.
    SaslFinal(Vec<u8>),
    /// Any other authentication request (Kerberos, GSSAPI, SSPI), by its number.
    OtherAuthentication(u32),
    /// ParameterStatus: name, and value in the encoding of the client.
    ParameterStatus(String, Vec<u8>),
    /// BackendKeyData.
    BackendKeyData {
        /// The server process.
        pid: u32,
        /// 4 to 256 bytes.
        secret: Vec<u8>,
    },
    /// ReadyForQuery: the session has begun.
    ReadyForQuery(TransactionStatus),
    /// NegotiateProtocolVersion.
    NegotiateProtocolVersion {
        /// The version that the server will speak. Old servers send the minor number alone; it is read as 3.minor.
        version: ProtocolVersion,
        /// The `_pq_.` options that it did not recognise.
        options: Vec<String>,
    },
    /// ErrorResponse.
    Error(ErrorFields),
    /// NoticeResponse.
    Notice(ErrorFields),
    /// Any other type.
    Other(u8),
}

impl Backend {
    /// Reads a whole message, whose body may have at most [`MAX_BACKEND_STARTUP_MESSAGE`] bytes.
    ///
    /// # Errors
    /// An impossible length, or a body that is not what its type says.
    pub fn read(bytes: &[u8]) -> Result<Step<Self>, Complaint> {
        match whole(bytes, MAX_BACKEND_STARTUP_MESSAGE)? {
            Step::Need(more) => Ok(Step::Need(more)),
            Step::Done((kind, body), consumed) => {
                Ok(Step::Done(Self::decode(kind, body)?, consumed))
            }
        }
    }

    /// Reads the body of a message whose type is known.
    ///
    /// # Errors
    /// [`Complaint::MalformedMessage`]. An ErrorResponse or NoticeResponse is never malformed.
    pub fn decode(kind: u8, body: &[u8]) -> Result<Self, Complaint> {
        let mut reader = Reader::new(body);
        let decoded = match kind {
            b'R' => authentication(&mut reader),
            b'S' => parameter_status(&mut reader),
            b'K' => backend_key_data(&mut reader),
            b'Z' => ready_for_query(&mut reader),
            b'v' => negotiate_protocol_version(&mut reader),
            b'E' => return Ok(Self::Error(ErrorFields::parse(body))),
            b'N' => return Ok(Self::Notice(ErrorFields::parse(body))),
            other => return Ok(Self::Other(other)),
        };
        decoded
            .and_then(|message| match reader.is_empty() {
                true => Ok(message),
                false => Err("bytes after its end"),
            })
            .map_err(|problem| Complaint::MalformedMessage { kind, problem })
    }
}

/// The status that ReadyForQuery reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStatus {
    /// 'I'.
    Idle,
    /// 'T'.
    InTransaction,
    /// 'E'.
    Failed,
}

impl TransactionStatus {
    /// The byte that stands for it.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

type Body<'a, 'b> = &'a mut Reader<'b>;

fn authentication(reader: Body<'_, '_>) -> Result<Backend, &'static str> {
    let code = reader.u32().ok_or("no authentication code")?;
    let rest = |reader: Body<'_, '_>| {
        let data = reader.rest().to_vec();
        *reader = Reader::new(&[]);
        data
    };
    Ok(match code {
        0 => Backend::AuthenticationOk,
        3 => Backend::Cleartext,
        5 => Backend::Md5 {
            salt: reader.array().ok_or("no salt")?,
        },
        10 => Backend::Sasl(mechanisms(reader)?),
        11 => Backend::SaslContinue(rest(reader)),
        12 => Backend::SaslFinal(rest(reader)),
        other => {
            rest(reader);
            Backend::OtherAuthentication(other)
        }
    })
}

fn mechanisms(reader: Body<'_, '_>) -> Result<Vec<String>, &'static str> {
    let mut mechanisms = Vec::new();
    loop {
        let name = text(reader)?;
        if name.is_empty() {
            return Ok(mechanisms);
        }
        if name.len() > MAX_SASL_MECHANISM || mechanisms.len() >= MAX_SASL_MECHANISMS {
            return Err("too many or too long mechanism names");
        }
        mechanisms.push(name.to_owned());
    }
}

fn parameter_status(reader: Body<'_, '_>) -> Result<Backend, &'static str> {
    let name = text(reader)?.to_owned();
    let value = reader.c_string().ok_or("a string without a terminator")?;
    Ok(Backend::ParameterStatus(name, value.to_vec()))
}

fn backend_key_data(reader: Body<'_, '_>) -> Result<Backend, &'static str> {
    let pid = reader.u32().ok_or("no process id")?;
    let secret = reader.rest();
    if !(MIN_CANCEL_KEY..=MAX_CANCEL_KEY).contains(&secret.len()) {
        return Err("a secret that does not have 4 to 256 bytes");
    }
    *reader = Reader::new(&[]);
    Ok(Backend::BackendKeyData {
        pid,
        secret: secret.to_vec(),
    })
}

fn ready_for_query(reader: Body<'_, '_>) -> Result<Backend, &'static str> {
    match reader.u8() {
        Some(b'I') => Ok(Backend::ReadyForQuery(TransactionStatus::Idle)),
        Some(b'T') => Ok(Backend::ReadyForQuery(TransactionStatus::InTransaction)),
        Some(b'E') => Ok(Backend::ReadyForQuery(TransactionStatus::Failed)),
        Some(_) | None => Err("no transaction status"),
    }
}

fn negotiate_protocol_version(reader: Body<'_, '_>) -> Result<Backend, &'static str> {
    let version = reader.u32().ok_or("no version")?;
    let version = match version {
        minor @ 0..=0xFFFF => ProtocolVersion::from_u32(3 << 16 | minor),
        full => ProtocolVersion::from_u32(full),
    };
    let count = reader.u32().ok_or("no count of options")?;
    let count = usize::try_from(count)
        .ok()
        .filter(|&count| count <= MAX_NEGOTIATED_OPTIONS)
        .ok_or("too many options")?;
    let mut options = Vec::new();
    for _ in 0..count {
        options.push(text(reader)?.to_owned());
    }
    Ok(Backend::NegotiateProtocolVersion { version, options })
}

fn text<'b>(reader: Body<'_, 'b>) -> Result<&'b str, &'static str> {
    let bytes = reader.c_string().ok_or("a string without a terminator")?;
    std::str::from_utf8(bytes).map_err(|_| "a string that is not UTF-8")
}

/// Secrets and SASL data stay out of logs.
impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AuthenticationOk => f.write_str("AuthenticationOk"),
            Self::Cleartext => f.write_str("Cleartext"),
            Self::Md5 { .. } => f.write_str("Md5"),
            Self::Sasl(mechanisms) => f.debug_tuple("Sasl").field(mechanisms).finish(),
            Self::SaslContinue(data) => write!(f, "SaslContinue({} bytes)", data.len()),
            Self::SaslFinal(data) => write!(f, "SaslFinal({} bytes)", data.len()),
            Self::OtherAuthentication(code) => write!(f, "OtherAuthentication({code})"),
            Self::ParameterStatus(name, value) => {
                write!(
                    f,
                    "ParameterStatus({name:?}, {:?})",
                    value.escape_ascii().to_string()
                )
            }
            Self::BackendKeyData { pid, secret } => {
                write!(f, "BackendKeyData({pid}, {} bytes)", secret.len())
            }
            Self::ReadyForQuery(status) => f.debug_tuple("ReadyForQuery").field(status).finish(),
            Self::NegotiateProtocolVersion { version, options } => {
                write!(f, "NegotiateProtocolVersion({version}, {options:?})")
            }
            Self::Error(fields) => write!(f, "Error({fields})"),
            Self::Notice(fields) => write!(f, "Notice({fields})"),
            Self::Other(kind) => write!(f, "Other('{}')", kind.escape_ascii()),
        }
    }
}
