//! The admin API on its listeners: who may call, which path leads where.

use std::sync::Arc;

use portcullis_audit::{Event, kinds};
use portcullis_policy::{Action as Permission, RequestId, Revision};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::limits::{
    APPLY_TIME, CHECK_TIME, FLEET_TIME, MAX_POLICY_BODY, POLICY_TIME, QUORUM_TIME,
};
use super::people::{Commanders, author};
use super::policy::{Missing, Patience, Proposal, Wanted};
use super::revocations::RevokeRequest;
use super::types::{PolicyRequest, TenantRequest};
use super::{
    Node, Refusal, Who, certificates, cluster, evidence, fleet, keeping, limit_table, operators,
    policy, questions, revocations,
};
use crate::config::policy_files::PolicyFiles;
use crate::http::limits::MAX_BODY;
use crate::http::{self, Handshake, Peer, Request, Response, Route, Router, Service, server};
use crate::runtime::clock;

/// Serves the admin API on this socket until `stop`.
pub async fn serve(node: Arc<Node>, listener: UnixListener, stop: CancellationToken) {
    server::serve_unix(listener, Arc::new(Admin::new(node)), stop).await;
}

/// Serves the admin API to operators with certificates until `stop`.
pub async fn serve_tls(
    node: Arc<Node>,
    listener: TcpListener,
    handshake: Handshake,
    stop: CancellationToken,
) {
    http::serve_tls(listener, handshake, Arc::new(Admin::new(node)), stop).await;
}

struct Admin {
    router: Router<Action>,
    commanders: Commanders,
    node: Arc<Node>,
}

impl Admin {
    fn new(node: Arc<Node>) -> Self {
        let commanders = Commanders::new(node.config.admin.allowed_uids.clone());
        Self {
            router: router(),
            commanders,
            node,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Plan,
    Apply,
    PutTenant,
    Explain,
    Reach,
    Connections,
    Why,
    ClusterCheck,
    Status,
    AuditTrust,
    AuditLogs,
    AuditFile,
    AuditOpenings,
    Limits,
    Policy,
    Fleet,
    Invite,
    Remove,
    StepDown,
    Operators,
    PutOperator,
    RemoveOperator,
    Pending,
    Approve,
    Reject,
    GuardRails,
    SetGuardRails,
    Keeping,
    SetKeeping,
    Certificates,
    RotateAuthority,
    Backup,
    Revocations,
    Revoke,
}

impl Action {
    /// The line of policy's table that says who may.
    const fn permission(self) -> Permission {
        match self {
            Self::Plan => Permission::Plan,
            Self::Apply | Self::PutTenant => Permission::Apply,
            Self::Explain => Permission::Explain,
            Self::Reach => Permission::Reach,
            Self::Connections => Permission::Connections,
            Self::Why => Permission::Why,
            Self::ClusterCheck => Permission::ClusterCheck,
            Self::Status => Permission::Status,
            Self::Limits => Permission::Limits,
            Self::Policy | Self::Revocations => Permission::Policy,
            Self::Fleet | Self::GuardRails | Self::Keeping => Permission::FleetStatus,
            Self::AuditTrust | Self::AuditLogs | Self::AuditFile | Self::AuditOpenings => {
                Permission::AuditLog
            }
            Self::Invite => Permission::Invite,
            Self::Remove => Permission::Remove,
            Self::StepDown => Permission::Drain,
            Self::Backup => Permission::Backup,
            Self::Operators => Permission::Operators,
            Self::PutOperator | Self::RemoveOperator => Permission::ChangeOperators,
            Self::Pending => Permission::Pending,
            Self::Approve => Permission::Approve,
            // Whoever proposed something may take it back.
            Self::Reject => Permission::Apply,
            Self::SetGuardRails => Permission::SetGuardRails,
            Self::SetKeeping => Permission::SetKeeping,
            Self::Certificates => Permission::Certificates,
            Self::RotateAuthority => Permission::RotateAuthority,
            Self::Revoke => Permission::Revoke,
        }
    }
}

pub(super) fn router() -> Router<Action> {
    let changes = |path, action| Route::post(path, action).within(MAX_BODY, FLEET_TIME);
    let policies = |path, action| Route::post(path, action).within(MAX_POLICY_BODY, POLICY_TIME);
    Router::new(vec![
        policies("/v1/plan", Action::Plan),
        policies("/v1/apply", Action::Apply),
        policies("/v1/tenants/{}", Action::PutTenant),
        Route::post("/v1/explain", Action::Explain),
        Route::get("/v1/reach", Action::Reach),
        Route::get("/v1/connections", Action::Connections),
        Route::get("/v1/why/{}", Action::Why),
        Route::post("/v1/cluster-check", Action::ClusterCheck).within(MAX_BODY, CHECK_TIME),
        Route::get("/v1/status", Action::Status),
        Route::get("/v1/audit/trust", Action::AuditTrust),
        Route::get("/v1/audit/logs", Action::AuditLogs),
        Route::get("/v1/audit/file", Action::AuditFile),
        Route::get("/v1/audit/openings", Action::AuditOpenings),
        Route::get("/v1/audit/keeping", Action::Keeping),
        changes("/v1/audit/keeping", Action::SetKeeping),
        Route::get("/v1/certificates", Action::Certificates),
        changes("/v1/certificates/authority", Action::RotateAuthority),
        Route::get("/v1/limits", Action::Limits),
        Route::get("/v1/policy/{}", Action::Policy),
        Route::get("/v1/fleet", Action::Fleet),
        changes("/v1/fleet/invite", Action::Invite),
        changes("/v1/fleet/remove", Action::Remove),
        changes("/v1/fleet/step-down", Action::StepDown),
        Route::get("/v1/operators", Action::Operators),
        changes("/v1/operators", Action::PutOperator),
        changes("/v1/operators/remove", Action::RemoveOperator),
        Route::get("/v1/pending", Action::Pending),
        Route::post("/v1/approve", Action::Approve).within(MAX_BODY, POLICY_TIME),
        changes("/v1/reject", Action::Reject),
        Route::get("/v1/guard-rails", Action::GuardRails),
        changes("/v1/guard-rails", Action::SetGuardRails),
        Route::get("/v1/revocations", Action::Revocations),
        Route::post("/v1/revocations", Action::Revoke).within(MAX_BODY, POLICY_TIME),
        Route::get("/v1/backup", Action::Backup).within(MAX_BODY, FLEET_TIME),
    ])
}

impl Admin {
    /// Who asks; a stranger leaves an event.
    fn recognise(&self, peer: &Peer) -> Result<Who, Refusal> {
        Who::recognise(peer, &self.commanders, &self.node).inspect_err(|_| {
            let event = self.refused();
            self.node.ledger.record(match peer {
                Peer::Local(caller) => event
                    .with("by", author(*caller))
                    .with("uid", caller.uid)
                    .with("gid", caller.gid)
                    .with("pid", caller.pid),
                Peer::Remote(address) => event.with("by", address.to_string()),
                Peer::Operator(operator) => event
                    .with("by", format!("operator {}", operator.name))
                    .with("address", operator.address.ip().to_string())
                    .with("port", operator.address.port()),
            });
        })
    }

    /// Whoever comes over the network is somebody because the state says so, and what they ask is
    /// theirs to ask: a node that hears no quorum does not know.
    async fn await_quorum(&self, peer: &Peer) -> Result<(), Refusal> {
        let heard = match peer {
            Peer::Operator(_) => self.node.fleet.obtains_lease(QUORUM_TIME).await,
            Peer::Local(_) | Peer::Remote(_) => true,
        };
        let fenced = self.node.fleet.why_fenced().filter(|_| !heard);
        if let Some(why) = fenced {
            return Err(fleet::fenced(why));
        }
        match heard {
            true => Ok(()),
            false if self.node.fleet.clock_is_wrong() => Err(Refusal::new(
                503,
                "clock_wrong",
                "this node's clock is not that of the other control nodes: nobody can command it",
            )
            .next("ask another control node; set this one's clock: `portcullis fleet status` says by how much it is wrong")),
            false => Err(Refusal::new(
                503,
                "no_quorum",
                "this node hears no quorum of control nodes: who may command it now, it cannot know",
            )
            .next("ask another control node; on this one's own machine `portcullis fleet status` works all the same")),
        }
    }

    /// Whether there is anything about which they may ask this; a no leaves an event.
    fn permit(&self, who: &Who, action: Action) -> Result<(), Refusal> {
        let permission = action.permission();
        if who.may_ever(permission) {
            return Ok(());
        }
        let asked = format!("{permission:?}");
        self.node
            .ledger
            .record(self.refused().with("by", who.name()).with("asked", asked));
        Err(Refusal::new(
            403,
            "not_permitted",
            format!("{} has no role that may ask this", who.name()),
        )
        .next("`portcullis operator list` shows who may what"))
    }

    fn refused(&self) -> Event {
        Event::new(
            clock::now().as_millis(),
            kinds::ADMIN_REFUSED,
            &*self.node.name,
        )
    }

    async fn answered(&self, action: Action, request: &Request) -> Result<Response, Refusal> {
        let node = &self.node;
        self.await_quorum(&request.peer).await?;
        // `admit` has recognised whoever this is, perhaps a while ago: roles can be taken away.
        let who = self.recognise(&request.peer)?;
        self.permit(&who, action)?;
        Ok(match action {
            Action::Plan => plan(node, who, request).await?,
            Action::Apply => apply(node, who, request).await?,
            Action::PutTenant => put_tenant(node, who, request).await?,
            Action::Explain => Response::json(&questions::explain(node, &who, &request.json()?)?),
            Action::Reach => Response::json(&questions::reach(node, &who, &request.query)?),
            Action::Connections => {
                Response::json(&questions::connections(node, &who, &request.query)?)
            }
            Action::Why => Response::json(&questions::why(node, &who, captured(request)).await?),
            Action::ClusterCheck => Response::json(&cluster::check(node, &request.json()?).await?),
            Action::Status => Response::json(&questions::status(node)),
            Action::AuditTrust => Response::json(&evidence::trust(node)?),
            Action::AuditLogs => Response::json(&evidence::logs(node, &who)?),
            Action::AuditFile => {
                Response::octets(evidence::file(node, &who, &request.query).await?)
            }
            Action::AuditOpenings => {
                Response::json(&evidence::openings(node, &who, &request.query).await?)
            }
            Action::Limits => Response::json(&limit_table::limits(node)),
            Action::Policy => Response::json(&questions::policy(node, &who, captured(request))?),
            Action::Fleet => Response::json(&fleet::status(node)),
            Action::Invite => {
                Response::json(&fleet::invite(node, who.author(), &request.json()?).await?)
            }
            Action::Remove => {
                Response::json(&fleet::remove(node, who.author(), &request.json()?).await?)
            }
            Action::StepDown => Response::json(&fleet::step_down(node).await?),
            Action::Backup => Response::octets(fleet::backup(node).await?),
            Action::Operators => Response::json(&operators::list(node)),
            Action::PutOperator => {
                Response::json(&operators::put(node, &who, &request.json()?).await?)
            }
            Action::RemoveOperator => {
                Response::json(&operators::remove(node, &who, &request.json()?).await?)
            }
            Action::Pending => Response::json(&operators::pending(node).await?),
            Action::Approve => {
                let asked = request.json()?;
                Response::json(&within_time(operators::approve(node, &who, &asked)).await?)
            }
            Action::Reject => {
                Response::json(&operators::reject(node, &who, &request.json()?).await?)
            }
            Action::GuardRails => Response::json(&operators::guard_rails(node)?),
            Action::SetGuardRails => {
                Response::json(&operators::set_guard_rails(node, &who, request.json()?).await?)
            }
            Action::Certificates => Response::json(&certificates::list(node)?),
            Action::RotateAuthority => {
                Response::json(&certificates::rotate(node, &who, &request.json()?).await?)
            }
            Action::Revocations => Response::json(&revocations::list(node, &who, &request.query)?),
            Action::Revoke => revoke(node, who, request).await?,
            Action::Keeping => Response::json(&keeping::keeping(node)?),
            Action::SetKeeping => {
                Response::json(&keeping::set_keeping(node, &who, request.json()?).await?)
            }
        })
    }
}

impl Service for Admin {
    type Action = Action;

    fn router(&self) -> &Router<Action> {
        &self.router
    }

    fn admit(&self, peer: &Peer) -> Result<(), Response> {
        // Told in the answer, to whomever it is: without a quorum nobody is a stranger for sure.
        if matches!(peer, Peer::Operator(_)) && !self.node.fleet.has_lease() {
            return Ok(());
        }
        self.recognise(peer).map(drop).map_err(Response::from)
    }

    async fn answer(&self, action: Action, request: Request) -> Response {
        let answer = self.answered(action, &request).await;
        answer.unwrap_or_else(Response::from)
    }
}

async fn plan(node: &Arc<Node>, who: Who, request: &Request) -> Result<Response, Refusal> {
    let PolicyRequest { files, prune, .. } = request.json()?;
    let reply = policy::plan(node, who, directory(files, prune)).await?;
    Ok(Response::json(&reply))
}

async fn apply(node: &Arc<Node>, who: Who, request: &Request) -> Result<Response, Refusal> {
    let PolicyRequest {
        files,
        prune,
        receipt,
        request,
    } = request.json()?;
    let proposal = Proposal {
        wanted: directory(files, prune),
        who,
        request: request_id(request)?,
        patience: if receipt {
            Patience::Receipt
        } else {
            Patience::Moment
        },
    };
    let reply = within_time(policy::apply(node, proposal)).await?;
    Ok(Response::json(&reply))
}

async fn put_tenant(node: &Arc<Node>, who: Who, request: &Request) -> Result<Response, Refusal> {
    let id = captured(request)
        .parse()
        .map_err(|error| Refusal::malformed("tenant", &error))?;
    let TenantRequest {
        file,
        expected,
        request,
    } = request.json()?;
    let expected = expected.map(Revision::new);
    let proposal = Proposal {
        wanted: Wanted::Tenant { id, file, expected },
        who,
        request: request_id(request)?,
        patience: Patience::Moment,
    };
    let reply = within_time(policy::apply(node, proposal)).await?;
    Ok(Response::json(&reply))
}

async fn revoke(node: &Arc<Node>, who: Who, request: &Request) -> Result<Response, Refusal> {
    let mut asked: RevokeRequest = request.json()?;
    let number = request_id(asked.request.take())?;
    let proposal = Proposal {
        wanted: revocations::wanted(node, &who, asked)?,
        who,
        request: number,
        patience: Patience::Receipt,
    };
    let reply = within_time(policy::apply(node, proposal)).await?;
    Ok(Response::json(&reply))
}

async fn within_time<T>(work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    timeout(APPLY_TIME, work).await.map_err(|_| {
        Refusal::new(
            504,
            "goes_on",
            format!(
                "the change is not done after {} s; it goes on",
                APPLY_TIME.as_secs()
            ),
        )
        .next("`portcullis status` shows the revision in force, the node's log how it ended")
    })?
}

fn request_id(text: Option<String>) -> Result<Option<RequestId>, Refusal> {
    text.map(|text| {
        text.parse()
            .map_err(|error| Refusal::malformed("request", &error))
    })
    .transpose()
}

fn directory(files: std::collections::BTreeMap<String, String>, prune: bool) -> Wanted {
    let missing = if prune {
        Missing::Removed
    } else {
        Missing::LeftAlone
    };
    let files = PolicyFiles { files };
    Wanted::Directory { files, missing }
}

fn captured(request: &Request) -> &str {
    request.captured.first().map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::Served;
    use crate::http::Caller;

    #[tokio::test]
    async fn a_user_who_may_not_command_is_refused_and_on_record() {
        let served = Served::start("stranger").await;
        let admin = Admin::new(Arc::clone(&served.node));
        let stranger = Peer::Local(Caller {
            uid: 54_321,
            gid: 54_321,
            pid: Some(4711),
        });
        let refusal = admin.admit(&stranger).unwrap_err();
        assert_eq!(refusal.status(), 403);
        let own = Caller {
            uid: rustix::process::geteuid().as_raw(),
            gid: 0,
            pid: None,
        };
        assert!(admin.admit(&Peer::Local(own)).is_ok());
        served.node.ledger.flush_and_close();
        let events = served.events(kinds::ADMIN_REFUSED);
        assert_eq!(events.len(), 1);
        assert_eq!(
            (&events[0]["uid"], &events[0]["pid"]),
            (&54_321.into(), &4711.into())
        );
    }
}
