//! ErrorResponse and NoticeResponse: ours to send, others' to read.
//!
//! Source: PostgreSQL documentation, "Error and Notice Message Fields".

use std::fmt;

use crate::bytes::{Reader, cut};
use crate::limits::{MAX_ERROR_FIELD, MAX_ERROR_FIELDS};
use crate::message::message;

/// An ErrorResponse that we send. It always carries S, V, C and M: drivers tell retryable from fatal by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorResponse {
    /// How bad it is; FATAL ends the connection.
    pub severity: Severity,
    /// What went wrong, for programs.
    pub code: SqlState,
    /// What went wrong, for people.
    pub message: String,
    /// The second line, where there is one.
    pub detail: Option<String>,
    /// What to do about it, where that can be said.
    pub hint: Option<String>,
}

impl ErrorResponse {
    /// The answer that ends a connection.
    pub fn fatal(code: SqlState, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Fatal,
            code,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// The same answer with a detail line.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same answer with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The whole message, type byte and length included. Each text is cut at [`MAX_ERROR_FIELD`]; a NUL, which would
    /// end its field and begin another, becomes U+FFFD.
    pub fn encode(&self) -> Vec<u8> {
        message(b'E', |out| {
            field(out, b'S', self.severity.as_str());
            field(out, b'V', self.severity.as_str());
            field(out, b'C', self.code.as_str());
            field(out, b'M', &self.message);
            if let Some(detail) = &self.detail {
                field(out, b'D', detail);
            }
            if let Some(hint) = &self.hint {
                field(out, b'H', hint);
            }
            out.push(0);
        })
    }
}

fn field(out: &mut Vec<u8>, kind: u8, text: &str) {
    out.push(kind);
    out.extend_from_slice(cut(&text.replace('\0', "\u{FFFD}"), MAX_ERROR_FIELD).as_bytes());
    out.push(0);
}

/// Severity of an ErrorResponse, never localized by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The command failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
}

impl Severity {
    /// As it stands in the fields S and V.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

/// Five characters, digits and capitals (PostgreSQL documentation, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// connection_failure: the upstream was lost or never there.
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    /// sqlserver_rejected_establishment_of_sqlconnection.
    pub const CONNECTION_REJECTED: Self = Self(*b"08004");
    /// protocol_violation.
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    /// feature_not_supported.
    pub const FEATURE_NOT_SUPPORTED: Self = Self(*b"0A000");
    /// invalid_parameter_value.
    pub const INVALID_PARAMETER_VALUE: Self = Self(*b"22023");
    /// invalid_authorization_specification: a denial.
    pub const INVALID_AUTHORIZATION_SPECIFICATION: Self = Self(*b"28000");
    /// invalid_password.
    pub const INVALID_PASSWORD: Self = Self(*b"28P01");
    /// invalid_catalog_name: no such database.
    pub const INVALID_CATALOG_NAME: Self = Self(*b"3D000");
    /// insufficient_privilege.
    pub const INSUFFICIENT_PRIVILEGE: Self = Self(*b"42501");
    /// too_many_connections.
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    /// configuration_limit_exceeded.
    pub const CONFIGURATION_LIMIT_EXCEEDED: Self = Self(*b"53400");
    /// query_canceled.
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    /// admin_shutdown: ended by us, a lapse or a drain.
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    /// cannot_connect_now: overloaded or not ready; worth another try.
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    /// internal_error.
    pub const INTERNAL_ERROR: Self = Self(*b"XX000");

    /// A code as it stands in field C; `None` unless it is five digits or capitals.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let code: [u8; 5] = bytes.try_into().ok()?;
        code.iter()
            .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
            .then_some(Self(code))
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        // Constants and `parse` allow ASCII only, so the other arm is never taken.
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlState({})", self.as_str())
    }
}

/// The fields of somebody else's ErrorResponse or NoticeResponse, as far as they were there.
///
/// Parsing cannot fail: a server that errs badly must still be reported. Texts are cut at [`MAX_ERROR_FIELD`], and
/// bytes that are not UTF-8 are replaced, so they are for reading, not for forwarding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorFields {
    /// V if present, else S (which may be localized).
    pub severity: Option<String>,
    /// C, when well formed.
    pub code: Option<SqlState>,
    /// M.
    pub message: Option<String>,
    /// D.
    pub detail: Option<String>,
    /// H.
    pub hint: Option<String>,
}

impl ErrorFields {
    /// Reads the body of an 'E' or 'N' message (after type and length). The first of a repeated field counts.
    pub fn parse(body: &[u8]) -> Self {
        let mut fields = Self::default();
        let mut localized = None;
        let mut reader = Reader::new(body);
        for _ in 0..MAX_ERROR_FIELDS {
            let Some(kind) = reader.u8().filter(|&kind| kind != 0) else {
                break;
            };
            let Some(value) = reader.c_string() else {
                break;
            };
            match kind {
                b'V' => keep(&mut fields.severity, value),
                b'S' => keep(&mut localized, value),
                b'C' => fields.code = fields.code.or_else(|| SqlState::parse(value)),
                b'M' => keep(&mut fields.message, value),
                b'D' => keep(&mut fields.detail, value),
                b'H' => keep(&mut fields.hint, value),
                _ => {}
            }
        }
        fields.severity = fields.severity.or(localized);
        fields
    }
}

impl fmt::Display for ErrorFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = self.severity.as_deref().unwrap_or("ERROR");
        let message = self.message.as_deref().unwrap_or("no message");
        write!(f, "{severity}: {message}")?;
        match self.code {
            Some(code) => write!(f, " ({code})"),
            None => Ok(()),
        }
    }
}

fn keep(slot: &mut Option<String>, value: &[u8]) {
    if slot.is_none() {
        // Cut the bytes first: a field may be as long as the message, and replacement triples bad bytes.
        let bytes = value.get(..MAX_ERROR_FIELD).unwrap_or(value);
        *slot = Some(cut(&String::from_utf8_lossy(bytes), MAX_ERROR_FIELD).to_owned());
    }
}
