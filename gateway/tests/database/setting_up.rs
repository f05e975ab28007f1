//! `setup.sql` and `remove.sql`: least privilege, again and again, and without a trace.

use crate::postgres::{Functions, Postgres};

const AS_SERVICE: &str = "portcullis_service";

#[test]
fn setup_may_be_run_again_and_removal_leaves_nothing() {
    let Some(postgres) = Postgres::start(Functions::Missing) else {
        return;
    };
    let before = inventory(&postgres);
    postgres.set_up();
    let once = inventory(&postgres);
    assert_ne!(before, once);
    postgres.set_up();
    assert_eq!(inventory(&postgres), once);
    postgres.remove();
    assert_eq!(inventory(&postgres), before);
    postgres.remove();
    postgres.set_up();
    assert_eq!(inventory(&postgres), once);
}

#[test]
fn the_service_role_may_execute_its_functions_and_nothing_else() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    postgres.sql("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1)");
    let ask = |sql: &str| postgres.script_as(AS_SERVICE, "postgres", sql);
    for (allowed, answer) in [
        ("SELECT count(*) FROM portcullis.role_secret('nobody')", "0"),
        (
            "SELECT portcullis.backend_started(pg_backend_pid()) IS NOT NULL",
            "t",
        ),
        ("SELECT portcullis.stop_backend(1, 0)", "f"),
        (
            "SELECT password_encryption FROM portcullis.facts()",
            "scram-sha-256",
        ),
        ("SELECT count(*) > 3 FROM portcullis.hba_rules()", "t"),
        ("SHOW statement_timeout", "3s"),
    ] {
        assert_eq!(ask(allowed).unwrap(), answer, "{allowed}");
    }
    for refused in [
        "SELECT rolpassword FROM pg_catalog.pg_authid",
        "SELECT * FROM public.orders",
        "SET default_transaction_read_only = off; CREATE TABLE portcullis.mine (a int)",
        "SET default_transaction_read_only = off; CREATE TABLE public.mine (a int)",
        "SET default_transaction_read_only = off; \
         CREATE FUNCTION portcullis.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "CREATE ROLE mine",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
        "SELECT * FROM pg_hba_file_rules",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ] {
        let answer = ask(refused);
        // PostgreSQL before 15 lets everybody create in schema public; that is not ours to change.
        if refused.contains("public.mine") && answer.is_ok() {
            continue;
        }
        assert!(answer.is_err(), "{refused}: {answer:?}");
    }
}

#[test]
fn other_roles_may_not_execute_the_functions() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    postgres.sql("CREATE ROLE app LOGIN");
    for refused in [
        "SELECT * FROM portcullis.role_secret('app')",
        "SELECT portcullis.backend_started(1)",
        "SELECT portcullis.stop_backend(1, 0)",
        "SELECT * FROM portcullis.facts()",
        "SELECT * FROM portcullis.hba_rules()",
    ] {
        let said = postgres.script_as("app", "postgres", refused).unwrap_err();
        assert!(said.contains("permission denied"), "{refused}: {said}");
    }
}

#[test]
fn what_the_service_role_plants_on_its_path_is_not_what_the_functions_use() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    postgres.sql("CREATE ROLE app LOGIN PASSWORD 'secret'");
    let secret = postgres.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'");
    let asked = postgres
        .script_as(
            AS_SERVICE,
            "postgres",
            "SET default_transaction_read_only = off; \
             CREATE TEMPORARY TABLE pg_authid AS SELECT 10::oid AS oid, 'app'::name AS rolname, \
                 'SCRAM-SHA-256$4096:x'::text AS rolpassword, true AS rolcanlogin, \
                 false AS rolsuper, false AS rolreplication, NULL::timestamptz AS rolvaliduntil; \
             SELECT verifier FROM portcullis.role_secret('app')",
        )
        .unwrap();
    assert_eq!(asked, secret);
}

#[test]
fn setup_is_refused_to_a_role_that_is_no_superuser_and_over_a_schema_that_another_made() {
    let Some(postgres) = Postgres::start(Functions::Missing) else {
        return;
    };
    postgres.sql("CREATE ROLE app LOGIN CREATEROLE; GRANT CREATE ON DATABASE postgres TO app");
    let setup = include_str!("../../deploy/postgres/setup.sql");
    let said = postgres.script_as("app", "postgres", setup).unwrap_err();
    assert!(said.contains("must be run by a superuser"), "{said}");
    postgres
        .script_as("app", "postgres", "CREATE SCHEMA portcullis")
        .unwrap();
    let said = postgres.script(setup).unwrap_err();
    assert!(
        said.contains("belongs to a role that is no superuser"),
        "{said}"
    );
    // All or nothing.
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'portcullis%'";
    assert_eq!(postgres.sql(roles), "0");
}

/// Every role, schema, function and right that there is, but for what initdb made.
fn inventory(postgres: &Postgres) -> String {
    postgres.sql(
        "SELECT 'role', rolname, rolsuper, rolcanlogin, rolconnlimit, rolpassword FROM pg_authid \
             WHERE rolname NOT LIKE 'pg\\_%' \
         UNION ALL SELECT 'schema', nspname, NULL, NULL, NULL, nspacl::text FROM pg_namespace \
             WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' \
         UNION ALL SELECT 'function', p.oid::regprocedure::text, prosecdef, NULL, NULL, \
                 proacl::text || proconfig::text || pg_get_userbyid(proowner) \
             FROM pg_proc p WHERE pronamespace = to_regnamespace('portcullis') \
         UNION ALL SELECT 'setting', setconfig::text, NULL, NULL, NULL, NULL FROM pg_db_role_setting \
         UNION ALL SELECT 'connect', 'portcullis_service', NULL, NULL, NULL, acl::text \
             FROM pg_database, unnest(datacl) acl \
             WHERE datname = 'postgres' AND acl::text LIKE '%portcullis%' \
         ORDER BY 1, 2",
    )
}
