//! Who a client is, by the proof that its endpoint asks for.
//!
//! Unknown roles and wrong credentials are told alike. Nothing here is told to a client that
//! policy did not let in.

mod certificate;
mod scram;
mod token;

use portcullis_policy::{Authentication, Permit, Reference, Timestamp};
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
    /// We vouch for the role: upstream our own certificate signs in. The proof is good until
    /// `expires`, and so is the connection.
    Vouched { how: String, expires: Timestamp },
    /// The database will ask for itself.
    Relay,
}

impl Credential {
    /// The word of audit events.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Scram { .. } => "scram".to_owned(),
            Self::Vouched { how, .. } => how.clone(),
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
    let mode = &permit.endpoint().authentication;
    let user = &client.startup.user;
    let service = permit.cluster().service.as_ref();
    // The service role signs in by our own certificate. Where the client's own password is not what
    // signs in, nobody may come as that role.
    if *mode != Authentication::Scram && service.is_some_and(|service| service.role == *user) {
        let story = format!("role \"{user}\" is the gateway's own on this cluster");
        return Err(Refusal::credential("reserved_role", story, user, reference));
    }
    match mode {
        Authentication::Scram => scram::authenticate(front, client, permit, reference).await,
        Authentication::Relay => Ok(Credential::Relay),
        Authentication::Certificate { authorities, map } => {
            certificate::authenticate(client, authorities, map, reference)
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
