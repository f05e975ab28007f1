//! The commands that ask and change nothing: `explain`, `reach`, `why`, `connections`, `cluster
//! check`, `status`, `limits`.

use super::args::{
    ClusterCheckArgs, ConnectionsArgs, ExplainArgs, LimitsArgs, ReachArgs, StatusArgs, WhyArgs,
};
use super::ask::Node;
use super::exit::Exit;
use super::text::{change, limits as limits_text, story};
use crate::api::types::{
    ClusterCheckReply, ClusterCheckRequest, ConnectionsReply, ExplainReply, ExplainRequest,
    LimitsReply, ReachReply, StatusReply, WhyReply,
};

/// Would it be let in, and why.
pub(super) async fn explain(args: ExplainArgs) -> Exit {
    let node = Node::of(&args.node);
    let request = ExplainRequest {
        tenant: args.to.tenant.to_string(),
        endpoint: args.to.endpoint.to_string(),
        address: args.from.to_string(),
        via: args.via.to_string(),
        database: args.database.unwrap_or_else(|| args.user.clone()),
        user: args.user,
        replication: args.replication,
        at: args.at.map(|at| at.to_string()),
    };
    match node.post::<_, ExplainReply>("/v1/explain", &request).await {
        Ok(said) => {
            node.print(&said, story::explain);
            if said.value.permitted {
                Exit::Done
            } else {
                Exit::Refused
            }
        }
        Err(failure) => node.fail(&failure),
    }
}

/// Who can reach an endpoint.
pub(super) async fn reach(args: ReachArgs) -> Exit {
    let node = Node::of(&args.node);
    let at = args.at.map(|at| format!("&at={at}")).unwrap_or_default();
    let target = format!(
        "/v1/reach?tenant={}&endpoint={}{at}",
        args.endpoint.tenant, args.endpoint.endpoint
    );
    match node.get::<ReachReply>(&target).await {
        Ok(said) => {
            node.print(&said, change::reach);
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

/// The story of an attempt.
pub(super) async fn why(args: WhyArgs) -> Exit {
    let node = Node::of(&args.node);
    match node
        .get::<WhyReply>(&format!("/v1/why/{}", args.reference))
        .await
    {
        Ok(said) => {
            node.print(&said, story::why);
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

/// Who is connected.
pub(super) async fn connections(args: ConnectionsArgs) -> Exit {
    let node = Node::of(&args.node);
    let query = args
        .tenant
        .map(|tenant| format!("?tenant={tenant}"))
        .unwrap_or_default();
    match node
        .get::<ConnectionsReply>(&format!("/v1/connections{query}"))
        .await
    {
        Ok(said) => {
            node.print(&said, story::connections);
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

/// Can this cluster be served.
pub(super) async fn cluster_check(args: ClusterCheckArgs) -> Exit {
    let node = Node::of(&args.node);
    let request = ClusterCheckRequest {
        tenant: args.of.tenant.to_string(),
        cluster: args.of.cluster.map(|cluster| cluster.to_string()),
    };
    match node
        .post::<_, ClusterCheckReply>("/v1/cluster-check", &request)
        .await
    {
        Ok(said) => {
            node.print(&said, story::cluster_check);
            if said.value.served {
                Exit::Done
            } else {
                Exit::Refused
            }
        }
        Err(failure) => node.fail(&failure),
    }
}

/// The node itself.
pub(super) async fn status(args: StatusArgs) -> Exit {
    let node = Node::of(&args.node);
    match node.get::<StatusReply>("/v1/status").await {
        Ok(said) => {
            node.print(&said, story::status);
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}

/// Every limit of the node.
pub(super) async fn limits(args: LimitsArgs) -> Exit {
    let node = Node::of(&args.node);
    match node.get::<LimitsReply>("/v1/limits").await {
        Ok(said) => {
            node.print(&said, limits_text::limits);
            Exit::Done
        }
        Err(failure) => node.fail(&failure),
    }
}
