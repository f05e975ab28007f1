//! The client's side of an exchange: towards a server, with a ClientKey instead of a password.
//!
//! ```text
//!   Client ──challenge(server-first)──► Answered ──verify(server-final)──► signed in
//!      └───────────────┴── ClientFailure ──┴──────────────────┘
//! ```

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::attributes::{Attributes, MAX_COMBINED_NONCE, is_nonce, text};
use super::crypto::{ClientKey, from_base64, hash_from_base64, hmac, to_base64, xor};
use super::verifier::{IterationsProblem, read_iterations};
use super::{
    Binding, GS2_BOUND, GS2_COULD, GS2_UNBOUND, NONCE, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, Verifier,
};
use crate::bytes::cut;
use crate::limits::{MAX_ERROR_FIELD, MAX_SCRAM_ITERATIONS, MIN_SCRAM_ITERATIONS};

/// An exchange that has a mechanism and waits for the server's challenge.
pub struct Client {
    key: ClientKey,
    verifier: Verifier,
    mechanism: &'static str,
    gs2_header: &'static str,
    /// The gs2 header and what it binds to.
    bound_data: Vec<u8>,
    /// Our half of the nonce.
    pub(super) nonce: String,
    /// client-first-message-bare. The user name in it stays empty, as libpq leaves it: the role is the startup packet's.
    pub(super) first_bare: String,
}

impl Client {
    /// An exchange with a server that offers `offered`, over the connection that `binding` describes, as the holder of
    /// `key`, which was recovered by means of `verifier`. `nonce` is fresh random bytes.
    ///
    /// PLUS is taken wherever both sides can; where only we could, the server is told so (`y`), and will refuse if its
    /// offer was altered on the way.
    ///
    /// # Errors
    /// [`ClientFailure::NoMechanism`].
    pub fn new(
        key: &ClientKey,
        verifier: &Verifier,
        offered: &[impl AsRef<str>],
        binding: &Binding,
        nonce: [u8; NONCE],
    ) -> Result<Self, ClientFailure> {
        let offers = |mechanism: &str| offered.iter().any(|name| name.as_ref() == mechanism);
        let (mechanism, gs2_header, hash) = match binding {
            Binding::TlsServerEndPoint(hash) if offers(SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, GS2_BOUND, hash.as_slice())
            }
            Binding::TlsServerEndPoint(_) if offers(SCRAM_SHA_256) => {
                (SCRAM_SHA_256, GS2_COULD, &[][..])
            }
            Binding::Unsupported if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, GS2_UNBOUND, &[][..]),
            Binding::TlsServerEndPoint(_) | Binding::Unsupported => {
                return Err(ClientFailure::NoMechanism);
            }
        };
        let nonce = to_base64(&nonce);
        Ok(Self {
            key: ClientKey(key.0),
            verifier: verifier.clone(),
            mechanism,
            gs2_header,
            bound_data: [gs2_header.as_bytes(), hash].concat(),
            first_bare: format!("n=,r={nonce}"),
            nonce,
        })
    }

    /// The mechanism to name in SASLInitialResponse.
    pub fn mechanism(&self) -> &'static str {
        self.mechanism
    }

    /// client-first-message.
    pub fn first(&self) -> Vec<u8> {
        format!("{}{}", self.gs2_header, self.first_bare).into_bytes()
    }

    /// Takes server-first-message; returns client-final-message.
    ///
    /// # Errors
    /// [`ClientFailure::VerifierMismatch`] when the server's salt or iterations are not our verifier's, so that the key
    /// cannot serve there; other failures about form and limits.
    pub fn challenge(self, server_first: &[u8]) -> Result<(Answered, Vec<u8>), ClientFailure> {
        let server_first = text(server_first)?;
        let mut attributes = Attributes::new(server_first);
        if attributes.demands_extension() {
            return Err(ClientFailure::Extension);
        }
        let nonce = attributes.value('r')?;
        let salt =
            from_base64(attributes.value('s')?).ok_or(ClientFailure::Malformed("the salt"))?;
        let iterations = attributes.value('i')?;
        attributes.pass_extensions()?;

        let extends = nonce.len() > self.nonce.len() && nonce.starts_with(&self.nonce);
        if !extends || !is_nonce(nonce, MAX_COMBINED_NONCE) {
            return Err(ClientFailure::Nonce);
        }
        let iterations = read_iterations(iterations).map_err(|problem| match problem {
            IterationsProblem::NotANumber => ClientFailure::Malformed("the iterations"),
            IterationsProblem::OutOfBounds => ClientFailure::Iterations,
        })?;
        if salt != self.verifier.salt || iterations != self.verifier.iterations {
            return Err(ClientFailure::VerifierMismatch);
        }

        let without_proof = format!("c={},r={nonce}", to_base64(&self.bound_data));
        let auth_message = format!("{},{server_first},{without_proof}", self.first_bare);
        let parts = [auth_message.as_bytes()];
        let mut signature = hmac(&self.verifier.stored_key, &parts);
        let proof = xor(&self.key.0, &signature);
        let client_final = format!("{without_proof},p={}", to_base64(&proof));
        // Together with the proof, which is on the wire now, it gives the key.
        signature.zeroize();
        let answered = Answered {
            server_signature: hmac(&self.verifier.server_key, &parts),
        };
        Ok((answered, client_final.into_bytes()))
    }
}

/// An exchange in which the proof is sent and the server has yet to prove that it holds the verifier.
pub struct Answered {
    server_signature: [u8; super::crypto::HASH],
}

impl Answered {
    /// Takes server-final-message.
    ///
    /// # Errors
    /// [`ClientFailure::ServerSignature`] when the server does not hold the verifier: it is not who it says, and
    /// nothing more may be sent to it. [`ClientFailure::Refused`] when it says that it refuses us.
    pub fn verify(self, server_final: &[u8]) -> Result<(), ClientFailure> {
        let mut attributes = Attributes::new(text(server_final)?);
        let signature = match attributes.any()? {
            ('v', signature) => signature,
            ('e', error) => {
                return Err(ClientFailure::Refused(
                    cut(error, MAX_ERROR_FIELD).to_owned(),
                ));
            }
            (_, _) => return Err(ClientFailure::Malformed("neither a signature nor an error")),
        };
        let signature =
            hash_from_base64(signature).ok_or(ClientFailure::Malformed("the signature"))?;
        attributes.pass_extensions()?;
        if bool::from(signature.ct_eq(&self.server_signature)) {
            Ok(())
        } else {
            Err(ClientFailure::ServerSignature)
        }
    }
}

/// Why signing in to a server by SCRAM came to nothing. The server's side is to blame in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientFailure {
    /// The server offers no mechanism that we can use over this connection.
    NoMechanism,
    /// A message that is not what RFC 5802 section 7 says.
    Malformed(&'static str),
    /// A mandatory extension; none is defined.
    Extension,
    /// The server's nonce does not extend ours, or is too long or not printable.
    Nonce,
    /// The server's iterations are outside our limits.
    Iterations,
    /// The server's salt or iterations are not our verifier's: the verifier that we read is stale, or the server is
    /// not a copy of the one that it was read from. The same password is not enough, it must be the same verifier.
    VerifierMismatch,
    /// The server says so, in RFC 5802's words (`invalid-proof`).
    Refused(String),
    /// The server does not hold the verifier.
    ServerSignature,
}

impl ClientFailure {
    /// The stable word for metrics and audit events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoMechanism => "upstream_sasl_mechanism",
            Self::Malformed(_) => "upstream_scram_malformed",
            Self::Extension => "upstream_scram_extension",
            Self::Nonce => "upstream_scram_nonce",
            Self::Iterations => "upstream_scram_iterations",
            Self::VerifierMismatch => "verifier_mismatch",
            Self::Refused(_) => "upstream_scram_refused",
            Self::ServerSignature => "upstream_server_signature",
        }
    }
}

impl fmt::Display for ClientFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMechanism => f.write_str("the server offers no usable SCRAM mechanism"),
            Self::Malformed(problem) => {
                write!(f, "the server's SCRAM message is malformed: {problem}")
            }
            Self::Extension => f.write_str("the server requires a SCRAM extension"),
            Self::Nonce => f.write_str("the server's SCRAM nonce does not extend ours"),
            Self::Iterations => write!(
                f,
                "the server asks for SCRAM iterations outside {MIN_SCRAM_ITERATIONS} to {MAX_SCRAM_ITERATIONS}"
            ),
            Self::VerifierMismatch => f.write_str(
                "the server's SCRAM salt and iterations are not those of the verifier that the client was checked against",
            ),
            Self::Refused(error) => write!(f, "the server refuses the SCRAM proof: {error:?}"),
            Self::ServerSignature => {
                f.write_str("the server's SCRAM signature is wrong: it does not hold the verifier")
            }
        }
    }
}

impl std::error::Error for ClientFailure {}

impl From<&'static str> for ClientFailure {
    fn from(problem: &'static str) -> Self {
        Self::Malformed(problem)
    }
}
