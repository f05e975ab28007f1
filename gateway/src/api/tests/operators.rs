//! Operators at the real API of a real node: lists of their own, conflicts, two people, strangers.

use std::collections::BTreeMap;

use portcullis_audit::kinds;
use portcullis_certs::fleet::{
    FleetAuthority, FleetTrust, JoinRequest, OperatorIdentity, SERVER_NAME, api_client_config,
};
use portcullis_certs::generate_key;
use portcullis_certs::schedule::Terms;
use portcullis_policy::GuardRails;
use serde_json::json;

use super::super::operator_types::{ChangedReply, Rails};
use super::super::types::*;
use super::fleet::Fleet;
use super::{policy, tenant};
use crate::http::Method;
use crate::http::client::{AnswerLimits, Question, ask_tls};
use crate::http::limits::HANDSHAKE_TIME;
use crate::runtime::clock::{self, Duration};

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
    assert!(first.changed && first.note.is_none());
    assert!(again.note.is_some(), "{said}");
    assert_eq!(
        (first.revision, first.changed, &first.difference),
        (again.revision, again.changed, &again.difference)
    );
    let events = fleet.served.events(kinds::POLICY_APPLIED);
    let made = |repeated: bool| {
        let of = events.iter().filter(|event| {
            event["revision"] == first.revision && event["repeated"].is_null() != repeated
        });
        of.count()
    };
    assert_eq!((made(false), made(true)), (1, 1), "{events:?}");
    // One that changes nothing does so again, whoever changed something before.
    let mut idle = policy(&tenant("acme", &["192.0.2.1"]));
    idle.request = Some("ffeeddccbbaa99887766554433221100".to_owned());
    for _ in 0..2 {
        let (_, said) = fleet.post(&paul, "/v1/apply", &idle).await;
        let reply: ApplyReply = serde_json::from_str(&said).unwrap();
        assert!(!reply.changed, "{said}");
    }
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
    let now = clock::unix_seconds();
    let chain = other
        .issue_operator("olga", request.key(), Terms::OPERATOR.from(now))
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
