//! The one place where the proxy asks whether a connection may be.

use std::sync::Arc;

use portcullis_policy::{
    Attempt, Authentication, Decision, Permit, Purpose, Silent, Story, View, decide,
};

use super::front::Front;
use super::live::{Facts, Full, LiveGuard, LiveHandle};
use super::refuse::Refusal;
use super::throttle::{Party, Ticket};
use crate::runtime::clock;
use crate::runtime::limits::RELAY_OPENING_PART;

/// Decides, and registers what is let in as live.
///
/// A change that lands between the decision and the registration is not missed: whoever publishes
/// a view publishes it before looking for live connections, and here the view is looked at again
/// after registering.
pub(super) fn admit(
    front: &Front,
    facts: Facts,
    ticket: &Ticket,
) -> Result<(Permit, LiveGuard), Refusal> {
    let view = front.view();
    let permit = permit(front, &view, &facts)?;
    let reference = facts.arrival.reference;
    let tenant = permit.tenant();
    let per_second = permit.limits().new_connections_per_second_or_default();
    let party = Party::block(
        Arc::new(facts.arrival.origin.clone()),
        facts.arrival.address,
    );
    front
        .throttle
        .pace(tenant, &party, per_second, clock::instant())
        .map_err(|limit| Refusal::too_fast(limit, tenant, per_second, &reference))?;
    let most = opening_at_most(front, &permit);
    ticket
        .leads_to(tenant, most)
        .map_err(|limit| Refusal::full(&Full { limit, most }, tenant, &reference))?;
    let guard = front.live.register(facts, &permit, clock::now());
    // Asked after registering: whoever drains sets this before it ends those who are registered.
    if front.is_draining() {
        return Err(Refusal::draining(&reference));
    }
    let permit = confirm(front, permit, &guard)?;
    Ok((permit, guard))
}

/// How many of the tenant's clients may be on their way in. At a relay endpoint each of them holds
/// a connection of the database and a place among its clients, so there they are few.
fn opening_at_most(front: &Front, permit: &Permit) -> usize {
    let most = front.limits().unauthenticated_per_tenant.value;
    match permit.endpoint().authentication {
        Authentication::Relay => {
            let places = permit.limits().connections_per_endpoint_or_default() as usize;
            most.min((places / RELAY_OPENING_PART).max(1))
        }
        Authentication::Scram
        | Authentication::Certificate { .. }
        | Authentication::Token { .. } => most,
    }
}

/// The permit at the newest revision. Asked after registering and again after authentication,
/// which may have taken seconds.
pub(super) fn confirm(front: &Front, permit: Permit, guard: &LiveGuard) -> Result<Permit, Refusal> {
    let view = front.view();
    if view.revision() == permit.revision() && permit.expires().is_none() {
        return Ok(permit);
    }
    let newest = self::permit(front, &view, &guard.handle().facts)?;
    if guard.handle().continues_under(&newest) {
        // The entry, and so the moment at which it expires, may be another.
        front.live.stand(guard.handle(), &newest);
        return Ok(newest);
    }
    // Between the decision and now the name came to lead elsewhere; the next attempt will be
    // decided as a whole.
    Err(Refusal::moved(&guard.handle().facts.arrival.reference))
}

/// Decides on a cancel request; `facts` are those of `target`, the connection it speaks for, but
/// for where it comes from and the name it was sent to, which must lead to the same endpoint.
pub(super) fn admit_cancel(view: &View, facts: &Facts, target: &LiveHandle) -> Result<(), Refusal> {
    let permit = decided(view, facts, &facts.attempt(Purpose::Cancel))?;
    match target.continues_under(&permit) {
        true => Ok(()),
        false => Err(Refusal::violation(
            "other_endpoint",
            "the request was sent to another endpoint than its key's",
        )),
    }
}

fn permit(front: &Front, view: &View, facts: &Facts) -> Result<Permit, Refusal> {
    let attempt = Attempt {
        unconfirmed: front.unconfirmed(),
        ..facts.attempt(Purpose::Connect)
    };
    decided(view, facts, &attempt)
}

fn decided(view: &View, facts: &Facts, attempt: &Attempt<'_>) -> Result<Permit, Refusal> {
    let at = clock::now();
    match decide(view, attempt, at, &mut Silent) {
        Decision::Permitted(permit) => Ok(permit),
        Decision::Denied(denial) => {
            let mut story = Story::default();
            drop(decide(view, attempt, at, &mut story));
            Err(Refusal::denied(
                &denial,
                attempt,
                &facts.arrival.reference,
                story.to_string(),
            ))
        }
    }
}
