//! The admin API on its Unix socket: who may call, which path leads where.

use std::sync::Arc;

use portcullis_audit::{Event, kinds};
use portcullis_policy::Author;
use tokio::net::UnixListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::limits::{APPLY_TIME, CHECK_TIME, FLEET_TIME, MAX_POLICY_BODY, POLICY_TIME};
use super::people::{Commanders, author};
use super::policy::{Missing, Patience, Proposal};
use super::types::PolicyRequest;
use super::{Node, Refusal, cluster, fleet, limit_table, policy, questions};
use crate::config::policy_files::PolicyFiles;
use crate::http::limits::MAX_BODY;
use crate::http::{Caller, Peer, Request, Response, Route, Router, Service, server};
use crate::runtime::clock;

/// Serves the admin API on this socket until `stop`.
pub async fn serve(node: Arc<Node>, listener: UnixListener, stop: CancellationToken) {
    server::serve_unix(listener, Arc::new(Admin::new(node)), stop).await;
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
enum Action {
    Plan,
    Apply,
    Explain,
    Reach,
    Connections,
    Why,
    ClusterCheck,
    Status,
    Limits,
    Policy,
    Fleet,
    Invite,
    Remove,
    StepDown,
    Backup,
}

fn router() -> Router<Action> {
    Router::new(vec![
        Route::post("/v1/plan", Action::Plan).within(MAX_POLICY_BODY, POLICY_TIME),
        Route::post("/v1/apply", Action::Apply).within(MAX_POLICY_BODY, POLICY_TIME),
        Route::post("/v1/explain", Action::Explain),
        Route::get("/v1/reach", Action::Reach),
        Route::get("/v1/connections", Action::Connections),
        Route::get("/v1/why/{}", Action::Why),
        Route::post("/v1/cluster-check", Action::ClusterCheck).within(MAX_BODY, CHECK_TIME),
        Route::get("/v1/status", Action::Status),
        Route::get("/v1/limits", Action::Limits),
        Route::get("/v1/policy/{}", Action::Policy),
        Route::get("/v1/fleet", Action::Fleet),
        Route::post("/v1/fleet/invite", Action::Invite).within(MAX_BODY, FLEET_TIME),
        Route::post("/v1/fleet/remove", Action::Remove).within(MAX_BODY, FLEET_TIME),
        Route::get("/v1/backup", Action::Backup).within(MAX_BODY, FLEET_TIME),
        Route::post("/v1/fleet/step-down", Action::StepDown).within(MAX_BODY, FLEET_TIME),
    ])
}

impl Service for Admin {
    type Action = Action;

    fn router(&self) -> &Router<Action> {
        &self.router
    }

    fn admit(&self, peer: &Peer) -> Result<(), Response> {
        if self.commanders.recognise(peer).is_some() {
            return Ok(());
        }
        let event = Event::new(
            clock::now().as_millis(),
            kinds::ADMIN_REFUSED,
            &*self.node.name,
        );
        self.node.ledger.record(match peer {
            Peer::Local(caller) => event
                .with("by", author(*caller))
                .with("uid", caller.uid)
                .with("gid", caller.gid)
                .with("pid", caller.pid),
            Peer::Remote(address) => event.with("by", address.to_string()),
        });
        Err(Refusal::new(403, "not_permitted", "this user may not command this node")
            .next("run this as root or as the node's own user; an administrator may also add your uid to [admin] allowed-uids in node.toml")
            .into())
    }

    async fn answer(&self, action: Action, request: Request) -> Response {
        let node = &self.node;
        // `admit` has recognised whoever this is; asked again because it costs nothing to be sure.
        let Some(caller) = self.commanders.recognise(&request.peer) else {
            return Refusal::new(403, "not_permitted", "this user may not command this node")
                .into();
        };
        let answer = match action {
            Action::Plan => plan(node, &request).await,
            Action::Apply => apply(node, caller, &request).await,
            Action::Explain => explain(node, &request),
            Action::Reach => {
                questions::reach(node, &request.query).map(|reply| Response::json(&reply))
            }
            Action::Connections => {
                questions::connections(node, &request.query).map(|reply| Response::json(&reply))
            }
            Action::Why => questions::why(node, captured(&request))
                .await
                .map(|reply| Response::json(&reply)),
            Action::ClusterCheck => cluster_check(node, &request).await,
            Action::Status => Ok(Response::json(&questions::status(node))),
            Action::Limits => Ok(Response::json(&limit_table::limits(node))),
            Action::Policy => {
                questions::policy(node, captured(&request)).map(|reply| Response::json(&reply))
            }
            Action::Fleet => Ok(Response::json(&fleet::status(node))),
            Action::Invite => invite(node, caller, &request).await,
            Action::Remove => remove(node, caller, &request).await,
            Action::Backup => fleet::backup(node).await.map(Response::octets),
            Action::StepDown => fleet::step_down(node)
                .await
                .map(|reply| Response::json(&reply)),
        };
        answer.unwrap_or_else(Response::from)
    }
}

async fn plan(node: &Arc<Node>, request: &Request) -> Result<Response, Refusal> {
    let PolicyRequest { files, prune, .. } = request.json()?;
    let reply = policy::plan(node, PolicyFiles { files }, missing(prune)).await?;
    Ok(Response::json(&reply))
}

async fn apply(node: &Arc<Node>, caller: Caller, request: &Request) -> Result<Response, Refusal> {
    let PolicyRequest {
        files,
        prune,
        receipt,
        request,
    } = request.json()?;
    let request = request
        .map(|text| {
            text.parse()
                .map_err(|error| Refusal::malformed("request", &error))
        })
        .transpose()?;
    let proposal = Proposal {
        files: PolicyFiles { files },
        missing: missing(prune),
        author: Author::local(author(caller)),
        request,
        patience: if receipt {
            Patience::Receipt
        } else {
            Patience::Moment
        },
    };
    let reply = timeout(APPLY_TIME, policy::apply(node, proposal))
        .await
        .map_err(|_| {
            Refusal::new(
                504,
                "goes_on",
                format!(
                    "the change is not done after {} s; it goes on",
                    APPLY_TIME.as_secs()
                ),
            )
            .next("`portcullis status` shows the revision in force, the node's log how it ended")
        })??;
    Ok(Response::json(&reply))
}

async fn invite(node: &Arc<Node>, caller: Caller, request: &Request) -> Result<Response, Refusal> {
    let by = Author::local(author(caller));
    let reply = fleet::invite(node, by, &request.json()?).await?;
    Ok(Response::json(&reply))
}

async fn remove(node: &Arc<Node>, caller: Caller, request: &Request) -> Result<Response, Refusal> {
    let by = Author::local(author(caller));
    let reply = fleet::remove(node, by, &request.json()?).await?;
    Ok(Response::json(&reply))
}

fn explain(node: &Node, request: &Request) -> Result<Response, Refusal> {
    Ok(Response::json(&questions::explain(node, &request.json()?)?))
}

async fn cluster_check(node: &Node, request: &Request) -> Result<Response, Refusal> {
    Ok(Response::json(
        &cluster::check(node, &request.json()?).await?,
    ))
}

const fn missing(prune: bool) -> Missing {
    if prune {
        Missing::Removed
    } else {
        Missing::LeftAlone
    }
}

fn captured(request: &Request) -> &str {
    request.captured.first().map_or("", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::Served;

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
