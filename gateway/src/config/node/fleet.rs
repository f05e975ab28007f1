//! `[fleet]`: this node's place among others.

use super::Checker;
use super::raw::RawFleet;
use crate::config::file_error::quoted;
use std::net::SocketAddr;
use std::time::Duration;
use toml::Spanned;

/// A node's place in a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// What it does there.
    pub roles: NodeRoles,
    /// Where other nodes reach it, over UDP; control nodes have one, and gateways that dial out
    /// have none.
    pub listen: Option<SocketAddr>,
    /// What other nodes dial: `host:port`. Unless written, what it listens on.
    pub address: Option<String>,
    /// How long customers are served from a policy that no control node confirms.
    pub stale_limit: Duration,
}

/// What a node does. At least one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeRoles {
    /// It votes, holds the log and takes commands.
    pub control: bool,
    /// It carries customers' traffic.
    pub gateway: bool,
}

/// How long customers are served from a policy that no control node confirms, at most, in seconds.
pub const MAX_STALE_SECONDS: i64 = 24 * 60 * 60;
/// The longest `fleet.address`, in bytes: a DNS name, a colon and a port.
pub const MAX_FLEET_ADDRESS: usize = 259;

pub(super) fn check(checker: &mut Checker<'_>, written: &Spanned<RawFleet>) -> Option<Fleet> {
    let raw = written.get_ref();
    let roles = roles(checker, raw.roles.as_ref())?;
    let listen = match &raw.listen {
        Some(listen) => Some(checker.address("fleet.listen", listen)?),
        None => None,
    };
    if roles.control && listen.is_none() {
        return checker.complain(
            written.span(),
            "[fleet] has the role control and no `listen`: write the address on which other nodes reach it, like \"10.0.0.1:7443\"",
        );
    }
    let address = match &raw.address {
        Some(address) => Some(dialled(checker, address)?),
        None => listen.map(|listen| listen.to_string()),
    };
    if roles.control
        && raw.address.is_none()
        && let (Some(listen), Some(listened)) = (listen, &raw.listen)
        && listen.ip().is_unspecified()
    {
        return checker.complain(
            listened.span(),
            format!("fleet.listen {listen} is every address of this machine; write `address` too: what other nodes dial"),
        );
    }
    let stale_limit = match &raw.stale_limit {
        Some(limit) => stale_limit(checker, limit)?,
        None => Duration::from_secs(MAX_STALE_SECONDS.unsigned_abs()),
    };
    Some(Fleet {
        roles,
        listen,
        address,
        stale_limit,
    })
}

fn roles(
    checker: &mut Checker<'_>,
    written: Option<&Spanned<Vec<Spanned<String>>>>,
) -> Option<NodeRoles> {
    let Some(written) = written else {
        return Some(NodeRoles {
            control: true,
            gateway: true,
        });
    };
    let mut roles = NodeRoles {
        control: false,
        gateway: false,
    };
    for role in written.get_ref() {
        match role.get_ref().as_str() {
            "control" => roles.control = true,
            "gateway" => roles.gateway = true,
            other => {
                let message = format!(
                    "fleet.roles: {} is no role; write \"control\", \"gateway\" or both",
                    quoted(other)
                );
                return checker.complain(role.span(), message);
            }
        }
    }
    if !roles.control && !roles.gateway {
        let message = "fleet.roles is empty; write \"control\", \"gateway\" or both, or leave it out for both";
        return checker.complain(written.span(), message);
    }
    Some(roles)
}

/// `host:port`, where the host is a DNS name or an address.
fn dialled(checker: &mut Checker<'_>, written: &Spanned<String>) -> Option<String> {
    let text = written.get_ref();
    let sound = text.len() <= MAX_FLEET_ADDRESS
        && text.rsplit_once(':').is_some_and(|(host, port)| {
            let named = !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
            let numbered = host.starts_with('[') && text.parse::<SocketAddr>().is_ok();
            (named || numbered) && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
    if !sound {
        return checker.complain(
            written.span(),
            format!(
                "fleet.address {}: write what other nodes dial, like \"gw1.internal:7443\" or \"[2001:db8::1]:7443\"",
                quoted(text)
            ),
        );
    }
    Some(text.clone())
}

fn stale_limit(checker: &mut Checker<'_>, written: &Spanned<i64>) -> Option<Duration> {
    match written.get_ref() {
        seconds @ 1..=MAX_STALE_SECONDS => Some(Duration::from_secs(seconds.unsigned_abs())),
        seconds => checker.complain(
            written.span(),
            format!("fleet.stale-limit {seconds}: write 1 to {MAX_STALE_SECONDS} seconds"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{PUBLIC, parse, with};
    use super::*;

    fn fleet(lines: &str) -> Result<Fleet, String> {
        let text = format!("{}[fleet]\n{lines}\n", with("", PUBLIC));
        parse(&text)
            .map(|config| config.fleet.unwrap())
            .map_err(|mistakes| mistakes[0].to_string())
    }

    #[test]
    fn a_node_has_both_roles_unless_it_says_otherwise() {
        let both = fleet("listen = \"10.0.0.1:7443\"").unwrap();
        assert!(both.roles.control && both.roles.gateway);
        assert_eq!(both.address.as_deref(), Some("10.0.0.1:7443"));
        assert_eq!(both.stale_limit, Duration::from_secs(86_400));
        let gateway = fleet("roles = [\"gateway\"]\nstale-limit = 60").unwrap();
        assert!(!gateway.roles.control);
        assert_eq!((gateway.listen, gateway.address), (None, None));
        assert_eq!(gateway.stale_limit, Duration::from_secs(60));
    }

    #[test]
    fn a_control_node_needs_no_door_and_no_certificate() {
        let text = "name = \"n\"\ndata = \"d\"\nadmin = {socket = \"s\"}\n[fleet]\nroles = [\"control\"]\nlisten = \"10.0.0.1:7443\"\n";
        let config = parse(text).unwrap();
        assert!(config.listeners.is_empty() && config.certificates.is_empty());
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (lines, told) in [
            ("", "has the role control and no `listen`"),
            ("roles = [\"gateway\", \"voter\"]", "\"voter\" is no role"),
            ("roles = []", "fleet.roles is empty"),
            ("listen = \"n1:7443\"", "write an IP address and a port"),
            ("listen = \"0.0.0.0:7443\"", "write `address` too"),
            (
                "listen = \"10.0.0.1:7443\"\naddress = \"n1\"",
                "write what other nodes dial",
            ),
            (
                "listen = \"10.0.0.1:7443\"\naddress = \"n1:0\"",
                "write what other nodes dial",
            ),
            (
                "listen = \"10.0.0.1:7443\"\nstale-limit = 0",
                "write 1 to 86400 seconds",
            ),
            (
                "listen = \"10.0.0.1:7443\"\nstale-limit = 86401",
                "write 1 to 86400 seconds",
            ),
        ] {
            let said = fleet(lines).unwrap_err();
            assert!(said.contains(told), "{lines}: {said}");
        }
    }
}
