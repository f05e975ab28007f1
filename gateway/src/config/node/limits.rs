//! `[limits]`: what an operator may choose, each up to its hard maximum.
//!
//! Deadlines can only be made shorter: their maximum is what is built in.

use std::time::Duration;

use toml::Spanned;

use super::Checker;
use super::raw::RawLimits;

/// The limits that were written down. `None` is what is built in, or what the machine gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Connections of the whole node.
    pub connections: Option<usize>,
    /// Connections that are not authenticated yet, on the whole node,
    pub unauthenticated: Option<usize>,
    /// from one address,
    pub unauthenticated_per_address: Option<usize>,
    /// from one block of addresses,
    pub unauthenticated_per_block: Option<usize>,
    /// and at one tenant's endpoints.
    pub unauthenticated_per_tenant: Option<usize>,
    /// A PROXY header.
    pub proxy_header: Option<Duration>,
    /// The first bytes.
    pub first_bytes: Option<Duration>,
    /// The first bytes of a ClientHello after an SSLRequest.
    pub client_hello: Option<Duration>,
    /// A TLS handshake.
    pub tls: Option<Duration>,
    /// The start-up packet.
    pub startup: Option<Duration>,
    /// The exchange of authentication.
    pub authentication: Option<Duration>,
    /// Everything before authentication.
    pub pre_authentication: Option<Duration>,
}

/// The most connections that a node may be told to hold.
pub const MAX_NODE_CONNECTIONS: usize = 1_000_000;
const MAX_UNAUTHENTICATED: usize = 20_000;
const MAX_PER_ADDRESS: usize = 4_096;
const MAX_PER_BLOCK: usize = 16_384;
const MAX_PROXY_HEADER: f64 = 1.0;
const MAX_FIRST_BYTES: f64 = 3.0;
const MAX_CLIENT_HELLO: f64 = 3.0;
const MAX_TLS: f64 = 5.0;
const MAX_STARTUP: f64 = 5.0;
const MAX_AUTHENTICATION: f64 = 10.0;
const MAX_PRE_AUTHENTICATION: f64 = 15.0;
/// No deadline is shorter: over a slow line nobody would meet it. In seconds.
const MIN_DEADLINE: f64 = 0.1;

impl Checker<'_> {
    pub(super) fn limits(&mut self, raw: &RawLimits) -> Limits {
        Limits {
            connections: self.count("connections", &raw.connections, MAX_NODE_CONNECTIONS),
            unauthenticated: self.count(
                "unauthenticated",
                &raw.unauthenticated,
                MAX_UNAUTHENTICATED,
            ),
            unauthenticated_per_address: self.count(
                "unauthenticated-per-address",
                &raw.unauthenticated_per_address,
                MAX_PER_ADDRESS,
            ),
            unauthenticated_per_block: self.count(
                "unauthenticated-per-block",
                &raw.unauthenticated_per_block,
                MAX_PER_BLOCK,
            ),
            unauthenticated_per_tenant: self.count(
                "unauthenticated-per-tenant",
                &raw.unauthenticated_per_tenant,
                MAX_UNAUTHENTICATED,
            ),
            proxy_header: self.deadline("proxy-header", &raw.proxy_header, MAX_PROXY_HEADER),
            first_bytes: self.deadline("first-bytes", &raw.first_bytes, MAX_FIRST_BYTES),
            client_hello: self.deadline("client-hello", &raw.client_hello, MAX_CLIENT_HELLO),
            tls: self.deadline("tls", &raw.tls, MAX_TLS),
            startup: self.deadline("startup", &raw.startup, MAX_STARTUP),
            authentication: self.deadline(
                "authentication",
                &raw.authentication,
                MAX_AUTHENTICATION,
            ),
            pre_authentication: self.deadline(
                "pre-authentication",
                &raw.pre_authentication,
                MAX_PRE_AUTHENTICATION,
            ),
        }
    }

    fn count(&mut self, key: &str, written: &Option<Spanned<i64>>, most: usize) -> Option<usize> {
        let written = written.as_ref()?;
        match usize::try_from(*written.get_ref()) {
            Ok(count) if (1..=most).contains(&count) => Some(count),
            Ok(_) | Err(_) => self.complain(
                written.span(),
                format!("{key} {}: write 1 to {most}", written.get_ref()),
            ),
        }
    }

    fn deadline(
        &mut self,
        key: &str,
        written: &Option<Spanned<f64>>,
        most: f64,
    ) -> Option<Duration> {
        let written = written.as_ref()?;
        match Duration::try_from_secs_f64(*written.get_ref()) {
            Ok(time) if (MIN_DEADLINE..=most).contains(&time.as_secs_f64()) => Some(time),
            Ok(_) | Err(_) => self.complain(
                written.span(),
                format!(
                    "{key} {}: write {MIN_DEADLINE} to {most} seconds",
                    written.get_ref()
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{PUBLIC, check, parse, with};
    use super::*;

    fn limits(lines: &str) -> String {
        format!("{}[limits]\n{lines}\n", with("", PUBLIC))
    }

    #[test]
    fn every_limit_may_be_written_up_to_its_maximum() {
        let text = limits(
            "connections = 1_000_000\nunauthenticated = 20_000\nunauthenticated-per-address = 4096\nunauthenticated-per-block = 16384\nunauthenticated-per-tenant = 20000\nproxy-header = 1\nfirst-bytes = 3\nclient-hello = 3.0\ntls = 5\nstartup = 0.1\nauthentication = 10\npre-authentication = 15",
        );
        let limits = parse(&text).unwrap().limits;
        assert_eq!(limits.connections, Some(1_000_000));
        assert_eq!(limits.unauthenticated_per_block, Some(16_384));
        assert_eq!(limits.startup, Some(Duration::from_millis(100)));
        assert_eq!(limits.pre_authentication, Some(Duration::from_secs(15)));
        assert_eq!(parse(&with("", PUBLIC)).unwrap().limits, Limits::default());
    }

    #[test]
    fn one_more_than_its_maximum_and_none_at_all_are_mistakes_with_their_place() {
        for (line, column, expected) in [
            (
                "connections = 1_000_001",
                15,
                "connections 1000001: write 1 to 1000000",
            ),
            ("connections = 0", 15, "connections 0: write 1 to 1000000"),
            (
                "unauthenticated = 20001",
                19,
                "unauthenticated 20001: write 1 to 20000",
            ),
            (
                "unauthenticated-per-address = 4097",
                31,
                "unauthenticated-per-address 4097: write 1 to 4096",
            ),
            (
                "unauthenticated-per-block = -1",
                29,
                "unauthenticated-per-block -1: write 1 to 16384",
            ),
            (
                "unauthenticated-per-tenant = 20001",
                30,
                "unauthenticated-per-tenant 20001: write 1 to 20000",
            ),
            (
                "proxy-header = 1.1",
                16,
                "proxy-header 1.1: write 0.1 to 1 seconds",
            ),
            (
                "first-bytes = 4",
                15,
                "first-bytes 4: write 0.1 to 3 seconds",
            ),
            (
                "client-hello = 0",
                16,
                "client-hello 0: write 0.1 to 3 seconds",
            ),
            ("tls = 5.01", 7, "tls 5.01: write 0.1 to 5 seconds"),
            ("startup = nan", 11, "startup NaN: write 0.1 to 5 seconds"),
            (
                "authentication = -1",
                18,
                "authentication -1: write 0.1 to 10 seconds",
            ),
            (
                "pre-authentication = inf",
                22,
                "pre-authentication inf: write 0.1 to 15 seconds",
            ),
        ] {
            check(&limits(line), &format!("11:{column}: {expected}"));
        }
        let errors = parse(&limits("connection = 1")).unwrap_err();
        assert!(errors[0].message.contains("unknown field"), "{}", errors[0]);
    }
}
