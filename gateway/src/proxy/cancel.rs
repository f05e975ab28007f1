//! A CancelRequest is an attempt too: it goes through the same decision, and reaches only the
//! query that its key names.
//!
//! Deliberately absent: passing a request on to the node that issued its key.

use std::sync::Arc;

use portcullis_audit::kinds;
use portcullis_certs::cancel_key::Unopened;
use portcullis_policy::ServerName;
use portcullis_wire::cancel::CancelRequest;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::admit::admit_cancel;
use super::front::Front;
use super::greet::Arrival;
use super::live::Facts;
use super::source::Source;
use super::throttle::cancels::Paced;
use crate::database::backend;
use crate::runtime::clock;
use crate::runtime::limits::CANCEL;

/// Decides on the request and carries it out in the background. Nothing is ever answered.
///
/// What it returns ends when the database has been told, and the client's connection should be
/// kept until then: drivers take its end for a promise, as PostgreSQL gives it, that the next
/// statement will not be hit. A refused request has nothing to wait for, whatever the reason, so
/// timing tells only what a key is worth whose holder may use it.
pub(super) fn cancel(
    front: &Arc<Front>,
    arrival: Arrival,
    request: &CancelRequest,
    server_name: Option<ServerName>,
) -> Option<oneshot::Receiver<()>> {
    let reference = arrival.reference;
    let denied = |code: &'static str, story: String, count: u64| {
        metrics::counter!("portcullis_cancels_total", "outcome" => code).increment(1);
        let event = front
            .event(kinds::CANCEL_DENIED)
            .with("code", code)
            .with("story", story)
            .with("count", count)
            .with("origin", arrival.origin.to_string())
            .with("address", arrival.address.to_string())
            .with("port", arrival.port);
        front
            .ledger
            .record(super::connection::under(event, &reference));
        None
    };
    // Before anything is decrypted.
    let source = Source::neighbourhood(&arrival.origin, arrival.address);
    match front.cancels.pace(&source, clock::instant()) {
        Paced::Granted => {}
        Paced::Denied { since_told } => {
            let story = "more cancel requests than its network may send";
            return denied("cancel_rate", story.to_owned(), since_told);
        }
        Paced::DeniedUntold => {
            metrics::counter!("portcullis_cancels_total", "outcome" => "cancel_rate").increment(1);
            return None;
        }
    }
    let denied = |code: &'static str, story: &str| denied(code, story.to_owned(), 1);
    let serial = match front.cancel_keys.open(request.pid(), request.secret()) {
        Ok(serial) => serial,
        Err(Unopened::Unknown) => return denied("unknown_key", "no key of this node"),
        Err(Unopened::OtherNode) => return denied("other_node", "another node issued this key"),
    };
    let Some(target) = front.live.by_serial(serial) else {
        return denied("unknown_key", "the connection that it names is gone");
    };
    let facts = Facts {
        reference,
        origin: arrival.origin.clone(),
        address: arrival.address,
        port: arrival.port,
        server_name: server_name.or_else(|| target.facts.server_name.clone()),
        ..target.facts.clone()
    };
    if let Err(refusal) = admit_cancel(&front.view(), &facts, &target) {
        return denied(refusal.code, &refusal.story);
    }
    let Some(backend) = target.backend().cloned() else {
        return denied("not_open", "the connection has no backend yet");
    };
    let turn = match front.cancels.carry(&target.tenant, target.id) {
        Ok(turn) => turn,
        Err(code) => return denied(code, "one at a time, and not too many at once"),
    };
    let front = Arc::clone(front);
    let of = target.facts.reference;
    let owner = Arc::clone(&front);
    let (over, done) = oneshot::channel();
    owner.after(async move {
        let _turn = turn;
        let outcome = match timeout(CANCEL, backend::cancel(front.upstreams(), &backend)).await {
            Ok(Ok(())) => "delivered".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not delivered within {CANCEL:?}"),
        };
        // Nobody may be waiting any more.
        let _ = over.send(());
        metrics::counter!("portcullis_cancels_total", "outcome" => "forwarded").increment(1);
        let event = front
            .event(kinds::CANCEL_FORWARDED)
            .with("connection", of.to_string())
            .with("origin", facts.origin.to_string())
            .with("address", facts.address.to_string())
            .with("port", facts.port)
            .with("outcome", outcome);
        front
            .ledger
            .record(super::connection::under(event, &reference));
    });
    Some(done)
}
