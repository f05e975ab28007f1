//! Certificates of tenants' clients that no longer count: which, revoking one, and taking that back.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_policy::{Action, Command, Serial, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use super::Node;
use super::policy::Wanted;
use super::questions::only;
use super::refusal::Refusal;
use super::who::Who;

/// `GET /v1/revocations`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct RevocationsReply {
    /// The revision at which that holds.
    pub revision: u64,
    /// By tenant and serial number; of the tenants about whom the asker may know.
    pub revoked: Vec<Revoked>,
}

/// A certificate that no longer counts.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Whose authority issued it.
    pub tenant: String,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub author: String,
    /// When.
    pub at: String,
    /// When it ends by itself, where that is known.
    pub until: Option<String>,
}

/// `POST /v1/revocations`.
#[derive(Serialize, Deserialize, Clone, Debug)]
pub struct RevokeRequest {
    /// Whose authority issued the certificate.
    pub tenant: String,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// What is to become of it.
    #[serde(flatten)]
    pub wanted: Wish,
    /// 32 hex digits by which a repetition of this request is known: it is executed once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// What is to become of a certificate.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(tag = "wanted", rename_all = "kebab-case")]
pub enum Wish {
    /// It no longer counts.
    Revoke {
        /// Why.
        reason: String,
        /// When it ends by itself, where that is known.
        #[serde(default)]
        until: Option<String>,
    },
    /// It counts again.
    TakeBack,
}

/// Which there are.
pub(super) fn list(
    node: &Arc<Node>,
    who: &Who,
    query: &BTreeMap<String, String>,
) -> Result<RevocationsReply, Refusal> {
    only(query, &["tenant"])?;
    let view = node.front.view();
    let wanted: Option<TenantId> = query
        .get("tenant")
        .map(|tenant| tenant.parse())
        .transpose()
        .map_err(|error| Refusal::malformed("tenant", &error))?;
    if let Some(tenant) = &wanted
        && (view.tenant(tenant).is_none() || !who.may(Action::Policy, Some(tenant)))
    {
        return Err(Refusal::no_such_tenant(tenant));
    }
    let asked = view.tenants().filter(|tenant| {
        wanted.as_ref().is_none_or(|wanted| wanted == tenant.id())
            && who.may(Action::Policy, Some(tenant.id()))
    });
    let revoked = asked.flat_map(|tenant| {
        tenant.revoked().iter().map(|(serial, it)| Revoked {
            tenant: tenant.id().to_string(),
            serial: serial.to_string(),
            reason: it.reason.clone(),
            author: it.author.clone(),
            at: it.at.to_string(),
            until: it.until.map(|until| until.to_string()),
        })
    });
    Ok(RevocationsReply {
        revision: view.revision().get(),
        revoked: revoked.collect(),
    })
}

/// What somebody wants, as a command. Whether they may is asked where it is executed.
pub(super) fn wanted(node: &Node, who: &Who, asked: RevokeRequest) -> Result<Wanted, Refusal> {
    let tenant: TenantId = asked
        .tenant
        .parse()
        .map_err(|error| Refusal::malformed("tenant", &error))?;
    let serial: Serial = asked
        .serial
        .parse()
        .map_err(|error| Refusal::malformed("serial", &error))?;
    // Tenants exist for nobody who may not know of them.
    let known = node.front.view().tenant(&tenant).is_some();
    if !known || !who.may(Action::Policy, Some(&tenant)) {
        return Err(Refusal::no_such_tenant(&tenant));
    }
    Ok(Wanted::Revocation(match asked.wanted {
        Wish::TakeBack => Command::Unrevoke { tenant, serial },
        Wish::Revoke { reason, until } => {
            let until = until.map(|until| until.parse::<Timestamp>()).transpose();
            Command::Revoke {
                tenant,
                serial,
                reason,
                until: until.map_err(|error| Refusal::malformed("until", &error))?,
            }
        }
    }))
}
