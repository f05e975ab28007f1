//! `cluster check` on clusters that are set up as the README says, and on each way they are not.

use portcullis::database::check::check;
use portcullis::database::{Outcome, Report};
use portcullis::runtime::clock;
use portcullis_policy::{Authentication, CertificateRule, Tenant};

use crate::postgres::{Functions, Postgres};

#[tokio::test]
async fn a_cluster_set_up_as_the_readme_says_has_nothing_to_fix() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    let report = look(&postgres, &postgres.tenant(Authentication::Scram)).await;
    assert!(report.is_good(), "{report}");
    for step in &report.steps {
        assert_eq!(step.outcome, Outcome::Good, "{report}");
    }
    let said = report.to_string();
    for part in [
        "TLSv1_3",
        "CN=portcullis.acme",
        "sign in as portcullis_service",
        "PostgreSQL",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
}

#[tokio::test]
async fn missing_functions_are_told_with_the_command_to_run() {
    let Some(postgres) = Postgres::start(Functions::Missing) else {
        return;
    };
    let tenant = postgres.tenant(Authentication::Scram);
    let report = look(&postgres, &tenant).await;
    failed(&report, "sign in as portcullis_service", "setup.sql");

    postgres.sql("CREATE ROLE portcullis_service LOGIN");
    let report = look(&postgres, &tenant).await;
    failed(
        &report,
        "functions",
        "psql -X -v ON_ERROR_STOP=1 -f setup.sql 'dbname=postgres'",
    );

    postgres.set_up();
    postgres.sql("GRANT EXECUTE ON FUNCTION portcullis.role_secret(text) TO PUBLIC");
    failed(&look(&postgres, &tenant).await, "functions", "setup.sql");
    postgres.set_up();
    assert!(look(&postgres, &tenant).await.is_good());
}

#[tokio::test]
async fn a_missing_pg_hba_line_is_told_as_the_line_to_write() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    let tenant = postgres.tenant(Authentication::Scram);
    let without = |text: String| -> String {
        text.lines()
            .filter(|l| !l.contains("map=portcullis"))
            .map(|l| format!("{l}\n"))
            .collect()
    };
    postgres.configure("pg_hba.conf", without);
    let report = look(&postgres, &tenant).await;
    failed(
        &report,
        "sign in as portcullis_service",
        "hostssl postgres portcullis_service 127.0.0.1/32 cert map=portcullis",
    );
    failed(
        &report,
        "sign in as",
        "portcullis \"portcullis.acme\" portcullis_service",
    );
}

#[tokio::test]
async fn tls_that_is_off_is_told_as_tls_and_not_as_reach() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    postgres.configure("postgresql.conf", |text| text + "\nssl = off\n");
    let report = look(&postgres, &postgres.tenant(Authentication::Scram)).await;
    failed(&report, "TLS 127.0.0.1", "ssl = on");
    assert!(
        report
            .steps
            .iter()
            .any(|s| s.what.starts_with("reach") && s.outcome == Outcome::Good)
    );
    assert!(report.steps.iter().any(|s| s.outcome == Outcome::Skipped));
}

#[tokio::test]
async fn what_is_merely_unwise_is_a_warning() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    postgres.sql(
        "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'p'; \
         ALTER ROLE portcullis_service CREATEDB; GRANT pg_monitor TO portcullis_service",
    );
    postgres.configure("pg_hba.conf", |text| {
        text.replace(
            "host      all       all                 0.0.0.0/0    reject",
            "host all all 0.0.0.0/0 trust",
        )
    });
    let report = look(&postgres, &postgres.tenant(Authentication::Scram)).await;
    assert!(report.is_good(), "{report}");
    for (what, found) in [
        ("service role", "CREATEDB, member of pg_monitor"),
        ("passwords", "1 have md5 passwords"),
        ("pg_hba.conf", "0.0.0.0"),
    ] {
        let step = report.steps.iter().find(|step| step.what == what).unwrap();
        assert_eq!(step.outcome, Outcome::Warning, "{report}");
        assert!(step.found.contains(found), "{report}");
    }
}

#[tokio::test]
async fn roles_of_certificate_endpoints_are_tried() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    postgres.sql("CREATE ROLE reports LOGIN; CREATE ROLE unmapped LOGIN");
    let map = ["reports", "unmapped"]
        .map(|role| CertificateRule {
            name: format!("cn:{role}"),
            role: role.into(),
        })
        .to_vec();
    let authentication = Authentication::Certificate {
        authorities: String::new(),
        map,
    };
    let report = look(&postgres, &postgres.tenant(authentication)).await;
    failed(
        &report,
        "sign in as unmapped",
        "portcullis \"portcullis.acme\" unmapped",
    );
    let reports = report
        .steps
        .iter()
        .find(|s| s.what.contains("as reports"))
        .unwrap();
    assert_eq!(reports.outcome, Outcome::Good, "{report}");
}

#[tokio::test]
async fn a_server_that_is_another_engine_than_the_policy_says_fails() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    let mut tenant = postgres.tenant(Authentication::Scram);
    for cluster in tenant.clusters.values_mut() {
        cluster.engine = portcullis_policy::Engine::Yugabytedb;
    }
    failed(
        &look(&postgres, &tenant).await,
        "engine",
        "correct `engine`",
    );
}

async fn look(postgres: &Postgres, tenant: &Tenant) -> Report {
    let id = "orders".parse().unwrap();
    check(&postgres.upstreams(), tenant, &id, clock::now())
        .await
        .unwrap()
}

/// Some step of this name failed, and this is part of what to do.
fn failed(report: &Report, what: &str, fix: &str) {
    let found = report.steps.iter().any(|step| {
        step.what.starts_with(what)
            && step.outcome == Outcome::Failed
            && step.fix.as_ref().is_some_and(|text| text.contains(fix))
    });
    assert!(found, "no failed step {what:?} with {fix:?} in:\n{report}");
    assert!(!report.is_good());
}
