//! Audit logs are kept for as long as the fleet decided, and what they let go of is no gap.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use portcullis_audit::moment;
use portcullis_tests::policy::EndpointText;
use portcullis_tests::{Finished, Fleet, Scratch, TenantText, gateway, process, wait};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn tenant(fleet: &Fleet, number: u32) -> TenantText {
    let prefix = format!("203.0.{}.{}/32", 100 + number / 250, number % 250);
    let endpoint = EndpointText::new("orders", "acme-orders.db.test");
    let endpoint = endpoint.allow(&prefix, "public");
    TenantText::new("acme")
        .cluster("orders", &fleet.postgres)
        .endpoint(endpoint)
}

fn now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    moment::to_text(i64::try_from(since.unwrap().as_millis()).unwrap())
}

/// A fleet of three with changes enough that its logs have whole bundles.
struct Site {
    fleet: Fleet,
    scratch: Scratch,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            fleet: Fleet::of(3),
            scratch: Scratch::new("audit-kept"),
        };
        let trust = site.command(0, &["audit", "trust"]);
        std::fs::write(site.trust(), format!("{}\n", trust.ok())).unwrap();
        site
    }

    fn change(&self, numbers: std::ops::Range<u32>) {
        let leader = self.fleet.leader();
        for number in numbers {
            let _ = self.fleet.nodes[leader]
                .apply(&[tenant(&self.fleet, number)])
                .ok();
        }
    }

    fn trust(&self) -> PathBuf {
        self.scratch.path().join("trust")
    }

    fn command(&self, node: usize, arguments: &[&str]) -> Finished {
        let node = &self.fleet.nodes[node];
        let socket = node.socket().display().to_string();
        node.portcullis(&[arguments, &["--socket", &socket]].concat())
    }

    fn audit(&self, node: usize, folder: &str) -> PathBuf {
        self.fleet.nodes[node].data().join("audit").join(folder)
    }

    /// The whole bundles of a log that a node has.
    fn bundles(&self, node: usize, log: &str) -> Vec<u32> {
        let folder = self.audit(node, "logs").join(log).join("tile/entries");
        let names = std::fs::read_dir(folder).into_iter().flatten();
        let names = names.filter_map(|it| it.unwrap().file_name().into_string().ok());
        let mut numbers: Vec<u32> = names.filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// The lines that open what a log says, on a node.
    fn openings(&self, node: usize, log: &str) -> usize {
        let folder = self.audit(node, "openings").join(log);
        let files = std::fs::read_dir(folder).into_iter().flatten();
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        files
            .map(|it| read(it.unwrap().path()).lines().count())
            .sum()
    }

    /// A copy of a node's logs that is whole.
    fn copy(&self, node: usize) -> PathBuf {
        let copy = self.scratch.path().join("copy");
        let logs = self.audit(node, "logs");
        wait::wait_for("a copy that is whole", SOON, || {
            drop(std::fs::remove_dir_all(&copy));
            let made = Command::new("cp").arg("-r").arg(&logs).arg(&copy).output();
            made.unwrap().status.success() && self.tool("verify", &copy, &[]).status.success()
        });
        copy
    }

    fn tool(&self, what: &str, logs: &Path, more: &[&str]) -> Finished {
        let mut command = Command::new(gateway::binary());
        command.args(["audit", what]).arg(logs);
        if what != "prove" {
            command.arg("--trust").arg(self.trust());
        }
        process::run(command.args(more), SOON)
    }

    fn reach(&self, logs: &Path, at: &str) -> Finished {
        self.tool(
            "reach",
            logs,
            &["--to", "acme/orders", "--at", at, "--json"],
        )
    }
}

#[test]
fn what_was_kept_for_long_enough_goes_everywhere_and_a_hold_wins() {
    let mut site = Site::new();
    let held = [
        "audit",
        "hold",
        "lawsuit",
        "--tenant",
        "acme",
        "--reason",
        "a court asked",
    ];
    assert!(site.command(0, &held).status.success());
    site.change(0..3);
    let early = now();
    site.change(3..620);
    let told = site.command(1, &["audit", "keep"]);
    assert_eq!(
        told.ok(),
        "entries                forever\nwhat opens persons     forever\nhold lawsuit (acme): a court asked"
    );
    let keep = ["audit", "keep", "--entries", "1s", "--personal", "2s"];
    let told = site.command(2, &keep);
    assert!(told.status.success(), "{told}");

    // The fleet's log lets go of its first bundles on every node, and the tenant's of nothing.
    for node in 0..3 {
        wait::wait_for("entries to go", SOON, || {
            let left = site.bundles(node, "fleet");
            !left.contains(&0) && !left.contains(&1)
        });
        wait::wait_for("what opens them to go", SOON, || {
            site.openings(node, "fleet") < 20
        });
        assert_eq!(site.bundles(node, "tenants/acme"), [0, 1]);
        assert!(site.openings(node, "tenants/acme") > 500);
    }
    let copy = site.copy(1);
    let told = site.tool("verify", &copy, &[]);
    assert!(told.ok().contains("were let go of, as entry "), "{told}");
    assert!(
        told.ok().contains("there but for what was let go of"),
        "{told}"
    );
    assert_eq!(site.reach(&copy, &early).status.code(), Some(0));

    // Once nothing holds them any more they go, too; but for the policy at the place from which all is kept.
    let released = site.command(0, &["audit", "release", "lawsuit"]);
    assert!(released.status.success(), "{released}");
    for node in 0..3 {
        wait::wait_for("the tenant's entries to go", SOON, || {
            site.bundles(node, "tenants/acme") == [1]
        });
        wait::wait_for("what opens them to go", SOON, || {
            site.openings(node, "tenants/acme") < 20
        });
    }
    let copy = site.copy(2);
    let told = site.reach(&copy, &now());
    let told: Value = serde_json::from_str(told.ok()).unwrap();
    assert_eq!(
        told["reach"]["public"],
        serde_json::json!(["203.0.102.119/32"])
    );
    let told = site.reach(&copy, &early);
    assert_eq!(told.status.code(), Some(8), "{told}");
    assert!(told.stderr.contains("was let go of since"), "{told}");
    let told = site.tool("prove", &copy, &["--log", "acme", "--index", "3"]);
    assert!(
        !told.status.success() && told.stderr.contains("let go of"),
        "{told}"
    );

    // What is not said is a gap as before.
    let said = copy.join("tenants/acme/kept-from");
    let line = std::fs::read_to_string(&said).unwrap();
    std::fs::write(
        &said,
        line.replace("\"kept_from\":512", "\"kept_from\":256"),
    )
    .unwrap();
    std::fs::remove_file(copy.join("tenants/acme/tile/entries/001")).unwrap();
    let told = site.tool("verify", &copy, &[]);
    assert_eq!(told.status.code(), Some(8), "{told}");
    std::fs::write(&said, &line).unwrap();
    let told = site.tool("verify", &copy, &[]);
    assert_eq!(told.status.code(), Some(0), "{told}");
    std::fs::remove_file(&said).unwrap();
    let told = site.tool("verify", &copy, &[]);
    assert_eq!(told.status.code(), Some(8), "{told}");

    // A node that lost its files has what there is from the others, and the hashes of the rest.
    site.fleet.nodes[1].kill();
    for folder in ["logs/tenants", "logs/fleet", "openings"] {
        std::fs::remove_dir_all(site.audit(1, folder)).unwrap();
    }
    site.fleet.nodes[1].start();
    site.fleet.settled();
    wait::wait_for("the log to be had again", SOON, || {
        site.bundles(1, "tenants/acme") == [1]
            && site
                .audit(1, "logs")
                .join("tenants/acme/kept-from")
                .exists()
    });
    let copy = site.copy(1);
    assert!(!copy.join("fleet/tile/entries/000").exists());
    assert!(copy.join("fleet/tile/0/000").exists());

    // One that stops and starts goes on, and so does a copy that is fetched.
    for node in 0..3 {
        site.fleet.nodes[node].kill();
        site.fleet.nodes[node].start();
    }
    site.fleet.settled();
    site.change(620..640);
    site.copy(0);
    let fetched = site.scratch.path().join("fetched");
    let folder = fetched.display().to_string();
    let trust = site.trust().display().to_string();
    let fetch = ["audit", "fetch", &folder, "--trust", &trust];
    let told = site.command(0, &fetch);
    assert!(told.status.success(), "{told}");
    assert!(told.ok().contains("were let go of"), "{told}");
    let told = site.command(0, &fetch);
    assert!(told.status.success(), "{told}");
    let told = site.tool("verify", &fetched, &[]);
    assert!(told.status.success(), "{told}");

    // An auditor's bundle says what is not in it.
    let bundle = site.scratch.path().join("bundle");
    let out = bundle.display().to_string();
    let period = [
        "--from",
        "2020-01-01T00:00:00Z",
        "--to",
        "2100-01-01T00:00:00Z",
        "--out",
        &out,
    ];
    let told = site.tool("export", &fetched, &period);
    assert!(told.status.success(), "{told}");
    let manifest = std::fs::read(bundle.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["logs"][1]["gone"]["kept_from"], 512);
    let checked = Command::new("python3")
        .args(["-I", "-S", "verify.py"])
        .arg(site.trust())
        .current_dir(&bundle)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{text}");
}
