//! Every limit can be seen: by the command, by metrics.

use portcullis_tests::Version;

use super::scene::{NAME, acme, clients, orders, server};
use super::{limit, limited, started, waiting};

#[test]
fn a_limit_is_shown_with_its_value_its_use_and_where_it_is_set() {
    let tenant = acme(server(Version::V15), orders()).limits("{connections: 7}");
    let builder = limited("unauthenticated = 40, first-bytes = 1.5").tenant(&tenant);
    let gateway = started(builder.signs_in_at("acme", clients()), 1);
    let _open = gateway.dial(NAME).sign_in("app", "secret", "postgres");
    for (name, value, unit, used, set) in [
        ("node_connections", None, "count", Some(1), "machine"),
        ("unauthenticated", Some(40.0), "count", Some(0), "node.toml"),
        (
            "unauthenticated_per_tenant",
            Some(10.0),
            "count",
            Some(0),
            "node.toml",
        ),
        (
            "tenant_connections",
            Some(2000.0),
            "count",
            Some(1),
            "policy",
        ),
        ("tenant_pace", Some(500.0), "per second", None, "policy"),
        ("first_bytes", Some(1.5), "seconds", None, "node.toml"),
        ("tls", Some(5.0), "seconds", None, "built in"),
        (
            "pre_authentication",
            Some(15.0),
            "seconds",
            None,
            "built in",
        ),
        ("startup_packet", Some(10_000.0), "bytes", None, "built in"),
    ] {
        let row = limit(&gateway, name);
        assert!(value.is_none_or(|value| row["value"] == value), "{row}");
        assert_eq!(
            (&row["unit"], &row["set"]),
            (&unit.into(), &set.into()),
            "{row}"
        );
        assert_eq!(row["used"].as_u64(), used, "{row}");
        assert!(!row["bounds"].as_str().unwrap().is_empty());
    }
    let tenants = gateway.ask(&["limits"])["tenants"].clone();
    assert_eq!(
        (&tenants[0]["connections"], &tenants[0]["used"]),
        (&7.into(), &1.into())
    );
    let text = gateway.command(&["limits"]);
    let line = text
        .ok()
        .lines()
        .find(|line| line.starts_with("first_bytes "));
    assert!(line.unwrap().contains("1.5 s"), "{text}");
}

#[test]
fn metrics_show_the_same_table_and_what_was_shed() {
    let (trap, gateway) =
        super::trapped("unauthenticated-per-address = 2, unauthenticated-per-tenant = 5");
    let _held = [waiting(&gateway.dial(NAME)), waiting(&gateway.dial(NAME))];
    super::assert_shed(&gateway.dial(NAME));
    let metrics = gateway.metrics("/metrics");
    for line in [
        "portcullis_limit{limit=\"unauthenticated_per_address\"} 2",
        "portcullis_limit_used{limit=\"unauthenticated_per_address\"} 2",
        "portcullis_limit_used{limit=\"unauthenticated\"} 2",
        "portcullis_limit{limit=\"first_bytes\"} 3",
        "portcullis_shed_total{limit=\"unauthenticated_per_address\"} 1",
    ] {
        assert!(
            metrics.lines().any(|one| one == line),
            "{line} in\n{metrics}"
        );
    }
    let shown = gateway.ask(&["limits"])["limits"].as_array().unwrap().len();
    let gauges = metrics
        .lines()
        .filter(|line| line.starts_with("portcullis_limit{"));
    assert_eq!(gauges.count(), shown);
    trap.assert_untouched();
}
