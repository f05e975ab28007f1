//! What the front doors of a fleet tell each other: soft state, whose loss is safe.
//!
//! Connections are counted on every node, and each learns now and then what the others hold: a
//! tenant's cap holds across the fleet to within what the others let in since they last said so.
//! Failed sign-ins are told as they happen and slow the next proof anywhere. A cancel request goes
//! to the node that issued its key.
//!
//! Deliberately absent: how any of it travels ([`Others`] is the fleet's), and any wait for another
//! node on the path of a connection.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use portcullis_certs::cancel_key::Issuer;
use portcullis_policy::{Address, ClusterId, EndpointId, Origin, TenantId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::failures::{Role, Who};
use super::front::Front;
use super::source::Source;
use crate::runtime::clock::Duration;
use crate::runtime::limits::{FAILURES_TOLD, OPEN_TOLD};

/// The way to the other nodes.
pub trait Others: Send + Sync {
    /// For how long nobody has confirmed the policy that is in force here.
    fn unconfirmed(&self) -> Duration;

    /// Gives a cancel request to the node that issued its key; ends when that node has told the
    /// database. The node's name, if it is known and could be reached.
    fn cancel(
        &self,
        issuer: Issuer,
        passed: PassedCancel,
    ) -> Pin<Box<dyn Future<Output = Option<String>> + Send>>;
}

/// A cancel request as one node passes it on to another: who made it, and its key.
#[derive(Serialize, Deserialize, Clone)]
pub struct PassedCancel {
    pub(super) pid: u32,
    pub(super) secret: Vec<u8>,
    pub(super) reference: String,
    pub(super) origin: String,
    pub(super) address: String,
    pub(super) port: u16,
    pub(super) server_name: Option<String>,
}

/// What one node tells the others.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct Soft {
    /// Its authenticated connections; those with most, where there are more than can be told.
    pub open: Vec<OpenAt>,
    /// The failed sign-ins since it told last.
    pub failures: Vec<FailedSignIn>,
}

/// Authenticated connections to one endpoint.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct OpenAt {
    /// The tenant.
    pub tenant: TenantId,
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// How many.
    pub count: u32,
}

/// One failed sign-in.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct FailedSignIn {
    origin: String,
    address: String,
    tenant: TenantId,
    cluster: ClusterId,
    user: String,
}

/// What other nodes hold of each tenant and endpoint, as they last said.
#[derive(Debug, Default)]
pub(super) struct Elsewhere(ArcSwap<Held>);

#[derive(Debug, Default)]
struct Held {
    tenants: HashMap<TenantId, u32>,
    endpoints: HashMap<(TenantId, EndpointId), u32>,
}

impl Elsewhere {
    pub(super) fn of(&self, endpoint: &(TenantId, EndpointId)) -> (u32, u32) {
        let held = self.0.load();
        let tenants = held.tenants.get(&endpoint.0).copied();
        let endpoints = held.endpoints.get(endpoint).copied();
        (tenants.unwrap_or_default(), endpoints.unwrap_or_default())
    }

    fn set(&self, open: impl Iterator<Item = OpenAt>) {
        let mut held = Held::default();
        for OpenAt {
            tenant,
            endpoint,
            count,
        } in open
        {
            let of_tenant = held.tenants.entry(tenant.clone()).or_default();
            *of_tenant = of_tenant.saturating_add(count);
            let of_endpoint = held.endpoints.entry((tenant, endpoint)).or_default();
            *of_endpoint = of_endpoint.saturating_add(count);
        }
        self.0.store(Arc::new(held));
    }
}

/// Failed sign-ins that the others were not told yet. What finds no room is not told.
#[derive(Debug, Default)]
pub(super) struct Untold(Mutex<Vec<FailedSignIn>>);

impl Untold {
    pub(super) fn add(&self, origin: &Origin, address: Address, role: &Role) {
        let mut untold = self.0.lock();
        if untold.len() < FAILURES_TOLD {
            untold.push(FailedSignIn {
                origin: origin.to_string(),
                address: address.to_string(),
                tenant: role.tenant.clone(),
                cluster: role.cluster.clone(),
                user: role.user.clone(),
            });
        }
    }

    fn take(&self) -> Vec<FailedSignIn> {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Front {
    /// What the other nodes should hear now.
    #[must_use]
    pub fn soft(&self) -> Soft {
        let mut open = self.open_endpoints();
        if open.len() > OPEN_TOLD {
            open.sort_by_key(|at| std::cmp::Reverse(at.count));
            open.truncate(OPEN_TOLD);
        }
        Soft {
            open,
            failures: self.untold().take(),
        }
    }

    /// What all others hold, from now on.
    pub fn held_elsewhere(&self, open: impl Iterator<Item = OpenAt>) {
        self.elsewhere().set(open);
    }

    /// Sign-ins that failed on other nodes.
    pub fn failed_elsewhere(&self, failures: &[FailedSignIn]) {
        for failed in failures {
            let (Ok(origin), Ok(address)) = (failed.origin.parse(), failed.address.parse()) else {
                continue;
            };
            self.count_failure(&Who {
                source: Source::customer(&origin, address),
                role: Arc::new(Role {
                    tenant: failed.tenant.clone(),
                    cluster: failed.cluster.clone(),
                    user: failed.user.clone(),
                }),
            });
        }
    }
}
