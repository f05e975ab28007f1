//! The throw-away PostgreSQL: set up as `deploy/postgres/README.md` asks of a real one.

use std::net::SocketAddr;
use std::path::Path;

use tokio::time::{sleep, timeout};

use super::children::{Child, Launch};
use super::home::{Home, make_private, write_private};
use super::identities::Identities;
use super::installation::{Account, Installation};
use super::janitor::Janitor;
use super::psql::{psql, run};
use super::tenants::Tenant;
use crate::runtime::clock::Duration;

/// Initialises, configures and starts a server, and puts the tenants' databases into it.
pub(super) async fn start(
    home: &Home,
    installation: &Installation,
    janitor: &Janitor,
    identities: &Identities,
    tenants: &[Tenant],
) -> Result<Child, String> {
    let account = installation.account;
    let folder = home.path("postgres");
    make_private(&folder, account)?;
    let data = folder.join("data");
    initialise(&folder, &data, installation, janitor).await?;
    configure(home, &folder, &data, account, identities, tenants)?;
    let command = vec![
        installation.postgres.clone().into(),
        "-D".into(),
        data.clone().into(),
    ];
    let launch = Launch {
        name: "PostgreSQL".to_owned(),
        command,
        log: folder.join("postgres.log"),
        account,
    };
    let mut server = Child::start(launch, janitor).await?;
    tokio::select! {
        problem = server.ended() => return Err(problem),
        ready = timeout(START_LIMIT, ready(&data)) => {
            ready.map_err(|_| server.told(&format!("PostgreSQL is not ready after {} s", START_LIMIT.as_secs())))?;
        }
    }
    let databases: String = tenants.iter().map(Tenant::set_up).collect();
    as_superuser(
        installation,
        &folder,
        home.postgres,
        &format!("{SET_UP}\n{databases}"),
    )
    .await?;
    Ok(server)
}

/// How long the server may take to come up.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The service role and its functions, as they are shipped for real clusters.
const SET_UP: &str = include_str!("../../../deploy/postgres/setup.sql");

async fn initialise(
    folder: &Path,
    data: &Path,
    installation: &Installation,
    janitor: &Janitor,
) -> Result<(), String> {
    // Who may come is written afterwards; until then nobody may.
    let options = [
        "--no-sync",
        "--no-locale",
        "--encoding=UTF8",
        "--username=postgres",
        "--auth=reject",
        "--pgdata",
    ];
    let command = std::iter::once(installation.initdb.clone().into())
        .chain(options.map(Into::into))
        .chain([data.into()])
        .collect();
    let launch = Launch {
        name: "initdb".to_owned(),
        command,
        log: folder.join("initdb.log"),
        account: installation.account,
    };
    let initdb = Child::start(launch, janitor).await?;
    timeout(START_LIMIT, initdb.finished())
        .await
        .unwrap_or_else(|_| {
            Err(format!(
                "initdb is not done after {} s",
                START_LIMIT.as_secs()
            ))
        })
}

fn configure(
    home: &Home,
    folder: &Path,
    data: &Path,
    account: Option<Account>,
    identities: &Identities,
    tenants: &[Tenant],
) -> Result<(), String> {
    for (name, text) in [
        ("server.crt", &identities.database.chain_pem),
        ("server.key", &identities.database.key_pem),
        ("portcullis-ca.crt", &identities.database_client_authority),
    ] {
        write_private(&folder.join(name), text, account)?;
    }
    write_private(
        &data.join("postgresql.conf"),
        &settings(folder, home.postgres),
        account,
    )?;
    write_private(&data.join("pg_hba.conf"), &rules(tenants), account)?;
    write_private(&data.join("pg_ident.conf"), &map(tenants), account)
}

/// Nothing in here need survive a power cut.
fn settings(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "\
listen_addresses = '{}'
port = {}
unix_socket_directories = '{folder}'
ssl = on
ssl_cert_file = '{folder}/server.crt'
ssl_key_file = '{folder}/server.key'
ssl_ca_file = '{folder}/portcullis-ca.crt'
password_encryption = 'scram-sha-256'
log_connections = on
log_disconnections = on
shared_buffers = 16MB
fsync = off
full_page_writes = off
synchronous_commit = off
",
        address.ip(),
        address.port()
    )
}

/// `pg_hba.conf`: the superuser over the socket in a directory that is closed to others; the
/// gateway over TLS, each role to its own database; nobody else.
fn rules(tenants: &[Tenant]) -> String {
    let roles: String = tenants
        .iter()
        .map(|tenant| {
            format!(
                "hostssl {} {} 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n",
                tenant.database, tenant.user
            )
        })
        .collect();
    format!(
        "\
local all postgres trust
hostssl postgres portcullis_service 127.0.0.1/32 cert map=portcullis
{roles}local all all reject
host all all 0.0.0.0/0 reject
host all all ::/0 reject
"
    )
}

/// `pg_ident.conf`: the gateway, by each of its certificates, may be the service role.
fn map(tenants: &[Tenant]) -> String {
    tenants
        .iter()
        .map(|tenant| {
            format!(
                "portcullis \"{}\" portcullis_service\n",
                tenant.gateway_name()
            )
        })
        .collect()
}

/// Waits until the server says that it is ready, as pg_ctl does.
async fn ready(data: &Path) {
    let told = data.join("postmaster.pid");
    loop {
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        if text
            .lines()
            .nth(STATUS_LINE)
            .is_some_and(|status| status.trim() == "ready")
        {
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// In postmaster.pid (miscadmin.h, `LOCK_FILE_LINE_PM_STATUS`), counted from 0.
const STATUS_LINE: usize = 7;
/// How often to look whether something is ready.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs SQL as superuser over the socket; it goes in by a pipe, never as an argument.
async fn as_superuser(
    installation: &Installation,
    folder: &Path,
    address: SocketAddr,
    sql: &str,
) -> Result<(), String> {
    let mut psql = psql(&installation.psql);
    psql.args(["--set", "ON_ERROR_STOP=1", "--file", "-"]);
    psql.env("PGHOST", folder)
        .env("PGPORT", address.port().to_string());
    psql.env("PGUSER", "postgres").env("PGDATABASE", "postgres");
    run(psql, sql)
        .await
        .map(drop)
        .map_err(|problem| format!("the databases could not be set up: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::super::tenants::sample;
    use super::*;

    #[test]
    fn each_role_comes_to_its_own_database_only_and_everybody_else_is_rejected() {
        let rules = rules(&sample());
        let lines: Vec<&str> = rules.lines().collect();
        assert_eq!(
            lines,
            [
                "local all postgres trust",
                "hostssl postgres portcullis_service 127.0.0.1/32 cert map=portcullis",
                "hostssl orders acme_app 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
                "hostssl shop globex_app 127.0.0.1/32 scram-sha-256 clientcert=verify-ca",
                "local all all reject",
                "host all all 0.0.0.0/0 reject",
                "host all all ::/0 reject",
            ]
        );
    }

    #[test]
    fn nobody_but_the_service_role_is_mapped() {
        assert_eq!(
            map(&sample()),
            "portcullis \"portcullis.acme\" portcullis_service\nportcullis \"portcullis.globex\" portcullis_service\n"
        );
    }
}
