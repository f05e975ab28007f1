//! A CancelRequest is an attempt too: it goes through the same decision, and reaches only the
//! query that its key names.
//!
//! Deliberately absent: passing a request on to the node that issued its key.

use std::sync::Arc;

use portcullis_audit::kinds;
use portcullis_certs::cancel_key::Unopened;
use portcullis_policy::ServerName;
use portcullis_wire::cancel::CancelRequest;
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

/// Decides on the request and carries it out in the background. Nothing is ever answered: the
/// client's connection is closed first, so that neither timing nor outcome tells anything.
pub(super) fn cancel(
    front: &Arc<Front>,
    arrival: Arrival,
    request: &CancelRequest,
    server_name: Option<ServerName>,
) {
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
            return;
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
    owner.after(async move {
        let _turn = turn;
        let outcome = match timeout(CANCEL, backend::cancel(front.upstreams(), &backend)).await {
            Ok(Ok(())) => "delivered".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not delivered within {CANCEL:?}"),
        };
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
}
