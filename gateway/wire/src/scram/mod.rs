//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both sides, knowing only a verifier.
//!
//! The gateway ends a client's exchange itself ([`Server`]): from a proof that is right it recovers the ClientKey, and
//! with that signs in to the server that holds the same verifier ([`Client`]). No password is ever known. A ClientKey
//! is as good as a password wherever salt and iterations are the same, so it has no Debug, no Clone and no accessor, and
//! is wiped when dropped.
//!
//! Deliberately absent: making verifiers, which needs passwords; and SASLprep, which is the password holder's.
//!
//! Source: RFC 5802 (SCRAM), RFC 7677 (SHA-256), RFC 5929 section 4 (tls-server-end-point), and PostgreSQL's
//! `auth-scram.c` for what is refused how.

mod attributes;
mod client;
mod crypto;
mod server;
mod verifier;

pub use client::{Answered, Client, ClientFailure};
pub use crypto::ClientKey;
pub use server::{Challenged, Failure, Server};
pub use verifier::{Verifier, VerifierError};

/// The mechanism without channel binding (RFC 7677).
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Random bytes of our half of a nonce; on the wire 24 characters, like PostgreSQL's.
pub const NONCE: usize = 18;

/// What the TLS connection under an exchange can be bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// No TLS, or a certificate for which RFC 5929 defines no hash (Ed25519).
    Unsupported,
    /// The hash of the server's certificate as served in this very handshake (RFC 5929 section 4.1).
    TlsServerEndPoint(Vec<u8>),
}

impl Binding {
    /// The mechanisms that a server offers over this connection, best first.
    pub fn mechanisms(&self) -> &'static [&'static str] {
        match self {
            Self::Unsupported => &[SCRAM_SHA_256],
            Self::TlsServerEndPoint(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
        }
    }
}

/// The gs2 headers (RFC 5802 section 7) that our client sends: bound; able to bind, but not offered it; not able.
const GS2_BOUND: &str = "p=tls-server-end-point,,";
const GS2_COULD: &str = "y,,";
const GS2_UNBOUND: &str = "n,,";

#[cfg(test)]
mod tests;
