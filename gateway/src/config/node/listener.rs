//! Where clients come in, and what a connection that arrives there is taken to be.

use super::raw::RawListener;
use super::{Checker, MAX_LISTENERS};
use crate::config::file_error::{FileError, quoted};
use portcullis_policy::limits::{MAX_INTERFACE, MAX_NETWORK_NAMESPACE};
use portcullis_policy::{Cloud, Origin, Prefix, Via};
use std::net::SocketAddr;
use std::ops::Range;
use toml::Spanned;

/// One listening address and the door it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// The network namespace or interface in which the address stands; none means our own.
    pub via: Option<Via>,
    /// How a connection that arrives here is taken to have come.
    pub door: ListenerDoor,
}

/// How the origin and the address of a client are established on a listener.
///
/// A listener is one door: an address alone never decides how somebody came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerDoor {
    /// Clients connect themselves: the origin is the listener's, the address the socket's.
    Direct(Origin),
    /// Behind a load balancer that writes PROXY v2: the origin is the listener's, the address is
    /// the header's. A peer outside `trusted` is dropped before its header is read.
    Balanced {
        /// Public or a network.
        origin: Origin,
        /// The load balancer's addresses; never empty.
        trusted: Vec<Prefix>,
    },
    /// Behind the load balancer of private links: the PROXY v2 header carries the link's typed id
    /// as this cloud writes it. A peer outside `trusted` is dropped before its header is read.
    PrivateLinks {
        /// Whose typed id is believed.
        cloud: Cloud,
        /// The load balancer's addresses; never empty.
        trusted: Vec<Prefix>,
    },
}

impl Listener {
    /// The network namespace in which the address stands, unless it is our own.
    pub(super) fn namespace(&self) -> Option<&str> {
        match &self.via {
            Some(Via::NetworkNamespace(name)) => Some(name),
            Some(Via::Interface(_)) | None => None,
        }
    }
}

/// The most prefixes of load balancers that one listener trusts.
const MAX_TRUSTED: usize = 256;

/// Checks all listeners, one by one and against each other.
pub(super) fn check(
    checker: &mut Checker<'_>,
    written: &[Spanned<RawListener>],
    has_dialer: bool,
) -> Vec<Listener> {
    if written.is_empty() {
        let message =
            "no [[listener]]: nobody could connect; write one with `address` and `origin`";
        let error = FileError::whole(checker.source.name, message);
        checker.errors.push(error);
    }
    if let Some(excess) = written.get(MAX_LISTENERS) {
        let message = format!("more than {MAX_LISTENERS} listeners");
        checker.complain::<()>(excess.span(), message);
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for raw in written {
        let Some(listener) = checker.listener(raw, has_dialer) else {
            continue;
        };
        let same = |other: &&Listener| {
            listener.address.port() != 0
                && other.address == listener.address
                && other.via == listener.via
        };
        if listeners.iter().find(same).is_some() {
            let message = format!(
                "address {} is already another listener's; a listener is one door",
                listener.address
            );
            checker.complain::<()>(raw.get_ref().address.span(), message);
        }
        listeners.push(listener);
    }
    listeners
}

impl Checker<'_> {
    fn listener(&mut self, raw: &Spanned<RawListener>, has_dialer: bool) -> Option<Listener> {
        let whole = raw.span();
        let raw = raw.get_ref();
        let address = self.address("address", &raw.address);
        let via = self.via(raw, has_dialer);
        let door = self.door(raw, whole);
        let (address, via, door) = (address?, via?, door?);
        let network = match &door {
            ListenerDoor::Direct(Origin::Network(network)) => Some(network),
            ListenerDoor::Direct(Origin::Public | Origin::PrivateLink(_))
            | ListenerDoor::Balanced { .. }
            | ListenerDoor::PrivateLinks { .. } => None,
        };
        if let Some(network) = network
            && via.is_none()
            && address.ip().is_unspecified()
        {
            return self.complain(
                raw.address.span(),
                format!(
                    "address {address}: whoever reaches any address of this machine would count as coming from network {network}; write the address that stands in that network, or `network-namespace` or `interface`"
                ),
            );
        }
        Some(Listener { address, via, door })
    }

    /// `Some(None)` is our own namespace; `None` a mistake.
    #[expect(
        clippy::option_option,
        reason = "the outer layer is the checker's: a mistake was recorded"
    )]
    fn via(&mut self, raw: &RawListener, has_dialer: bool) -> Option<Option<Via>> {
        let (at, via) = match (&raw.network_namespace, &raw.interface) {
            (None, None) => return Some(None),
            (Some(_), Some(interface)) => {
                return self.complain(
                    interface.span(),
                    "write either `network-namespace` or `interface`, not both",
                );
            }
            (Some(name), None) => {
                let text = name.get_ref();
                let fits = !text.is_empty()
                    && text.len() <= MAX_NETWORK_NAMESPACE
                    && text != "."
                    && text != ".."
                    && !text.contains(['/', '\0']);
                if !fits {
                    return self.complain(
                        name.span(),
                        format!(
                            "network-namespace {}: write its name as `ip netns list` shows it",
                            quoted(text)
                        ),
                    );
                }
                (name.span(), Via::NetworkNamespace(text.clone()))
            }
            (None, Some(name)) => {
                let text = name.get_ref();
                let fits = !text.is_empty()
                    && text.len() <= MAX_INTERFACE
                    && text != "."
                    && text != ".."
                    && !text.contains(['/', ':', '\0'])
                    && !text.contains(char::is_whitespace);
                if !fits {
                    return self.complain(
                        name.span(),
                        format!(
                            "interface {}: write its name as `ip link` shows it",
                            quoted(text)
                        ),
                    );
                }
                (name.span(), Via::Interface(text.clone()))
            }
        };
        if !has_dialer {
            return self.complain(
                at,
                "a listener elsewhere needs the privileged dialer; write [dialer] with `socket`",
            );
        }
        Some(Some(via))
    }

    fn door(&mut self, raw: &RawListener, whole: Range<usize>) -> Option<ListenerDoor> {
        let text = raw.origin.get_ref().as_str();
        let proxied = raw
            .proxy_protocol
            .as_ref()
            .is_some_and(|flag| *flag.get_ref());
        let trusted = self.trusted(raw)?;
        if text == "private-links" {
            return self.private_links(raw, trusted, whole);
        }
        if let Some(cloud) = &raw.cloud {
            return self.complain(
                cloud.span(),
                "`cloud` belongs to origin \"private-links\" only",
            );
        }
        let origin = match text.parse::<Origin>() {
            Ok(origin @ (Origin::Public | Origin::Network(_))) => origin,
            Ok(Origin::PrivateLink(_)) | Err(_) => {
                return self.complain(
                    raw.origin.span(),
                    format!(
                        "origin {}: write \"public\", \"network:ID\" or \"private-links\"",
                        quoted(text)
                    ),
                );
            }
        };
        match (proxied, trusted) {
            (false, None) => Some(ListenerDoor::Direct(origin)),
            (true, Some(trusted)) => Some(ListenerDoor::Balanced { origin, trusted }),
            (true, None) => self.complain(
                raw.proxy_protocol.as_ref().map_or(whole, Spanned::span),
                "proxy-protocol needs `trusted`: the addresses of the load balancers whose header is believed",
            ),
            (false, Some(_)) => self.complain(
                raw.trusted.as_ref().map_or(whole, Spanned::span),
                "`trusted` has no meaning without `proxy-protocol = true`",
            ),
        }
    }

    fn private_links(
        &mut self,
        raw: &RawListener,
        trusted: Option<Vec<Prefix>>,
        whole: Range<usize>,
    ) -> Option<ListenerDoor> {
        if let Some(flag) = &raw.proxy_protocol
            && !flag.get_ref()
        {
            return self.complain(
                flag.span(),
                "private links are told apart by their PROXY v2 header; leave `proxy-protocol` out",
            );
        }
        let cloud = match raw
            .cloud
            .as_ref()
            .map(|cloud| (cloud, cloud.get_ref().as_str()))
        {
            Some((_, "aws")) => Cloud::Aws,
            Some((_, "azure")) => Cloud::Azure,
            Some((_, "gcp")) => Cloud::Gcp,
            Some((cloud, other)) => {
                return self.complain(
                    cloud.span(),
                    format!(
                        "cloud {}: write \"aws\", \"azure\" or \"gcp\"",
                        quoted(other)
                    ),
                );
            }
            None => {
                return self.complain(
                    raw.origin.span(),
                    "private-links needs `cloud`: \"aws\", \"azure\" or \"gcp\"",
                );
            }
        };
        match trusted {
            Some(trusted) => Some(ListenerDoor::PrivateLinks { cloud, trusted }),
            None => self.complain(
                if whole.is_empty() { raw.origin.span() } else { whole },
                "private-links needs `trusted`: the addresses of the load balancer whose header is believed",
            ),
        }
    }

    /// `Some(None)` is not written; `None` a mistake.
    #[expect(
        clippy::option_option,
        reason = "the outer layer is the checker's: a mistake was recorded"
    )]
    fn trusted(&mut self, raw: &RawListener) -> Option<Option<Vec<Prefix>>> {
        let Some(written) = &raw.trusted else {
            return Some(None);
        };
        if written.get_ref().is_empty() {
            return self.complain(
                written.span(),
                "trusted is empty: every connection would be dropped; write the load balancers' addresses",
            );
        }
        if let Some(excess) = written.get_ref().get(MAX_TRUSTED) {
            return self.complain(
                excess.span(),
                format!("more than {MAX_TRUSTED} trusted prefixes"),
            );
        }
        let mut prefixes = Vec::new();
        let before = self.errors.len();
        for prefix in written.get_ref() {
            match Prefix::parse(prefix.get_ref()) {
                Ok(parsed) => prefixes.push(parsed),
                Err(error) => {
                    let message = format!("trusted: {error}");
                    self.complain::<()>(prefix.span(), message);
                }
            }
        }
        (self.errors.len() == before).then_some(Some(prefixes))
    }
}
