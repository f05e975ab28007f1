//! For how long the audit logs are kept: what is set, and setting it.

use std::sync::Arc;

use portcullis_audit::kinds;
use portcullis_policy::{Command, Hold, HoldId, Keeping, TenantId};
use serde::{Deserialize, Serialize};

use super::operator_types::ChangedReply;
use super::operators::{changed, record, write};
use super::refusal::Refusal;
use super::who::Who;
use super::{Node, fleet};
use crate::fleet::WriteError;

/// `GET /v1/audit/keeping`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct KeepingReply {
    /// What is set.
    #[serde(flatten)]
    pub kept: Kept,
    /// By which it is told apart: what `replaces` names.
    pub digest: String,
}

/// `POST /v1/audit/keeping`.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct KeepingRequest {
    /// All of it.
    #[serde(flatten)]
    pub kept: Kept,
    /// `digest` of what it was made from: refused if it has changed since. None: whatever it is.
    #[serde(default)]
    pub replaces: Option<String>,
}

/// For how long the audit logs are kept.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Seconds for which entries are kept at least; none: for ever.
    pub entries: Option<u64>,
    /// Seconds for which what opens commitments about persons is kept; none: for ever.
    pub personal: Option<u64>,
    /// Legal holds: what they cover is kept in spite of that.
    #[serde(default)]
    pub holds: Vec<HeldFor>,
}

/// A legal hold.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct HeldFor {
    /// By which it is released.
    pub name: String,
    /// Whose log; none: all logs.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Why.
    pub reason: String,
}

/// What is set.
pub(super) fn keeping(node: &Node) -> Result<KeepingReply, Refusal> {
    let keeping = node.fleet.keeping();
    let keeping = keeping.ok_or_else(|| fleet::not_written(&WriteError::NotControl))?;
    let hold = |hold: &Hold| HeldFor {
        name: hold.name.to_string(),
        tenant: hold.tenant.as_ref().map(TenantId::to_string),
        reason: hold.reason.clone(),
    };
    Ok(KeepingReply {
        digest: keeping.digest().to_string(),
        kept: Kept {
            entries: keeping.entries,
            personal: keeping.personal,
            holds: keeping.holds.iter().map(hold).collect(),
        },
    })
}

/// What is set from now on.
pub(super) async fn set_keeping(
    node: &Arc<Node>,
    who: &Who,
    asked: KeepingRequest,
) -> Result<ChangedReply, Refusal> {
    let replaces = asked.replaces.map(|text| text.parse()).transpose();
    let replaces = replaces.map_err(|error| Refusal::malformed("replaces", &error))?;
    let mut keeping = Keeping {
        entries: asked.kept.entries,
        personal: asked.kept.personal,
        holds: Vec::new(),
    };
    for hold in asked.kept.holds {
        let name = hold.name.parse::<HoldId>();
        let tenant = hold.tenant.map(|text| text.parse::<TenantId>());
        keeping.holds.push(Hold {
            name: name.map_err(|error| Refusal::malformed("holds", &error))?,
            tenant: tenant
                .transpose()
                .map_err(|error| Refusal::malformed("holds", &error))?,
            reason: hold.reason,
        });
    }
    let said = serde_json::json!(keeping);
    let command = Command::SetKeeping { keeping, replaces };
    let reply = changed(&write(node, who, command).await?);
    record(node, kinds::KEEPING_SET, who, &reply, |event| {
        event.with("keeping", said)
    })
    .await;
    Ok(reply)
}
