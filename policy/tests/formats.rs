//! Documents and commands on the wire and on disk: JSON for people and tools, postcard for the log, the same words in both.
#![expect(
    clippy::unwrap_used,
    reason = "in a test, a panic is how a helper fails"
)]

mod common;

use common::random::{cases, tenants};
use common::{Proposed, at, command, endpoint, entry, name, state, tenant};
use portcullis_policy::*;
use proptest::prelude::*;

const ACME: &str = r#"{
  "id": "acme",
  "suspended": false,
  "clusters": {
    "orders": {
      "engine": "postgresql",
      "backends": [{"host": "10.0.0.10", "port": 5432}],
      "tls": {"verified": {"server-name": "db.acme.internal", "authorities": "-----BEGIN CERTIFICATE-----"}},
      "via": {"network-namespace": "acme"},
      "service": {"role": "portcullis_service", "database": "postgres"}
    },
    "plain": {"engine": "yugabytedb", "backends": [{"host": "db", "port": 5433}], "tls": "unencrypted-and-unverified"}
  },
  "networks": ["acme-vpc"],
  "private-links": ["aws:vpce-08d2bf15fac5001c9", "azure:7"],
  "endpoints": {
    "orders": {
      "cluster": "orders",
      "names": ["acme-orders.db.example.net"],
      "suspended": false,
      "replication": "refused",
      "authentication": "scram",
      "doors": ["public", "network:acme-vpc", "private-link:azure:7"],
      "allow": [
        {"prefix": "203.0.113.0/24", "origin": "public", "except": ["203.0.113.9"], "note": "office", "owner": "ops", "expires": 1798761600000},
        {"prefix": "anywhere", "origin": "network:acme-vpc", "except": [], "note": "", "owner": ""}
      ]
    },
    "tokens": {
      "cluster": "plain",
      "names": ["acme-tokens.db.example.net"],
      "suspended": true,
      "replication": "allowed",
      "authentication": {"token": {"issuer": "i", "audience": "a", "keys": {"url": "https://i/keys"}, "claim": "sub", "map": [{"value": "v", "role": "r"}]}},
      "doors": [],
      "allow": []
    }
  },
  "limits": {"connections": 500, "connections-per-endpoint": 200, "new-connections-per-second": 50}
}"#;

#[test]
fn a_document_reads_as_it_is_written() {
    let acme: Tenant = serde_json::from_str(ACME).unwrap();
    acme.validate().unwrap();
    let orders = &acme.endpoints[&name::<EndpointId>("orders")];
    assert_eq!(orders.allow[0].addresses, name("203.0.113.0/24"));
    assert_eq!(orders.allow[1].addresses, Addresses::Anywhere);
    assert_eq!(
        acme.clusters[&name::<ClusterId>("orders")].via,
        Some(Via::NetworkNamespace(String::from("acme")))
    );
    let again: Tenant = serde_json::from_str(&serde_json::to_string(&acme).unwrap()).unwrap();
    assert_eq!(again, acme);
    let bytes = postcard::to_stdvec(&acme).unwrap();
    assert_eq!(postcard::from_bytes::<Tenant>(&bytes).unwrap(), acme);
}

/// Replaces a piece of the good document and expects it to be refused whole, with these words.
fn check_refused(from: &str, to: &str, words: &str) {
    assert!(ACME.contains(from), "{from}");
    let error = serde_json::from_str::<Tenant>(&ACME.replacen(from, to, 1))
        .unwrap_err()
        .to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn what_cannot_be_read_is_refused_whole() {
    check_refused(
        r#""owner": "ops","#,
        r#""owner": "ops", "ownr": "ops","#,
        "unknown field `ownr`",
    );
    check_refused(r#""suspended": false,"#, "", "missing field `suspended`");
    check_refused(
        r#""suspended": false,"#,
        r#""suspended": false, "suspended": false,"#,
        "duplicate field",
    );
    check_refused(
        r#""203.0.113.0/24""#,
        r#""203.0.113.0/23""#,
        "203.0.112.0/23 contains it",
    );
    check_refused(r#""203.0.113.0/24""#, r#""0.0.0.0/0""#, "anywhere");
    check_refused(r#""203.0.113.0/24""#, r#""everywhere""#, "not an address");
    check_refused(r#""203.0.113.0/24""#, "null", "invalid type: null");
    check_refused(
        r#"["203.0.113.9"]"#,
        r#"["::ffff:203.0.113.9"]"#,
        "IPv4 inside IPv6",
    );
    check_refused(
        r#""origin": "public""#,
        r#""origin": "any""#,
        "is not an origin",
    );
    check_refused(r#""scram""#, r#""trust""#, "unknown variant `trust`");
    check_refused(
        r#""unencrypted-and-unverified""#,
        r#""unencrypted""#,
        "unknown variant `unencrypted`",
    );
    check_refused(
        r#"["acme-vpc"]"#,
        r#"["acme-vpc", "acme-vpc"]"#,
        "acme-vpc is written twice",
    );
    check_refused(
        r#""tokens": {"#,
        r#""orders": {"#,
        "orders is written twice",
    );
    check_refused(
        r#""server-name": "db.acme.internal", "#,
        "",
        "missing field `server-name`",
    );
    check_refused(
        r#""server-name": "db.acme.internal", "#,
        r#""server-name": "d", "verify": false, "#,
        "unknown field `verify`",
    );
    check_refused(
        r#"{"connections": 500,"#,
        r#"{"connections": -1,"#,
        "invalid value",
    );
}

#[test]
fn a_missing_allow_list_is_not_an_empty_one_and_neither_admits() {
    check_refused(r#""allow": []"#, r#""allow": null"#, "invalid type: null");
    check_refused(
        r#""doors": [],
      "allow": []"#,
        r#""doors": []"#,
        "missing field `allow`",
    );
}

#[test]
fn what_was_applied_reads_as_words_and_prefixes() {
    let mut acme = tenant("acme");
    let allow = vec![
        entry("203.0.113.0/25", "public"),
        entry("203.0.113.128/25", "public"),
    ];
    acme.endpoints
        .insert(name("orders"), endpoint("acme-orders", &["public"], allow));
    let mut state = State::default();
    let applied = state.propose(&command(&[acme], &[]), at(7)).unwrap();
    assert_eq!(
        serde_json::to_value(&applied).unwrap(),
        serde_json::json!({
            "revision": 1,
            "at": 7,
            "tenants": ["acme"],
            "changes": [{
                "tenant": "acme",
                "endpoint": "orders",
                "kind": "added",
                "opened": {"public": ["203.0.113.0/24"]},
                "shut": {},
                "retimed": {},
            }],
            "repeated": false,
            "fleet-changed": false,
            "told": "done",
        })
    );
    // Numbers of IPv6 addresses are more than most readers of JSON can take.
    let everyone = AddressSet::everything().count();
    let text = serde_json::to_value(everyone).unwrap();
    assert_eq!(
        text,
        serde_json::json!({"v4": 4_294_967_296_u64, "v6": u128::MAX.to_string()})
    );
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn commands_and_snapshots_survive_disk_and_wire(tenants in tenants()) {
        let command = command(&tenants, &["initech"]);
        let bytes = postcard::to_stdvec(&command).unwrap();
        prop_assert_eq!(&postcard::from_bytes::<Command>(&bytes).unwrap(), &command);
        let text = serde_json::to_string(&command).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Command>(&text).unwrap(), &command);
        let snapshot = state(&tenants).snapshot();
        let bytes = postcard::to_stdvec(&snapshot).unwrap();
        prop_assert_eq!(&postcard::from_bytes::<Snapshot>(&bytes).unwrap(), &snapshot);
    }

    #[test]
    fn bytes_from_a_broken_disk_are_an_error_and_no_panic(tenants in tenants(), position in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = postcard::to_stdvec(&state(&tenants).snapshot()).unwrap();
        let position = position.index(bytes.len());
        bytes[position] ^= byte;
        if let Ok(snapshot) = postcard::from_bytes::<Snapshot>(&bytes) {
            let _ = State::restore(snapshot);
        }
    }
}
