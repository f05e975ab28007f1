//! Policy changes as text: what a plan would do, what an apply did, who can reach an endpoint.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::receipt::receipt;
use crate::api::types::{Addresses, ApplyReply, Difference, PlanReply, ReachReply, Warning};
use crate::cli::output::counted;
use crate::proxy::LiveConnection;

/// A plan: the exact difference, the warnings, the connections that would close.
pub(in crate::cli) fn plan(reply: &PlanReply) -> String {
    let mut out = String::new();
    if reply.changed {
        out.push_str(&format!(
            "compared with revision {} on {}\n\n",
            reply.revision, reply.node
        ));
    } else {
        out.push_str(&format!(
            "no difference from revision {} on {}\n",
            reply.revision, reply.node
        ));
    }
    difference(&mut out, &reply.difference);
    warnings(&mut out, &reply.warnings);
    if reply.changed {
        would_close(&mut out, &reply.closes);
    }
    if reply.second_person {
        out.push_str(
            "\nneeds a second person: an apply waits until another operator approves it\n",
        );
    }
    out
}

/// How much is told of an apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Detail {
    /// What is in force.
    Summary,
    /// And every connection that closed.
    Receipt,
}

/// What an apply did. The last line is the receipt.
pub(in crate::cli) fn applied(reply: &ApplyReply, detail: Detail) -> String {
    let mut out = String::new();
    if reply.changed {
        difference(&mut out, &reply.difference);
    }
    warnings(&mut out, &reply.warnings);
    if let Some(note) = &reply.note {
        out.push_str(&format!("note: {note}\n"));
    }
    if detail == Detail::Receipt {
        for closed in &reply.enforcement.closed {
            let told = if closed.told {
                "told why"
            } else {
                "cut in the middle of a message"
            };
            out.push_str(&format!(
                "  closed {}\n    {} after {}, {told}{}\n",
                connection(&closed.connection),
                closed.code,
                milliseconds(closed.after_ms),
                backend(&closed.backend, closed.backend_after_ms),
            ));
        }
    }
    if let Some(problem) = &reply.evidence {
        out.push_str(&format!(
            "warning: the audit event of this change could not be made durable: {problem}\n"
        ));
    }
    out.push_str(&receipt(reply));
    out
}

/// Who can reach an endpoint.
pub(in crate::cli) fn reach(reply: &ReachReply) -> String {
    let mut out = format!(
        "{}/{} at revision {}, {}\n",
        reply.tenant, reply.endpoint, reply.revision, reply.at
    );
    if reply.doors.is_empty() {
        out.push_str("  nobody\n");
    }
    for door in &reply.doors {
        out.push_str(&format!(
            "  {}: {}\n",
            door.door,
            addresses_counted(&door.addresses)
        ));
        prefixes(&mut out, ' ', &door.addresses);
    }
    out
}

pub(super) fn difference(out: &mut String, difference: &Difference) {
    let mut tenants = |names: &[String], what: &str| {
        if !names.is_empty() {
            out.push_str(&format!("{what}: {}\n", names.join(", ")));
        }
    };
    tenants(&difference.added, "new tenants");
    tenants(&difference.altered, "altered tenants");
    tenants(&difference.removed, "REMOVED tenants");
    tenants(
        &difference.left_alone,
        "left alone, their file is missing (--prune would remove them)",
    );
    let any = !(difference.added.is_empty()
        && difference.altered.is_empty()
        && difference.removed.is_empty());
    if any && difference.reachability.is_empty() {
        out.push_str("reachability: the same\n");
    }
    for endpoint in &difference.reachability {
        out.push_str(&format!(
            "\n{}/{}{}\n",
            endpoint.tenant,
            endpoint.endpoint,
            manner(&endpoint.kind)
        ));
        for door in &endpoint.doors {
            out.push_str(&format!("  {}\n", door.door));
            for (sign, addresses) in [
                ('+', &door.admitted),
                ('-', &door.shut),
                ('~', &door.retimed),
            ] {
                if let Some(addresses) = addresses {
                    prefixes(out, sign, addresses);
                }
            }
        }
    }
    if any {
        out.push('\n');
    }
}

/// What a change of an endpoint means beyond addresses.
fn manner(kind: &str) -> &'static str {
    match kind {
        "added" => " (new)",
        "removed" => " (REMOVED)",
        "redirected" => {
            " (every connection is decided again: cluster, names, authentication, replication or suspension differ)"
        }
        _ => "",
    }
}

fn prefixes(out: &mut String, sign: char, addresses: &Addresses) {
    if is_everything(addresses) {
        out.push_str(&format!("    {sign} anywhere (every address)\n"));
        return;
    }
    for prefix in addresses.prefixes.iter().take(MAX_LINES) {
        let noun = if prefix.count == "1" {
            "address"
        } else {
            "addresses"
        };
        let until = if sign == '~' {
            ", until another moment"
        } else {
            ""
        };
        out.push_str(&format!(
            "    {sign} {} ({} {noun}){until}\n",
            prefix.prefix,
            count(&prefix.count)
        ));
    }
    let hidden = addresses
        .prefixes
        .len()
        .saturating_sub(MAX_LINES)
        .saturating_add(addresses.more);
    if hidden > 0 {
        let noun = if hidden == 1 { "prefix" } else { "prefixes" };
        let all = addresses_counted(addresses);
        out.push_str(&format!(
            "    {sign} and {hidden} more {noun}, {all} in all (--json shows more)\n"
        ));
    }
}

fn is_everything(addresses: &Addresses) -> bool {
    let prefixes = addresses.prefixes.iter().map(|one| one.prefix.as_str());
    prefixes.eq(["0.0.0.0/0", "::/0"])
}

/// Prefixes printed for one door and sign; the rest is counted.
const MAX_LINES: usize = 50;

fn addresses_counted(addresses: &Addresses) -> String {
    if is_everything(addresses) {
        return "every address".to_owned();
    }
    let noun = if addresses.count == "1" {
        "address"
    } else {
        "addresses"
    };
    format!("{} {noun}", count(&addresses.count))
}

/// A decimal number of addresses; above 2^32, powers of two are written as such.
fn count(decimal: &str) -> String {
    match decimal.parse::<u128>() {
        Ok(u128::MAX) => "2^128".to_owned(),
        Ok(count) if count > 1 << 32 && count.is_power_of_two() => format!("2^{}", count.ilog2()),
        Ok(count) if count > 1 << 53 => format!("more than 2^{}", count.ilog2()),
        Ok(_) | Err(_) => decimal.to_owned(),
    }
}

fn warnings(out: &mut String, warnings: &[Warning]) {
    for warning in warnings {
        out.push_str(&format!(
            "warning: {}: {}: {}\n",
            warning.tenant, warning.at, warning.message
        ));
    }
    if !warnings.is_empty() {
        out.push('\n');
    }
}

fn would_close(out: &mut String, closes: &[LiveConnection]) {
    if closes.is_empty() {
        out.push_str("no live connection would close\n");
        return;
    }
    out.push_str(&format!(
        "{} would close:\n",
        counted(closes.len(), "live connection")
    ));
    for one in closes {
        out.push_str(&format!("  {}\n", connection(one)));
    }
}

fn connection(one: &LiveConnection) -> String {
    let from = IpAddr::from_str(&one.address).map_or_else(
        |_| one.address.clone(),
        |ip| SocketAddr::new(ip, one.port).to_string(),
    );
    format!(
        "{}  {}/{}  {}@{} from {from} by {}, {}",
        one.reference, one.tenant, one.endpoint, one.user, one.database, one.origin, one.entry
    )
}

fn backend(outcome: &str, after_ms: f64) -> String {
    match outcome {
        "none" => String::new(),
        "unconfirmed" => "; its backend was NOT seen to end".to_owned(),
        outcome => format!("; its backend {outcome} after {}", milliseconds(after_ms)),
    }
}

pub(super) fn milliseconds(ms: f64) -> String {
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{ms:.0} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{DoorDifference, EndpointDifference, Prefix};
    use crate::proxy::{ClosedConnection, Enforcement};

    #[test]
    fn a_plan_prints_each_door_with_signs_and_counts() {
        let reply = PlanReply {
            node: "gw1".to_owned(),
            revision: 811,
            changed: true,
            second_person: false,
            difference: sample_difference(),
            warnings: vec![Warning {
                tenant: "acme".to_owned(),
                at: "endpoints.orders.allow[3]".to_owned(),
                message: "is shadowed by allow[0]".to_owned(),
            }],
            closes: vec![sample_connection()],
        };
        assert_eq!(
            plan(&reply),
            "\
compared with revision 811 on gw1

altered tenants: acme
left alone, their file is missing (--prune would remove them): globex

acme/orders
  public
    + 203.0.113.0/24 (256 addresses)
    - 198.51.100.7/32 (1 address)
    ~ 192.0.2.0/28 (16 addresses), until another moment
  network:acme-vpc
    + 2001:db8::/64 (2^64 addresses)

warning: acme: endpoints.orders.allow[3]: is shadowed by allow[0]

1 live connection would close:
  PC-0123-4567-89AB  acme/orders  app@shop from 198.51.100.7:40000 by public, allow[1]
"
        );
    }

    #[test]
    fn a_plan_without_difference_says_so() {
        let reply = PlanReply {
            node: "gw1".to_owned(),
            revision: 3,
            changed: false,
            second_person: false,
            difference: Difference::default(),
            warnings: Vec::new(),
            closes: Vec::new(),
        };
        assert_eq!(plan(&reply), "no difference from revision 3 on gw1\n");
    }

    #[test]
    fn the_receipt_is_one_line() {
        let mut reply = sample_receipt();
        assert_eq!(
            receipt(&reply),
            "in force on 1/1 nodes at revision 812, 1 connection closed, slowest 38 ms"
        );
        reply.enforcement.unfinished = 2;
        assert!(receipt(&reply).contains("2 connections NOT seen closed in time"));
    }

    #[test]
    fn a_receipt_lists_what_became_of_each_connection() {
        let text = applied(&sample_receipt(), Detail::Receipt);
        assert!(
            text.contains("address_not_listed after 38 ms, told why; its backend gone after 52 ms"),
            "{text}"
        );
        assert!(text.ends_with("slowest 38 ms"));
        assert!(!applied(&sample_receipt(), Detail::Summary).contains("told why"));
    }

    #[test]
    fn a_long_list_is_cut_and_says_how_much_is_missing() {
        let prefix = Prefix {
            prefix: "192.0.2.1/32".to_owned(),
            count: "1".to_owned(),
        };
        let addresses = Addresses {
            count: "70".to_owned(),
            prefixes: vec![prefix; MAX_LINES + 3],
            more: 17,
        };
        let mut out = String::new();
        prefixes(&mut out, '+', &addresses);
        assert_eq!(out.lines().count(), MAX_LINES + 1);
        assert!(
            out.ends_with("+ and 20 more prefixes, 70 addresses in all (--json shows more)\n"),
            "{out}"
        );
    }

    fn sample_difference() -> Difference {
        let set = |prefix: &str, count: &str| {
            let prefixes = vec![Prefix {
                prefix: prefix.to_owned(),
                count: count.to_owned(),
            }];
            Some(Addresses {
                count: count.to_owned(),
                prefixes,
                more: 0,
            })
        };
        Difference {
            altered: vec!["acme".to_owned()],
            left_alone: vec!["globex".to_owned()],
            reachability: vec![EndpointDifference {
                tenant: "acme".to_owned(),
                endpoint: "orders".to_owned(),
                kind: "altered".to_owned(),
                doors: vec![
                    DoorDifference {
                        door: "public".to_owned(),
                        admitted: set("203.0.113.0/24", "256"),
                        shut: set("198.51.100.7/32", "1"),
                        retimed: set("192.0.2.0/28", "16"),
                    },
                    DoorDifference {
                        door: "network:acme-vpc".to_owned(),
                        admitted: set("2001:db8::/64", "18446744073709551616"),
                        shut: None,
                        retimed: None,
                    },
                ],
            }],
            ..Difference::default()
        }
    }

    fn sample_connection() -> LiveConnection {
        LiveConnection {
            reference: "PC-0123-4567-89AB".to_owned(),
            tenant: "acme".to_owned(),
            endpoint: "orders".to_owned(),
            origin: "public".to_owned(),
            address: "198.51.100.7".to_owned(),
            port: 40_000,
            user: "app".to_owned(),
            database: "shop".to_owned(),
            entry: "allow[1]".to_owned(),
            since_ms: 0,
            revision: 811,
            state: "open".to_owned(),
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    fn sample_receipt() -> ApplyReply {
        let closed = ClosedConnection {
            connection: sample_connection(),
            code: "address_not_listed".to_owned(),
            after_ms: 38.2,
            told: true,
            backend: "gone".to_owned(),
            backend_after_ms: 52.0,
        };
        ApplyReply {
            node: "gw1".to_owned(),
            revision: 812,
            changed: true,
            nodes_in_force: 1,
            nodes: 1,
            receipts: Vec::new(),
            difference: sample_difference(),
            warnings: Vec::new(),
            enforcement: Enforcement {
                revision: 812,
                decided_again: 3,
                closed: vec![closed],
                unfinished: 0,
            },
            slowest_ms: Some(38.2),
            pending: None,
            note: None,
            evidence: None,
        }
    }
}
