//! Who a client is, by the proof that its endpoint asks for.
//!
//! Unknown roles and wrong credentials are told alike. Nothing here is told to a client that
//! policy did not let in.

mod certificate;
mod scram;
mod token;

use portcullis_policy::{Authentication, Permit, Reference};
use portcullis_wire::scram::{ClientKey, Verifier};

use super::front::Front;
use super::greet::Client;
use super::refuse::Refusal;

pub(super) use token::Issuers;

/// What a client proved, and so how to sign in upstream.
pub(super) enum Credential {
    /// It knows the password: with the key that its proof gave away we sign in as it.
    Scram {
        key: ClientKey,
        verifier: Box<Verifier>,
        server_final: Vec<u8>,
    },
    /// We vouch for the role: upstream our own certificate signs in.
    Vouched { how: String },
    /// The database will ask for itself.
    Relay,
}

impl Credential {
    /// The word of audit events.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Scram { .. } => "scram".to_owned(),
            Self::Vouched { how } => how.clone(),
            Self::Relay => "relay".to_owned(),
        }
    }
}

/// Authenticates `client` as its endpoint asks.
pub(super) async fn authenticate(
    front: &Front,
    client: &mut Client,
    permit: &Permit,
    reference: &Reference,
) -> Result<Credential, Refusal> {
    match &permit.endpoint().authentication {
        Authentication::Scram => scram::authenticate(front, client, permit, reference).await,
        Authentication::Relay => Ok(Credential::Relay),
        Authentication::Certificate { map, .. } => {
            certificate::authenticate(client, map, reference)
        }
        Authentication::Token {
            issuer,
            audience,
            keys,
            claim,
            map,
        } => {
            let rule = token::Rule {
                issuer,
                audience,
                keys,
                claim,
                map,
            };
            token::authenticate(front, client, &rule, reference).await
        }
    }
}
