//! Revoking a certificate of a tenant's client, and taking that back.

use super::apply::{Done, State};
use super::rejection::Rejection;
use crate::id::TenantId;
use crate::revocations::{Revocation, Revocations, Serial};

impl State {
    pub(super) fn revoke(
        &mut self,
        tenant: &TenantId,
        serial: &Serial,
        revocation: Revocation,
    ) -> Result<Done, Rejection> {
        let next = self.revoked_of(tenant)?.with(serial, revocation)?;
        self.set_revoked(tenant, &next)
    }

    pub(super) fn unrevoke(
        &mut self,
        tenant: &TenantId,
        serial: &Serial,
    ) -> Result<Done, Rejection> {
        match self.revoked_of(tenant)?.without(serial) {
            Some(next) => self.set_revoked(tenant, &next),
            None => Err(Rejection::NotRevoked {
                tenant: tenant.clone(),
                serial: serial.clone(),
            }),
        }
    }

    fn revoked_of(&self, tenant: &TenantId) -> Result<&Revocations, Rejection> {
        match self.view.tenant(tenant) {
            Some(view) => Ok(view.revoked()),
            None => Err(Rejection::UnknownTenant(tenant.clone())),
        }
    }

    fn set_revoked(&mut self, tenant: &TenantId, next: &Revocations) -> Result<Done, Rejection> {
        let Some(view) = self.view.tenant(tenant) else {
            return Err(Rejection::UnknownTenant(tenant.clone()));
        };
        if view.revoked() == next {
            return Ok(Done::quietly(false));
        }
        let (document, revision) = (view.document(), view.revision());
        let one = std::iter::once((&document, revision, Some(next)));
        let (next, touched) = self.view.exchanged(one, &[])?;
        self.check_fleet_limit(&next)?;
        let changes = self.view.changes_to(&next, &touched, self.at);
        self.view = next;
        Ok(Done {
            tenants: vec![tenant.clone()],
            changes,
            ..Done::quietly(true)
        })
    }
}
