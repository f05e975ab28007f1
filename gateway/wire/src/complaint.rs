//! What was wrong with the bytes of a stranger, where, and the stable word for it.

use std::fmt;

use crate::error::{ErrorResponse, SqlState};
use crate::limits::{
    MAX_CANCEL_KEY, MAX_NAME, MAX_PROXY_HEADER, MAX_STARTUP_PACKET, MAX_STARTUP_PARAMETERS,
    MAX_VALUE, MIN_CANCEL_KEY, MIN_STARTUP_PACKET,
};
use crate::negotiate::ProtocolVersion;

/// Bytes that do not follow the protocol. Texts hold nothing but what the sender sent, so they may be told to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Complaint {
    /// The first four bytes are no possible length of a startup packet.
    StartupLength {
        /// The length as read, its own four bytes included.
        length: u32,
    },
    /// The first bytes are an HTTP request.
    HttpRequest,
    /// A PROXY header (v1 or v2) where a startup packet was due: not asked for on this door, or a second one.
    UnexpectedProxyHeader,
    /// A TLS record that is not the beginning of a ClientHello, or the hello of SSL 2.
    TlsRecord,
    /// Bytes came in clear between the SSLRequest and the ClientHello (CVE-2021-23214).
    BytesBeforeTls {
        /// How many were seen.
        count: usize,
    },
    /// A request code of the 1234.x family that nobody has defined.
    UnknownRequestCode {
        /// The code as read.
        code: u32,
    },
    /// A major version other than 3.
    UnsupportedVersion {
        /// The version that was asked for.
        version: ProtocolVersion,
    },
    /// The startup packet is not a list of C strings with a terminator as its last byte.
    StartupLayout(StartupLayout),
    /// More parameters than [`MAX_STARTUP_PARAMETERS`].
    TooManyParameters,
    /// The name of a startup parameter is longer than [`MAX_NAME`].
    ParameterNameLength {
        /// Its length in bytes.
        length: usize,
    },
    /// The value of a startup parameter is longer than [`MAX_VALUE`].
    ParameterValueLength {
        /// The parameter.
        name: String,
        /// The length of its value in bytes.
        length: usize,
    },
    /// A startup parameter is not UTF-8.
    ParameterNotUtf8,
    /// A startup parameter is given twice. Names are compared without regard to case, as PostgreSQL's settings are.
    DuplicateParameter {
        /// The name as it stands the second time.
        name: String,
    },
    /// A reserved parameter in other letters (`User`): PostgreSQL would take it for a setting.
    ParameterSpelling {
        /// The name as it stands.
        name: String,
    },
    /// No role name, or an empty one.
    MissingUser,
    /// A role or database name is longer than [`MAX_NAME`]; PostgreSQL would cut it to another name.
    NameLength {
        /// `user` or `database`.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// The value of `replication` is neither a boolean nor `database`.
    InvalidReplication,
    /// The length of a cancel request leaves no room for a key, or too much.
    CancelLength {
        /// The length of the secret in bytes; `None` when the packet ends before it.
        secret: Option<usize>,
    },
    /// The length of a message is below its minimum of four or above the maximum for its place.
    MessageLength {
        /// The type byte.
        kind: u8,
        /// The length as read, its own four bytes included.
        length: u32,
        /// The most bytes that a body may have here.
        maximum: usize,
    },
    /// A message of another type than was due.
    UnexpectedMessage {
        /// The type byte.
        kind: u8,
        /// The type byte that was due.
        expected: u8,
    },
    /// The body of a message does not have its layout.
    MalformedMessage {
        /// The type byte.
        kind: u8,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The bytes do not begin like a PROXY header, where one is required.
    ProxyMissing,
    /// A PROXY header of another version than 2.
    ProxyVersion,
    /// A PROXY header longer than [`MAX_PROXY_HEADER`].
    ProxyLength {
        /// The whole length in bytes, as announced.
        length: usize,
    },
    /// A PROXY header that does not have its layout.
    ProxyMalformed(&'static str),
    /// A PROXY header that is well formed but names no client address that policy could judge.
    ProxyUnusable(&'static str),
    /// A TLV type stands twice in a PROXY header: which one counts would be a guess.
    ProxyDuplicate {
        /// The TLV type.
        kind: u8,
    },
    /// The CRC32C of a PROXY header is wrong.
    ProxyChecksum,
    /// Ours to send, but not expressible in the protocol: a NUL in a string, or too long a packet.
    Unencodable(&'static str),
}

/// How a startup packet fails to be a list of strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartupLayout {
    /// The last byte is not the terminator.
    NoTerminator,
    /// A name without a value.
    NoValue,
    /// Bytes after the terminator.
    TrailingBytes,
}

impl Complaint {
    /// The stable word for metrics and audit events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::StartupLength { .. } => "startup_length",
            Self::HttpRequest => "http_request",
            Self::UnexpectedProxyHeader => "proxy_unexpected",
            Self::TlsRecord => "tls_record",
            Self::BytesBeforeTls { .. } => "pretls_data",
            Self::UnknownRequestCode { .. } => "unknown_request",
            Self::UnsupportedVersion { .. } => "unsupported_version",
            Self::StartupLayout(_) => "startup_layout",
            Self::TooManyParameters => "too_many_parameters",
            Self::ParameterNameLength { .. } => "parameter_name",
            Self::ParameterValueLength { .. } => "parameter_value",
            Self::ParameterNotUtf8 => "parameter_encoding",
            Self::DuplicateParameter { .. } => "duplicate_parameter",
            Self::ParameterSpelling { .. } => "parameter_spelling",
            Self::MissingUser => "missing_user",
            Self::NameLength { .. } => "name_form",
            Self::InvalidReplication => "replication_value",
            Self::CancelLength { .. } => "cancel_length",
            Self::MessageLength { .. } => "message_length",
            Self::UnexpectedMessage { .. } => "unexpected_message",
            Self::MalformedMessage { .. } => "message_malformed",
            Self::ProxyMissing => "proxy_missing",
            Self::ProxyVersion => "proxy_version",
            Self::ProxyLength { .. } => "proxy_length",
            Self::ProxyMalformed(_) => "proxy_malformed",
            Self::ProxyUnusable(_) => "proxy_unusable",
            Self::ProxyDuplicate { .. } => "proxy_duplicate",
            Self::ProxyChecksum => "proxy_checksum",
            Self::Unencodable(_) => "unencodable",
        }
    }

    /// The code that PostgreSQL gives to the same mistake.
    pub fn sqlstate(&self) -> SqlState {
        match self {
            Self::UnsupportedVersion { .. } | Self::UnknownRequestCode { .. } => {
                SqlState::FEATURE_NOT_SUPPORTED
            }
            Self::MissingUser | Self::NameLength { .. } => {
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            }
            Self::InvalidReplication => SqlState::INVALID_PARAMETER_VALUE,
            Self::Unencodable(_) => SqlState::INTERNAL_ERROR,
            Self::StartupLength { .. }
            | Self::HttpRequest
            | Self::UnexpectedProxyHeader
            | Self::TlsRecord
            | Self::BytesBeforeTls { .. }
            | Self::StartupLayout(_)
            | Self::TooManyParameters
            | Self::ParameterNameLength { .. }
            | Self::ParameterValueLength { .. }
            | Self::ParameterNotUtf8
            | Self::DuplicateParameter { .. }
            | Self::ParameterSpelling { .. }
            | Self::CancelLength { .. }
            | Self::MessageLength { .. }
            | Self::UnexpectedMessage { .. }
            | Self::MalformedMessage { .. }
            | Self::ProxyMissing
            | Self::ProxyVersion
            | Self::ProxyLength { .. }
            | Self::ProxyMalformed(_)
            | Self::ProxyUnusable(_)
            | Self::ProxyDuplicate { .. }
            | Self::ProxyChecksum => SqlState::PROTOCOL_VIOLATION,
        }
    }

    /// The FATAL answer to whoever sent these bytes.
    pub fn response(&self) -> ErrorResponse {
        ErrorResponse::fatal(self.sqlstate(), self.to_string())
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartupLength { length } => write!(
                f,
                "startup packet: a length of {length} bytes is impossible, {MIN_STARTUP_PACKET} to {MAX_STARTUP_PACKET} are allowed"
            ),
            Self::HttpRequest => {
                f.write_str("an HTTP request where a PostgreSQL startup packet was due")
            }
            Self::UnexpectedProxyHeader => {
                f.write_str("a PROXY protocol header where a PostgreSQL startup packet was due")
            }
            Self::TlsRecord => f.write_str("a TLS record that does not begin a ClientHello"),
            Self::BytesBeforeTls { count } => {
                write!(
                    f,
                    "received unencrypted data after SSL request ({count} bytes)"
                )
            }
            Self::UnknownRequestCode { code } => {
                write!(f, "unknown request code {}.{}", code >> 16, code & 0xFFFF)
            }
            Self::UnsupportedVersion { version } => write!(
                f,
                "unsupported frontend protocol {version}: server supports 3.0 to 3.2"
            ),
            Self::StartupLayout(layout) => write!(f, "invalid startup packet layout: {layout}"),
            Self::TooManyParameters => {
                write!(
                    f,
                    "startup packet: more than {MAX_STARTUP_PARAMETERS} parameters"
                )
            }
            Self::ParameterNameLength { length } => write!(
                f,
                "startup packet: a parameter name of {length} bytes, at most {MAX_NAME} are allowed"
            ),
            Self::ParameterValueLength { name, length } => write!(
                f,
                "startup packet: the value of parameter {name:?} has {length} bytes, at most {MAX_VALUE} are allowed"
            ),
            Self::ParameterNotUtf8 => f.write_str("startup packet: a parameter is not UTF-8"),
            Self::DuplicateParameter { name } => {
                write!(f, "startup packet: parameter {name:?} is given twice")
            }
            Self::ParameterSpelling { name } => {
                write!(
                    f,
                    "startup packet: parameter {name:?} must be written in lower case"
                )
            }
            Self::MissingUser => f.write_str("no PostgreSQL user name specified in startup packet"),
            Self::NameLength { field, length } => write!(
                f,
                "startup packet: the {field} name has {length} bytes, at most {MAX_NAME} are allowed"
            ),
            Self::InvalidReplication => f.write_str("invalid value for parameter \"replication\""),
            Self::CancelLength {
                secret: Some(length),
            } => write!(
                f,
                "cancel request: a secret of {length} bytes, {MIN_CANCEL_KEY} to {MAX_CANCEL_KEY} are allowed"
            ),
            Self::CancelLength { secret: None } => f.write_str("cancel request: no key in it"),
            Self::MessageLength {
                kind,
                length,
                maximum,
            } => write!(
                f,
                "message '{}': a length of {length} bytes is impossible here, 4 to {} are allowed",
                kind.escape_ascii(),
                maximum.saturating_add(4)
            ),
            Self::UnexpectedMessage { kind, expected } => write!(
                f,
                "message '{}' where '{}' was due",
                kind.escape_ascii(),
                expected.escape_ascii()
            ),
            Self::MalformedMessage { kind, problem } => {
                write!(f, "message '{}': {problem}", kind.escape_ascii())
            }
            Self::ProxyMissing => {
                f.write_str("PROXY header: required here, but the bytes begin otherwise")
            }
            Self::ProxyVersion => f.write_str("PROXY header: only version 2 is spoken here"),
            Self::ProxyLength { length } => write!(
                f,
                "PROXY header: {length} bytes, at most {MAX_PROXY_HEADER} are allowed"
            ),
            Self::ProxyMalformed(problem) => write!(f, "PROXY header: {problem}"),
            Self::ProxyUnusable(problem) => {
                write!(f, "PROXY header names no usable client: {problem}")
            }
            Self::ProxyDuplicate { kind } => {
                write!(f, "PROXY header: TLV 0x{kind:02X} stands twice")
            }
            Self::ProxyChecksum => f.write_str("PROXY header: the CRC32C is wrong"),
            Self::Unencodable(what) => write!(f, "cannot be written in the protocol: {what}"),
        }
    }
}

impl fmt::Display for StartupLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoTerminator => "expected terminator as last byte",
            Self::NoValue => "a parameter without a value",
            Self::TrailingBytes => "bytes after the terminator",
        })
    }
}

impl std::error::Error for Complaint {}
