//! `[api]`: where operators command the fleet.

use super::raw::RawApi;
use super::{Checker, Fleet};
use std::net::SocketAddr;

pub(super) fn check(
    checker: &mut Checker<'_>,
    raw: &RawApi,
    fleet: Option<&Fleet>,
) -> Option<SocketAddr> {
    let address = checker.address("api.listen", &raw.listen)?;
    if fleet.is_none_or(|fleet| !fleet.roles.control) {
        return checker.complain(
            raw.listen.span(),
            "[api] needs a [fleet] with the role control: operators are known by the fleet's certificates, and control nodes take commands",
        );
    }
    Some(address)
}
