//! The places of connections that are authenticated: of the node; of a tenant and an endpoint, across
//! the fleet as far as the others have said what they hold.
//!
//! Counted apart from those who are still signing in, so that strangers who know no password
//! cannot fill a tenant's cap.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_policy::{EndpointId, TenantId, TenantLimits};

use super::LiveHandle;
use crate::proxy::others::{Elsewhere, OpenAt};
use crate::proxy::throttle::Limit;

/// How many places are taken.
pub(in crate::proxy) struct Claims {
    /// What customers may fill of the node's connections; the rest is the staff's reserve.
    customers: usize,
    taken: Mutex<Taken>,
    /// What other nodes hold: caps are the fleet's.
    elsewhere: Elsewhere,
}

#[derive(Default)]
struct Taken {
    node: usize,
    tenants: HashMap<TenantId, u32>,
    endpoints: HashMap<(TenantId, EndpointId), u32>,
}

/// A cap is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) struct Full {
    pub(in crate::proxy) limit: Limit,
    pub(in crate::proxy) most: usize,
}

impl Claims {
    pub(in crate::proxy) fn new(customers: usize) -> Self {
        Self {
            customers,
            taken: Mutex::default(),
            elsewhere: Elsewhere::default(),
        }
    }

    /// What other nodes hold.
    pub(in crate::proxy) fn elsewhere(&self) -> &Elsewhere {
        &self.elsewhere
    }

    /// The places of each endpoint that holds any.
    pub(in crate::proxy) fn endpoints(&self) -> Vec<OpenAt> {
        let taken = self.taken.lock();
        let endpoints = taken.endpoints.iter();
        endpoints
            .map(|((tenant, endpoint), count)| OpenAt {
                tenant: tenant.clone(),
                endpoint: endpoint.clone(),
                count: *count,
            })
            .collect()
    }

    /// Takes a place of the node, of the connection's tenant and of its endpoint, or says which
    /// of them is full. Given back when the claim is dropped.
    pub(in crate::proxy) fn claim(
        self: &Arc<Self>,
        handle: &Arc<LiveHandle>,
        limits: &TenantLimits,
    ) -> Result<Claim, Full> {
        let of_tenant = limits.connections_or_default();
        let of_endpoint = limits.connections_per_endpoint_or_default();
        let full = |limit, most| Err(Full { limit, most });
        let key = (handle.tenant.clone(), handle.endpoint.clone());
        let (tenant_elsewhere, endpoint_elsewhere) = self.elsewhere.of(&key);
        let mut taken = self.taken.lock();
        if taken.node >= self.customers {
            return full(Limit::NodeConnections, self.customers);
        }
        let tenant = taken.tenants.get(&key.0).copied().unwrap_or_default();
        if tenant.saturating_add(tenant_elsewhere) >= of_tenant {
            return full(Limit::TenantConnections, of_tenant as usize);
        }
        let endpoint = taken.endpoints.get(&key).copied().unwrap_or_default();
        if endpoint.saturating_add(endpoint_elsewhere) >= of_endpoint {
            return full(Limit::EndpointConnections, of_endpoint as usize);
        }
        taken.node += 1;
        taken.tenants.insert(key.0.clone(), tenant + 1);
        taken.endpoints.insert(key, endpoint + 1);
        Ok(Claim {
            claims: Arc::clone(self),
            handle: Arc::clone(handle),
        })
    }

    /// The places that are taken of the whole node, and by each tenant that holds any.
    pub(in crate::proxy) fn taken(&self) -> (usize, Vec<(TenantId, u32)>) {
        let taken = self.taken.lock();
        let tenants = taken.tenants.iter();
        (
            taken.node,
            tenants
                .map(|(tenant, count)| (tenant.clone(), *count))
                .collect(),
        )
    }

    /// The places of the endpoint that holds most.
    pub(in crate::proxy) fn largest_endpoint(&self) -> u32 {
        let taken = self.taken.lock();
        taken.endpoints.values().copied().max().unwrap_or_default()
    }
}

/// The place of one authenticated connection.
pub(in crate::proxy) struct Claim {
    claims: Arc<Claims>,
    handle: Arc<LiveHandle>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let key = (self.handle.tenant.clone(), self.handle.endpoint.clone());
        let mut taken = self.claims.taken.lock();
        taken.node = taken.node.saturating_sub(1);
        give_back(&mut taken.tenants, &key.0);
        give_back(&mut taken.endpoints, &key);
    }
}

fn give_back<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}
