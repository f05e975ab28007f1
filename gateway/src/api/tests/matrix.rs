//! Who may call what: every route, asked by everybody, about a tenant of theirs, a foreign one and one
//! that does not exist, over the real API of a real node. What comes of it is checked in.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use portcullis_audit::kinds;
use portcullis_policy::GuardRails;
use serde_json::{Value, json};

use super::super::routes::{Action, router};
use super::fleet::{ASKING, Fleet, TENANTS, reference};
use super::{policy, tenant};

/// The table, beside the tests' other files.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/who-may-call.txt");

#[tokio::test(flavor = "multi_thread")]
async fn who_may_call_what_is_as_it_is_written_down() {
    let fleet = Fleet::start("matrix", GuardRails::NONE).await;
    let mut table = format!("{:<30} {:<8}", "", "tenant");
    let mut columns = vec![("local", None)];
    for (name, role) in ASKING {
        columns.push((
            if role.is_empty() { "unknown" } else { role },
            Some(fleet.caller(name)),
        ));
    }
    for (name, _) in &columns {
        write!(table, " {name:<15}").unwrap();
    }
    table = table.trim_end().to_owned();
    table.push('\n');
    for (method, path, action) in router().paths() {
        let about = if of_a_tenant(action) {
            &TENANTS[..]
        } else {
            &TENANTS[..1]
        };
        let mut answers: BTreeMap<&str, Vec<(u16, String)>> = BTreeMap::new();
        for tenant in about {
            let shown = if about.len() > 1 { tenant } else { "-" };
            write!(table, "{:<30} {shown:<8}", format!("{method} {path}")).unwrap();
            for (column, caller) in &columns {
                let (target, body) = question(action, path, tenant);
                let (status, said) = match caller {
                    None => fleet.served.ask(method, &target, body).await,
                    Some(caller) => fleet.ask(caller, method, &target, body).await,
                };
                write!(table, " {:<15}", verdict(status, &said)).unwrap();
                answers
                    .entry(column)
                    .or_default()
                    .push((status, said.replace(tenant, "TENANT")));
            }
            table = table.trim_end().to_owned();
            table.push('\n');
        }
        if let [_, foreign, nobodys] = answers["tenant-operator"].as_slice() {
            let plain =
                |(status, said): &(u16, String)| (*status, said.replace("PC-0000-0000-000", "PC-"));
            assert_eq!(
                plain(foreign).0,
                plain(nobodys).0,
                "{method} {path} tells a foreign tenant from one that does not exist"
            );
            if !matches!(action, Action::Why) {
                assert_eq!(foreign, nobodys, "{method} {path}");
            }
        }
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata")).unwrap();
        std::fs::write(GOLDEN, &table).unwrap();
    }
    let written = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    assert_eq!(table, written, "BLESS=1 writes {GOLDEN} anew");
    let refused = fleet.served.events(kinds::ADMIN_REFUSED);
    assert!(refused.iter().any(|event| event["by"] == "operator nemo"));
    assert!(
        refused
            .iter()
            .any(|event| event["by"] == "operator rita" && event["asked"] == "Apply")
    );
}

fn of_a_tenant(action: Action) -> bool {
    matches!(
        action,
        Action::Plan
            | Action::Apply
            | Action::PutTenant
            | Action::Explain
            | Action::Reach
            | Action::Connections
            | Action::Why
            | Action::ClusterCheck
            | Action::Policy
            | Action::AuditFile
            | Action::AuditOpenings
    )
}

/// A question that changes nothing where it is permitted.
fn question(action: Action, path: &str, about: &str) -> (String, Vec<u8>) {
    let number = TENANTS.iter().position(|one| *one == about).unwrap();
    let files = || tenant(about, &["203.0.113.0/24"]);
    let captured = |text: &str| path.replace("{}", text);
    let (target, body) = match action {
        // An unknown tenant would be made, if it did not claim what is another's.
        Action::Apply if about == "nobody" => {
            let claimed = files()["nobody.yaml"].replace("nobody-orders", "acme-orders");
            (captured(""), json!({ "files": { "nobody.yaml": claimed } }))
        }
        Action::Plan | Action::Apply => (captured(""), json!(policy(&files()))),
        // Nobody has seen that revision.
        Action::PutTenant => (
            captured(about),
            json!({ "file": files()[&format!("{about}.yaml")], "expected": 999 }),
        ),
        Action::Explain => (
            captured(""),
            json!({ "tenant": about, "endpoint": "orders", "address": "192.0.2.1", "via": "public", "user": "app", "database": "shop" }),
        ),
        Action::Reach => (
            format!("{path}?tenant={about}&endpoint=orders"),
            Value::Null,
        ),
        Action::Connections => (format!("{path}?tenant={about}"), Value::Null),
        Action::AuditFile => (
            format!("{path}?path=tenants/{about}/checkpoint"),
            Value::Null,
        ),
        Action::AuditOpenings => (format!("{path}?log=tenants/{about}&entry=0"), Value::Null),
        Action::Why => (captured(&reference(number)), Value::Null),
        Action::Policy => (captured(about), Value::Null),
        Action::ClusterCheck => (
            captured(""),
            json!({ "tenant": about, "cluster": "nothing" }),
        ),
        Action::Status
        | Action::Limits
        | Action::Fleet
        | Action::AuditTrust
        | Action::AuditLogs
        | Action::Operators
        | Action::Pending
        | Action::GuardRails
        | Action::Certificates
        | Action::Keeping => (captured(""), Value::Null),
        Action::Invite => (
            captured(""),
            json!({ "name": "n2", "roles": ["gateway"], "minutes": 0 }),
        ),
        Action::Remove | Action::RemoveOperator => (captured(""), json!({ "name": "nobody" })),
        Action::StepDown | Action::Backup => (captured(""), Value::Null),
        Action::PutOperator => (captured(""), json!({ "name": "new", "roles": ["emperor"] })),
        Action::Approve => (
            captured(""),
            json!({ "id": 999, "digest": "00".repeat(32) }),
        ),
        Action::Reject => (captured(""), json!({ "id": 999 })),
        Action::SetGuardRails => (
            captured(""),
            json!({ "anywhere": false, "operators": false, "guard_rails": false }),
        ),
        Action::RotateAuthority => (captured(""), json!({ "roll_back": true })),
        Action::Revocations => (format!("{path}?tenant={about}"), Value::Null),
        Action::Revoke => (
            captured(""),
            json!({ "tenant": about, "serial": "xyz", "wanted": "take-back" }),
        ),
        Action::SetKeeping => (captured(""), json!({ "entries": null, "personal": null })),
    };
    let body = if body.is_null() {
        Vec::new()
    } else {
        serde_json::to_vec(&body).unwrap()
    };
    (target, body)
}

/// `yes`, or the status that says no; what else a permitted question met does not matter here.
fn verdict(status: u16, said: &str) -> String {
    match status {
        200 => "yes".to_owned(),
        403 => "no".to_owned(),
        404 if said.contains("no_such_path") => "PATH?".to_owned(),
        404 => "nothing there".to_owned(),
        _ => format!("yes ({status})"),
    }
}
