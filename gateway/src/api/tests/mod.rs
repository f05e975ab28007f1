//! The admin API over a real socket, on a node whose doors are shut: what it says, what it
//! changes, what it leaves on record.

mod fleet;
mod matrix;
mod operators;
mod served;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::Who;
use super::people::author;
use super::policy::{Missing, Patience, Proposal, Wanted};
use super::types::*;
use crate::config::policy_files::PolicyFiles;
use crate::http::{Caller, Method};
use crate::runtime::clock::{self, Duration};

pub(super) use served::Served;

#[tokio::test]
async fn a_plan_says_exactly_what_an_apply_then_does() {
    let served = Served::start("plan").await;
    let files = acme(&["203.0.113.0/24", "198.51.100.7"]);
    let plan: PlanReply = served.post("/v1/plan", &policy(&files)).await;
    assert!(plan.changed);
    assert_eq!(
        (plan.revision, &*plan.difference.added),
        (0, &["acme".to_owned()][..])
    );
    assert_eq!(served.status().await.revision, 0, "a plan changes nothing");

    let applied: ApplyReply = served.post("/v1/apply", &policy(&files)).await;
    assert_eq!(
        (applied.revision, applied.nodes_in_force, applied.nodes),
        (1, 1, 1)
    );
    assert_eq!(applied.difference, plan.difference);
    assert_eq!((applied.slowest_ms, applied.evidence), (None, None));
    let status = served.status().await;
    assert_eq!(
        (status.revision, status.tenants, status.endpoints),
        (1, 1, 1)
    );

    let again: PlanReply = served.post("/v1/plan", &policy(&files)).await;
    assert!(!again.changed);
    assert_eq!(again.difference, Difference::default());
    let same: ApplyReply = served.post("/v1/apply", &policy(&files)).await;
    assert_eq!((same.revision, same.changed), (1, false));
}

#[tokio::test]
async fn the_difference_is_a_difference_of_sets_not_of_entries() {
    let served = Served::start("difference").await;
    served
        .apply(&acme(&[
            "203.0.113.0/25",
            "203.0.113.128/25",
            "198.51.100.7",
        ]))
        .await;
    let plan: PlanReply = served
        .post(
            "/v1/plan",
            &policy(&acme(&["203.0.113.0/24", "192.0.2.0/30"])),
        )
        .await;
    let door = &plan.difference.reachability[0].doors[0];
    let prefixes = |set: &Option<Addresses>| {
        set.as_ref()
            .unwrap()
            .prefixes
            .iter()
            .map(|one| one.prefix.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (&*door.door, prefixes(&door.admitted)),
        ("public", vec!["192.0.2.0/30".to_owned()])
    );
    assert_eq!(prefixes(&door.shut), ["198.51.100.7/32"]);
}

#[tokio::test]
async fn a_tenant_without_a_file_is_left_alone_unless_pruned() {
    let served = Served::start("prune").await;
    let mut both = acme(&["203.0.113.0/24"]);
    both.extend(tenant("globex", &["192.0.2.1"]));
    served.apply(&both).await;

    let only_acme = acme(&["203.0.113.0/24"]);
    let plan: PlanReply = served.post("/v1/plan", &policy(&only_acme)).await;
    assert_eq!(
        (plan.changed, &*plan.difference.left_alone),
        (false, &["globex".to_owned()][..])
    );
    served.apply(&only_acme).await;
    assert_eq!(served.status().await.tenants, 2);

    let pruned: ApplyReply = served
        .post("/v1/apply", &json!({ "files": only_acme, "prune": true }))
        .await;
    assert_eq!(pruned.difference.removed, ["globex"]);
    assert_eq!(served.status().await.tenants, 1);
}

#[tokio::test]
async fn pruning_with_an_empty_directory_is_refused() {
    let served = Served::start("empty").await;
    served.apply(&acme(&["203.0.113.0/24"])).await;
    let (status, error) = served
        .refused("/v1/apply", &json!({ "files": {}, "prune": true }))
        .await;
    assert_eq!((status, &*error.code), (422, "would_remove_everything"));
    assert_eq!(served.status().await.tenants, 1);
}

#[tokio::test]
async fn a_refused_apply_changes_nothing_and_is_on_record_with_its_author() {
    let served = Served::start("refused").await;
    served.apply(&acme(&["203.0.113.0/24"])).await;
    let files = BTreeMap::from([(
        "acme.yaml".to_owned(),
        "tenant: acme\nallow-everybody: yes\n".to_owned(),
    )]);
    let (status, error) = served.refused("/v1/apply", &policy(&files)).await;
    assert_eq!((status, &*error.code), (422, "policy_invalid"));
    assert!(
        error
            .files
            .iter()
            .any(|file| file.file == "acme.yaml" && file.line == Some(2)),
        "{error}"
    );
    assert_eq!(served.status().await.revision, 1);

    let event = served.events("policy.rejected").pop().unwrap();
    let us = author(Caller {
        uid: rustix::process::geteuid().as_raw(),
        gid: 0,
        pid: None,
    });
    assert_eq!(
        (&event["by"], &event["code"]),
        (&json!(us), &json!("policy_invalid"))
    );
}

#[tokio::test]
async fn an_applied_policy_is_on_record_with_author_revision_and_difference() {
    let served = Served::start("record").await;
    served.apply(&acme(&["203.0.113.0/24"])).await;
    let event = served.events("policy.applied").pop().unwrap();
    assert_eq!(
        (&event["revision"], &event["tenant"], &event["added"]),
        (&json!(1), &json!("acme"), &json!(["acme"]))
    );
    let door = &event["reachability"]["endpoints"][0]["doors"][0];
    assert_eq!(door["admitted"]["prefixes"][0]["prefix"], "203.0.113.0/24");
}

#[tokio::test]
async fn a_name_that_another_tenant_has_is_refused_as_a_rejection_of_the_state() {
    let served = Served::start("claimed").await;
    served.apply(&acme(&["203.0.113.0/24"])).await;
    let thief: BTreeMap<_, _> = tenant("globex", &["192.0.2.1"])
        .into_iter()
        .map(|(name, text)| (name, text.replace("globex-orders.db", "acme-orders.db")))
        .collect();
    let (status, error) = served.refused("/v1/apply", &policy(&thief)).await;
    assert_eq!((status, &*error.code), (422, "server_name_claimed"));
}

#[tokio::test]
async fn explain_decides_by_the_policy_in_force_and_names_the_rule() {
    let served = Served::start("explain").await;
    served.apply(&acme(&["203.0.113.0/24"])).await;
    let ask = |address: &str, via: &str| json!({ "tenant": "acme", "endpoint": "orders", "address": address, "via": via, "user": "app", "database": "shop" });
    let yes: ExplainReply = served
        .post("/v1/explain", &ask("203.0.113.9", "public"))
        .await;
    assert_eq!(
        (yes.permitted, &*yes.code, yes.client),
        (true, "permitted", None)
    );
    assert_eq!(
        yes.entry.as_deref(),
        Some("allow[0] (203.0.113.0/24 via public)")
    );
    let no: ExplainReply = served
        .post("/v1/explain", &ask("198.51.100.1", "public"))
        .await;
    assert_eq!((no.permitted, &*no.code), (false, "address_not_listed"));
    assert!(
        !no.client.unwrap().contains("acme"),
        "the client's voice tells nothing"
    );
    let no: ExplainReply = served
        .post("/v1/explain", &ask("203.0.113.9", "network:acme-vpc"))
        .await;
    assert_eq!(no.code, "network_mismatch");
    let (status, error) = served
        .refused("/v1/explain", &ask("203.0.113.0/24", "public"))
        .await;
    assert_eq!((status, &*error.code), (400, "malformed"));
}

#[tokio::test]
async fn reach_lists_the_smallest_set_of_prefixes() {
    let served = Served::start("reach").await;
    served
        .apply(&acme(&["203.0.113.0/25", "203.0.113.128/25"]))
        .await;
    let reach: ReachReply = served.get("/v1/reach?tenant=acme&endpoint=orders").await;
    assert_eq!(reach.doors.len(), 1);
    assert_eq!(
        (
            &*reach.doors[0].addresses.count,
            &*reach.doors[0].addresses.prefixes[0].prefix
        ),
        ("256", "203.0.113.0/24")
    );
    for (target, status) in [
        ("/v1/reach?tenant=acme&endpoint=other", 404),
        ("/v1/reach?tenant=acme", 400),
        ("/v1/reach?tenant=acme&endpoint=orders&when=now", 400),
    ] {
        assert_eq!(
            served.ask(Method::Get, target, Vec::new()).await.0,
            status,
            "{target}"
        );
    }
}

#[tokio::test]
async fn why_tells_every_event_under_a_reference_and_404_for_none() {
    let served = Served::start("why").await;
    let reference = portcullis_policy::Reference::from_bits(77);
    let mut event = portcullis_audit::Event::new(
        clock::now().as_millis(),
        portcullis_audit::kinds::CONNECTION_DENIED,
        "gw1",
    )
    .with("code", "address_not_listed");
    event.reference = Some(reference.to_string());
    served.node.ledger.record_durable(event).await.unwrap();
    let why: WhyReply = served.get(&format!("/v1/why/{reference}")).await;
    assert_eq!(
        (why.events.len(), &why.events[0]["code"]),
        (1, &json!("address_not_listed"))
    );
    let other = portcullis_policy::Reference::from_bits(78);
    assert_eq!(
        served
            .ask(Method::Get, &format!("/v1/why/{other}"), Vec::new())
            .await
            .0,
        404
    );
    assert_eq!(
        served.ask(Method::Get, "/v1/why/4711", Vec::new()).await.0,
        400
    );
}

#[tokio::test]
async fn applies_that_come_together_are_made_one_after_the_other() {
    let served = Served::start("turns").await;
    let replies: Vec<u64> = {
        let mut work = tokio::task::JoinSet::new();
        for number in 0..8 {
            let node = Arc::clone(&served.node);
            let files = PolicyFiles {
                files: acme(&[&format!("203.0.113.{number}")]),
            };
            let missing = Missing::LeftAlone;
            let proposal = Proposal {
                wanted: Wanted::Directory { files, missing },
                who: Who::local("test"),
                request: None,
                patience: Patience::Receipt,
            };
            work.spawn(async move {
                super::policy::apply(&node, proposal)
                    .await
                    .map(|reply| reply.revision)
            });
        }
        work.join_all()
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect()
    };
    let distinct: std::collections::BTreeSet<u64> = replies.iter().copied().collect();
    assert_eq!(distinct, (1..=8).collect(), "none stale, none lost");
}

#[tokio::test]
async fn an_apply_whose_caller_left_is_enforced_all_the_same() {
    let served = Served::start("left").await;
    let proposal = Proposal {
        wanted: Wanted::Directory {
            files: PolicyFiles {
                files: acme(&["203.0.113.0/24"]),
            },
            missing: Missing::LeftAlone,
        },
        who: Who::local("test"),
        request: None,
        patience: Patience::Receipt,
    };
    let mut apply = Box::pin(super::policy::apply(&served.node, proposal));
    // Polled once, so that it has begun; then dropped, as a closed connection drops it.
    assert!(
        tokio::time::timeout(Duration::ZERO, &mut apply)
            .await
            .is_err()
    );
    drop(apply);
    served.node.tasks.close();
    served.node.tasks.wait().await;
    assert_eq!(served.node.front.view().revision().get(), 1);
    assert_eq!(served.events("policy.applied").len(), 1);
}

#[tokio::test]
async fn a_directory_that_cannot_be_read_is_refused_and_on_record() {
    let served = Served::start("directory").await;
    let refusal = super::policy::apply_directory(&served.node, Path::new("/nonexistent"), "SIGHUP")
        .await
        .unwrap_err();
    assert_eq!(refusal.status(), 422);
    assert_eq!(
        served.events("policy.rejected").pop().unwrap()["by"],
        "SIGHUP"
    );
}

#[tokio::test]
async fn a_cluster_check_of_nobodys_cluster_is_told_so() {
    let served = Served::start("cluster").await;
    served.apply(&acme(&["203.0.113.0/24"])).await;
    let check = |tenant: &str, cluster: &str| json!({ "tenant": tenant, "cluster": cluster });
    assert_eq!(
        served
            .refused("/v1/cluster-check", &check("nobody", "orders"))
            .await
            .1
            .code,
        "no_such_tenant"
    );
    assert_eq!(
        served
            .refused("/v1/cluster-check", &check("acme", "other"))
            .await
            .1
            .code,
        "no_such_cluster"
    );
}

#[tokio::test]
async fn the_document_in_force_is_shown_as_it_was_applied() {
    let served = Served::start("document").await;
    served.apply(&acme(&["203.0.113.0/24"])).await;
    let reply: PolicyReply = served.get("/v1/policy/acme").await;
    assert_eq!(reply.document["id"], "acme");
    let tenant: portcullis_policy::Tenant = serde_json::from_value(reply.document).unwrap();
    assert_eq!(tenant.endpoints.len(), 1);
}

#[tokio::test]
async fn a_request_with_an_unknown_key_is_refused() {
    let served = Served::start("unknown").await;
    let body = json!({ "files": acme(&["203.0.113.0/24"]), "purge": true });
    assert_eq!(
        served.refused("/v1/apply", &body).await.1.code,
        "body_malformed"
    );
    assert_eq!(served.status().await.revision, 0);
}

fn acme(prefixes: &[&str]) -> BTreeMap<String, String> {
    tenant("acme", prefixes)
}

fn tenant(name: &str, prefixes: &[&str]) -> BTreeMap<String, String> {
    let entries: String = prefixes
        .iter()
        .map(|prefix| format!("      - {{prefix: {prefix}, origin: public, note: office, owner: ops@{name}.example}}\n"))
        .collect();
    let text = format!(
        "tenant: {name}\n\
         networks: [{name}-vpc]\n\
         clusters:\n  orders:\n    engine: postgresql\n    backends: [\"10.0.0.10:5432\"]\n    tls: unencrypted-and-unverified\n    \
         service: {{role: portcullis_service, database: postgres}}\n\
         endpoints:\n  orders:\n    cluster: orders\n    names: [{name}-orders.db.example.net]\n    authentication: scram\n    \
         doors: [public]\n    allow:\n{entries}"
    );
    BTreeMap::from([(format!("{name}.yaml"), text)])
}

fn policy(files: &BTreeMap<String, String>) -> PolicyRequest {
    PolicyRequest {
        files: files.clone(),
        prune: false,
        receipt: true,
        request: None,
    }
}
