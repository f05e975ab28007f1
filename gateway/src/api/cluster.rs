//! `cluster check`: asks the database room, cluster by cluster.

use portcullis_policy::{ClusterId, TenantId};

use super::types::{ClusterCheckReply, ClusterCheckRequest, ClusterReport, ClusterStep};
use super::{Node, Refusal};
use crate::database::{Report, Step, check};
use crate::runtime::clock;

/// Checks one cluster of a tenant, or all of them, one after the other.
pub(super) async fn check(
    node: &Node,
    asked: &ClusterCheckRequest,
) -> Result<ClusterCheckReply, Refusal> {
    let id: TenantId = asked
        .tenant
        .parse()
        .map_err(|error| Refusal::malformed("tenant", &error))?;
    let view = node.front.view();
    let tenant = view
        .tenant(&id)
        .ok_or_else(|| Refusal::no_such_tenant(&id))?
        .document();
    let wanted: Vec<ClusterId> = match &asked.cluster {
        Some(cluster) => vec![
            cluster
                .parse()
                .map_err(|error| Refusal::malformed("cluster", &error))?,
        ],
        None => tenant.clusters.keys().cloned().collect(),
    };
    let mut clusters = Vec::new();
    for cluster in wanted {
        let report = check::check(&node.upstreams, &tenant, &cluster, clock::now()).await;
        let report = report.ok_or_else(|| {
            Refusal::new(
                404,
                "no_such_cluster",
                format!("tenant {id} has no cluster {cluster}"),
            )
            .next("`portcullis policy show TENANT` prints its document")
        })?;
        clusters.push(reported(&report));
    }
    let served = clusters.iter().all(|cluster| cluster.served);
    Ok(ClusterCheckReply {
        tenant: asked.tenant.clone(),
        served,
        clusters,
    })
}

fn reported(report: &Report) -> ClusterReport {
    let step = |step: &Step| ClusterStep {
        what: step.what.clone(),
        outcome: step.outcome.to_string(),
        found: step.found.clone(),
        fix: step.fix.clone(),
    };
    ClusterReport {
        cluster: report.cluster.to_string(),
        served: report.is_good(),
        steps: report.steps.iter().map(step).collect(),
    }
}
