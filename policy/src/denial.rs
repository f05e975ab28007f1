//! Saying no: a stable code, an opaque voice for the client and a full one for the operator.

use crate::decide::{Attempt, EntryRef};
use crate::id::{EndpointId, Revision, TenantId};
use crate::reference::Reference;
use crate::state::EndpointView;
use crate::time::Timestamp;
use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// Policy says no. A value, not a failure; only [`decide`](crate::decide()) makes one.
#[derive(Clone, Debug)]
pub struct Denial {
    pub(crate) code: DenialCode,
    /// The endpoint, where the attempt named one that exists.
    pub(crate) place: Option<Arc<EndpointView>>,
    /// The entry that covered the address, where it came to that.
    pub(crate) entry: Option<u32>,
    pub(crate) revision: Revision,
    pub(crate) at: Timestamp,
}

/// The reasons for a no: public API, spelled the same in replies, metrics, audit events, `explain` and the manual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DenialCode {
    /// No endpoint has the name, or the client gave none.
    UnknownEndpoint,
    /// The tenant is suspended.
    TenantSuspended,
    /// The endpoint is suspended.
    EndpointSuspended,
    /// The endpoint has no public door.
    PublicBlocked,
    /// The endpoint has no door to the network that the attempt came from.
    WrongNetwork,
    /// The endpoint has no door for the private link that the attempt came by.
    WrongPrivateLink,
    /// No entry at all for the door.
    EmptyList,
    /// No entry covers the address.
    AddressNotListed,
    /// The entry that covers the address no longer holds.
    EntryExpired,
    /// The endpoint refuses replication connections.
    ReplicationRefused,
    /// The client's certificate is revoked.
    CertificateRevoked,
    /// Nobody has confirmed the policy for longer than the tenant wants to be served from it.
    PolicyStale,
}

impl DenialCode {
    /// Every code, in the order of the checks.
    pub const ALL: [Self; 12] = [
        Self::UnknownEndpoint,
        Self::TenantSuspended,
        Self::EndpointSuspended,
        Self::PublicBlocked,
        Self::WrongNetwork,
        Self::WrongPrivateLink,
        Self::EmptyList,
        Self::AddressNotListed,
        Self::EntryExpired,
        Self::ReplicationRefused,
        Self::CertificateRevoked,
        Self::PolicyStale,
    ];

    /// The code's one spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownEndpoint => "unknown_endpoint",
            Self::TenantSuspended => "tenant_suspended",
            Self::EndpointSuspended => "endpoint_suspended",
            Self::PublicBlocked => "public_blocked",
            Self::WrongNetwork => "network_mismatch",
            Self::WrongPrivateLink => "private_link_mismatch",
            Self::EmptyList => "empty_list",
            Self::AddressNotListed => "address_not_listed",
            Self::EntryExpired => "entry_expired",
            Self::ReplicationRefused => "replication_refused",
            Self::CertificateRevoked => "certificate_revoked",
            Self::PolicyStale => "policy_stale",
        }
    }
}

impl fmt::Display for DenialCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for DenialCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The hint that goes with [`Denial::for_client`]: the same for everybody, so that it tells nobody anything.
pub const CLIENT_HINT: &str =
    "The owner of the endpoint can run `portcullis why REFERENCE` to learn the reason.";

impl Denial {
    /// The code's one spelling.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code.as_str()
    }

    /// The code.
    #[must_use]
    pub const fn reason(&self) -> DenialCode {
        self.code
    }

    /// What the client is told: nothing that it did not send, and the same for every reason but [`DenialCode::PolicyStale`],
    /// of which only those learn whom the policy would let in.
    #[must_use]
    pub fn for_client(&self, reference: &Reference) -> String {
        match self.code {
            DenialCode::PolicyStale => format!(
                "connections are not accepted here until the policy is confirmed again; try another gateway, or later (reference {reference})"
            ),
            DenialCode::UnknownEndpoint
            | DenialCode::TenantSuspended
            | DenialCode::EndpointSuspended
            | DenialCode::PublicBlocked
            | DenialCode::WrongNetwork
            | DenialCode::WrongPrivateLink
            | DenialCode::EmptyList
            | DenialCode::AddressNotListed
            | DenialCode::EntryExpired
            | DenialCode::ReplicationRefused
            | DenialCode::CertificateRevoked => {
                format!("connection not permitted (reference {reference})")
            }
        }
    }

    /// Everything: what was attempted, which rule said no, by which revision, and the command to try next.
    #[must_use]
    pub fn for_operator(&self, attempt: &Attempt<'_>) -> String {
        let Some(place) = &self.place else {
            let wanted = match attempt.server_name {
                Some(name) => format!("named {name}"),
                None => String::from("because the client named none (no SNI)"),
            };
            return format!(
                "{}: {} via {} reached no endpoint {wanted} (revision {}). \
                 Next: `portcullis plan DIR` shows whether a policy that has it was not applied",
                self.code, attempt.address, attempt.origin, self.revision
            );
        };
        let target = format!("{}/{}", place.tenant(), place.id());
        format!(
            "{}: {} via {} to {target}: {} (revision {}). \
             Next: `portcullis explain --to {target} --from {} --via {}`",
            self.code,
            attempt.address,
            attempt.origin,
            self.rule(attempt, place),
            self.revision,
            attempt.address,
            attempt.origin,
        )
    }

    /// The tenant whose endpoint was attempted, where there is one.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantId> {
        self.place.as_deref().map(EndpointView::tenant)
    }

    /// The endpoint that was attempted, where there is one.
    #[must_use]
    pub fn endpoint_id(&self) -> Option<&EndpointId> {
        self.place.as_deref().map(EndpointView::id)
    }

    /// The entry that covered the address, where it came to that.
    #[must_use]
    pub fn entry(&self) -> Option<EntryRef<'_>> {
        EntryRef::of(self.place.as_deref()?, self.entry?)
    }

    /// The revision that said no.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The moment for which it said no.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    fn rule(&self, attempt: &Attempt<'_>, place: &EndpointView) -> String {
        let origin = attempt.origin;
        match self.code {
            DenialCode::UnknownEndpoint => String::from("there is no such endpoint"),
            DenialCode::TenantSuspended => format!("tenant {} is suspended", place.tenant()),
            DenialCode::EndpointSuspended => String::from("the endpoint is suspended"),
            DenialCode::PublicBlocked => String::from("the endpoint has no public door"),
            DenialCode::WrongNetwork | DenialCode::WrongPrivateLink => {
                format!("{origin} is not a door of the endpoint")
            }
            DenialCode::EmptyList => format!("nobody may come via {origin}: there is no entry"),
            DenialCode::AddressNotListed => {
                let entries = place.lists().door(origin).map_or(0, |list| list.entries);
                match entries {
                    1 => format!("the address is not in the one entry via {origin}"),
                    _ => format!("the address is in none of the {entries} entries via {origin}"),
                }
            }
            DenialCode::EntryExpired => match self.entry() {
                Some(entry) => format!("{entry} expired"),
                None => String::from("the entry expired"),
            },
            DenialCode::ReplicationRefused => {
                String::from("the endpoint refuses replication connections")
            }
            DenialCode::CertificateRevoked => match attempt.certificate {
                Some(serial) => format!("the client's certificate {serial} is revoked"),
                None => String::from("the client's certificate is revoked"),
            },
            DenialCode::PolicyStale => format!(
                "nobody has confirmed the policy to this node for {} s, and `on-stale` of tenant {} lets nobody in by one so old; \
                 whoever is in stays in, and `portcullis fleet status` tells whom the node hears",
                attempt.unconfirmed,
                place.tenant()
            ),
        }
    }
}
