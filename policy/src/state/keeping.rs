//! For how long the audit logs' entries, and what opens the commitments in them, are kept.
//!
//! This is what was decided. Who lets go of what is the gateway's business; nothing here removes anything.

use super::apply::{Done, State};
use super::rejection::Rejection;
use super::root::hash_of;
use crate::fleet_id::Digest;
use crate::id::{HoldId, TenantId};
use crate::limits::{MAX_HOLD_REASON, MAX_HOLDS, MAX_KEPT_SECONDS};
use serde::{Deserialize, Serialize};

/// For how long the audit logs are kept. The default keeps everything for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Keeping {
    /// Seconds after which an entry may be let go of; its hash stays. None: never.
    pub entries: Option<u64>,
    /// Seconds after which what opens an entry's commitments is let go of. None: never.
    pub personal: Option<u64>,
    /// What is kept in spite of that, by name, each name once.
    pub holds: Vec<Hold>,
}

/// A legal hold: while it stands, nothing that it covers is let go of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hold {
    /// By which it is lifted.
    pub name: HoldId,
    /// The log of this tenant; none: all logs.
    pub tenant: Option<TenantId>,
    /// Why, for whoever reads it in some years; 1 to [`MAX_HOLD_REASON`] bytes.
    pub reason: String,
}

impl Keeping {
    /// Whether a hold covers a tenant's log, or, for none, the fleet's.
    #[must_use]
    pub fn is_held(&self, tenant: Option<&TenantId>) -> bool {
        let covers = |hold: &Hold| hold.tenant.is_none() || hold.tenant.as_ref() == tenant;
        self.holds.iter().any(covers)
    }

    /// By which two are told apart.
    #[must_use]
    pub fn digest(&self) -> Digest {
        hash_of(b"keeping", self)
    }

    fn check(&self) -> Result<(), Rejection> {
        let usable =
            |seconds: Option<u64>| seconds.is_none_or(|it| (1..=MAX_KEPT_SECONDS).contains(&it));
        if !usable(self.entries) || !usable(self.personal) {
            return Err(Rejection::KeptFor);
        }
        if self.holds.len() > MAX_HOLDS {
            return Err(Rejection::TooMany {
                what: "legal holds",
                maximum: MAX_HOLDS,
            });
        }
        for (place, hold) in self.holds.iter().enumerate() {
            let earlier = self.holds.iter().take(place);
            if earlier.into_iter().any(|it| it.name == hold.name) {
                return Err(Rejection::HoldTwice(hold.name.clone()));
            }
            if !(1..=MAX_HOLD_REASON).contains(&hold.reason.len()) {
                return Err(Rejection::HoldReason(hold.name.clone()));
            }
        }
        Ok(())
    }
}

impl State {
    /// For how long the audit logs are kept.
    #[must_use]
    pub fn keeping(&self) -> &Keeping {
        &self.keeping
    }

    pub(super) fn set_keeping(
        &mut self,
        keeping: &Keeping,
        replaces: Option<Digest>,
    ) -> Result<Done, Rejection> {
        keeping.check()?;
        if replaces.is_some_and(|digest| digest != self.keeping.digest()) {
            return Err(Rejection::KeepingChanged);
        }
        let changed = self.keeping != *keeping;
        self.keeping = keeping.clone();
        Ok(Done::quietly(changed))
    }

    /// None while nobody set anything: as it was before this could be set.
    pub(super) fn keeping_root(&self) -> Option<Digest> {
        (self.keeping != Keeping::default()).then(|| self.keeping.digest())
    }
}
