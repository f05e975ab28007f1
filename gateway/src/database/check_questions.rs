//! The questions that `cluster check` asks as the service role, and what their answers mean.

use portcullis_policy::Engine;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::check_report::Step;
use super::service::{Live, ServiceError};

/// Lines of pg_hba.conf that are looked at.
const MAX_RULES: usize = 1_000;

/// What runs there, and whether the policy says so.
pub(super) async fn engine(live: &Live, wanted: Engine) -> Result<Step, ServiceError> {
    const WHAT: &str = "engine";
    const OLDEST: i32 = 110_000;
    let rows = live
        .ask(
            "SELECT version(), current_setting('server_version_num')::int",
            &[],
        )
        .await?;
    let (version, number): (String, i32) = (get(&rows, 0)?, get(&rows, 1)?);
    let version: String = version.chars().take(80).collect();
    let found = if version.contains("-YB-") {
        Engine::Yugabytedb
    } else {
        Engine::Postgresql
    };
    Ok(if found != wanted {
        let fix = "correct `engine` in the policy";
        Step::failed(
            WHAT,
            format!("{version}, but the policy says otherwise"),
            fix,
        )
    } else if number < OLDEST {
        Step::failed(
            WHAT,
            version,
            "upgrade: PostgreSQL 11 is the oldest that can be served",
        )
    } else {
        Step::good(WHAT, version)
    })
}

/// Whether the service role is as powerless as `setup.sql` makes it.
pub(super) async fn service_role(live: &Live, role: &str) -> Result<Step, ServiceError> {
    const WHAT: &str = "service role";
    let rows = live
        .ask(
            "SELECT concat_ws(', ', \
                CASE WHEN r.rolsuper THEN 'SUPERUSER' END, \
                CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END, \
                CASE WHEN r.rolcreatedb THEN 'CREATEDB' END, \
                CASE WHEN r.rolreplication THEN 'REPLICATION' END, \
                CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END, \
                (SELECT 'member of ' || string_agg(quote_ident(g.rolname), ', ') \
                    FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid \
                    WHERE m.member = r.oid)) \
             FROM pg_roles r WHERE r.rolname = session_user",
            &[],
        )
        .await?;
    let excess: String = get(&rows, 0)?;
    Ok(if excess.is_empty() {
        Step::good(WHAT, "no rights beyond its functions")
    } else {
        let fix = format!(
            "ALTER ROLE {role} NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS;\n\
             REVOKE … FROM {role};"
        );
        Step::warning(
            WHAT,
            format!("it may do more than it should: {excess}"),
            fix,
        )
    })
}

/// The functions of setup.sql, as [`functions`] wants to find them.
const FUNCTIONS: [&str; 5] = [
    "backend_started",
    "facts",
    "hba_rules",
    "role_secret",
    "stop_backend",
];

/// Whether the functions of `setup.sql` are there, for the service role and nobody else.
pub(super) async fn functions(live: &Live, database: &str) -> Result<Step, ServiceError> {
    const WHAT: &str = "functions";
    let fix =
        format!("as a superuser: psql -X -v ON_ERROR_STOP=1 -f setup.sql 'dbname={database}'");
    let rows = live
        .ask(
            "SELECT p.proname::text, \
                has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE'), \
                p.prosecdef AND o.rolsuper, \
                coalesce((SELECT bool_or(a.grantee = 0) \
                    FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a), false) \
             FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
             JOIN pg_roles o ON o.oid = p.proowner \
             WHERE n.nspname = 'portcullis' ORDER BY 1 LIMIT 100",
            &[],
        )
        .await?;
    let mut wrong = Vec::new();
    for name in FUNCTIONS {
        let row = rows
            .iter()
            .find(|row| row.try_get::<_, &str>(0).is_ok_and(|n| n == name));
        let Some(row) = row else {
            wrong.push(format!("{name} is missing"));
            continue;
        };
        let column = |at| row.try_get::<_, bool>(at).map_err(unreadable);
        if !column(1)? {
            wrong.push(format!("{name} may not be executed"));
        } else if !column(2)? {
            wrong.push(format!("{name} does not run as a superuser"));
        } else if column(3)? {
            wrong.push(format!("{name} may be executed by everybody"));
        }
    }
    Ok(if wrong.is_empty() {
        Step::good(WHAT, "all there, for the service role alone")
    } else {
        Step::failed(WHAT, wrong.join(", "), fix)
    })
}

/// Whether the roles' passwords are stored so that SCRAM can be ended here.
pub(super) async fn passwords(live: &Live) -> Result<Step, ServiceError> {
    const WHAT: &str = "passwords";
    let rows = live
        .ask(
            "SELECT password_encryption, scram_roles, md5_roles, unfit_roles \
             FROM portcullis.facts()",
            &[],
        )
        .await?;
    let encryption: String = get(&rows, 0)?;
    let (scram, md5, unfit): (i64, i64, i64) = (get(&rows, 1)?, get(&rows, 2)?, get(&rows, 3)?);
    let found = format!(
        "password_encryption = {encryption}; {scram} roles can sign in by SCRAM, {md5} have md5 \
         passwords and cannot, {unfit} have an iteration count outside 4096 to 100000 and cannot"
    );
    Ok(if encryption != "scram-sha-256" {
        let fix = "ALTER SYSTEM SET password_encryption = 'scram-sha-256';\n\
                   SELECT pg_reload_conf();\n\
                   then set the passwords again";
        Step::warning(WHAT, found, fix)
    } else if md5 + unfit > 0 {
        Step::warning(WHAT, found, "set the passwords of those roles again")
    } else {
        Step::good(WHAT, found)
    })
}

/// Whether pg_hba.conf can be loaded and lets nobody past the gateway.
pub(super) async fn hba(live: &Live) -> Result<Step, ServiceError> {
    const WHAT: &str = "pg_hba.conf";
    let rows = live
        .ask(
            "SELECT line, coalesce(error, ''), \
                coalesce(type LIKE 'host%' AND method IN ('trust', 'password', 'md5') \
                    AND coalesce(address, '') NOT IN ('127.0.0.1', '::1', 'localhost', 'samehost'), false), \
                concat_ws(' ', type, array_to_string(databases, ','), \
                    array_to_string(users, ','), address, method) \
             FROM portcullis.hba_rules() LIMIT 1000",
            &[],
        )
        .await?;
    let mut wrong = Vec::new();
    let mut weak = Vec::new();
    for row in rows.iter().take(MAX_RULES) {
        let line: i32 = row.try_get(0).map_err(unreadable)?;
        let error: &str = row.try_get(1).map_err(unreadable)?;
        let rule: &str = row.try_get(3).map_err(unreadable)?;
        if !error.is_empty() {
            wrong.push(format!("line {line}: {error}"));
        } else if row.try_get(2).map_err(unreadable)? {
            weak.push(format!("line {line}: {rule}"));
        }
    }
    let fix = "in pg_hba.conf let the gateways in by hostssl with scram-sha-256 or cert, nobody \
               else from the network; then: SELECT pg_reload_conf();";
    Ok(if !wrong.is_empty() {
        Step::failed(
            WHAT,
            format!("it cannot be loaded: {}", wrong.join("; ")),
            fix,
        )
    } else if !weak.is_empty() {
        let found = format!(
            "rules that let others past the gateway: {}",
            weak.join("; ")
        );
        Step::warning(WHAT, found, fix)
    } else {
        Step::good(
            WHAT,
            format!("{} rules, none that is open to the network", rows.len()),
        )
    })
}

fn get<'a, T: FromSql<'a>>(rows: &'a [Row], column: usize) -> Result<T, ServiceError> {
    let row = rows.first().ok_or(ServiceError::Late)?;
    row.try_get(column).map_err(unreadable)
}

fn unreadable(error: tokio_postgres::Error) -> ServiceError {
    ServiceError::Answer(error.into())
}
