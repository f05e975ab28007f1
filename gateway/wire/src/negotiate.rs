//! Which protocol version is spoken on the client's hop, and how the client is told.
//!
//! The upstream hop is negotiated separately (we ask for 3.0 there), so nothing of this is ever forwarded.
//! Source: PostgreSQL documentation, "Protocol Versions" and "NegotiateProtocolVersion".

use std::fmt;

use crate::Complaint;
use crate::limits::{MAX_NAME, MAX_STARTUP_PARAMETERS};
use crate::message::message;

/// A protocol version: major in the upper half, minor in the lower.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(u32);

impl ProtocolVersion {
    /// Every client speaks it; cancel secrets have four bytes.
    pub const V3_0: Self = Self(0x0003_0000);
    /// PostgreSQL 18: cancel secrets have up to 256 bytes.
    pub const V3_2: Self = Self(0x0003_0002);

    /// The version as it stands in a startup packet.
    pub fn from_u32(version: u32) -> Self {
        Self(version)
    }

    /// As it stands in a startup packet.
    pub fn to_u32(self) -> u32 {
        self.0
    }

    /// The part that must be 3.
    pub fn major(self) -> u32 {
        self.0 >> 16
    }

    /// The part that is negotiated.
    pub fn minor(self) -> u32 {
        self.0 & 0xFFFF
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

impl fmt::Debug for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProtocolVersion({self})")
    }
}

/// The outcome for one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiation {
    /// What is spoken: [`ProtocolVersion::V3_0`] or [`ProtocolVersion::V3_2`].
    pub version: ProtocolVersion,
    /// The whole NegotiateProtocolVersion message, due before any authentication request; `None` when the client gets
    /// exactly what it asked for.
    pub reply: Option<Vec<u8>>,
}

/// Settles the version for a client that asked for `requested` with these `_pq_.` options (full names), none of which
/// we know. 3.1 is reserved and becomes 3.0; later minors, the grease version 3.9999 among them, become 3.2.
///
/// # Errors
/// A major version other than 3, or names that no startup packet within its limits can have.
pub fn negotiate(
    requested: ProtocolVersion,
    protocol_options: &[String],
) -> Result<Negotiation, Complaint> {
    if requested.major() != 3 {
        return Err(Complaint::UnsupportedVersion { version: requested });
    }
    let version = match requested.minor() {
        0 | 1 => ProtocolVersion::V3_0,
        _ => ProtocolVersion::V3_2,
    };
    if version == requested && protocol_options.is_empty() {
        return Ok(Negotiation {
            version,
            reply: None,
        });
    }
    let reply = negotiate_protocol_version(version, protocol_options)?;
    Ok(Negotiation {
        version,
        reply: Some(reply),
    })
}

/// The full version, not the minor alone, and every option: libpq aborts when either is missing.
fn negotiate_protocol_version(
    version: ProtocolVersion,
    options: &[String],
) -> Result<Vec<u8>, Complaint> {
    let bad = |option: &String| option.len() > MAX_NAME || option.contains('\0');
    let count = u32::try_from(options.len())
        .ok()
        .filter(|_| options.len() <= MAX_STARTUP_PARAMETERS && !options.iter().any(bad))
        .ok_or(Complaint::Unencodable("a list of protocol options"))?;
    Ok(message(b'v', |out| {
        out.extend_from_slice(&version.to_u32().to_be_bytes());
        out.extend_from_slice(&count.to_be_bytes());
        for option in options {
            out.extend_from_slice(option.as_bytes());
            out.push(0);
        }
    }))
}
