//! What the gateway learns of roles, and how often it asks.

use std::sync::Arc;

use portcullis::database::service::Target;
use portcullis::database::verifiers::{LookupError, RoleSecret, Verifiers};
use portcullis::runtime::clock;
use portcullis_policy::Timestamp;

use crate::postgres::{Functions, PASSWORD, Postgres};

#[tokio::test]
async fn a_role_is_told_by_its_own_verifier_and_facts() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    postgres.sql(&format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"));
    let verifiers = Verifiers::new(postgres.services());
    let secret = look(&verifiers, &postgres.target(), "app").await.unwrap();
    let stored = postgres.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'");
    assert!(stored.starts_with("SCRAM-SHA-256$4096:"));
    assert_eq!(secret.usable(clock::now()), Ok(stored.as_str()));
    assert_eq!((secret.can_login, secret.valid_until), (true, None));
}

#[tokio::test]
async fn every_kind_of_role_that_may_not_sign_in_is_told_apart() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    postgres.sql(
        "CREATE ROLE super LOGIN SUPERUSER PASSWORD 'p'; \
         CREATE ROLE copier LOGIN REPLICATION PASSWORD 'p'; \
         CREATE ROLE copier_allowed LOGIN REPLICATION PASSWORD 'p' \
             IN ROLE portcullis_replication; \
         CREATE ROLE grouping NOLOGIN PASSWORD 'p'; \
         CREATE ROLE bare LOGIN; \
         CREATE ROLE past LOGIN PASSWORD 'p' VALID UNTIL '2020-01-01 00:00:00.5+00'; \
         CREATE ROLE never LOGIN PASSWORD 'p' VALID UNTIL '-infinity'; \
         CREATE ROLE always LOGIN PASSWORD 'p' VALID UNTIL 'infinity'; \
         CREATE ROLE future LOGIN PASSWORD 'p' VALID UNTIL '2999-01-01'; \
         SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'p'",
    );
    let verifiers = Verifiers::new(postgres.services());
    let target = postgres.target();
    for (role, expected) in [
        ("super", "role_is_superuser"),
        ("postgres", "role_is_superuser"),
        ("copier", "role_may_replicate"),
        ("copier_allowed", "usable"),
        ("grouping", "role_cannot_log_in"),
        ("bare", "role_has_no_password"),
        ("past", "role_expired"),
        ("never", "role_expired"),
        ("always", "usable"),
        ("future", "usable"),
        ("old", "role_password_not_scram"),
        ("portcullis_service", "role_is_reserved"),
        ("pg_monitor", "role_is_reserved"),
        ("nobody", "unknown"),
        ("", "unknown"),
        ("APP", "unknown"),
        ("app'; DROP ROLE app; --", "unknown"),
    ] {
        let found = match look(&verifiers, &target, role).await {
            None => "unknown",
            Some(secret) => match secret.usable(clock::now()) {
                Ok(_) => "usable",
                Err(why) => {
                    assert!(
                        secret.verifier().is_none() || expected == "role_expired",
                        "{role}"
                    );
                    why.reason()
                }
            },
        };
        assert_eq!(found, expected, "{role:?}");
    }
    let past = look(&verifiers, &target, "past").await.unwrap();
    assert_eq!(
        past.valid_until,
        Some(Timestamp::from_millis(1_577_836_800_500))
    );
}

#[tokio::test]
async fn a_name_too_long_for_a_role_is_not_cut_to_another_roles() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    let longest = "a".repeat(63);
    postgres.sql(&format!("CREATE ROLE {longest} LOGIN PASSWORD 'p'"));
    let verifiers = Verifiers::new(postgres.services());
    assert!(
        look(&verifiers, &postgres.target(), &longest)
            .await
            .is_some()
    );
    assert!(
        look(&verifiers, &postgres.target(), &"a".repeat(64))
            .await
            .is_none()
    );
    let asked = format!(
        "SELECT count(*) FROM portcullis.role_secret('{}')",
        "a".repeat(64)
    );
    assert_eq!(postgres.sql(&asked), "0");
}

#[tokio::test]
async fn a_storm_of_sign_ins_asks_once_and_a_forgotten_role_is_asked_for_again() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    postgres.sql(&format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"));
    let services = postgres.services();
    let verifiers = Arc::new(Verifiers::new(Arc::clone(&services)));
    let target = postgres.target();
    let mut storm = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let (verifiers, target) = (Arc::clone(&verifiers), target.clone());
        storm.spawn(async move { look(&verifiers, &target, "app").await.is_some() });
    }
    while let Some(found) = storm.join_next().await {
        assert!(found.unwrap());
    }
    // A role that is not there is remembered too.
    for _ in 0..10 {
        assert!(look(&verifiers, &target, "nobody").await.is_none());
    }
    let before = look(&verifiers, &target, "app").await.unwrap();
    postgres.sql("ALTER ROLE app PASSWORD 'another'");
    let still = look(&verifiers, &target, "app").await.unwrap();
    assert_eq!(still.verifier(), before.verifier());
    verifiers.forget(&target.tenant, &target.id, "app");
    let after = look(&verifiers, &target, "app").await.unwrap();
    assert_ne!(after.verifier(), before.verifier());
    let stored = postgres.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'");
    assert_eq!(after.verifier(), Some(stored.as_str()));

    // Statistics are written when a session ends.
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'portcullis_service'";
    assert_eq!(postgres.sql(sessions), "1");
    services.close().await;
    let calls = "SELECT calls FROM pg_stat_user_functions WHERE funcname = 'role_secret'";
    let until = clock::instant() + std::time::Duration::from_secs(5);
    while postgres.sql(calls) != "3" && clock::instant() < until {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(postgres.sql(calls), "3");
}

#[tokio::test]
async fn a_service_connection_that_died_is_replaced_without_anybody_noticing() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    postgres.sql(&format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"));
    let verifiers = Verifiers::new(postgres.services());
    let target = postgres.target();
    for _ in 0..3 {
        assert!(look(&verifiers, &target, "app").await.is_some());
        postgres.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE usename = 'portcullis_service'",
        );
        verifiers.forget(&target.tenant, &target.id, "app");
    }
}

#[tokio::test]
async fn a_cluster_that_changed_is_asked_anew() {
    let (Some(first), Some(second)) = (
        Postgres::start(Functions::Installed),
        Postgres::start(Functions::Installed),
    ) else {
        return;
    };
    first.sql("CREATE ROLE app LOGIN PASSWORD 'first'");
    second.sql("CREATE ROLE app LOGIN PASSWORD 'first'");
    let verifiers = Verifiers::new(first.services());
    let before = look(&verifiers, &first.target(), "app").await.unwrap();
    // The same name in the policy, but another server now: of another authority, so that our
    // certificate is refused there. What the first server said is not used for it.
    let asked = verifiers
        .lookup(
            &first.target().tenant,
            &first.target().id,
            &second.target().cluster,
            "app",
        )
        .await;
    assert!(asked.is_err(), "{asked:?}, {before:?}");
}

#[tokio::test]
async fn without_setup_or_service_role_the_error_says_what_is_missing() {
    let Some(postgres) = Postgres::start(Functions::Missing) else {
        return;
    };
    let verifiers = Verifiers::new(postgres.services());
    let target = postgres.target();
    let ask = |target: Target| {
        let verifiers = &verifiers;
        async move {
            verifiers
                .lookup(&target.tenant, &target.id, &target.cluster, "app")
                .await
        }
    };
    let error = ask(target).await.unwrap_err();
    assert_eq!(error.reason(), "service_sign_in");
    assert!(error.to_string().contains("portcullis_service"), "{error}");
    assert_eq!(
        error.for_client(),
        "the database cannot be reached right now"
    );

    let mut cluster = postgres.cluster();
    cluster.service = None;
    let error = ask(crate::postgres::target(cluster)).await.unwrap_err();
    assert_eq!(error.reason(), "service_not_configured");
}

async fn look(verifiers: &Verifiers, target: &Target, role: &str) -> Option<Arc<RoleSecret>> {
    let found: Result<_, LookupError> = verifiers
        .lookup(&target.tenant, &target.id, &target.cluster, role)
        .await;
    found.unwrap_or_else(|error| panic!("{role:?}: {error}"))
}
