//! Certificates: what there is, from which authority, until when; and exchanging an authority for another.

use std::sync::Arc;

use portcullis_audit::{kinds, moment};
use portcullis_certs::fleet::FleetTrust;
use portcullis_policy::{Authority, AuthorityPurpose, Digest};
use serde::{Deserialize, Serialize};

use super::operator_types::ChangedReply;
use super::operators::{changed, record};
use super::refusal::Refusal;
use super::who::Who;
use super::{Node, fleet};
use crate::fleet::WriteError;

/// `GET /v1/certificates`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct CertificatesReply {
    /// The authorities that this node knows.
    pub authorities: Vec<AuthorityReply>,
    /// The certificates that the node shows which was asked.
    pub certificates: Vec<CertificateReply>,
}

/// An authority, and how far it is exchanged for another.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct AuthorityReply {
    /// What it issues certificates for: `fleet`.
    pub purpose: String,
    /// `settled`, `trusting`, `issuing` or `returning`.
    pub phase: String,
    /// SHA-256 of its certificate (DER), hexadecimal.
    pub sha256: String,
    /// When it ends.
    pub until: String,
    /// The one that is to take its place.
    pub next: Option<NextReply>,
    /// Whether it is the next one that issues now.
    pub next_issues: bool,
    /// The nodes that have not done what the phase asks.
    pub waits_for: Vec<WaitsFor>,
}

/// An authority that takes the place of another.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct NextReply {
    /// SHA-256 of its certificate (DER), hexadecimal.
    pub sha256: String,
    /// When it ends.
    pub until: String,
}

/// A node that has not done what a phase asks.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct WaitsFor {
    /// Its name.
    pub node: String,
    /// Why it cannot, as far as it said.
    pub problem: Option<String>,
}

/// A certificate that is shown.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct CertificateReply {
    /// `node` or `endpoint`.
    pub purpose: String,
    /// For whom: the node's name, or the name that clients ask for.
    pub name: String,
    /// SHA-256 of the authority that issued it, where that is one of the fleet's.
    pub authority: Option<String>,
    /// When it ends.
    pub until: String,
}

/// `POST /v1/certificates/authority`.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
pub struct RotateRequest {
    /// Go back to the authority that was, instead of exchanging it.
    #[serde(default)]
    pub roll_back: bool,
}

/// What there is.
pub(super) fn list(node: &Node) -> Result<CertificatesReply, Refusal> {
    let known = node.fleet.authority();
    let authority = known.map(|(authority, waiting)| {
        let waits_for = waiting.into_iter().map(|waiting| WaitsFor {
            node: waiting.node.to_string(),
            problem: waiting.problem,
        });
        of_authority(&authority, waits_for.collect())
    });
    let own = node.fleet.own_certificate().map(|own| CertificateReply {
        purpose: "node".to_owned(),
        name: node.config.name.clone(),
        authority: own.issuer.map(|issuer| Digest::new(issuer).to_string()),
        until: until(own.until),
    });
    let doors = node.front.shows();
    let doors = doors.iter().map(|identity| CertificateReply {
        purpose: "endpoint".to_owned(),
        name: identity.names().dns.join(", "),
        authority: None,
        until: until(identity.validity().not_after),
    });
    Ok(CertificatesReply {
        authorities: authority.into_iter().collect(),
        certificates: own.into_iter().chain(doors).collect(),
    })
}

/// Begins to exchange the fleet's authority, or goes back.
pub(super) async fn rotate(
    node: &Arc<Node>,
    who: &Who,
    asked: &RotateRequest,
) -> Result<ChangedReply, Refusal> {
    let written = match asked.roll_back {
        false => node.fleet.rotate_authority(who.author()).await,
        true => node.fleet.return_authority(who.author()).await,
    };
    let written = written.map_err(|error: WriteError| fleet::not_written(&error))?;
    let reply = changed(&written);
    let step = if asked.roll_back { "return" } else { "rotate" };
    record(node, kinds::AUTHORITY_CHANGED, who, &reply, |event| {
        let event = event.with("purpose", AuthorityPurpose::Fleet.to_string());
        event.with("step", step)
    })
    .await;
    Ok(reply)
}

fn of_authority(authority: &Authority, waits_for: Vec<WaitsFor>) -> AuthorityReply {
    let told = |der: &[u8]| {
        let trust = FleetTrust::from_der(der).ok();
        let sha256 = trust
            .as_ref()
            .map(|it| Digest::new(it.fingerprint()).to_string());
        let ends = trust.map(|it| until(it.validity().not_after));
        (sha256.unwrap_or_default(), ends.unwrap_or_default())
    };
    let (sha256, ends) = told(&authority.certificate);
    let next = authority.next.as_ref().map(|next| {
        let (sha256, until) = told(&next.certificate);
        NextReply { sha256, until }
    });
    AuthorityReply {
        purpose: AuthorityPurpose::Fleet.to_string(),
        phase: authority.phase.to_string(),
        next_issues: authority.issuing() != authority.certificate,
        sha256,
        until: ends,
        next,
        waits_for,
    }
}

fn until(seconds: i64) -> String {
    moment::to_text(seconds.saturating_mul(1_000))
}
