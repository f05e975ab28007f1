//! A CancelRequest is an attempt too: it goes through the same decision, and reaches only the
//! query that its key names. One whose key another node of the fleet issued is passed on to it,
//! which decides; it is passed on once.

use std::sync::Arc;

use portcullis_audit::kinds;
use portcullis_certs::cancel_key::{Issuer, Unopened};
use portcullis_policy::ServerName;
use portcullis_wire::cancel::CancelRequest;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::admit::admit_cancel;
use super::connection::{arrived, under};
use super::front::Front;
use super::live::{Arrival, Facts};
use super::others::{Others, PassedCancel};
use super::source::Source;
use super::throttle::cancels::Paced;
use crate::database::backend;
use crate::runtime::clock;
use crate::runtime::limits::CANCEL;

/// Who brings a cancel request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bringer {
    /// Whoever made it.
    Client,
    /// Another node, to which it was made.
    Node,
}

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
    bringer: Bringer,
) -> Option<oneshot::Receiver<()>> {
    let reference = arrival.reference;
    let denied = |code: &'static str, story: String, count: u64| {
        metrics::counter!("portcullis_cancels_total", "outcome" => code).increment(1);
        let event = front
            .event(kinds::CANCEL_DENIED)
            .with("code", code)
            .with("story", story)
            .with("count", count);
        let event = arrived(event, &arrival);
        front.ledger.record(under(event, &reference));
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
        Err(Unopened::OtherNode(issuer)) => {
            return match (bringer, front.others()) {
                (Bringer::Client, Some(others)) => {
                    let passed = PassedCancel::new(&arrival, request, server_name.as_ref());
                    Some(pass_on(front, others, issuer, arrival, passed))
                }
                (Bringer::Node, _) | (_, None) => {
                    denied("other_node", "another node issued this key")
                }
            };
        }
    };
    let Some(target) = front.live.by_serial(serial) else {
        return denied("unknown_key", "the connection that it names is gone");
    };
    let facts = Facts {
        arrival: arrival.clone(),
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
    let of = target.facts.arrival.reference;
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
            .with("outcome", outcome);
        let event = arrived(event, &facts.arrival);
        front.ledger.record(under(event, &reference));
    });
    Some(done)
}

/// Gives a request to the node that issued its key, in the background.
fn pass_on(
    front: &Arc<Front>,
    others: &Arc<dyn Others>,
    issuer: Issuer,
    arrival: Arrival,
    passed: PassedCancel,
) -> oneshot::Receiver<()> {
    let (over, done) = oneshot::channel();
    let (owner, others) = (Arc::clone(front), Arc::clone(others));
    front.after(async move {
        let node = others.cancel(issuer, passed).await;
        // Nobody may be waiting any more.
        let _ = over.send(());
        let (kind, outcome) = match &node {
            Some(_) => (kinds::CANCEL_FORWARDED, "passed_on"),
            None => (kinds::CANCEL_DENIED, "other_node"),
        };
        metrics::counter!("portcullis_cancels_total", "outcome" => outcome).increment(1);
        let event = arrived(owner.event(kind), &arrival);
        let event = match node {
            Some(node) => event.with("to", node).with("outcome", outcome),
            None => event.with("code", outcome).with(
                "story",
                "the node that issued this key is not known or cannot be reached",
            ),
        };
        owner.ledger.record(under(event, &arrival.reference));
    });
    done
}

impl PassedCancel {
    fn new(arrival: &Arrival, request: &CancelRequest, server_name: Option<&ServerName>) -> Self {
        Self {
            pid: request.pid(),
            secret: request.secret().to_vec(),
            reference: arrival.reference.to_string(),
            origin: arrival.origin.to_string(),
            address: arrival.address.to_string(),
            port: arrival.port,
            server_name: server_name.map(ToString::to_string),
        }
    }

    fn understood(&self) -> Option<(Arrival, CancelRequest, Option<ServerName>)> {
        let arrival = Arrival {
            reference: self.reference.parse().ok()?,
            origin: self.origin.parse().ok()?,
            address: self.address.parse().ok()?,
            port: self.port,
            balancer: None,
        };
        let request = CancelRequest::new(self.pid, &self.secret).ok()?;
        let server_name = match &self.server_name {
            Some(name) => Some(name.parse().ok()?),
            None => None,
        };
        Some((arrival, request, server_name))
    }
}

impl Front {
    /// Carries out a cancel request that was made to another node, where this one's policy permits
    /// it; ends when the database has been told. False if it is not understood or refused.
    pub async fn cancel_for_another(self: &Arc<Self>, passed: &PassedCancel) -> bool {
        let Some((arrival, request, server_name)) = passed.understood() else {
            return false;
        };
        self.vigil().awake().await;
        match cancel(self, arrival, &request, server_name, Bringer::Node) {
            // It ends in any case: carrying it out has limits of its own.
            Some(done) => done.await.is_ok(),
            None => false,
        }
    }
}
