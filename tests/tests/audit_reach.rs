//! Who could reach an endpoint at a moment in the past, told from a fleet's own log by the tool alone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use portcullis_audit::moment;
use portcullis_tests::policy::EndpointText;
use portcullis_tests::{Finished, Fleet, Scratch, TenantText, gateway, process, wait};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);

/// Logs that a fleet wrote, and when what was so.
struct Kept {
    scratch: Scratch,
    moments: Vec<String>,
}

impl Kept {
    fn ask(&self, at: &str, more: &[&str]) -> Finished {
        self.ask_of("acme/orders", at, more)
    }

    fn ask_of(&self, to: &str, at: &str, more: &[&str]) -> Finished {
        let path = |name: &str| self.scratch.path().join(name);
        let mut command = Command::new(gateway::binary());
        command.args(["audit", "reach"]).arg(path("logs"));
        command.arg("--trust").arg(path("trust"));
        command.args(["--to", to, "--at", at]).args(more);
        process::run(&command, SOON)
    }

    fn json(&self, moment: usize, from: &str) -> Value {
        let told = self.ask(&self.moments[moment], &["--from", from, "--json"]);
        serde_json::from_str(told.ok()).unwrap()
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap().as_millis()).unwrap()
}

/// A tenant with these entries: each a prefix, and what else stands in its line.
fn tenant(fleet: &Fleet, entries: &[(String, String)]) -> TenantText {
    let endpoint = EndpointText::new("orders", "acme-orders.db.test");
    let endpoint = entries.iter().fold(endpoint, |endpoint, (prefix, more)| {
        endpoint.allow_with(prefix, "public", more)
    });
    TenantText::new("acme")
        .cluster("orders", &fleet.postgres)
        .endpoint(endpoint)
}

#[test]
fn the_log_tells_who_could_reach_an_endpoint_then_and_under_which_change() {
    let fleet = Fleet::of(1);
    let entry = |prefix: &str| (prefix.to_owned(), String::new());
    let mut moments = vec!["2020-01-01T00:00:00Z".to_owned()];
    let ends_ms = now() + 5_000;
    let ends = moment::to_text(ends_ms);
    let lasting = ("192.0.2.0/24".to_owned(), format!(", expires: {ends}"));
    let many = (0..300).map(|number| entry(&format!("10.{}.{}.0/24", number / 200, number % 200)));
    let steps: [Vec<(String, String)>; 4] = [
        vec![entry("203.0.113.0/24")],
        vec![entry("203.0.113.0/24"), entry("198.51.100.0/24"), lasting],
        vec![entry("203.0.113.0/24")],
        many.collect(),
    ];
    for entries in &steps {
        std::thread::sleep(Duration::from_millis(20));
        let _ = fleet.nodes[0].apply(&[tenant(&fleet, entries)]).ok();
        std::thread::sleep(Duration::from_millis(20));
        moments.push(moment::to_text(now()));
        if moments.len() == 3 {
            let left = u64::try_from(ends_ms - now()).unwrap_or_default();
            std::thread::sleep(Duration::from_millis(left + 20));
        }
    }
    let kept = keep(&fleet, moments);

    // Before there was anything, and after the first change.
    let told = kept.json(0, "203.0.113.7");
    assert_eq!(
        (&told["in_force"], &told["reach"]),
        (&Value::Null, &Value::Null)
    );
    let told = kept.json(1, "203.0.113.7");
    assert_eq!(
        told["reach"]["public"],
        serde_json::json!(["203.0.113.0/24"])
    );
    assert_eq!(told["attempt"]["permitted"], true);
    assert_eq!(
        told["attempt"]["admitted_by"]["entry"],
        told["in_force"]["entry"]
    );
    let first = told["in_force"]["revision"].as_u64().unwrap();
    let told = kept.json(1, "198.51.100.7");
    assert_eq!(told["attempt"]["permitted"], false);
    assert_eq!(told["attempt"]["admitted_by"], Value::Null);

    // Two were added: who was there before was admitted by the first.
    let told = kept.json(2, "203.0.113.7");
    assert_eq!(told["attempt"]["admitted_by"]["revision"], first);
    let second = told["changed_by"]["revision"].as_u64().unwrap();
    assert!(second > first);
    let told = kept.json(2, "198.51.100.7");
    assert_eq!(told["attempt"]["admitted_by"]["revision"], second);
    assert_eq!(kept.json(2, "192.0.2.1")["attempt"]["permitted"], true);
    // They were taken out again, and then everything was another, in a document of many parts.
    let told = kept.json(3, "198.51.100.7");
    assert_eq!(told["attempt"]["permitted"], false);
    assert_eq!(
        told["reach"]["public"],
        serde_json::json!(["203.0.113.0/24"])
    );
    let told = kept.json(4, "10.1.99.5");
    assert_eq!(told["attempt"]["permitted"], true, "{told}");
    assert_eq!(told["changed_by"], told["in_force"]);
    // An entry's own end counts, though the change was in force longer.
    let told = kept.ask(&ends, &["--from", "192.0.2.1"]);
    assert!(told.ok().contains("192.0.2.1 via public: NO"), "{told}");
    assert!(told.ok().contains("198.51.100.0/24"), "{told}");

    let told = kept.ask_of("acme/nothing", &kept.moments[2], &[]);
    assert!(told.ok().contains("there was no such endpoint"), "{told}");
    // A tenant without a log.
    assert!(
        !kept
            .ask_of("globex/orders", &kept.moments[2], &[])
            .status
            .success()
    );

    // A changed byte anywhere, and nothing is told.
    let file = bundle(&kept.scratch.path().join("logs/tenants/acme"));
    let good = std::fs::read(&file).unwrap();
    let mut bad = good.clone();
    let at = good
        .windows(11)
        .position(|it| it == b"203.0.113.0")
        .unwrap();
    bad[at] = b'1';
    std::fs::write(&file, bad).unwrap();
    let told = kept.ask(&kept.moments[2], &[]);
    assert_eq!(told.status.code(), Some(7), "{told}");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(kept.ask(&kept.moments[2], &[]).status.code(), Some(8));
    std::fs::write(&file, good).unwrap();
    let _ = kept.ask(&kept.moments[2], &[]).ok();
}

/// Whom to believe, and the logs as the node has them once the last change is signed.
fn keep(fleet: &Fleet, moments: Vec<String>) -> Kept {
    let scratch = Scratch::new("audit-reach");
    let socket = fleet.nodes[0].socket().display().to_string();
    let kept = Kept { scratch, moments };
    let told = fleet.nodes[0].portcullis(&["audit", "trust", "--socket", &socket]);
    std::fs::write(
        kept.scratch.path().join("trust"),
        format!("{}\n", told.ok()),
    )
    .unwrap();
    let to = kept.scratch.path().join("logs").display().to_string();
    let trust = kept.scratch.path().join("trust").display().to_string();
    wait::wait_for("all of it to be signed", SOON, || {
        let fetch = [
            "audit", "fetch", &to, "--trust", &trust, "--socket", &socket,
        ];
        let fetched = fleet.nodes[0].portcullis(&fetch).status.success();
        let last = kept.moments.last().unwrap();
        let told = kept.ask(last, &["--from", "10.0.0.1"]);
        fetched && told.stdout.contains("10.0.0.1 via public: YES")
    });
    kept
}

/// The only bundle of entries of a short log.
fn bundle(log: &Path) -> PathBuf {
    let folder = std::fs::read_dir(log.join("tile/entries/000.p")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|it| it.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}
