//! The one place where a connection is permitted or denied.

use crate::denial::{Denial, DenialCode};
use crate::id::{ClusterId, EndpointId, Revision, TenantId};
use crate::narrate::{Check, Fact, Narrator, Outcome, Story};
use crate::network::{Address, AllowList, Found, Until};
use crate::origin::Origin;
use crate::revocations::Serial;
use crate::server_name::ServerName;
use crate::state::{EndpointView, View};
use crate::tenant::{Authentication, Cluster, Endpoint, Entry, Replication};
use crate::tenant_limits::{OnStale, TenantLimits};
use crate::time::Timestamp;
use std::fmt;
use std::sync::Arc;

/// Decides an attempt at a moment. The checks, in order; the first that fails denies with its code:
///
/// 1. the name leads to an endpoint ([`DenialCode::UnknownEndpoint`]);
/// 2. its tenant is not suspended ([`DenialCode::TenantSuspended`]);
/// 3. the endpoint is not suspended ([`DenialCode::EndpointSuspended`]);
/// 4. the door is in the endpoint's boundary ([`DenialCode::PublicBlocked`], [`DenialCode::WrongNetwork`],
///    [`DenialCode::WrongPrivateLink`]);
/// 5. there is an entry for that door at all ([`DenialCode::EmptyList`]);
/// 6. an entry for that door covers the address ([`DenialCode::AddressNotListed`]);
/// 7. of those that cover it, the one that expires last still holds ([`DenialCode::EntryExpired`]);
/// 8. a replication connection is allowed to be one ([`DenialCode::ReplicationRefused`]);
/// 9. the certificate that the client has shown, if it has shown one, is not revoked ([`DenialCode::CertificateRevoked`]);
/// 10. the tenant wants to be served from a policy as old as this one ([`DenialCode::PolicyStale`]). It comes last, because
///     its answer differs: nobody learns of it whom the policy would not let in.
///
/// A cancel request is decided exactly as the connection that it speaks for. User and database play no part before
/// authentication. O(log n) in tenants and entries; allocates nothing unless the narrator does.
pub fn decide(
    view: &View,
    attempt: &Attempt<'_>,
    at: Timestamp,
    narrator: &mut (impl Narrator + ?Sized),
) -> Decision {
    let deny = |code, place: Option<&Arc<EndpointView>>, entry| {
        let place = place.map(Arc::clone);
        let revision = view.revision();
        Decision::Denied(Denial {
            code,
            place,
            entry,
            revision,
            at,
        })
    };
    let place = match tell(narrator, Check::Endpoint, named_endpoint(view, attempt)) {
        Ok(place) => place,
        Err(code) => return deny(code, None, None),
    };
    let found = match covering_entry(place, attempt, narrator) {
        Ok(found) => found,
        Err(code) => return deny(code, Some(place), None),
    };
    match still_admitted(place, found.until, attempt, at, narrator) {
        Ok(()) => Decision::Permitted(Permit {
            place: Arc::clone(place),
            entry: found.entry,
            until: found.until,
            revision: view.revision(),
        }),
        Err(code) => deny(code, Some(place), Some(found.entry)),
    }
}

/// Checks 2 to 6: leads from the endpoint to the entry that speaks for the address.
fn covering_entry(
    place: &EndpointView,
    attempt: &Attempt<'_>,
    narrator: &mut (impl Narrator + ?Sized),
) -> Result<Found, DenialCode> {
    tell(narrator, Check::Tenant, tenant_is_active(place))?;
    tell(narrator, Check::Suspension, endpoint_is_active(place))?;
    tell(narrator, Check::Door, has_door(place, attempt.origin))?;
    let list = tell(narrator, Check::List, list_of_door(place, attempt.origin))?;
    tell(narrator, Check::Address, entry_for(place, list, attempt))
}

/// Checks 7 to 10: what can stop an attempt that an entry covers.
fn still_admitted(
    place: &EndpointView,
    until: Until,
    attempt: &Attempt<'_>,
    at: Timestamp,
    narrator: &mut (impl Narrator + ?Sized),
) -> Result<(), DenialCode> {
    tell(narrator, Check::Expiry, holds(until, at))?;
    tell(
        narrator,
        Check::Replication,
        replication_fits(place, attempt),
    )?;
    if let Some(serial) = attempt.certificate {
        tell(narrator, Check::Certificate, is_good(place, serial))?;
    }
    match place.limits().on_stale {
        OnStale::Serve => Ok(()),
        OnStale::RefuseAfter(limit) => {
            let finding = is_confirmed(attempt.unconfirmed, limit);
            tell(narrator, Check::Confirmation, finding)
        }
    }
}

/// What a check finds: something to go on with, or a denial; and the fact behind it.
type Finding<'a, T> = Result<(T, Fact<'a>), (DenialCode, Fact<'a>)>;

fn tell<'a, T>(
    narrator: &mut (impl Narrator + ?Sized),
    check: Check,
    finding: Finding<'a, T>,
) -> Result<T, DenialCode> {
    match finding {
        Ok((value, fact)) => {
            narrator.step(check, Outcome::Passed(fact));
            Ok(value)
        }
        Err((code, fact)) => {
            narrator.step(check, Outcome::Refused(code, fact));
            Err(code)
        }
    }
}

fn named_endpoint<'a>(view: &'a View, attempt: &Attempt<'a>) -> Finding<'a, &'a Arc<EndpointView>> {
    let Some(name) = attempt.server_name else {
        return Err((DenialCode::UnknownEndpoint, Fact::NoServerName));
    };
    match view.named(name) {
        Some(place) => Ok((place, Fact::Named(name, place.tenant(), place.id()))),
        None => Err((DenialCode::UnknownEndpoint, Fact::UnknownName(name))),
    }
}

fn tenant_is_active(place: &EndpointView) -> Finding<'_, ()> {
    let id = place.tenant();
    match place.tenant_is_suspended() {
        false => Ok(((), Fact::TenantActive(id))),
        true => Err((DenialCode::TenantSuspended, Fact::TenantSuspended(id))),
    }
}

fn endpoint_is_active(place: &EndpointView) -> Finding<'_, ()> {
    let id = place.id();
    match place.endpoint().suspended {
        false => Ok(((), Fact::EndpointActive(id))),
        true => Err((DenialCode::EndpointSuspended, Fact::EndpointSuspended(id))),
    }
}

fn has_door<'a>(place: &EndpointView, origin: &'a Origin) -> Finding<'a, ()> {
    if place.has_door(origin) {
        return Ok(((), Fact::HasDoor(origin)));
    }
    let code = match origin {
        Origin::Public => DenialCode::PublicBlocked,
        Origin::Network(_) => DenialCode::WrongNetwork,
        Origin::PrivateLink(_) => DenialCode::WrongPrivateLink,
    };
    Err((code, Fact::NoSuchDoor(origin)))
}

fn list_of_door<'a>(place: &'a EndpointView, origin: &'a Origin) -> Finding<'a, &'a AllowList> {
    match place.lists().door(origin) {
        Some(list) => Ok((list, Fact::Entries(origin, list.entries))),
        None => Err((DenialCode::EmptyList, Fact::Entries(origin, 0))),
    }
}

fn entry_for<'a>(
    place: &'a EndpointView,
    list: &AllowList,
    attempt: &Attempt<'a>,
) -> Finding<'a, Found> {
    let address = attempt.address;
    let found = list.find(address);
    // The entry is looked up here, so that a permit can count on it.
    match found.and_then(|found| Some((found, EntryRef::of(place, found.entry)?))) {
        Some((found, at)) => Ok((found, Fact::Listed(address, at.index, at.entry))),
        None => Err((
            DenialCode::AddressNotListed,
            Fact::NotListed(address, attempt.origin),
        )),
    }
}

fn holds(until: Until, at: Timestamp) -> Finding<'static, ()> {
    match until {
        Until::Moment(moment) if !until.holds(at) => {
            Err((DenialCode::EntryExpired, Fact::Expired(moment)))
        }
        Until::Moment(_) | Until::Forever => Ok(((), Fact::Holds(until.moment()))),
    }
}

fn replication_fits(place: &EndpointView, attempt: &Attempt<'_>) -> Finding<'static, ()> {
    match (attempt.replication, place.endpoint().replication) {
        (false, _) => Ok(((), Fact::NoReplication)),
        (true, Replication::Allowed) => Ok(((), Fact::ReplicationAllowed)),
        (true, Replication::Refused) => {
            Err((DenialCode::ReplicationRefused, Fact::ReplicationRefused))
        }
    }
}

fn is_good<'a>(place: &EndpointView, serial: &'a Serial) -> Finding<'a, ()> {
    match place.is_revoked(serial) {
        false => Ok(((), Fact::NotRevoked(serial))),
        true => Err((DenialCode::CertificateRevoked, Fact::Revoked(serial))),
    }
}

fn is_confirmed(unconfirmed: u64, limit: u32) -> Finding<'static, ()> {
    match unconfirmed >= u64::from(limit) {
        false => Ok(((), Fact::Fresh(unconfirmed, limit))),
        true => Err((DenialCode::PolicyStale, Fact::Stale(unconfirmed, limit))),
    }
}

/// What is known of a connection, or of a request to cancel one, before authentication.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The door, as we established it.
    pub origin: &'a Origin,
    /// The client's address, as we established it.
    pub address: Address,
    /// The endpoint that it asks for (SNI; for a cancel request, that of the connection it speaks for).
    pub server_name: Option<&'a ServerName>,
    /// The role that it names; not proved.
    pub user: &'a str,
    /// The database that it names.
    pub database: &'a str,
    /// Whether it asks for a replication connection.
    pub replication: bool,
    /// The serial number of the certificate that it has shown, verified against the tenant's authorities; none of one who
    /// shows none.
    pub certificate: Option<&'a Serial>,
    /// What it wants.
    pub purpose: Purpose,
    /// For how many seconds nobody has confirmed the policy to this node. 0 for whoever was let in before: a connection that
    /// is decided again, and what cancels it.
    pub unconfirmed: u64,
}

/// What an attempt wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A connection.
    Connect,
    /// To cancel what a connection is doing.
    Cancel,
}

/// What was decided.
#[derive(Debug)]
pub enum Decision {
    /// Yes, and here is the proof.
    Permitted(Permit),
    /// No, and here is the reason.
    Denied(Denial),
}

/// The proof of a yes. Only [`decide`](decide()) makes one, and it cannot be copied: whoever holds one got it from a
/// decision, and whoever consumed one must ask again.
///
/// ```
/// fn tenant_of(permit: portcullis_policy::Permit) -> portcullis_policy::TenantId {
///     permit.tenant().clone()
/// }
/// ```
/// Nobody else can build one:
/// ```compile_fail
/// fn forge(permit: portcullis_policy::Permit) -> portcullis_policy::Permit {
///     portcullis_policy::Permit { ..permit }
/// }
/// ```
/// or double one:
/// ```compile_fail
/// fn double(permit: &portcullis_policy::Permit) -> portcullis_policy::Permit {
///     permit.clone()
/// }
/// ```
/// or conjure one up:
/// ```compile_fail
/// let permit = portcullis_policy::Permit::default();
/// ```
#[derive(Debug)]
#[must_use = "a permit that is not used was decided in vain"]
pub struct Permit {
    place: Arc<EndpointView>,
    entry: u32,
    until: Until,
    revision: Revision,
}

impl Permit {
    /// The tenant whose endpoint it is.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        self.place.tenant()
    }

    /// The endpoint's id within the tenant.
    #[must_use]
    pub fn endpoint_id(&self) -> &EndpointId {
        self.place.id()
    }

    /// The endpoint's document.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        self.place.endpoint()
    }

    /// The id of the cluster that it leads to.
    #[must_use]
    pub fn cluster_id(&self) -> &ClusterId {
        self.place.cluster_id()
    }

    /// The cluster that it leads to. Keeps its identity as long as its document stays the same.
    #[must_use]
    pub fn cluster(&self) -> &Arc<Cluster> {
        self.place.cluster()
    }

    /// What the tenant may use at once.
    #[must_use]
    pub fn limits(&self) -> &TenantLimits {
        self.place.limits()
    }

    /// The revision that said yes.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// The entry by which it was permitted: of those that cover the address, the one that expires last.
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "decide looked this entry up in this very list, which nobody can change"
    )]
    pub fn entry(&self) -> EntryRef<'_> {
        let index = position(self.entry);
        let entry = &self.place.endpoint().allow[index];
        EntryRef { index, entry }
    }

    /// The moment at which this permit lapses by itself; `None` if never.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        self.until.moment()
    }

    /// What a connection made under this permit stands on, to be kept for as long as it lives.
    #[must_use]
    pub fn footing(&self) -> Footing {
        Footing {
            tenant: self.tenant().clone(),
            endpoint: self.endpoint_id().clone(),
            cluster_id: self.cluster_id().clone(),
            cluster: Arc::clone(self.cluster()),
            authentication: self.endpoint().authentication.clone(),
        }
    }

    /// Whether a connection that stands on `footing` may go on under this permit as it stands: the same endpoint of the
    /// same tenant, a cluster that still has every server it had, reached and verified in the same way, and the same
    /// proof asked of the client.
    #[must_use]
    pub fn continues(&self, footing: &Footing) -> bool {
        *self.tenant() == footing.tenant
            && *self.endpoint_id() == footing.endpoint
            && *self.cluster_id() == footing.cluster_id
            && still_leads_to(self.cluster(), &footing.cluster)
            && self.endpoint().authentication == footing.authentication
    }
}

/// A server that joined disturbs nobody; one that left may be the very one that a connection is to.
fn still_leads_to(now: &Arc<Cluster>, then: &Arc<Cluster>) -> bool {
    Arc::ptr_eq(now, then)
        || (now.tls == then.tls
            && now.via == then.via
            && then
                .backends
                .iter()
                .all(|server| now.backends.contains(server)))
}

/// What a connection stands on, whoever may reach it. Unlike a permit it does not hold its revision's allow list, which
/// may be large, and it permits nothing.
#[derive(Clone, Debug)]
pub struct Footing {
    tenant: TenantId,
    endpoint: EndpointId,
    cluster_id: ClusterId,
    cluster: Arc<Cluster>,
    authentication: Authentication,
}

/// An entry and its position in the endpoint's allow list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// Counted from 0.
    pub index: usize,
    /// The entry.
    pub entry: &'a Entry,
}

impl<'a> EntryRef<'a> {
    pub(crate) fn of(place: &'a EndpointView, entry: u32) -> Option<Self> {
        let index = position(entry);
        let entry = place.endpoint().allow.get(index)?;
        Some(Self { index, entry })
    }
}

/// `allow[3] (203.0.113.0/24 via public)`.
impl fmt::Display for EntryRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "allow[{}] ({})", self.index, self.entry)
    }
}

/// A decision with the story of how it came about.
#[derive(Debug)]
pub struct Explanation {
    /// What was decided.
    pub decision: Decision,
    /// The checks that led there.
    pub story: Story,
    /// The decision in one sentence, for the operator.
    pub verdict: String,
}

/// Decides an attempt by the very same [`decide`](decide()), and tells how.
#[must_use]
pub fn explain(view: &View, attempt: &Attempt<'_>, at: Timestamp) -> Explanation {
    let mut story = Story::new();
    let decision = decide(view, attempt, at, &mut story);
    let verdict = match &decision {
        Decision::Permitted(permit) => format!(
            "permitted: {} via {} to {}/{} by {} (revision {})",
            attempt.address,
            attempt.origin,
            permit.tenant(),
            permit.endpoint_id(),
            permit.entry(),
            permit.revision(),
        ),
        Decision::Denied(denial) => denial.for_operator(attempt),
    };
    Explanation {
        decision,
        story,
        verdict,
    }
}

/// The story, then the sentence.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.story, self.verdict)
    }
}

/// A position in a list of at most 2^32 entries.
fn position(entry: u32) -> usize {
    usize::try_from(entry).unwrap_or(usize::MAX)
}
