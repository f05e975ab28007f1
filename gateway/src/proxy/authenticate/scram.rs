//! SCRAM-SHA-256 and -PLUS, ended here against the database's own verifier.
//!
//! The client's proof gives away its ClientKey (RFC 5802 §3), which signs in upstream; the
//! password is never known. A role that cannot sign in meets a mock verifier that is the same on
//! every attempt and takes the same path.

use portcullis_policy::{Permit, Reference};
use portcullis_wire::limits::MAX_SASL_MESSAGE;
use portcullis_wire::message::{
    SaslInitialResponse, authentication_sasl, password_message, sasl_continue,
};
use portcullis_wire::scram::{Binding, Challenged, Failure, Server, Verifier};

use super::Credential;
use crate::proxy::front::Front;
use crate::proxy::greet::Client;
use crate::proxy::io::{read_unit, send};
use crate::proxy::refuse::Refusal;
use crate::runtime::{clock, random};

/// An exchange up to the client's proof, which nobody has looked at.
pub(super) struct Answered {
    challenged: Challenged,
    proof: Vec<u8>,
    verifier: Verifier,
    unusable: Option<&'static str>,
}

/// What is known of a role: its verifier, or a mock with the reason why.
pub(super) struct Known {
    verifier: Verifier,
    unusable: Option<&'static str>,
}

/// Goes through the exchange up to the client's proof.
pub(super) async fn ask(
    client: &mut Client,
    known: Known,
    reference: &Reference,
) -> Result<Answered, Refusal> {
    let user = client.startup.user.clone();
    let Known { verifier, unusable } = known;
    let binding = match client.identity.end_point_hash() {
        Some(hash) => Binding::TlsServerEndPoint(hash.to_vec()),
        None => Binding::Unsupported,
    };
    let server = Server::new(verifier.clone(), binding, random::bytes());

    let mut opening = std::mem::take(&mut client.owed);
    opening.extend(authentication_sasl(server.mechanisms()));
    send(&mut client.stream, &opening)
        .await
        .map_err(Refusal::client_gone)?;
    let first = SaslInitialResponse::decode(&answer(client).await?)?;
    let failed = |failure: Failure| failure_of(failure, unusable, &user, reference);
    let data = first.data.unwrap_or_default();
    let (challenged, server_first) = server.first(&first.mechanism, &data).map_err(failed)?;
    send(&mut client.stream, &sasl_continue(&server_first))
        .await
        .map_err(Refusal::client_gone)?;
    Ok(Answered {
        challenged,
        proof: answer(client).await?,
        verifier,
        unusable,
    })
}

/// Looks at the proof.
pub(super) fn judge(
    front: &Front,
    permit: &Permit,
    answered: Answered,
    user: &str,
    reference: &Reference,
) -> Result<Credential, Refusal> {
    let Answered {
        challenged,
        proof,
        verifier,
        unusable,
    } = answered;
    let (server_final, key) = challenged.finish(&proof).map_err(|failure| {
        // A changed password must work at the next attempt, not when our copy is old.
        front
            .verifiers
            .forget(permit.tenant(), permit.cluster_id(), user);
        failure_of(failure, unusable, user, reference)
    })?;
    Ok(Credential::Scram {
        key,
        verifier: Box::new(verifier),
        server_final,
    })
}

async fn answer(client: &mut Client) -> Result<Vec<u8>, Refusal> {
    let message = |bytes: &[u8]| Ok(password_message(bytes, MAX_SASL_MESSAGE)?.map(<[u8]>::to_vec));
    let (body, _) = read_unit(&mut client.stream, message).await?;
    Ok(body)
}

/// Asks the database, or whoever asked it lately.
pub(super) async fn look_up(
    front: &Front,
    permit: &Permit,
    user: &str,
    reference: &Reference,
) -> Result<Known, Refusal> {
    let secret = front
        .verifiers
        .lookup(permit.tenant(), permit.cluster_id(), permit.cluster(), user)
        .await
        .map_err(|error| Refusal::upstream(error.reason(), error.for_operator(), reference))?;
    let unusable = match secret.as_deref().map(|secret| secret.usable(clock::now())) {
        Some(Ok(text)) => match Verifier::parse(text) {
            Ok(verifier) => {
                return Ok(Known {
                    verifier,
                    unusable: None,
                });
            }
            Err(error) => error.reason(),
        },
        Some(Err(unusable)) => unusable.reason(),
        None => "unknown_role",
    };
    // Per cluster, as real salts are: equal salts at two endpoints of a tenant would tell a mock.
    let place = format!("{}/{}", permit.tenant(), permit.cluster_id());
    Ok(Known {
        verifier: Verifier::mock(&front.mock_secret, &place, user),
        unusable: Some(unusable),
    })
}

fn failure_of(
    failure: Failure,
    unusable: Option<&'static str>,
    user: &str,
    reference: &Reference,
) -> Refusal {
    if failure != Failure::Proof {
        return Refusal::authentication(
            failure.reason(),
            failure.to_string(),
            failure.response(user),
        );
    }
    let code = unusable.unwrap_or_else(|| failure.reason());
    Refusal::credential(code, format!("role \"{user}\": {code}"), user, reference)
}
