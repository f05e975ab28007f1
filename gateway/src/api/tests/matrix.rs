//! Who may call what: every route, asked by everybody, about a tenant of theirs, a foreign one and one
//! that does not exist, over the real API of a real node. What comes of it is checked in.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_audit::{Event, kinds};
use portcullis_certs::fleet::{
    FleetAuthority, FleetTrust, JoinRequest, OperatorIdentity, SERVER_NAME, api_client_config,
};
use portcullis_certs::generate_key;
use portcullis_policy::GuardRails;
use serde_json::{Value, json};
use tokio_rustls::rustls::ClientConfig;

use super::super::operator_types::{ChangedReply, Rails};
use super::super::routes::{Action, router};
use super::super::types::*;
use super::{Served, policy, tenant};
use crate::http::Method;
use crate::http::client::{AnswerLimits, Question, ask_tls};
use crate::http::limits::HANDSHAKE_TIME;
use crate::runtime::clock::Duration;

/// The table, beside the tests' other files.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/who-may-call.txt");

/// Who asks: a name, and the roles that the fleet gives them; none is somebody whom it does not know.
const ASKING: [(&str, &str); 6] = [
    ("olga", "fleet-operator"),
    ("paul", "policy-author"),
    ("tess", "tenant-operator"),
    ("anna", "auditor"),
    ("rita", "reader"),
    ("nemo", ""),
];

/// Their own, somebody else's, nobody's.
const TENANTS: [&str; 3] = ["acme", "globex", "nobody"];

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

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_operator_changes_allow_lists_and_nothing_else() {
    let fleet = Fleet::start("lists", GuardRails::NONE).await;
    let tess = fleet.caller("tess");
    let list = tenant("acme", &["198.51.100.0/24"]);
    let (status, said) = fleet.post(&tess, "/v1/apply", &policy(&list)).await;
    assert_eq!(status, 200, "{said}");
    let reply: ApplyReply = serde_json::from_str(&said).unwrap();
    assert!(
        reply.changed && reply.difference.left_alone.is_empty(),
        "{said}"
    );
    let applied = fleet.served.events(kinds::POLICY_APPLIED).pop().unwrap();
    assert_eq!(applied["by"], "operator tess");

    let more: BTreeMap<_, _> = list
        .iter()
        .map(|(name, text)| {
            (
                name.clone(),
                text.replace("acme-orders.db", "acme-stolen.db"),
            )
        })
        .collect();
    for (target, body) in [
        ("/v1/plan", json!(policy(&more))),
        ("/v1/apply", json!(policy(&more))),
        ("/v1/apply", json!({ "files": list, "prune": true })),
        (
            "/v1/apply",
            json!(policy(&tenant("globex", &["198.51.100.0/24"]))),
        ),
    ] {
        let (status, said) = fleet.post(&tess, target, &body).await;
        assert_eq!(status, 403, "{target}: {said}");
    }
    let (_, said) = fleet.get(&tess, "/v1/connections").await;
    assert!(!said.contains("globex"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_edit_a_tenant_the_later_one_is_told() {
    let fleet = Fleet::start("conflict", GuardRails::NONE).await;
    let paul = fleet.caller("paul");
    let (_, said) = fleet.get(&paul, "/v1/policy/acme").await;
    let seen: PolicyReply = serde_json::from_str(&said).unwrap();
    let edit = |prefix: &str| TenantRequest {
        file: tenant("acme", &[prefix]).remove("acme.yaml").unwrap(),
        expected: Some(seen.document_revision),
        request: None,
    };
    let (status, said) = fleet
        .post(&paul, "/v1/tenants/acme", &edit("192.0.2.1"))
        .await;
    assert_eq!(status, 200, "{said}");
    let (status, said) = fleet
        .post(&paul, "/v1/tenants/acme", &edit("192.0.2.2"))
        .await;
    assert_eq!(status, 412, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_twice_is_executed_once() {
    let fleet = Fleet::start("once", GuardRails::NONE).await;
    let paul = fleet.caller("paul");
    let mut request = policy(&tenant("acme", &["192.0.2.1"]));
    request.request = Some("00112233445566778899aabbccddeeff".to_owned());
    let first: ApplyReply =
        serde_json::from_str(&fleet.post(&paul, "/v1/apply", &request).await.1).unwrap();
    let (status, said) = fleet.post(&paul, "/v1/apply", &request).await;
    assert_eq!(status, 200, "{said}");
    let again: ApplyReply = serde_json::from_str(&said).unwrap();
    assert!(first.changed && !again.changed);
    assert_eq!(first.revision, again.revision);
    request.files = tenant("acme", &["192.0.2.2"]);
    let (status, said) = fleet.post(&paul, "/v1/apply", &request).await;
    assert_eq!(status, 422, "another change under the same number: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_two_people_waits_for_the_second() {
    let fleet = Fleet::start("two", GuardRails::NONE).await;
    let (olga, paul) = (fleet.caller("olga"), fleet.caller("paul"));
    let rails = Rails {
        anywhere: true,
        operators: true,
        guard_rails: true,
    };
    let (status, _) = fleet.post(&olga, "/v1/guard-rails", &rails).await;
    assert_eq!(status, 200);

    let open: BTreeMap<_, _> = tenant("acme", &["192.0.2.1"])
        .into_iter()
        .map(|(name, text)| (name, text.replace("prefix: 192.0.2.1", "prefix: anywhere")))
        .collect();
    let (_, said) = fleet.post(&paul, "/v1/plan", &policy(&open)).await;
    let plan: PlanReply = serde_json::from_str(&said).unwrap();
    assert!(plan.second_person, "{said}");
    let (_, said) = fleet.post(&paul, "/v1/apply", &policy(&open)).await;
    let reply: ApplyReply = serde_json::from_str(&said).unwrap();
    let pending = reply.pending.unwrap();
    assert!(!reply.changed);
    let approval = json!({ "id": pending.id, "digest": pending.digest });
    assert_eq!(
        fleet.post(&paul, "/v1/approve", &approval).await.0,
        403,
        "the same person"
    );
    let wrong = json!({ "id": pending.id, "digest": "00".repeat(32) });
    assert_eq!(fleet.post(&olga, "/v1/approve", &wrong).await.0, 422);
    let (_, said) = fleet.get(&olga, "/v1/pending").await;
    assert!(
        said.contains("operator paul") && said.contains(&pending.digest),
        "{said}"
    );
    let (status, said) = fleet.post(&olga, "/v1/approve", &approval).await;
    assert_eq!(status, 200, "{said}");
    let reply: ApplyReply = serde_json::from_str(&said).unwrap();
    assert!(
        reply.changed && reply.difference.altered == ["acme"],
        "{said}"
    );
    for kind in [kinds::CHANGE_WAITING, kinds::CHANGE_APPROVED] {
        assert_eq!(fleet.served.events(kind).len(), 1, "{kind}");
    }

    let key = generate_key().unwrap();
    let more = json!({ "name": "mole", "roles": ["fleet-operator"] });
    let (_, said) = fleet.post(&olga, "/v1/operators", &more).await;
    let reply: ChangedReply = serde_json::from_str(&said).unwrap();
    let id = reply.pending.unwrap().id;
    let stolen = json!({
        "name": "paul", "roles": ["policy-author"],
        "certificate_request": JoinRequest::pem_of(&key).unwrap(),
    });
    let (status, said) = fleet.post(&olga, "/v1/operators", &stolen).await;
    assert!(status == 403 && said.contains("issued_locally"), "{said}");
    assert_eq!(
        fleet
            .post(&olga, "/v1/reject", &json!({ "id": id }))
            .await
            .0,
        200
    );
    assert_eq!(fleet.served.events(kinds::CHANGE_REJECTED).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_is_removed_is_refused_at_the_next_request() {
    let fleet = Fleet::start("removed", GuardRails::NONE).await;
    let rita = fleet.caller("rita");
    assert_eq!(fleet.get(&rita, "/v1/status").await.0, 200);
    let _: ChangedReply = fleet
        .served
        .post("/v1/operators/remove", &json!({ "name": "rita" }))
        .await;
    assert_eq!(fleet.get(&rita, "/v1/status").await.0, 403);
    let removed = fleet.served.events(kinds::OPERATOR_REMOVED);
    assert!(removed.iter().any(|event| event["name"] == "rita"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_operator_of_this_fleet_is_not_spoken_to() {
    let fleet = Fleet::start("strangers", GuardRails::NONE).await;
    let here = FleetTrust::from_pem(&fleet.read("olga", "ca")).unwrap();
    let validity = portcullis_certs::Validity {
        not_before: 0,
        not_after: 4_000_000_000,
    };
    // The same fleet by name, the same operator by name, another authority.
    let other = FleetAuthority::new(here.fleet(), generate_key().unwrap(), validity).unwrap();
    let key = generate_key().unwrap();
    let request = JoinRequest::new(&key).unwrap();
    let chain = other
        .issue_operator("olga", request.key(), validity)
        .unwrap();
    let forged = OperatorIdentity::from_pem(&chain, &key.to_pem()).unwrap();
    let forged = api_client_config(&forged, &here).unwrap();
    let limits = AnswerLimits {
        bytes: 1024,
        time: Duration::from_secs(20),
    };
    let question = Question {
        method: Method::Get,
        target: "/v1/status",
        body: Vec::new(),
    };
    let address = fleet.api.to_string();
    ask_tls(&address, forged, SERVER_NAME, question, limits)
        .await
        .unwrap_err();

    // Whoever says nothing does not hold a place for ever.
    let mut silent = tokio::net::TcpStream::connect(fleet.api).await.unwrap();
    let mut byte = [0; 1];
    let read = tokio::io::AsyncReadExt::read(&mut silent, &mut byte);
    let ended = tokio::time::timeout(HANDSHAKE_TIME * 2, read).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
}

struct Fleet {
    served: Served,
    api: SocketAddr,
}

impl Fleet {
    /// A fleet of one node, with two tenants, everybody, and a story of each tenant.
    async fn start(name: &str, rails: GuardRails) -> Self {
        let (served, api) = Served::in_fleet(name, rails).await;
        for owner in &TENANTS[..2] {
            served.apply(&tenant(owner, &["203.0.113.0/24"])).await;
        }
        for (number, owner) in TENANTS[..2].iter().enumerate() {
            let mut event = Event::new(0, kinds::CONNECTION_DENIED, "gw1");
            event.reference = Some(reference(number));
            event.tenant = Some((*owner).to_owned());
            served.node.ledger.record_durable(event).await.unwrap();
        }
        let fleet = Self { served, api };
        for (name, role) in ASKING {
            let tenants = if role == "tenant-operator" {
                &TENANTS[..1]
            } else {
                &[]
            };
            fleet.enlist(name, role, tenants).await;
        }
        fleet
    }

    /// Makes an operator and keeps the certificate under the name.
    async fn enlist(&self, name: &str, role: &str, tenants: &[&str]) {
        let key = generate_key().unwrap();
        // Somebody whom the fleet forgot has a certificate all the same.
        let roles = if role.is_empty() { "reader" } else { role };
        let body = json!({
            "name": name, "roles": [roles], "tenants": tenants,
            "certificate_request": JoinRequest::pem_of(&key).unwrap(),
        });
        let reply: ChangedReply = self.served.post("/v1/operators", &body).await;
        for (kind, text) in [
            ("key", key.to_pem()),
            ("pem", reply.certificate.unwrap()),
            ("ca", reply.authority.unwrap()),
        ] {
            std::fs::write(self.served.path(&format!("{name}.{kind}")), text).unwrap();
        }
        if role.is_empty() {
            let _: ChangedReply = self
                .served
                .post("/v1/operators/remove", &json!({ "name": name }))
                .await;
        }
    }

    fn read(&self, name: &str, kind: &str) -> String {
        std::fs::read_to_string(self.served.path(&format!("{name}.{kind}"))).unwrap()
    }

    fn caller(&self, name: &str) -> Arc<ClientConfig> {
        let read = |kind| self.read(name, kind);
        let identity = OperatorIdentity::from_pem(&read("pem"), &read("key")).unwrap();
        let trust = FleetTrust::from_pem(&read("ca")).unwrap();
        api_client_config(&identity, &trust).unwrap()
    }

    async fn ask(
        &self,
        caller: &Arc<ClientConfig>,
        method: Method,
        target: &str,
        body: Vec<u8>,
    ) -> (u16, String) {
        let limits = AnswerLimits {
            bytes: 16 * 1024 * 1024,
            time: Duration::from_secs(20),
        };
        let question = Question {
            method,
            target,
            body,
        };
        let address = self.api.to_string();
        let answer = ask_tls(&address, Arc::clone(caller), SERVER_NAME, question, limits)
            .await
            .unwrap();
        (answer.status, String::from_utf8(answer.body).unwrap())
    }

    async fn get(&self, caller: &Arc<ClientConfig>, target: &str) -> (u16, String) {
        self.ask(caller, Method::Get, target, Vec::new()).await
    }

    async fn post(
        &self,
        caller: &Arc<ClientConfig>,
        target: &str,
        body: &impl serde::Serialize,
    ) -> (u16, String) {
        let body = serde_json::to_vec(body).unwrap();
        self.ask(caller, Method::Post, target, body).await
    }
}

fn reference(number: usize) -> String {
    portcullis_policy::Reference::from_bits(u64::try_from(number).unwrap() + 1).to_string()
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
        Action::Why => (captured(&reference(number)), Value::Null),
        Action::Policy => (captured(about), Value::Null),
        Action::ClusterCheck => (
            captured(""),
            json!({ "tenant": about, "cluster": "nothing" }),
        ),
        Action::Status
        | Action::Limits
        | Action::Fleet
        | Action::Operators
        | Action::Pending
        | Action::GuardRails => (captured(""), Value::Null),
        Action::Invite => (
            captured(""),
            json!({ "name": "n2", "roles": ["gateway"], "minutes": 0 }),
        ),
        Action::Remove | Action::RemoveOperator => (captured(""), json!({ "name": "nobody" })),
        Action::StepDown => (captured(""), Value::Null),
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
