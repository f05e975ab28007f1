//! The index of the audit logs in a real PostgreSQL: everything is in it as it is in the logs, whatever is lost there comes again, and what
//! was changed there is found.

mod indexed;
#[expect(dead_code, unused_imports, reason = "receivers are for other tests")]
mod shipped;

use std::process::Command;

use indexed::{Site, gateway, password, search, tenant};
use portcullis_tests::fleet::Guests;
use portcullis_tests::postgres::Version;
use portcullis_tests::process::run;
use portcullis_tests::{Fleet, wait};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use shipped::SOON;

#[test]
fn every_entry_is_in_the_index_as_it_is_in_the_log_whatever_becomes_of_the_database() {
    for version in [Version::V15, Version::V18] {
        let mut site = Site::new(version);
        site.has_all();
        // Signed in by a password, over TLS, bound to the certificate.
        let secured = site.postgres.sql("select count(*) from pg_stat_ssl s join pg_stat_activity a using (pid) where s.ssl and a.usename = 'writer'");
        assert_eq!(secured, "1");

        // Its server is gone: policy goes on, and what came meanwhile comes after.
        site.postgres.stop();
        for port in 5500..5510 {
            site.gateway.apply(&[tenant("acme", port)]);
        }
        site.event("a database that is away", "ship.stalled");
        site.shows("portcullis_audit_ship_lag_entries{sink=\"index\"}");
        site.postgres.start_again();
        site.has_all();
        site.event("a database that is there again", "ship.resumed");

        // The process that writes for us is killed, and with it every other: PostgreSQL recovers.
        for port in 5510..5514 {
            let pid = site.postgres.sql(
                "select pid from pg_stat_activity where application_name = 'portcullis-audit-index' limit 1",
            );
            if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            site.gateway.apply(&[tenant("acme", port)]);
            wait::wait_for("the database", SOON, || {
                site.postgres.try_sql("audit", "select 1").status.success()
            });
        }
        site.has_all();
        // The node itself.
        for port in 5514..5517 {
            site.gateway.apply(&[tenant("acme", port)]);
            site.gateway.kill();
            site.gateway.start_again();
        }
        site.has_all();
    }
}

#[test]
fn another_node_goes_on_when_the_one_that_leads_is_killed_and_each_entry_is_there_once() {
    let site = Site::new(Version::V15);
    let table = site.table("writer") + "schema = \"of_a_fleet\"\n";
    let mut fleet = Fleet::of(3);
    for node in &mut fleet.nodes {
        node.stop();
        node.rewrite("[admin]\n", &format!("{table}[admin]\n"));
        node.start();
    }
    fleet.settled();
    let leader = fleet.leader();
    let change = |fleet: &Fleet, node: usize, guests: Guests| {
        let changed = fleet.nodes[node].apply(&[fleet.policy(guests)]);
        let _ = changed.ok();
    };
    change(&fleet, leader, Guests::Unwelcome);
    site.has_all_of(&fleet.nodes[leader].data(), "of_a_fleet");
    change(&fleet, leader, Guests::Welcome);
    fleet.nodes[leader].kill();
    let next = fleet.leader_but(Some(leader));
    let changed = fleet.nodes[next].apply(&[fleet.policy(Guests::Unwelcome)]);
    let _ = changed.ok();
    site.has_all_of(&fleet.nodes[next].data(), "of_a_fleet");
    let told = fleet.nodes[next].log_text();
    assert!(!told.contains("the index contradicts"), "{told}");
}

#[test]
fn what_the_index_lost_is_written_again() {
    let site = Site::new(Version::V15);
    site.has_all_and_is_quiet();
    // Restored to an earlier state: some rows and the cursor are as they were.
    site.sql("delete from portcullis_audit.entries where log = 'fleet' and index >= 1");
    site.sql("update portcullis_audit.cursors set next = 1, root = '' where log = 'fleet'");
    site.has_all_and_is_quiet();
    // Emptied, with its cursors.
    site.sql("truncate portcullis_audit.entries, portcullis_audit.cursors, portcullis_audit.gaps");
    site.has_all_and_is_quiet();
    // Emptied of its rows alone.
    site.sql("truncate portcullis_audit.entries");
    site.has_all_and_is_quiet();
    let told = site.event("rows that are written again", "index.rebuilt");
    assert_eq!(told["found"], 0, "{told}");
    // Its last rows.
    site.sql("delete from portcullis_audit.entries where log = 'fleet' and index >= 2");
    site.has_all_and_is_quiet();
    // All of it.
    site.sql("drop schema portcullis_audit cascade");
    site.has_all_and_is_quiet();
}

#[test]
fn an_entry_that_differs_is_told_and_never_overwritten_and_another_fleets_index_is_left_alone() {
    let site = Site::new(Version::V15);
    site.has_all();
    // Somebody changes what an entry says, then its hash as well.
    site.sql("update portcullis_audit.entries set actor = 'nobody' where log = 'tenants/acme' and index = 0");
    let said = site.search("writer", &["--log", "acme", "--check", &site.logs()]);
    assert_eq!(said.status.code(), Some(7), "{said}");
    assert!(
        said.stdout.contains("the index says something else"),
        "{said}"
    );
    site.sql("update portcullis_audit.entries set leaf_hash = sha256('x') where log = 'tenants/acme' and index = 0");
    let said = site.search(
        "writer",
        &["--log", "acme", "--check", &site.logs(), "--json"],
    );
    assert_eq!(said.status.code(), Some(7), "{said}");
    let found: Value = serde_json::from_str(said.stdout.trim()).unwrap();
    let first = &found["entries"][0];
    assert_eq!(
        (&first["as_logged"], &first["problem"]),
        (&json!(false), &json!("the log has another entry there"))
    );
    // An entry that was never logged.
    site.sql("insert into portcullis_audit.entries select log, 4711, at, kind, tenant, actor, position, revision, event, leaf_hash from portcullis_audit.entries where log = 'fleet' and index = 0");
    let said = site.search("writer", &["--log", "fleet", "--check", &site.logs()]);
    assert_eq!(said.status.code(), Some(7), "{said}");
    assert!(said.stdout.contains("there is no entry 4711"), "{said}");
    site.sql("delete from portcullis_audit.entries where index = 4711");

    // Written again from the start, the changed row is met.
    site.sql("update portcullis_audit.cursors set next = 0, root = '' where log = 'tenants/acme'");
    let told = site.event("an entry that differs", "index.contradicted");
    assert_eq!(told["log"], "tenants/acme", "{told}");
    site.shows("portcullis_audit_index_contradicted_logs 1");
    let kept = site.sql("select leaf_hash = sha256('x') from portcullis_audit.entries where log = 'tenants/acme' and index = 0");
    assert_eq!(kept, "t");
    // Other logs go on; and this one, once somebody has seen to it.
    site.gateway.apply(&[tenant("globex", 1)]);
    wait::wait_for("another log", SOON, || {
        site.sql("select count(*) > 0 from portcullis_audit.entries where log = 'tenants/globex'")
            == "t"
    });
    site.sql("delete from portcullis_audit.entries where log = 'tenants/acme'");
    site.has_all();
    site.shows("portcullis_audit_index_contradicted_logs 0");

    // Another history under the same name.
    site.sql("update portcullis_audit.cursors set root = sha256('x') where log = 'fleet'");
    wait::wait_for("another history", SOON, || {
        site.contradictions()
            .iter()
            .any(|it| it["log"] == "fleet" && it["why"].as_str().unwrap().contains("another root"))
    });
    // Another fleet, to the same place.
    let before = site.sql("select count(*) from portcullis_audit.entries");
    let other = gateway(&site.table("writer"));
    let told = wait::until(SOON, || {
        let mut events = other.events().into_iter();
        events.find(|it| it["kind"] == "index.contradicted" && it["log"] == "fleet")
    });
    let told = told.expect("another fleet's index");
    let why = told["why"].as_str().unwrap();
    assert!(why.contains("it is that of portcullis/"), "{told}");
    let after =
        site.sql("select count(*) from portcullis_audit.entries where event->>'kind' <> ''");
    assert!(after.parse::<u64>().unwrap() >= before.parse().unwrap());
    let origins =
        site.sql("select count(distinct split_part(origin, '/', 2)) from portcullis_audit.cursors");
    assert_eq!(origins, "1", "each log is of one fleet");
}

#[test]
fn a_search_finds_by_each_of_its_filters_page_by_page_and_takes_text_for_text() {
    let mut site = Site::new(Version::V15);
    for port in 0..40 {
        site.gateway
            .apply(&[tenant("acme", port), tenant("globex", port)]);
    }
    wait::wait_for("the last change", SOON, || {
        let count = site.sql("select count(*) from portcullis_audit.entries");
        count.parse::<u64>().is_ok_and(|count| count >= 120)
    });
    site.has_all();
    // Nothing comes any more.
    site.gateway.kill();
    wait::wait_for("the last row", SOON, || {
        let here = "select count(*) from pg_stat_activity where application_name = 'portcullis-audit-index'";
        site.sql(here) == "0"
    });
    let all = site.found(&["--limit", "1000"]);
    let logged: usize = site.logged().values().map(Vec::len).sum();
    assert!(
        (120..=logged).contains(&all.len()),
        "{} of {logged}",
        all.len()
    );
    let order = |it: &Value| {
        let text = |name: &str| it[name].as_str().unwrap().to_owned();
        (text("at"), text("log"), it["index"].as_i64().unwrap())
    };
    assert!(all.is_sorted_by_key(order));

    // Page by page is the same.
    let mut pages = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let mut arguments = vec!["--limit", "7", "--json"];
        if let Some(after) = &after {
            arguments.extend(["--after", after]);
        }
        let said = site.search("reader", &arguments);
        let page: Value = serde_json::from_str(said.ok()).unwrap();
        let entries = page["entries"].as_array().unwrap();
        assert!(entries.len() <= 7);
        pages.extend(entries.iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    let places = |found: &[Value]| found.iter().map(order).collect::<Vec<_>>();
    assert_eq!(places(&pages), places(&all));
    assert_eq!(pages, all);

    // Each filter is what an independent look at all entries gives.
    let middle = all[all.len() / 2]["at"].as_str().unwrap().to_owned();
    let actor = all
        .iter()
        .find_map(|it| it["actor"].as_str())
        .unwrap()
        .to_owned();
    let is = |name: &'static str, value: &str| {
        let value = value.to_owned();
        Box::new(move |it: &Value| it[name] == value.as_str()) as Fits
    };
    let (from, to) = (middle.clone(), middle.clone());
    let cases: Vec<(Vec<&str>, Fits)> = vec![
        (vec!["--kind", "log.head"], is("kind", "log.head")),
        (vec!["--tenant", "globex"], is("tenant", "globex")),
        (vec!["--log", "acme"], is("log", "tenants/acme")),
        (vec!["--actor", &actor], is("actor", &actor)),
        (
            vec!["--from", &middle],
            Box::new(move |it| it["at"].as_str().unwrap() >= from.as_str()),
        ),
        (
            vec!["--to", &middle],
            Box::new(move |it| it["at"].as_str().unwrap() < to.as_str()),
        ),
        (
            vec!["--contains", r#"{"tenants":["globex"]}"#],
            Box::new(|it| {
                it["event"]["tenants"]
                    .as_array()
                    .is_some_and(|tenants| tenants.contains(&json!("globex")))
            }),
        ),
        (
            vec!["--kind", "policy.applied", "--tenant", "acme"],
            Box::new(|it| it["kind"] == "policy.applied" && it["tenant"] == "acme"),
        ),
    ];
    for (mut arguments, fits) in cases {
        arguments.extend(["--limit", "1000"]);
        let found = site.found(&arguments);
        let wanted: Vec<&Value> = all.iter().filter(|it| fits(it)).collect();
        assert!(
            !wanted.is_empty() && wanted.len() < all.len(),
            "{arguments:?}"
        );
        assert_eq!(found.iter().collect::<Vec<_>>(), wanted, "{arguments:?}");
    }

    // What would be a statement is a text, or refused.
    let evil = "x' or '1'='1'; drop schema portcullis_audit cascade; --";
    for name in ["--kind", "--actor"] {
        assert_eq!(site.found(&[name, evil]), Vec::<Value>::new(), "{name}");
    }
    let contains = json!({ "kind": evil, evil: evil }).to_string();
    assert_eq!(site.found(&["--contains", &contains]), Vec::<Value>::new());
    let after = format!("2027-01-01T00:00:00.000Z,{evil},1");
    for (name, evil) in [
        ("--log", evil),
        ("--tenant", evil),
        ("--from", evil),
        ("--to", evil),
        ("--limit", evil),
        ("--after", &after),
        ("--schema", evil),
        ("--schema", "x\";drop"),
        ("--contains", evil),
    ] {
        let said = site.search("reader", &[name, evil]);
        assert_eq!(said.status.code(), Some(2), "{name}: {said}");
    }
    assert_eq!(site.found(&["--limit", "1000"]), all);
    // A moment that a database does not have, and a character that it cannot keep.
    assert_eq!(
        site.found(&["--to", "0000-01-01T00:00:00.000Z"]),
        Vec::<Value>::new()
    );
    let said = site.search("reader", &["--contains", r#"{"a":"\u0000"}"#]);
    assert_eq!(said.status.code(), Some(1), "{said}");
    // As it is in the logs, and a reader writes nothing.
    let said = site.search("reader", &["--limit", "1000", "--check", &site.logs()]);
    assert!(
        said.ok().lines().all(|line| line.ends_with("as logged")),
        "{said}"
    );
    let said = site.search("stranger", &[]);
    assert_eq!(said.status.code(), Some(1), "{said}");
    assert!(said.stderr.contains("permission denied"), "{said}");
}

type Fits = Box<dyn Fn(&Value) -> bool>;

#[test]
fn a_tenants_role_sees_its_own_log_alone() {
    let site = Site::new(Version::V15);
    site.gateway.apply(&[tenant("globex", 1)]);
    wait::wait_for("its log", SOON, || {
        site.logged().contains_key("tenants/globex")
    });
    site.has_all();
    let logs = |role: &str| {
        let said = site.search(role, &["--limit", "1000", "--json"]);
        let found: Value = serde_json::from_str(said.ok()).unwrap();
        let logs = found["entries"].as_array().unwrap().iter();
        let mut logs: Vec<_> = logs
            .map(|it| it["log"].as_str().unwrap().to_owned())
            .collect();
        logs.sort();
        logs.dedup();
        logs
    };
    assert_eq!(logs("reader"), ["fleet", "tenants/acme", "tenants/globex"]);
    assert_eq!(logs("acme"), ["tenants/acme"]);
    assert_eq!(logs("globex"), ["tenants/globex"]);
    // Neither whose the others are, nor into any of it.
    let scratch = &site.scratch;
    let ca = scratch.path().join("db-ca.pem");
    let psql = |sql: &str| {
        let mut psql = Command::new("psql");
        psql.args(["--no-psqlrc", "-tA", "-c", sql])
            .env("PGPASSWORD", password("acme"))
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", &ca)
            .env("PGHOST", "localhost")
            .env("PGPORT", site.postgres.address().port().to_string())
            .env("PGUSER", "acme")
            .env("PGDATABASE", "audit");
        run(&psql, SOON)
    };
    let own = psql("select role, log from portcullis_audit.readers");
    assert_eq!(own.ok().trim(), "acme|tenants/acme");
    for refused in [
        "insert into portcullis_audit.readers values ('acme', '*')",
        "update portcullis_audit.readers set log = '*'",
        "delete from portcullis_audit.entries",
        "update portcullis_audit.entries set actor = 'x'",
        "select * from portcullis_audit.cursors",
        "alter table portcullis_audit.entries disable row level security",
    ] {
        let said = psql(refused);
        assert!(!said.status.success(), "{refused}: {said}");
    }
}

#[test]
fn nothing_is_said_to_a_database_that_is_not_who_it_should_be() {
    let site = Site::new(Version::V15);
    site.has_all();
    let port = site.postgres.address().port();
    let url = |host: &str| format!("postgresql://reader@{host}:{port}/audit");
    let ca = site.scratch.path().join("db-ca.pem").display().to_string();
    let other = portcullis_tests::TestAuthority::new("Others").pem();
    let other = site.scratch.write("other.pem", other).display().to_string();
    let password = site.password_file("reader").display().to_string();
    let readable = site
        .scratch
        .write("readable", "secret-words")
        .display()
        .to_string();
    let ask = |host: &str, more: &[&str]| {
        let url = url(host);
        let mut arguments = vec!["--index-url", url.as_str()];
        arguments.extend(more);
        search(&arguments)
    };
    let right = ask(
        "localhost",
        &["--index-ca", &ca, "--password-file", &password],
    );
    assert!(right.status.success(), "{right}");
    for (host, more, says) in [
        (
            "localhost",
            vec!["--index-ca", other.as_str(), "--password-file", &password],
            "certificate",
        ),
        (
            "127.0.0.1",
            vec!["--index-ca", &ca, "--password-file", &password],
            "certificate",
        ),
        // The server takes nobody in without TLS.
        (
            "127.0.0.1",
            vec!["--password-file", &password],
            "no pg_hba.conf entry",
        ),
        (
            "db.example",
            vec!["--password-file", &password],
            "name the file with the authorities",
        ),
        ("localhost", vec!["--index-ca", &ca], "password"),
        (
            "localhost",
            vec!["--index-ca", &ca, "--password-file", &readable],
            "chmod 600",
        ),
    ] {
        let said = ask(host, &more);
        assert_eq!(said.status.code(), Some(1), "{said}");
        assert!(said.stderr.contains(says), "{says}: {said}");
        assert!(!said.stderr.contains("secret-words"), "{said}");
    }
}
