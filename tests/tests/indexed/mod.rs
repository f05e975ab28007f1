//! A node that fills an index in a real PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use portcullis_tests::gateway::binary;
use portcullis_tests::postgres::{Postgres, Version};
use portcullis_tests::process::{Finished, run};
use portcullis_tests::{Gateway, Listener, Scratch, TenantText, wait};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::shipped::{SOON, entries};

/// A node that fills the index of a database.
pub(crate) struct Site {
    pub(crate) gateway: Gateway,
    pub(crate) postgres: Postgres,
    pub(crate) scratch: Scratch,
}

/// A node's own events are in its logs a second or two after they happened.
const QUIET: Duration = Duration::from_secs(5);

pub(crate) const ROLES: [&str; 5] = ["writer", "reader", "acme", "globex", "stranger"];

pub(crate) fn password(role: &str) -> String {
    format!("{role}-4d7b")
}

impl Site {
    pub(crate) fn new(version: Version) -> Self {
        let mut builder = Postgres::builder(version).server_name("localhost");
        for role in ROLES {
            builder = builder.role(role, &password(role));
        }
        let postgres = builder.start();
        postgres.sql("create database audit");
        postgres.sql("grant create on database audit to writer");
        let scratch = Scratch::new("index");
        scratch.write("db-ca.pem", postgres.authorities_pem());
        for role in ROLES {
            scratch.write_secret(&format!("{role}.password"), format!("{}\n", password(role)));
        }
        let table = table(&postgres, &scratch, "writer");
        let site = Self {
            gateway: gateway(&table),
            postgres,
            scratch,
        };
        wait::wait_for("the tables", SOON, || {
            let made = "select to_regclass('portcullis_audit.entries') is not null";
            site.sql(made) == "t"
        });
        // As the manual says it.
        for (role, log) in [
            ("reader", "*"),
            ("acme", "tenants/acme"),
            ("globex", "tenants/globex"),
        ] {
            site.sql(&format!(
                "grant usage on schema portcullis_audit to {role}; \
                 grant select on portcullis_audit.entries, portcullis_audit.readers to {role}; \
                 insert into portcullis_audit.readers values ('{role}', '{log}')"
            ));
        }
        site
    }

    pub(crate) fn table(&self, role: &str) -> String {
        table(&self.postgres, &self.scratch, role)
    }

    pub(crate) fn password_file(&self, role: &str) -> PathBuf {
        self.scratch.path().join(format!("{role}.password"))
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.postgres.sql_in("audit", sql).trim().to_owned()
    }

    pub(crate) fn logs(&self) -> String {
        let logs = self.gateway.data_directory().join("audit/logs");
        logs.display().to_string()
    }

    /// The entries in the logs' files, under the logs' names.
    pub(crate) fn logged(&self) -> BTreeMap<String, Vec<String>> {
        logged(&self.gateway.data_directory())
    }

    /// Waits until all that is in the logs now is in the index, and as it is there.
    pub(crate) fn has_all(&self) {
        self.has_all_of(&self.gateway.data_directory(), "portcullis_audit");
    }

    /// The same, once what became of the index before is in the logs, too: nothing is added while rows are taken away.
    pub(crate) fn has_all_and_is_quiet(&self) {
        // What is written again leaves an event, after which the logs grow once more.
        self.has_all();
        let mut before = 0;
        let mut since = Instant::now();
        wait::wait_for("logs that do not grow", SOON, || {
            let logs = logged(&self.gateway.data_directory());
            let all = logs.values().map(Vec::len).sum::<usize>();
            if all != before {
                (before, since) = (all, Instant::now());
            }
            since.elapsed() > QUIET
        });
        self.has_all();
    }

    /// The same, of the node with this directory, in this schema.
    pub(crate) fn has_all_of(&self, data: &Path, schema: &str) {
        let logged = wait::until(SOON, || {
            Some(logged(data)).filter(|logs| logs.contains_key("tenants/acme"))
        });
        let logged = logged.expect("logs");
        let all: u64 = logged.values().map(|log| log.len() as u64).sum();
        assert!(all > 0);
        let missing = || -> Vec<(String, usize)> {
            let asked = format!("select log || ' ' || index from {schema}.entries");
            let have = self.postgres.try_sql("audit", &asked);
            let have: BTreeSet<String> = have.stdout.lines().map(str::to_owned).collect();
            let mut missing = Vec::new();
            for (log, lines) in &logged {
                let lacks = |at: &usize| !have.contains(&format!("{log} {at}"));
                missing.extend((0..lines.len()).filter(lacks).map(|at| (log.clone(), at)));
            }
            missing
        };
        let there = wait::until(SOON, || missing().is_empty().then_some(()));
        let lacks = missing();
        assert!(there.is_some(), "{lacks:?}\n{}", self.gateway.log_text());
        for (log, lines) in &logged {
            let rows = self.sql(&format!(
                "select index || '|' || encode(leaf_hash, 'hex') || '|' || to_char(at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') || '|' || kind || '|' || coalesce(tenant, '') || '|' || event from {schema}.entries where log = '{log}' and index < {} order by index",
                lines.len()
            ));
            let rows: Vec<&str> = rows.lines().collect();
            assert_eq!(rows.len(), lines.len(), "{log}");
            for (at, (row, line)) in rows.iter().zip(lines).enumerate() {
                let parts: Vec<&str> = row.splitn(6, '|').collect();
                let event: Value = serde_json::from_str(line).unwrap();
                let mut leaf = Sha256::new();
                leaf.update([0]);
                leaf.update(line.as_bytes());
                let hash: String = leaf
                    .finalize()
                    .iter()
                    .map(|it| format!("{it:02x}"))
                    .collect();
                let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
                let wanted = [
                    at.to_string(),
                    hash,
                    text("at"),
                    text("kind"),
                    text("tenant"),
                ];
                assert_eq!(parts[..5], wanted, "{log}:{at}");
                assert_eq!(serde_json::from_str::<Value>(parts[5]).unwrap(), event);
            }
        }
    }

    pub(crate) fn event(&self, what: &str, kind: &str) -> Value {
        self.gateway.event(what, |it| it["kind"] == kind)
    }

    pub(crate) fn contradictions(&self) -> Vec<Value> {
        let events = self.gateway.events().into_iter();
        events
            .filter(|it| it["kind"] == "index.contradicted")
            .collect()
    }

    pub(crate) fn shows(&self, line: &str) {
        let told = || self.gateway.metrics("/metrics");
        let there = wait::until(SOON, || {
            told().lines().any(|it| it.starts_with(line)).then_some(())
        });
        assert!(there.is_some(), "no {line} in {}", told());
    }

    pub(crate) fn search(&self, role: &str, arguments: &[&str]) -> Finished {
        let url = url(&self.postgres, role);
        let ca = self.scratch.path().join("db-ca.pem").display().to_string();
        let password = self.password_file(role).display().to_string();
        let place = [
            "--index-url",
            &url,
            "--index-ca",
            &ca,
            "--password-file",
            &password,
        ];
        search(&[&place, arguments].concat())
    }

    /// What a reader of all logs finds.
    pub(crate) fn found(&self, arguments: &[&str]) -> Vec<Value> {
        let said = self.search("reader", &[arguments, &["--json"]].concat());
        let found: Value = serde_json::from_str(said.ok()).unwrap();
        assert_eq!(found["next"], Value::Null, "{said}");
        found["entries"].as_array().unwrap().clone()
    }
}

pub(crate) fn url(postgres: &Postgres, role: &str) -> String {
    let port = postgres.address().port();
    format!("postgresql://{role}@localhost:{port}/audit")
}

pub(crate) fn table(postgres: &Postgres, scratch: &Scratch, role: &str) -> String {
    let folder = scratch.path().display();
    format!(
        "[audit.index]\nurl = \"{}\"\nca = \"{folder}/db-ca.pem\"\npassword-file = \"{folder}/{role}.password\"\n",
        url(postgres, role)
    )
}

pub(crate) fn gateway(table: &str) -> Gateway {
    let acme = tenant("acme", 5432);
    let builder = Gateway::builder().listener(Listener::public());
    builder.tenant(&acme).more(table).start()
}

pub(crate) fn tenant(name: &str, number: u16) -> TenantText {
    TenantText::new(name).network(&format!("{name}-net{number}"))
}

pub(crate) fn search(arguments: &[&str]) -> Finished {
    let mut command = Command::new(binary());
    command.args(["audit", "search"]).args(arguments);
    run(&command, SOON)
}

/// The entries in the files of a node's logs, under the logs' names.
fn logged(data: &Path) -> BTreeMap<String, Vec<String>> {
    let logs = entries(&data.join("audit/logs"));
    let named = logs.into_iter().map(|(origin, entries)| {
        let log = match origin.split_once("/tenants/") {
            Some((_, tenant)) => format!("tenants/{tenant}"),
            None => "fleet".to_owned(),
        };
        (log, entries)
    });
    named.collect()
}
