//! Certificates that are revoked: what that changes, who may do it, and what it costs where nothing is.

mod common;

use common::{
    Proposed, at, attempt, check_refused, decided, endpoint, entry, name, server_name, state,
    tenant,
};
use portcullis_policy::*;

#[test]
fn a_revoked_serial_is_denied_at_its_tenants_doors_alone() {
    let mut state = state(&[asks("acme"), asks("globex")]);
    state.propose(&revoke("1f", "stolen"), at(1)).unwrap();
    let (good, bad): (Serial, Serial) = (name("20"), name("1f"));
    for (who, serial, expected) in [
        ("acme", Some(&bad), "certificate_revoked"),
        ("acme", Some(&good), "permitted"),
        ("acme", None, "permitted"),
        ("globex", Some(&bad), "permitted"),
    ] {
        assert_eq!(asked(&state, who, serial), expected, "{who} {serial:?}");
    }
    state.propose(&unrevoke("1f"), at(2)).unwrap();
    assert_eq!(asked(&state, "acme", Some(&bad)), "permitted");
}

#[test]
fn revoking_decides_live_connections_again_and_taking_back_needs_not() {
    let mut state = state(&[asks("acme"), tenant("globex")]);
    let applied = state.propose(&revoke("1f", "stolen"), at(1)).unwrap();
    assert_eq!(applied.tenants, [name::<TenantId>("acme")]);
    assert_eq!(applied.changes.len(), 1);
    assert_eq!(applied.changes[0].kind, ChangeKind::Revoked);
    assert_eq!(applied.changes[0].affected(), Affected::Everybody);
    let again = state.propose(&revoke("00:1F", "twice"), at(2)).unwrap();
    assert_eq!((again.revision, again.changes.len()), (applied.revision, 0));
    let back = state.propose(&unrevoke("1f"), at(3)).unwrap();
    assert_eq!(back.changes[0].affected(), Affected::Nobody);
}

#[test]
fn what_is_revoked_stays_when_the_document_changes_and_goes_with_the_tenant() {
    let mut state = state(&[asks("acme")]);
    state.propose(&revoke("1f", "stolen"), at(1)).unwrap();
    let mut other = asks("acme");
    other.limits.connections = Some(7);
    state
        .propose(&common::command(&[other], &[]), at(2))
        .unwrap();
    let bad: Serial = name("1f");
    assert_eq!(asked(&state, "acme", Some(&bad)), "certificate_revoked");
    state
        .propose(&common::command(&[], &["acme"]), at(3))
        .unwrap();
    state
        .propose(&common::command(&[asks("acme")], &[]), at(4))
        .unwrap();
    assert_eq!(asked(&state, "acme", Some(&bad)), "permitted");
}

#[test]
fn a_snapshot_and_a_view_that_is_told_have_what_is_revoked() {
    let mut state = state(&[asks("acme"), asks("globex")]);
    let before = state.snapshot();
    let plain = state.view();
    state.propose(&revoke("1f", "stolen"), at(1)).unwrap();
    let bytes = encode_snapshot(&state.snapshot()).unwrap();
    let restored = State::restore(decode_snapshot(&bytes).unwrap()).unwrap();
    assert_eq!((restored.root(), &restored), (state.root(), &state));
    let (told, _) = View::empty()
        .updated(&state.view().as_update(), at(2))
        .unwrap();
    assert_eq!(told.root(), state.view().root());
    assert_ne!(told.root(), plain.root());
    let json = serde_json::to_string(&state.snapshot()).unwrap();
    assert_eq!(
        serde_json::from_str::<Snapshot>(&json).unwrap(),
        state.snapshot()
    );
    // Where nothing is revoked nothing says so: older versions read it.
    assert!(!serde_json::to_string(&before).unwrap().contains("revoked"));
}

#[test]
fn what_cannot_be_revoked_is_refused_and_changes_nothing() {
    let mut state = state(&[asks("acme")]);
    let long = "x".repeat(limits::MAX_REVOKED_REASON + 1);
    for reason in ["", &long, "two\nlines"] {
        check_refused(&state, &revoke("1f", reason), "revoked_reason", "reason");
    }
    let of_nobody = Command::Unrevoke {
        tenant: name("nobody"),
        serial: name("1f"),
    };
    check_refused(&state, &of_nobody, "no_such_tenant", "nobody");
    check_refused(&state, &unrevoke("1f"), "not_revoked", "1f");
    let ended = ending("1f", Some(at(1)));
    check_refused(&state, &ended, "certificate_ended", "ended");
    for number in 1..=limits::MAX_REVOCATIONS {
        let until = (number == 1).then(|| at(10));
        let one = ending(&format!("{number:x}"), until);
        state.propose(&one, at(1)).unwrap();
    }
    check_refused(&state, &revoke("ffff", "one more"), "too_many", "revoked");
    // The first one's certificate has ended: that it was revoked is forgotten.
    state.propose(&revoke("ffff", "one more"), at(11)).unwrap();
    let view = state.view();
    let revoked = view.tenant(&name("acme")).unwrap().revoked();
    assert_eq!(revoked.len(), limits::MAX_REVOCATIONS);
    assert!(revoked.get(&name("1")).is_none());
}

fn revoke(serial: &str, reason: &str) -> Command {
    Command::Revoke {
        tenant: name("acme"),
        serial: name(serial),
        reason: String::from(reason),
        until: None,
    }
}

fn ending(serial: &str, until: Option<Timestamp>) -> Command {
    Command::Revoke {
        tenant: name("acme"),
        serial: name(serial),
        reason: String::from("lost"),
        until,
    }
}

fn unrevoke(serial: &str) -> Command {
    Command::Unrevoke {
        tenant: name("acme"),
        serial: name(serial),
    }
}

/// The tenant, whose endpoint asks for certificates.
fn asks(id: &str) -> Tenant {
    let mut document = tenant(id);
    let mut asks = endpoint(id, &["public"], vec![entry("192.0.2.0/24", "public")]);
    asks.authentication = Authentication::Certificate {
        authorities: String::from("-----BEGIN CERTIFICATE-----"),
        map: vec![CertificateRule {
            name: String::from("cn:batch"),
            role: String::from("batch"),
        }],
    };
    document.endpoints = [(name("orders"), asks)].into();
    document
}

fn asked(state: &State, id: &str, certificate: Option<&Serial>) -> &'static str {
    let (door, named) = (Origin::Public, server_name(id));
    let attempt = Attempt {
        certificate,
        ..attempt(&door, "192.0.2.1", Some(&named))
    };
    decided(&state.view(), &attempt, at(0))
}
