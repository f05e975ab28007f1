//! Every limit and time-out of this node, in one table: `portcullis limits` and the metrics both
//! read it.
//!
//! A limit that is built in is one line of `built_in`; one that may be set, or that can be seen
//! filling up, is one line here. The tidy test knows the files in which limits are named, and finds
//! one that is missing.

mod built_in;

use super::Node;
use super::types::{LimitRow, LimitsReply, TenantLimitsRow};
use crate::proxy::{Bound, Front, Limit, SetBy, Usage};
use crate::runtime::clock::Duration;
use crate::runtime::limits as node;
use portcullis_policy::limits as policy;

/// The whole table.
pub(super) fn limits(node: &Node) -> LimitsReply {
    let usage = node.front.usage();
    LimitsReply {
        node: node.name.clone(),
        limits: rows(&node.front, &usage),
        tenants: tenants(&node.front, &usage),
    }
}

/// Sets the gauges, so that what is scraped is what the command shows.
pub(super) fn measure(front: &Front) {
    for row in rows(front, &front.usage()) {
        metrics::gauge!("portcullis_limit", "limit" => row.name.clone()).set(row.value);
        if let Some(used) = row.used {
            #[expect(clippy::cast_precision_loss, reason = "a count far below 2^53")]
            let used = used as f64;
            metrics::gauge!("portcullis_limit_used", "limit" => row.name).set(used);
        }
    }
}

fn rows(front: &Front, usage: &Usage) -> Vec<LimitRow> {
    use Limit as L;
    let (limits, opening) = (front.limits(), &usage.opening);
    let deadlines = &limits.deadlines;
    let most = |tenants: &mut dyn Iterator<Item = usize>| tenants.max().unwrap_or_default();
    let of_tenant = most(&mut usage.tenants.iter().map(|(_, count)| *count as usize));
    let opening_of_tenant = most(&mut opening.tenants.iter().map(|(_, count)| *count));
    let per_second = policy::DEFAULT_NEW_CONNECTIONS_PER_SECOND;
    let shed = |limit: L| Some(front.shed(limit));
    let met = |limit: L, used: usize, set, bounds| Row {
        name: limit.name(),
        set,
        used: Some(used),
        shed: shed(limit),
        bounds,
    };
    let deadline = |limit: L, bound: &Bound<Duration>, _built_in: Duration, bounds| {
        let row = Row {
            used: None,
            ..met(limit, 0, bound.set, bounds)
        };
        row.at(time(bound.value))
    };
    let counted = |limit: L, bound: &Bound<usize>, _built_in: Option<usize>, used, bounds| {
        met(limit, used, bound.set, bounds).at(count(bound.value))
    };
    let said = |limit: L, most: u32, used: usize, bounds| {
        met(limit, used, SetBy::Policy, bounds).at(count(most as usize))
    };
    let plain = |name, amount, set, used, bounds| {
        let row = Row {
            name,
            set,
            used,
            shed: None,
            bounds,
        };
        row.at(amount)
    };
    #[rustfmt::skip]
    let mut rows = vec![
        counted(L::NodeConnections, &limits.connections, None, usage.connections, "authenticated connections of the node"),
        plain("staff_reserve", count(limits.staff_reserve), limits.connections.set, None, "of these, what customers leave free for staff"),
        counted(L::Unauthenticated, &limits.unauthenticated, Some(node::UNAUTHENTICATED_TOTAL), opening.all, "unauthenticated connections of the node"),
        counted(L::UnauthenticatedPerAddress, &limits.unauthenticated_per_address, Some(node::UNAUTHENTICATED_PER_ADDRESS), opening.largest_address, "of one IPv4 address or IPv6 /64"),
        counted(L::UnauthenticatedPerBlock, &limits.unauthenticated_per_block, Some(node::UNAUTHENTICATED_PER_BLOCK), opening.largest_block, "of one IPv4 /24 or IPv6 /48"),
        counted(L::UnauthenticatedPerTenant, &limits.unauthenticated_per_tenant, None, opening_of_tenant, "at one tenant's endpoints"),
        said(L::TenantConnections, policy::DEFAULT_TENANT_CONNECTIONS, of_tenant, "connections of a tenant"),
        said(L::EndpointConnections, policy::DEFAULT_ENDPOINT_CONNECTIONS, usage.largest_endpoint as usize, "connections of an endpoint"),
        Row { used: None, ..met(L::ArrivalPace, 0, SetBy::BuiltIn, "new connections from one block of addresses, whatever becomes of them") }.at(pace(node::ARRIVALS_PER_SECOND as u32)),
        Row { used: None, ..met(L::TenantPace, 0, SetBy::Policy, "new connections of a tenant") }.at(pace(per_second)),
        Row { used: None, ..met(L::SourcePace, 0, SetBy::Policy, "of these, from one source block") }.at(pace(per_second / node::SOURCE_PACE_PART)),
        Row { used: None, ..met(L::FailedSignIns, 0, SetBy::BuiltIn, "how long a sign-in waits after failed ones") }.at(time(node::FAILED_SIGN_INS_LINE)),
        deadline(L::ProxyHeader, &deadlines.proxy_header, node::PROXY_HEADER, "from accept to a complete PROXY header"),
        deadline(L::FirstBytes, &deadlines.first_bytes, node::FIRST_BYTES, "to the first request"),
        deadline(L::ClientHello, &deadlines.client_hello, node::CLIENT_HELLO, "from our S to the first bytes of the ClientHello"),
        deadline(L::Tls, &deadlines.tls, node::CLIENT_TLS, "the TLS handshake with a client"),
        deadline(L::Startup, &deadlines.startup, node::STARTUP, "the start-up packet"),
        deadline(L::Authentication, &deadlines.authentication, node::AUTHENTICATION, "the authentication exchange"),
        deadline(L::PreAuthentication, &deadlines.pre_authentication, node::PRE_AUTHENTICATION, "from accept to an authenticated client"),
        plain("cancels_at_once", count(node::CANCELS_AT_ONCE), SetBy::BuiltIn, Some(usage.cancels), "cancel requests being carried out"),
        plain("descriptors", count(usize::try_from(limits.machine.descriptors).unwrap_or(usize::MAX)), SetBy::Machine, None, "open files of the process (RLIMIT_NOFILE)"),
        plain("memory", bytes(usize::try_from(limits.machine.memory).unwrap_or(usize::MAX)), SetBy::Machine, None, "the machine's memory, or the control group's"),
    ];
    let built_in = built_in::ALL.iter();
    rows.extend(
        built_in.map(|(name, amount, bounds)| plain(name, *amount, SetBy::BuiltIn, None, bounds)),
    );
    rows
}

fn tenants(front: &Front, usage: &Usage) -> Vec<TenantLimitsRow> {
    let view = front.view();
    let count = |known: Option<u32>| known.unwrap_or_default();
    view.tenants()
        .filter_map(|tenant| {
            let open = usage.tenants.iter().find(|(id, _)| id == tenant.id());
            let opening = usage.opening.tenants.iter();
            let opening = opening.clone().find(|(id, _)| id == tenant.id());
            if open.is_none() && opening.is_none() {
                return None;
            }
            let limits = tenant.limits();
            Some(TenantLimitsRow {
                tenant: tenant.id().to_string(),
                connections: limits.connections_or_default(),
                connections_per_endpoint: limits.connections_per_endpoint_or_default(),
                new_connections_per_second: limits.new_connections_per_second_or_default(),
                used: count(open.map(|(_, used)| *used)),
                unauthenticated: opening.map_or(0, |(_, used)| *used),
            })
        })
        .collect()
}

/// How much, and of what.
#[derive(Debug, Clone, Copy)]
enum Amount {
    Count(usize),
    PerSecond(u32),
    Bytes(usize),
    Time(Duration),
}

const fn count(count: usize) -> Amount {
    Amount::Count(count)
}

const fn pace(per_second: u32) -> Amount {
    Amount::PerSecond(per_second)
}

const fn bytes(bytes: usize) -> Amount {
    Amount::Bytes(bytes)
}

const fn time(time: Duration) -> Amount {
    Amount::Time(time)
}

struct Row {
    name: &'static str,
    set: SetBy,
    used: Option<usize>,
    shed: Option<u64>,
    bounds: &'static str,
}

impl Row {
    fn at(self, amount: Amount) -> LimitRow {
        #[expect(
            clippy::cast_precision_loss,
            reason = "what exceeds 2^53 is as good as no limit"
        )]
        let (value, unit) = match amount {
            Amount::Count(count) => (count as f64, "count"),
            Amount::PerSecond(pace) => (f64::from(pace), "per second"),
            Amount::Bytes(bytes) => (bytes as f64, "bytes"),
            Amount::Time(time) => (time.as_secs_f64(), "seconds"),
        };
        LimitRow {
            name: self.name.to_owned(),
            value,
            unit: unit.to_owned(),
            used: self.used.map(|used| used as u64),
            shed: self.shed,
            set: match self.set {
                SetBy::BuiltIn => "built in",
                SetBy::NodeFile => "node.toml",
                SetBy::Policy => "policy",
                SetBy::Machine => "machine",
            }
            .to_owned(),
            bounds: self.bounds.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::tests::Served;

    #[tokio::test]
    async fn every_limit_that_sheds_is_in_the_table_once() {
        let served = Served::start("limits").await;
        let reply: LimitsReply = served.get("/v1/limits").await;
        let names: Vec<&str> = reply.limits.iter().map(|row| row.name.as_str()).collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), distinct.len(), "each name once");
        for limit in Limit::ALL {
            let row = reply.limits.iter().find(|row| row.name == limit.name());
            let row = row.unwrap_or_else(|| panic!("{limit:?}"));
            assert_eq!(row.shed, Some(0), "{row:?}");
            assert!(row.value > 0.0, "{row:?}");
        }
        assert!(reply.tenants.is_empty(), "nobody is connected");
    }
}
