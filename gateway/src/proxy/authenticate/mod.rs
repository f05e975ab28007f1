//! Who a client is, by the proof that its endpoint asks for.
//!
//! Each mode first asks for a proof, then waits its turn among those who failed lately, then looks
//! at the proof. Unknown roles and wrong credentials are told alike. Nothing here is told to a
//! client that policy did not let in.

mod certificate;
mod scram;
mod token;

use portcullis_policy::{Authentication, Permit, Timestamp};
use portcullis_wire::scram::{ClientKey, Verifier};
use tokio::time::timeout;

use super::failures::Turn;
use super::front::Front;
use super::greet::Client;
use super::live::Facts;
use super::refuse::Refusal;
use super::throttle::Limit;
use crate::runtime::clock::Instant;

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
    /// The database will ask for itself, and judge.
    Relay(Turn),
}

impl Credential {
    /// The word of audit events.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Scram { .. } => "scram".to_owned(),
            Self::Vouched { how, .. } => how.clone(),
            Self::Relay(_) => "relay".to_owned(),
        }
    }
}

/// Authenticates `client` as its endpoint asks, before the moment `until`.
pub(super) async fn authenticate(
    front: &Front,
    client: &mut Client,
    permit: &Permit,
    facts: &Facts,
    until: Instant,
) -> Result<Credential, Refusal> {
    let mode = &permit.endpoint().authentication;
    let (user, reference) = (facts.user.as_str(), &facts.arrival.reference);
    let service = permit.cluster().service.as_ref();
    // The service role signs in by our own certificate. Where the client's own password is not what
    // signs in, nobody may come as that role.
    if *mode != Authentication::Scram && service.is_some_and(|service| service.role == user) {
        let story = format!("role \"{user}\" is the gateway's own on this cluster");
        return Err(Refusal::credential("reserved_role", story, user, reference));
    }
    let turn = front.failures.turn(facts, permit, until);
    match mode {
        Authentication::Scram => {
            let known = scram::look_up(front, permit, user, reference).await?;
            let answered = in_time(front, scram::ask(client, known, reference)).await?;
            turn.await?
                .settle(scram::judge(front, permit, answered, user, reference))
        }
        Authentication::Relay => Ok(Credential::Relay(turn.await?)),
        Authentication::Certificate { authorities, map } => {
            let turn = turn.await?;
            turn.settle(certificate::judge(client, authorities, map, reference))
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
            let token = in_time(front, token::ask(client)).await?;
            let turn = turn.await?;
            turn.settle(token::judge(front, &token, &rule, user, reference).await)
        }
    }
}

/// The client's part of the exchange has a limit; a wait that we impose is none of it.
async fn in_time<T>(
    front: &Front,
    ask: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let limit = front.limits().deadlines.authentication.value;
    timeout(limit, ask).await.unwrap_or_else(|_| {
        let story = format!("no proof within {limit:?}");
        Err(Refusal::late(Limit::Authentication, story))
    })
}
