//! The server's side of an exchange: towards a client, who must prove that it knows the password.
//!
//! ```text
//!   Server ──first(client-first)──► Challenged ──finish(client-final)──► ClientKey
//!      └───────────────┴──── Failure ────┴──────────────────┘
//! ```

use std::fmt;

use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroize;

use super::attributes::{Attributes, is_nonce, text};
use super::crypto::{ClientKey, from_base64, hash_from_base64, hmac, sha256, to_base64, xor};
use super::{Binding, NONCE, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, Verifier};
use crate::error::{ErrorResponse, SqlState};
use crate::limits::MAX_SCRAM_NONCE;

/// An exchange that has not begun: the mechanisms are offered, the client has not spoken.
pub struct Server {
    verifier: Verifier,
    binding: Binding,
    /// Our half of the nonce.
    pub(super) nonce: String,
}

impl Server {
    /// An exchange against `verifier` over the connection that `binding` describes. `nonce` is fresh random bytes.
    pub fn new(verifier: Verifier, binding: Binding, nonce: [u8; NONCE]) -> Self {
        Self {
            verifier,
            binding,
            nonce: to_base64(&nonce),
        }
    }

    /// The mechanisms to offer, best first: PLUS only where there is something to bind to.
    pub fn mechanisms(&self) -> &'static [&'static str] {
        self.binding.mechanisms()
    }

    /// Takes the client's choice of mechanism and its client-first-message; returns server-first-message.
    ///
    /// The user name inside is disregarded, as PostgreSQL does: the role is the startup packet's.
    ///
    /// # Errors
    /// Any [`Failure`] about form or channel binding; never [`Failure::Proof`].
    pub fn first(
        self,
        mechanism: &str,
        client_first: &[u8],
    ) -> Result<(Challenged, Vec<u8>), Failure> {
        let client_first = text(client_first)?;
        let (gs2_header, bare) = gs2_header(client_first)?;
        let bound_data = self.bind(mechanism, gs2_header)?;
        let client_nonce = client_nonce(bare)?;

        let nonce = format!("{client_nonce}{}", self.nonce);
        let server_first = format!(
            "r={nonce},s={},i={}",
            self.verifier.salt_text(),
            self.verifier.iterations
        );
        let challenged = Challenged {
            auth_message: format!("{bare},{server_first},"),
            verifier: self.verifier,
            nonce,
            bound_data,
        };
        Ok((challenged, server_first.into_bytes()))
    }

    /// Judges the gs2 header in the light of what was offered and chosen; returns what `c=` must hold.
    fn bind(&self, mechanism: &str, gs2_header: &str) -> Result<Vec<u8>, Failure> {
        let flag = gs2_header.split(',').next().unwrap_or_default();
        let mut bound_data = gs2_header.as_bytes().to_vec();
        match (mechanism, &self.binding, flag.strip_prefix("p=")) {
            (
                SCRAM_SHA_256_PLUS,
                Binding::TlsServerEndPoint(hash),
                Some("tls-server-end-point"),
            ) => {
                bound_data.extend_from_slice(hash);
            }
            (SCRAM_SHA_256_PLUS, Binding::TlsServerEndPoint(_), Some(_)) => {
                return Err(Failure::BindingType);
            }
            (SCRAM_SHA_256_PLUS, Binding::TlsServerEndPoint(_), None) => {
                return Err(Failure::BindingMissing);
            }
            (SCRAM_SHA_256, _, Some(_)) => return Err(Failure::BindingUnexpected),
            // The client could bind and believes that we cannot: someone took PLUS out of our offer.
            (SCRAM_SHA_256, Binding::TlsServerEndPoint(_), None) if flag == "y" => {
                return Err(Failure::BindingDowngrade);
            }
            (SCRAM_SHA_256, _, None) => {}
            (_, _, _) => return Err(Failure::Mechanism),
        }
        Ok(bound_data)
    }
}

/// An exchange in which the server has sent its challenge and waits for the proof.
pub struct Challenged {
    verifier: Verifier,
    nonce: String,
    bound_data: Vec<u8>,
    /// client-first-message-bare, server-first-message and the comma behind them.
    auth_message: String,
}

impl Challenged {
    /// Takes client-final-message; returns server-final-message and the key that the proof gave away.
    ///
    /// # Errors
    /// [`Failure::Proof`] when the proof is wrong or the verifier is a mock; other failures about form, channel
    /// binding and nonce. A mock takes the same path as any verifier to the last comparison.
    pub fn finish(self, client_final: &[u8]) -> Result<(Vec<u8>, ClientKey), Failure> {
        let client_final = text(client_final)?;
        // `p=` is the last attribute, and no value holds a comma.
        let (without_proof, proof) = client_final
            .rsplit_once(",p=")
            .filter(|(_, proof)| !proof.contains(','))
            .ok_or(Failure::Malformed("no proof at the end"))?;
        let proof = hash_from_base64(proof).ok_or(Failure::Malformed("the proof"))?;

        let mut attributes = Attributes::new(without_proof);
        let bound_data =
            from_base64(attributes.value('c')?).ok_or(Failure::Malformed("the channel binding"))?;
        let nonce = attributes.value('r')?;
        pass_extensions(&mut attributes)?;
        if !bool::from(bound_data.ct_eq(&self.bound_data)) {
            return Err(Failure::BindingMismatch);
        }
        if !bool::from(nonce.as_bytes().ct_eq(self.nonce.as_bytes())) {
            return Err(Failure::NonceMismatch);
        }

        let parts = [self.auth_message.as_bytes(), without_proof.as_bytes()];
        let mut signature = hmac(&self.verifier.stored_key, &parts);
        let client_key = ClientKey(xor(&proof, &signature));
        signature.zeroize();
        let right = sha256(&client_key.0).ct_eq(&self.verifier.stored_key)
            & !Choice::from(u8::from(self.verifier.mock));
        let server_signature = hmac(&self.verifier.server_key, &parts);
        if !bool::from(right) {
            return Err(Failure::Proof);
        }
        let server_final = format!("v={}", to_base64(&server_signature));
        Ok((server_final.into_bytes(), client_key))
    }
}

/// Why a client's exchange ended. [`Failure::Proof`] is the client not knowing the password; all others are a client
/// that does not speak the protocol, or somebody between us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A mechanism that was not offered.
    Mechanism,
    /// A message that is not what RFC 5802 section 7 says.
    Malformed(&'static str),
    /// PLUS was chosen, but the message does not bind.
    BindingMissing,
    /// The message binds, but PLUS was not chosen.
    BindingUnexpected,
    /// A binding type other than tls-server-end-point.
    BindingType,
    /// The client would bind and believes that we do not offer it: our offer was altered on the way.
    BindingDowngrade,
    /// The client is bound to another certificate than ours: somebody terminates TLS between us.
    BindingMismatch,
    /// The client asks to act as another role.
    AuthorizationIdentity,
    /// A mandatory extension; none is defined.
    Extension,
    /// A nonce that is empty, too long or not printable.
    NonceForm,
    /// Not the nonce that we sent.
    NonceMismatch,
    /// Wrong password, or a role that does not exist: nobody outside can tell.
    Proof,
}

impl Failure {
    /// The stable word for metrics and audit events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Mechanism => "sasl_mechanism",
            Self::Malformed(_) => "scram_malformed",
            Self::BindingMissing
            | Self::BindingUnexpected
            | Self::BindingType
            | Self::BindingDowngrade
            | Self::BindingMismatch => "cbind",
            Self::AuthorizationIdentity => "authorization_identity",
            Self::Extension => "scram_extension",
            Self::NonceForm | Self::NonceMismatch => "scram_nonce",
            Self::Proof => "wrong_password",
        }
    }

    /// The code that PostgreSQL gives to the same failure.
    pub fn sqlstate(&self) -> SqlState {
        match self {
            Self::Proof => SqlState::INVALID_PASSWORD,
            Self::BindingDowngrade | Self::BindingMismatch => {
                SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            }
            Self::AuthorizationIdentity | Self::Extension => SqlState::FEATURE_NOT_SUPPORTED,
            Self::Mechanism
            | Self::Malformed(_)
            | Self::BindingMissing
            | Self::BindingUnexpected
            | Self::BindingType
            | Self::NonceForm
            | Self::NonceMismatch => SqlState::PROTOCOL_VIOLATION,
        }
    }

    /// The FATAL answer for the client, with PostgreSQL's own words. `user` is the name that it sent.
    pub fn response(&self, user: &str) -> ErrorResponse {
        let fatal = |message: &str| ErrorResponse::fatal(self.sqlstate(), message);
        match self {
            Self::Proof => fatal(&format!("password authentication failed for user \"{user}\"")),
            Self::Mechanism => fatal("client selected an invalid SASL authentication mechanism"),
            Self::BindingDowngrade => fatal("SCRAM channel binding negotiation error").with_detail(
                "The client supports SCRAM channel binding but thinks the server does not.  However, this server does support channel binding.",
            ),
            Self::BindingMismatch => fatal("SCRAM channel binding check failed"),
            Self::BindingType => fatal("unsupported SCRAM channel-binding type"),
            Self::AuthorizationIdentity => {
                fatal("client uses authorization identity, but it is not supported")
            }
            Self::Extension => fatal("client requires an unsupported SCRAM extension"),
            Self::NonceForm => fatal("non-printable characters in SCRAM nonce"),
            Self::NonceMismatch => {
                fatal("invalid SCRAM response").with_detail("Nonce does not match.")
            }
            Self::BindingMissing => fatal("malformed SCRAM message").with_detail(
                "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
            ),
            Self::BindingUnexpected => fatal("malformed SCRAM message").with_detail(
                "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.",
            ),
            Self::Malformed(problem) => {
                fatal("malformed SCRAM message").with_detail(format!("Problem: {problem}."))
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mechanism => "the client chose a SASL mechanism that was not offered",
            Self::Malformed(problem) => return write!(f, "malformed SCRAM message: {problem}"),
            Self::BindingMissing => "the client chose SCRAM-SHA-256-PLUS and does not bind",
            Self::BindingUnexpected => "the client chose SCRAM-SHA-256 and binds",
            Self::BindingType => "the client binds to something other than tls-server-end-point",
            Self::BindingDowngrade => {
                "the client believes that SCRAM-SHA-256-PLUS was not offered; it was"
            }
            Self::BindingMismatch => "the client is bound to another certificate than ours",
            Self::AuthorizationIdentity => "the client asks for an authorization identity",
            Self::Extension => "the client requires a SCRAM extension",
            Self::NonceForm => "the client's nonce is empty, too long or not printable",
            Self::NonceMismatch => "the client answers with another nonce than ours",
            Self::Proof => "the client's proof is wrong, or the role cannot sign in",
        })
    }
}

impl std::error::Error for Failure {}

impl From<&'static str> for Failure {
    fn from(problem: &'static str) -> Self {
        Self::Malformed(problem)
    }
}

/// Splits client-first-message into gs2-header (both commas included) and client-first-message-bare.
fn gs2_header(client_first: &str) -> Result<(&str, &str), Failure> {
    let mut fields = client_first.splitn(3, ',');
    let (Some(flag), Some(authzid), Some(bare)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err(Failure::Malformed("no gs2 header"));
    };
    if !matches!(flag, "n" | "y") && !flag.starts_with("p=") {
        return Err(Failure::Malformed("an unknown channel binding flag"));
    }
    if !authzid.is_empty() {
        return Err(Failure::AuthorizationIdentity);
    }
    let header = client_first
        .strip_suffix(bare)
        .ok_or(Failure::Malformed("no gs2 header"))?;
    Ok((header, bare))
}

/// The nonce of client-first-message-bare.
fn client_nonce(bare: &str) -> Result<&str, Failure> {
    let mut attributes = Attributes::new(bare);
    if attributes.demands_extension() {
        return Err(Failure::Extension);
    }
    attributes.value('n')?;
    let nonce = attributes.value('r')?;
    if !is_nonce(nonce, MAX_SCRAM_NONCE) {
        return Err(Failure::NonceForm);
    }
    pass_extensions(&mut attributes)?;
    Ok(nonce)
}

/// Optional extensions are passed over (RFC 5802 section 5.1), mandatory ones refused wherever they stand, and so is a
/// proof: there is one, and it is last.
fn pass_extensions(attributes: &mut Attributes<'_>) -> Result<(), Failure> {
    while !attributes.is_empty() {
        if attributes.demands_extension() {
            return Err(Failure::Extension);
        }
        if let ('p', _) = attributes.any()? {
            return Err(Failure::Malformed("a proof in another's place"));
        }
    }
    Ok(())
}
