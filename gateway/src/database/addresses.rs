//! Which addresses a backend's name may lead to, decided each time it is used.
//!
//! A name is checked when it is resolved for this very connection and the connection goes to the
//! address that was checked: a name that later points at a metadata service or at the gateway's
//! own loopback (DNS rebinding) leads nowhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use portcullis_policy::Backend;
use tokio::sync::Semaphore;

use super::upstream_error::{Forbidden, Problem};

/// A name is resolved within this time.
pub(super) const RESOLVE_LIMIT: Duration = Duration::from_secs(5);
/// So many names are resolved at once; a resolver that hangs holds threads, not the gateway.
const MAX_RESOLVING: usize = 32;
/// Addresses of one name that are looked at.
const MAX_ADDRESSES: usize = 16;

/// Finds where backends are.
#[derive(Debug)]
pub(super) struct Resolver {
    turns: Arc<Semaphore>,
}

impl Resolver {
    pub(super) fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(MAX_RESOLVING)),
        }
    }

    /// The addresses of `backend` that may be connected to, in the resolver's order; at least one.
    pub(super) async fn addresses(&self, backend: &Backend) -> Result<Vec<SocketAddr>, Problem> {
        if let Some(literal) = literal(&backend.host) {
            let address = SocketAddr::new(literal, backend.port);
            return match forbidden(literal, Spelling::Literal) {
                None => Ok(vec![address]),
                Some(why) => Err(Problem::Forbidden { address, why }),
            };
        }
        let found = tokio::time::timeout(RESOLVE_LIMIT, self.look_up(backend))
            .await
            .map_err(|_| Problem::ResolveTimeout)??;
        permitted(found)
    }

    async fn look_up(&self, backend: &Backend) -> Result<Vec<SocketAddr>, Problem> {
        let turn = Arc::clone(&self.turns)
            .acquire_owned()
            .await
            .map_err(|_| Problem::ResolveTimeout)?;
        let name = (backend.host.clone(), backend.port);
        tokio::task::spawn_blocking(move || {
            // Held until the resolver really lets go, not until somebody stops waiting for it.
            let _turn = turn;
            name.to_socket_addrs()
                .map(|found| found.take(MAX_ADDRESSES).collect())
        })
        .await
        .map_err(|e| Problem::Resolve(std::io::Error::other(e)))?
        .map_err(Problem::Resolve)
    }
}

/// Leaves out what a name may not lead to; if nothing is left, the first such address is the
/// story.
fn permitted(found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Problem> {
    let mut usable = Vec::new();
    let mut refused = None;
    for address in found {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        match forbidden(address.ip(), Spelling::Resolved) {
            None if !usable.contains(&address) => usable.push(address),
            None => {}
            Some(why) => {
                refused.get_or_insert(Problem::Rebound { address, why });
            }
        }
    }
    match (usable.is_empty(), refused) {
        (false, _) => Ok(usable),
        (true, Some(problem)) => Err(problem),
        (true, None) => Err(Problem::NoAddress),
    }
}

/// How an address came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// The policy spells it out.
    Literal,
    /// A resolver said so.
    Resolved,
}

/// An address written out in policy, brackets around IPv6 allowed.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Why nothing may be connected to at `ip`, if so. Loopback alone may be had by spelling it out.
pub(super) fn forbidden(ip: IpAddr, spelling: Spelling) -> Option<Forbidden> {
    let ip = match ip.to_canonical() {
        IpAddr::V6(v6) => translated(v6).map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 @ IpAddr::V4(_) => v4,
    };
    if METADATA.contains(&ip) {
        return Some(Forbidden::Metadata);
    }
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if link_local {
        return Some(Forbidden::LinkLocal);
    }
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Some(Forbidden::NotAHost);
    }
    match spelling {
        Spelling::Resolved if ip.is_loopback() => Some(Forbidden::Loopback),
        Spelling::Resolved | Spelling::Literal => None,
    }
}

/// The IPv4 address inside one of the prefixes by which a translator carries it: NAT64
/// (RFC 6052 §2.1), 6to4 (RFC 3056 §2), IPv4-compatible (RFC 4291 §2.5.5.1). Through them the
/// forbidden IPv4 addresses would be reached by another name.
fn translated(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let joined = |high: u16, low: u16| {
        let ([p, q], [r, s]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(p, q, r, s)
    };
    match (a, b, c, d, e, f) {
        (0x0064, 0xff9b, 0, 0, 0, 0) => Some(joined(g, h)),
        (0x2002, high, low, _, _, _) => Some(joined(high, low)),
        // ::1 and :: are themselves, not carriers of 0.0.0.1 and 0.0.0.0.
        (0, 0, 0, 0, 0, 0) if g != 0 => Some(joined(g, h)),
        _ => None,
    }
}

/// Metadata and host-agent services of the clouds that are not link-local.
const METADATA: [IpAddr; 3] = [
    // AWS instance metadata over IPv6
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    // Azure's host agent (WireServer)
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba Cloud instance metadata
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 5432)
    }

    #[test]
    fn what_a_name_may_and_may_not_lead_to() {
        for (ip, literal, resolved) in [
            ("10.0.0.5", None, None),
            ("203.0.113.7", None, None),
            ("fd00::5", None, None),
            ("127.0.0.1", None, Some(Forbidden::Loopback)),
            ("127.9.9.9", None, Some(Forbidden::Loopback)),
            ("::1", None, Some(Forbidden::Loopback)),
            ("::ffff:127.0.0.1", None, Some(Forbidden::Loopback)),
            ("64:ff9b::7f00:1", None, Some(Forbidden::Loopback)),
            (
                "169.254.169.254",
                Some(Forbidden::LinkLocal),
                Some(Forbidden::LinkLocal),
            ),
            (
                "::ffff:169.254.169.254",
                Some(Forbidden::LinkLocal),
                Some(Forbidden::LinkLocal),
            ),
            (
                "64:ff9b::a9fe:a9fe",
                Some(Forbidden::LinkLocal),
                Some(Forbidden::LinkLocal),
            ),
            (
                "2002:a9fe:a9fe::1",
                Some(Forbidden::LinkLocal),
                Some(Forbidden::LinkLocal),
            ),
            (
                "::169.254.169.254",
                Some(Forbidden::LinkLocal),
                Some(Forbidden::LinkLocal),
            ),
            (
                "fe80::1",
                Some(Forbidden::LinkLocal),
                Some(Forbidden::LinkLocal),
            ),
            (
                "fd00:ec2::254",
                Some(Forbidden::Metadata),
                Some(Forbidden::Metadata),
            ),
            (
                "168.63.129.16",
                Some(Forbidden::Metadata),
                Some(Forbidden::Metadata),
            ),
            (
                "0.0.0.0",
                Some(Forbidden::NotAHost),
                Some(Forbidden::NotAHost),
            ),
            ("::", Some(Forbidden::NotAHost), Some(Forbidden::NotAHost)),
            (
                "224.0.0.1",
                Some(Forbidden::NotAHost),
                Some(Forbidden::NotAHost),
            ),
            (
                "255.255.255.255",
                Some(Forbidden::NotAHost),
                Some(Forbidden::NotAHost),
            ),
        ] {
            let parsed = ip.parse().unwrap();
            assert_eq!(
                forbidden(parsed, Spelling::Literal),
                literal,
                "{ip} literal"
            );
            assert_eq!(
                forbidden(parsed, Spelling::Resolved),
                resolved,
                "{ip} resolved"
            );
        }
    }

    #[test]
    fn a_name_with_one_good_address_leads_there_and_nowhere_else() {
        let found = vec![at("169.254.169.254"), at("10.0.0.5"), at("::ffff:10.0.0.5")];
        assert_eq!(permitted(found).unwrap(), vec![at("10.0.0.5")]);
    }

    #[test]
    fn a_name_that_only_leads_to_loopback_is_called_rebound() {
        let problem = permitted(vec![at("127.0.0.1")]).unwrap_err();
        assert_eq!(problem.reason(), "rebind");
        assert_eq!(permitted(vec![]).unwrap_err().reason(), "no_address");
    }

    #[tokio::test]
    async fn localhost_is_a_name_and_127_0_0_1_is_not() {
        let resolver = Resolver::new();
        let backend = |host: &str| Backend {
            host: host.into(),
            port: 1,
        };
        let problem = resolver.addresses(&backend("localhost")).await.unwrap_err();
        assert_eq!(problem.reason(), "rebind");
        assert!(resolver.addresses(&backend("127.0.0.1")).await.is_ok());
        assert!(resolver.addresses(&backend("[::1]")).await.is_ok());
    }
}
