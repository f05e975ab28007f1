//! What the admin API says and is told about the fleet.

use serde::{Deserialize, Serialize};

/// `GET /v1/fleet`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct FleetReply {
    /// The node that was asked.
    pub node: String,
    /// The fleet's id; none where a node is by itself.
    pub fleet: Option<String>,
    /// Its epoch: one more after each `recover`.
    pub epoch: u64,
    /// The newer epoch that began without the asked node, if one did: it has no part in deciding
    /// any more and must join anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced: Option<u64>,
    /// The revision that the asked node has in force.
    pub revision: u64,
    /// Who leads, as the asked node knows it; none while nobody is known to.
    pub leader: Option<String>,
    /// Whether a quorum confirmed lately that it follows the leader.
    pub quorum: bool,
    /// For how much longer what needs a quorum may be done here, in milliseconds; 0 is not at all.
    pub lease_ms: u64,
    /// What is wrong with the fleet's state or the asked node's part in it, in words, each with what
    /// to do.
    pub problems: Vec<String>,
    /// The nodes, by id.
    pub nodes: Vec<FleetNode>,
}

/// One node, as the asked one knows it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct FleetNode {
    /// Its id, never used again.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `control`, `gateway` or both.
    pub roles: Vec<String>,
    /// Where other nodes reach it; none where it dials out only.
    pub address: Option<String>,
    /// `leader`, `voter`, `learner`, or `none` for one that does not vote; of the asked node also
    /// `failed` or `fenced`.
    pub consensus: String,
    /// Its state beside those of the other control nodes at equal positions of the log: `same` as that
    /// of a majority, `differs`, `reinstalling`, or `unknown`; none of one that has only the view.
    pub state: Option<String>,
    /// Up to which revision it enforces every change; none if it was never heard.
    pub revision: Option<u64>,
    /// Its live connections, as it said last.
    pub connections: Option<u64>,
    /// How long ago it was heard, in milliseconds; none if never.
    pub heard_ms: Option<u64>,
    /// For how long no control node has confirmed its policy, in seconds.
    pub stale: Option<u64>,
    /// After how long of that it serves customers no more, in seconds.
    pub stale_limit: Option<u64>,
    /// Its version.
    pub version: Option<String>,
    /// The level of features that it knows, as it said last; what some node does not know is used by none.
    #[serde(default)]
    pub level: u32,
    /// How far its clock is ahead of the median of the control nodes', in milliseconds; less than 0 is
    /// behind. None where the asked node cannot tell.
    #[serde(default)]
    pub clock_skew_ms: Option<i64>,
}

/// `POST /v1/fleet/invite`.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// The name under which the node joins.
    pub name: String,
    /// `control`, `gateway` or both.
    pub roles: Vec<String>,
    /// Minutes for which the token is good.
    pub minutes: u32,
}

/// A token, good once.
#[derive(Serialize, Deserialize, Clone)]
pub struct InviteReply {
    /// The token: whoever has it can join in this name. It is kept nowhere.
    pub token: String,
    /// The name that it is bound to.
    pub name: String,
    /// Until when it is good, RFC 3339 in UTC.
    pub expires: String,
}

/// `POST /v1/fleet/remove`.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub struct RemoveRequest {
    /// The node's name.
    pub name: String,
}

/// What a change of the fleet led to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct FleetChangeReply {
    /// The revision at which it holds.
    pub revision: u64,
    /// The node that it was about.
    pub name: String,
    /// Its id.
    pub id: u64,
}
