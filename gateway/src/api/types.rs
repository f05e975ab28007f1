//! What the admin API says and is told: JSON, version 1. The command line reads the same types.
//!
//! Within `/v1` fields are added and never change their meaning; requests refuse unknown fields.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::operator_types::PendingChange;
use crate::config::FileError;
pub use crate::fleet::NodeReceipt;
use crate::proxy::{Enforcement, LiveConnection};

/// `POST /v1/plan` and `POST /v1/apply`: a policy directory.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct PolicyRequest {
    /// Every file by its path within the directory.
    pub files: BTreeMap<String, String>,
    /// Whether tenants whose file is missing are removed rather than left alone.
    #[serde(default)]
    pub prune: bool,
    /// Whether the answer waits until every node has confirmed, within the limit, rather than a
    /// moment. A plan has no use for it.
    #[serde(default = "waits")]
    pub receipt: bool,
    /// 32 hex digits by which a repetition of this request is known: it is executed once. A plan
    /// has no use for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

const fn waits() -> bool {
    true
}

/// What a policy directory would change.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PlanReply {
    /// The node that was asked.
    pub node: String,
    /// The revision in force, with which the directory was compared.
    pub revision: u64,
    /// Whether any document differs.
    pub changed: bool,
    /// Whether an apply would wait for a second person.
    #[serde(default)]
    pub second_person: bool,
    /// The differences.
    pub difference: Difference,
    /// What a reviewer should look at, in the documents as they would stand.
    pub warnings: Vec<Warning>,
    /// Live connections that would close.
    pub closes: Vec<LiveConnection>,
}

/// `POST /v1/tenants/{id}`: one tenant's file.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct TenantRequest {
    /// The file.
    pub file: String,
    /// `document_revision` of `GET /v1/policy/{id}` as the author saw it; none: there was no such
    /// tenant. If it differs by now the answer is 412.
    pub expected: Option<u64>,
    /// As in `POST /v1/apply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// How two policies differ.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Tenants that are new.
    pub added: Vec<String>,
    /// Tenants whose document differs.
    pub altered: Vec<String>,
    /// Tenants that are removed (`prune`).
    pub removed: Vec<String>,
    /// Tenants in force whose file is missing and that stay as they are.
    pub left_alone: Vec<String>,
    /// Who can reach what, as far as it differs.
    pub reachability: Vec<EndpointDifference>,
}

/// How the reachability of one endpoint differs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct EndpointDifference {
    /// The tenant.
    pub tenant: String,
    /// Its endpoint.
    pub endpoint: String,
    /// In what manner: `added`, `removed`, `altered`, `redirected` (what every connection to it
    /// stands on differs, whatever its address).
    pub kind: String,
    /// The doors that differ.
    pub doors: Vec<DoorDifference>,
}

/// How one door of an endpoint differs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct DoorDifference {
    /// The door as policy writes it: `public`, `network:…`, `private-link:…`.
    pub door: String,
    /// Addresses newly admitted; none if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted: Option<Addresses>,
    /// Addresses newly shut out; none if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shut: Option<Addresses>,
    /// Addresses that stay admitted, until another moment than before; none if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retimed: Option<Addresses>,
}

/// A set of addresses.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// How many, as text: IPv6 has more than a JSON number holds.
    pub count: String,
    /// The smallest list of prefixes, the first `MAX_PREFIXES` of it.
    pub prefixes: Vec<Prefix>,
    /// How many further prefixes there are.
    pub more: usize,
}

/// One prefix of a set.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Like `203.0.113.0/24`.
    pub prefix: String,
    /// How many addresses it has, as text.
    pub count: String,
}

/// Something a reviewer should look at.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The tenant.
    pub tenant: String,
    /// Where in the tenant's document, like `endpoints.orders.allow[3]`.
    pub at: String,
    /// What is odd about it.
    pub message: String,
}

/// The receipt of an apply.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ApplyReply {
    /// The node that was asked.
    pub node: String,
    /// The revision in force now.
    pub revision: u64,
    /// Whether anything differed; if not, the revision is the one that was in force.
    pub changed: bool,
    /// Nodes that enforce this revision.
    pub nodes_in_force: usize,
    /// Nodes of the fleet that carry traffic, or may.
    pub nodes: usize,
    /// How each of them took it.
    #[serde(default)]
    pub receipts: Vec<NodeReceipt>,
    /// What changed.
    pub difference: Difference,
    /// What a reviewer should look at.
    pub warnings: Vec<Warning>,
    /// What became of live connections on the node that was asked.
    pub enforcement: Enforcement,
    /// From the change to the last closed connection, on whichever node, milliseconds; none if none
    /// closed.
    pub slowest_ms: Option<f64>,
    /// What waits for a second person; nothing was changed yet then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingChange>,
    /// What else is to be said of it: the same request was executed before, or what it changed by
    /// itself is not known on the node that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Set if the change is in force and its audit event could not be made durable.
    pub evidence: Option<String>,
}

/// `POST /v1/explain`: an attempt as it might be made.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The tenant.
    pub tenant: String,
    /// Its endpoint.
    pub endpoint: String,
    /// The client's address.
    pub address: String,
    /// The door: `public`, `network:…`, `private-link:…`.
    pub via: String,
    /// The role asked for.
    pub user: String,
    /// The database asked for.
    pub database: String,
    /// Whether it is a replication connection.
    #[serde(default)]
    pub replication: bool,
    /// The moment, RFC 3339 in UTC; none is now.
    #[serde(default)]
    pub at: Option<String>,
}

/// What `decide` says about an attempt.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ExplainReply {
    /// The revision at which it was decided.
    pub revision: u64,
    /// Whether it would be let in.
    pub permitted: bool,
    /// `permitted`, or the denial's code.
    pub code: String,
    /// The entry that decides, if there is one.
    pub entry: Option<String>,
    /// Every check in order, one to a line.
    pub narration: Vec<String>,
    /// The operator's voice.
    pub story: String,
    /// What the client would be told; none if it is let in.
    pub client: Option<String>,
    /// The command to try next; none if it is let in.
    pub next: Option<String>,
}

/// `GET /v1/reach`: who can reach an endpoint.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ReachReply {
    /// The tenant.
    pub tenant: String,
    /// Its endpoint.
    pub endpoint: String,
    /// The revision.
    pub revision: u64,
    /// The moment for which it holds, RFC 3339 in UTC.
    pub at: String,
    /// Each door that lets anybody in.
    pub doors: Vec<DoorReach>,
}

/// Who can come by one door.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct DoorReach {
    /// The door.
    pub door: String,
    /// From which addresses.
    pub addresses: Addresses,
}

/// `GET /v1/connections`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ConnectionsReply {
    /// The node.
    pub node: String,
    /// Its live connections, oldest first.
    pub connections: Vec<LiveConnection>,
}

/// `GET /v1/why/{reference}`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct WhyReply {
    /// The reference.
    pub reference: String,
    /// Its audit events, oldest first.
    pub events: Vec<Value>,
    /// The connection, if it is live.
    pub live: Option<LiveConnection>,
    /// The nodes that did not answer: they may have more.
    #[serde(default)]
    pub silent: Vec<String>,
}

/// `GET /v1/audit/trust`.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct AuditTrustReply {
    /// Whose signatures make a checkpoint of the fleet's audit log believed (C2SP tlog-policy). A tenant's log is signed with the same
    /// key under the log's own name.
    pub policy: String,
}

/// `GET /v1/audit/logs`.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct AuditLogsReply {
    /// The logs that whoever asks may read, the fleet's first: fetched in this order, what it says of the others is never
    /// beyond what is fetched. A file is asked for with `GET /v1/audit/file?path=LOG/FILE`, `FILE` as C2SP tlog-tiles names it.
    pub logs: Vec<String>,
}

/// `GET /v1/audit/openings?log=LOG&entry=INDEX`.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct AuditOpeningsReply {
    /// What opens the commitments in the entry, one line of JSON each: `at`, `field`, `index`, `salt`, `value`. Empty where there are none,
    /// or they were erased.
    pub openings: Vec<String>,
}

/// `POST /v1/cluster-check`.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct ClusterCheckRequest {
    /// The tenant.
    pub tenant: String,
    /// One of its clusters; none is all of them.
    #[serde(default)]
    pub cluster: Option<String>,
}

/// Whether clusters can be served as their policy says.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ClusterCheckReply {
    /// The tenant.
    pub tenant: String,
    /// Whether every cluster that was asked for can be.
    pub served: bool,
    /// Each of them.
    pub clusters: Vec<ClusterReport>,
}

/// What was found about one cluster.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ClusterReport {
    /// The cluster.
    pub cluster: String,
    /// Whether it can be served.
    pub served: bool,
    /// What was looked at, in order.
    pub steps: Vec<ClusterStep>,
}

/// One thing that was looked at.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ClusterStep {
    /// What was looked at.
    pub what: String,
    /// `ok`, `warning`, `FAILED` or `skipped`.
    pub outcome: String,
    /// What was found.
    pub found: String,
    /// What to run or change; one or more lines.
    pub fix: Option<String>,
}

/// `GET /v1/status`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct StatusReply {
    /// The node.
    pub node: String,
    /// Its version.
    pub version: String,
    /// The revision in force.
    pub revision: u64,
    /// Tenants in force.
    pub tenants: usize,
    /// Their endpoints.
    pub endpoints: usize,
    /// Live connections.
    pub connections: usize,
    /// When the node started, RFC 3339 in UTC.
    pub since: String,
}

/// `GET /v1/limits`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct LimitsReply {
    /// The node.
    pub node: String,
    /// Every limit and time-out.
    pub limits: Vec<LimitRow>,
    /// What each tenant that has connections may have, and has.
    pub tenants: Vec<TenantLimitsRow>,
}

/// One limit.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct LimitRow {
    /// Its name, in metrics and events too.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what: `count`, `per second`, `bytes` or `seconds`.
    pub unit: String,
    /// How much of it is used now, where that can be seen; where it holds for each of several, by
    /// the one that uses most.
    pub used: Option<u64>,
    /// How often it turned somebody away since the node started, where it can.
    pub shed: Option<u64>,
    /// Where it is set: `built in`, `node.toml`, `policy` or `machine`.
    pub set: String,
    /// What it bounds.
    pub bounds: String,
}

/// What one tenant may have on this node, and has.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct TenantLimitsRow {
    /// The tenant.
    pub tenant: String,
    /// Its connections at most,
    pub connections: u32,
    /// those of one endpoint,
    pub connections_per_endpoint: u32,
    /// and new ones in a second.
    pub new_connections_per_second: u32,
    /// Its authenticated connections.
    pub used: u32,
    /// Its connections that are not authenticated yet.
    pub unauthenticated: usize,
}

/// `GET /v1/policy/{tenant}`: the document in force.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct PolicyReply {
    /// The revision in force.
    pub revision: u64,
    /// The revision at which the document last changed.
    pub document_revision: u64,
    /// The canonical document.
    pub document: Value,
}

/// Every answer that is not a yes.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ErrorReply {
    /// What went wrong.
    pub error: ErrorBody,
}

/// What went wrong, for programs (`code`) and people (the rest).
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    /// Stable.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Mistakes in policy files, each with its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileError>,
}

impl fmt::Display for ErrorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for file in &self.files {
            write!(f, "\n{file}")?;
        }
        if let Some(next) = &self.next {
            write!(f, "\nnext: {next}")?;
        }
        Ok(())
    }
}
