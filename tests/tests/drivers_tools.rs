//! PostgreSQL's own tools through the gateway: pgbench in each of its protocols, and a database
//! dumped and restored whole.

mod scene;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use portcullis_tests::process::{self, Finished};
use portcullis_tests::{Gateway, Postgres, Scratch, Version};
use scene::{BOTH, NAME, acme, gateway, orders, server};

const LIMIT: Duration = Duration::from_secs(120);
/// One line for a table: how many rows, and what is in them.
const SUM: &str = "select count(*), md5(string_agg(t::text, ',' order by t.*)) from things t";

#[test]
fn pgbench_runs_in_each_of_its_protocols() {
    for version in BOTH {
        let tools = Tools::new(version, &format!("bench_{version:?}").to_lowercase());
        let initialised = tools.run("pgbench", &["--initialize", "--quiet", "--scale", "1"]);
        assert!(initialised.stderr.contains("done"), "{initialised}");
        for protocol in ["simple", "extended", "prepared"] {
            let arguments = [
                "--no-vacuum",
                "--protocol",
                protocol,
                "--client",
                "4",
                "--jobs",
                "2",
                "--transactions",
                "50",
            ];
            let told = tools.run("pgbench", &arguments);
            let all = "number of transactions actually processed: 200/200";
            assert!(told.ok().contains(all), "{version:?}, {protocol}: {told}");
            assert!(
                told.ok().contains("number of failed transactions: 0"),
                "{told}"
            );
        }
        let sums = "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history), count(*) from pgbench_history";
        assert_eq!(tools.sql(sums), "t|600", "{version:?}");
    }
}

/// `pg_dump` reads no server newer than itself, so PostgreSQL 15 alone.
#[test]
fn a_database_is_dumped_and_restored_whole() {
    let from = Tools::new(Version::V15, "dumped");
    from.sql(
        "set role app; create table things (n int primary key, t text, b bytea, at timestamptz, a float8[])",
    );
    from.sql(
        "set role app; insert into things select n, repeat(md5(n::text), 20), decode(md5(n::text), 'hex'), now(), array[n / 7.0, n] \
         from generate_series(1, 20000) n",
    );
    from.sql("set role app; create view few as select * from things where n < 10; select lo_from_bytea(4711, 'a large object')");
    let scratch = Scratch::new("dump");
    let custom = scratch.path().join("custom");
    let directory = scratch.path().join("directory");
    from.file(
        "pg_dump",
        &["--format=custom", "--blobs", "--file"],
        &custom,
    );
    from.file(
        "pg_dump",
        &["--format=directory", "--blobs", "--jobs=2", "--file"],
        &directory,
    );
    for (name, dump, options) in [
        (
            "restored_custom",
            &custom,
            &["--no-owner", "--exit-on-error"][..],
        ),
        (
            "restored_directory",
            &directory,
            &["--no-owner", "--exit-on-error", "--jobs=2"],
        ),
    ] {
        let to = Tools::new(Version::V15, name);
        to.file(
            "pg_restore",
            &[options, &["--dbname", &to.connection]].concat(),
            dump,
        );
        assert_eq!(to.sql(SUM), from.sql(SUM), "{name}");
        assert!(to.sql(SUM).starts_with("20000|"));
        assert_eq!(to.sql("select count(*) from few"), "9");
        assert_eq!(
            to.sql("select convert_from(lo_get(4711), 'UTF8')"),
            "a large object"
        );
    }
}

/// The tools, at a database of their own behind a gateway.
struct Tools {
    server: &'static Postgres,
    database: String,
    connection: String,
    _gateway: Gateway,
    _scratch: Scratch,
}

impl Tools {
    fn new(version: Version, database: &str) -> Self {
        let server = server(version);
        server.sql(&format!("create database {database} owner app"));
        let gateway = gateway(&acme(server, orders()));
        let scratch = Scratch::new("tools");
        let authority = scratch.write("authority.pem", gateway.authorities_pem());
        let connection = format!(
            "host={NAME} hostaddr={} port={} user=app password=secret dbname={database} sslmode=verify-full sslrootcert={} \
             channel_binding=require",
            gateway.address().ip(),
            gateway.address().port(),
            authority.display(),
        );
        Self {
            server,
            database: database.to_owned(),
            connection,
            _gateway: gateway,
            _scratch: scratch,
        }
    }

    /// With the database as the last argument.
    fn run(&self, tool: &str, arguments: &[&str]) -> Finished {
        let mut command = Command::new(tool);
        command.args(arguments).arg(&self.connection);
        finished(&command)
    }

    /// With a file as the last argument; `pg_dump` is told the database too.
    fn file(&self, tool: &str, arguments: &[&str], file: &Path) {
        let mut command = Command::new(tool);
        command.args(arguments).arg(file);
        if tool == "pg_dump" {
            command.arg("--dbname").arg(&self.connection);
        }
        let _ = finished(&command).ok();
    }

    /// Past the gateway.
    fn sql(&self, sql: &str) -> String {
        self.server.sql_in(&self.database, sql)
    }
}

fn finished(command: &Command) -> Finished {
    let finished = process::run(command, LIMIT);
    assert!(finished.status.success(), "{command:?}: {finished}");
    finished
}
