//! What this node says when others call.

use std::sync::{Arc, OnceLock, Weak};

use portcullis_consensus::Draft;
use portcullis_policy::{AuthorityStep, Command, NodeId, Principal};

use super::lease::Lent;
use super::paces::Paces;
use super::report::Report;
use super::source::at;
use super::{Fleet, starts, subscription, words};
use crate::mesh::{self, BoxFuture, Caller, Duplex, Handler, Refused};
use crate::runtime::clock;

/// Answers for a fleet, once it is there.
#[derive(Default)]
pub(super) struct Answers {
    fleet: OnceLock<Weak<Fleet>>,
    paces: Arc<Paces>,
}

impl Answers {
    /// From now on this fleet answers.
    pub(super) fn speak_for(&self, fleet: &Arc<Fleet>) {
        // Set once, by `Fleet::start`.
        drop(self.fleet.set(Arc::downgrade(fleet)));
    }

    fn fleet(&self) -> Result<Arc<Fleet>, Refused> {
        self.fleet
            .get()
            .and_then(Weak::upgrade)
            .ok_or_else(|| Refused("this node is starting or stopping".to_owned()))
    }
}

impl Handler for Answers {
    fn call(
        &self,
        from: Caller,
        service: u8,
        request: Vec<u8>,
    ) -> BoxFuture<'static, Result<Vec<u8>, Refused>> {
        let fleet = self.fleet();
        let paces = Arc::clone(&self.paces);
        Box::pin(async move {
            let fleet = fleet?;
            match (from, service) {
                (Caller::Stranger(_), mesh::JOIN) => fleet.welcome(&request).await,
                (Caller::Stranger(_), mesh::RENEW) => fleet.issue(None, &request),
                (Caller::Stranger(_), _) => {
                    Err(Refused("strangers may only join and renew".to_owned()))
                }
                (Caller::Node(from), service) => {
                    let from = NodeId::new(from).ok_or_else(|| Refused("node 0".to_owned()))?;
                    if !paces.admits(from, service, clock::instant()) {
                        return Err(Refused("so much is not asked in a second".to_owned()));
                    }
                    fleet.answer(from, service, &request).await
                }
            }
        })
    }

    fn newer_epoch(&self, proof: &[u8]) {
        // One that starts or stops hears it again.
        if let Ok(fleet) = self.fleet() {
            fleet.newer_epoch(proof);
        }
    }

    fn started_again(&self, later: &[u8]) {
        if let Ok(fleet) = self.fleet() {
            fleet.started_again(later);
        }
    }

    fn stream(&self, from: u64, service: u8, stream: Duplex) -> BoxFuture<'static, ()> {
        let known = |fleet: &Arc<Fleet>| NodeId::new(from).is_some_and(|from| fleet.knows(from));
        match (self.fleet(), service) {
            (Ok(fleet), words::VIEW) if known(&fleet) && !fleet.is_out() => {
                Box::pin(subscription::serve(fleet, stream))
            }
            // Dropping the stream tells the caller.
            (Ok(_) | Err(_), _) => Box::pin(std::future::ready(())),
        }
    }
}

impl Fleet {
    async fn answer(
        self: &Arc<Self>,
        from: NodeId,
        service: u8,
        request: &[u8],
    ) -> Result<Vec<u8>, Refused> {
        let decides = matches!(
            service,
            words::RAFT
                | words::SIGN
                | words::SEAL
                | words::PROPOSE
                | words::CONFIRM
                | words::LATEST
                | words::LET_GO
        );
        match service {
            _ if decides && self.fenced().is_some() => {
                Err(Refused("a newer epoch began without this node".to_owned()))
            }
            _ if decides && self.overtaken().is_some() => {
                Err(Refused("another process is this node by now".to_owned()))
            }
            words::RAFT if !self.starts.as_ref().is_some_and(starts::Starts::may_decide) => {
                Err(Refused("this node has not greeted the others".to_owned()))
            }
            words::RAFT if !self.may_decide(from) => {
                Err(Refused("only control nodes decide".to_owned()))
            }
            words::RAFT => {
                match self.source.consensus() {
                    Some(consensus) => consensus.answer(from, request.to_vec()).await.map_err(
                        |error| {
                            if error.is_forged() {
                                metrics::counter!("portcullis_consensus_forged_total").increment(1);
                                tracing::error!(%error, %from, "a message of consensus is refused");
                            }
                            Refused(error.to_string())
                        },
                    ),
                    None => Err(Refused("this node does not vote".to_owned())),
                }
            }
            words::SIGN => self.countersign(from, request),
            words::SEAL | words::LEAVES | words::HASHES if !self.is_control(from) => {
                Err(Refused("only control nodes keep the audit logs".to_owned()))
            }
            words::AUTHORITY_KEY if !self.is_control(from) => Err(Refused(
                "only control nodes hold the fleet's authority".to_owned(),
            )),
            words::SEAL => self.cosign(from, request),
            words::PROPOSE => {
                let draft: Draft = words::decode(request).map_err(Refused)?;
                self.may_propose(from, &draft)?;
                let reply = self.propose_here(draft).await;
                words::encode(&reply).map_err(Refused)
            }
            // A node on its way out may still vote on that.
            _ if !self.knows(from) => Err(Refused("this node was removed".to_owned())),
            words::REPORT => {
                let report = Report::from_bytes(request).map_err(Refused)?;
                if let Some(at) = report.at {
                    self.clocks.heard(from, at, self.half_way(from));
                }
                self.reports.take(from, report);
                Ok(Vec::new())
            }
            words::CONFIRM => {
                // One whose state differs is lent nothing.
                let left = self
                    .lease
                    .remaining()
                    .filter(|_| !self.differing().contains(&from));
                let left = left.unwrap_or_default();
                // Looked at after the lease: all that was decided when that was confirmed is in it.
                let known = at(&self.source.view());
                Lent::new(left, known).to_bytes(request).map_err(Refused)
            }
            words::LET_GO if !self.is_control(from) => Err(Refused(
                "only control nodes have a state to let go of".to_owned(),
            )),
            words::LET_GO => {
                let fence = self.let_go(from).await?;
                words::encode(&fence).map_err(Refused)
            }
            words::LATEST => self.tell_latest(request).await,
            words::PASS_ON => self.pass_on_report(from, request).await,
            words::PASSED => self.take_passed(from, request),
            words::SOFT => self.told(from, request),
            words::CANCEL => self.cancel(request).await,
            words::FIND => self.find_for(from, request).await,
            words::LEAVES => self.tell_leaves(request).await,
            words::HASHES => self.tell_hashes(request).await,
            mesh::RENEW => self.issue(Some(from), request),
            words::AUTHORITY_KEY => self.hand_key(from, request),
            other => Err(Refused(format!("there is no service {other}"))),
        }
    }

    /// Whether a node takes part in deciding: a gateway never does. One that is on its way out does
    /// until it votes no longer; before this node was admitted, those do whom it was told of.
    fn may_decide(&self, node: NodeId) -> bool {
        if let Some(fleet) = self.known_fleet(&self.source.view()) {
            let control = fleet
                .nodes
                .get(&node)
                .map(portcullis_policy::Node::is_control);
            if let Some(control) = control {
                return control;
            }
        } else if let Some(membership) = &self.membership {
            let told = |seed: &super::home::Seed| seed.node == node && seed.view_key.is_some();
            return membership.seeds.iter().any(told);
        }
        let status = self.source.status();
        status.is_some_and(|it| it.voters.contains(&node) || it.learners.contains(&node))
    }

    pub(super) fn is_control(&self, node: NodeId) -> bool {
        let view = self.source.view();
        let known = view.fleet().and_then(|fleet| fleet.nodes.get(&node));
        known.is_some_and(portcullis_policy::Node::is_control)
    }

    /// Whether a node is of the fleet, as far as this one can say: one that joined a moment ago
    /// knows no state yet.
    fn knows(&self, node: NodeId) -> bool {
        let view = self.source.view();
        view.fleet()
            .is_none_or(|fleet| fleet.nodes.contains_key(&node))
    }

    /// Commands come from control nodes: a gateway can say what it is and what it saw, and nothing
    /// else. What a node saw comes from that node alone.
    fn may_propose(&self, from: NodeId, draft: &Draft) -> Result<(), Refused> {
        let records = matches!(draft.command, Command::Record { .. });
        let said = if let Command::Report { node, .. }
        | Command::Authority {
            step: AuthorityStep::Confirm { node, .. },
            ..
        } = &draft.command
        {
            Some(*node)
        } else {
            None
        };
        let of_itself =
            (records || said == Some(from)) && draft.author.principal == Principal::Node(from);
        if (self.is_control(from) && !records) || of_itself {
            Ok(())
        } else {
            Err(Refused("only control nodes propose".to_owned()))
        }
    }
}
