//! Who may command a fleet over the network, with real processes: certificates by `operator add`, the
//! command line over TLS, roles, two people.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use portcullis_tests::process::{self, Finished, Service};
use portcullis_tests::{Scratch, TestAuthority, gateway, ports, wait};
use rustix::process::Signal;
use serde_json::Value;

/// How long the node may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

const REFUSED: i32 = 3;
const WAITS: i32 = 6;
const CONTRADICTED: i32 = 9;

#[test]
fn operators_command_the_fleet_over_tls_each_within_their_roles() {
    let fleet = Fleet::start(&[]);
    for (name, roles, tenants) in [
        ("paul", "policy-author", ""),
        ("rita", "reader", ""),
        ("tess", "tenant-operator", "acme"),
    ] {
        fleet.enlist(name, roles, tenants);
    }
    fleet.write("policy/acme.yaml", &tenant("acme", "203.0.113.0/24"));
    fleet.write("policy/globex.yaml", &tenant("globex", "203.0.113.0/24"));

    let finished = fleet.by("rita", &["apply", &fleet.path("policy")]);
    assert_eq!(code(&finished), REFUSED, "{finished}");
    let applied = fleet.by("paul", &["apply", &fleet.path("policy"), "--receipt"]);
    done(&applied);
    done(&fleet.by("rita", &["policy", "show", "globex"]));

    fleet.write("own/acme.yaml", &tenant("acme", "198.51.100.0/24"));
    done(&fleet.by("tess", &["apply", &fleet.path("own")]));
    fleet.write("foreign/globex.yaml", &tenant("globex", "198.51.100.0/24"));
    let finished = fleet.by("tess", &["apply", &fleet.path("foreign")]);
    assert_eq!(code(&finished), REFUSED, "{finished}");
    let foreign = fleet.by("tess", &["policy", "show", "globex"]);
    let nobodys = fleet.by("tess", &["policy", "show", "nobody"]);
    assert_eq!(
        foreign.stderr.replace("globex", "TENANT"),
        nobodys.stderr.replace("nobody", "TENANT"),
        "a foreign tenant must look like one that does not exist"
    );

    let shown: Value =
        serde_json::from_str(fleet.by("paul", &["policy", "show", "acme", "--json"]).ok())
            .expect("JSON");
    let seen = shown["document_revision"].to_string();
    fleet.write("acme.yaml", &tenant("acme", "192.0.2.1"));
    let file = fleet.path("acme.yaml");
    done(&fleet.by(
        "paul",
        &["policy", "put", "acme", &file, "--expected", &seen],
    ));
    let late = fleet.by(
        "paul",
        &["policy", "put", "acme", &file, "--expected", &seen],
    );
    assert_eq!(code(&late), REFUSED, "{late}");

    done(&fleet.local(&["operator", "remove", "rita"]));
    let finished = fleet.by("rita", &["status"]);
    assert_eq!(code(&finished), REFUSED, "{finished}");
    let events = fleet.events();
    let by = |kind: &str, by: &str| {
        events
            .iter()
            .any(|event| event["kind"] == kind && event["by"] == by)
    };
    assert!(by("policy.applied", "operator paul"));
    assert!(by("policy.applied", "operator tess"));
    assert!(by("admin.refused", "operator rita"));
}

#[test]
fn an_entry_for_everyone_takes_a_second_person() {
    let fleet = Fleet::start(&["--two-people"]);
    // The first who can be a second person needs none.
    fleet.enlist("olga", "fleet-operator", "");
    let more = fleet.local(&[
        "operator",
        "add",
        "paul",
        "--roles",
        "policy-author",
        "--out",
        &fleet.path("paul"),
    ]);
    assert_eq!(code(&more), WAITS, "{more}");
    let waiting: Value =
        serde_json::from_str(fleet.by("olga", &["pending", "--json"]).ok()).expect("JSON");
    done(&fleet.approve("olga", &waiting["pending"][0]));
    fleet.enlist("paul", "policy-author", "");

    fleet.write("policy/acme.yaml", &tenant("acme", "anywhere"));
    let plan = fleet.by("paul", &["plan", &fleet.path("policy")]);
    assert!(plan.ok().contains("needs a second person"), "{plan}");
    let finished = fleet.by("paul", &["apply", &fleet.path("policy"), "--json"]);
    assert_eq!(code(&finished), WAITS, "{finished}");
    let reply: Value = serde_json::from_str(finished.stdout.trim()).expect("JSON");
    let same = fleet.approve("paul", &reply["pending"]);
    assert_eq!(code(&same), REFUSED, "{same}");
    let approved = fleet.approve("olga", &reply["pending"]);
    assert!(
        approved.ok().contains("in force on 1/1 nodes"),
        "{approved}"
    );
    done(&fleet.by("paul", &["policy", "show", "acme"]));

    let rails = fleet.by("olga", &["guard-rails", "set", "--anywhere", "one"]);
    assert_eq!(code(&rails), WAITS, "{rails}");
    let kinds: Vec<Value> = fleet
        .events()
        .iter()
        .map(|event| event["kind"].clone())
        .collect();
    assert!(kinds.contains(&"change.waiting".into()) && kinds.contains(&"change.approved".into()));
}

#[test]
fn a_tenant_keeps_a_copy_of_its_own_log_and_notices_one_that_went_back() {
    let fleet = Fleet::start(&[]);
    fleet.enlist("tess", "tenant-operator", "acme");
    fleet.enlist("audrey", "auditor", "");
    let apply = |prefix: &str| {
        for id in ["acme", "globex"] {
            fleet.write(&format!("policy/{id}.yaml"), &tenant(id, prefix));
        }
        done(&fleet.local(&["apply", &fleet.path("policy")]));
    };
    let fetch = |name: &str, to: &str, more: &[&str]| {
        let (to, trust) = (fleet.path(to), fleet.path("trust"));
        let arguments = ["audit", "fetch", &to, "--trust", &trust];
        fleet.by(name, &[&arguments, more].concat())
    };
    let size = |log: &str| {
        let text = std::fs::read_to_string(fleet.path(log)).unwrap_or_default();
        let size = text.lines().nth(1).and_then(|line| line.parse().ok());
        size.unwrap_or(0_u64)
    };
    apply("203.0.113.0/24");
    let told = fleet.by("tess", &["audit", "trust"]);
    fleet.write("trust", &format!("{}\n", told.ok()));

    wait::wait_for("acme's log to be there", START_LIMIT, || {
        fetch("tess", "own", &[]).status.success()
    });
    let served = "data/audit/logs/tenants/acme/checkpoint";
    assert_eq!(size("own/tenants/acme/checkpoint"), 1);
    assert!(!std::fs::exists(fleet.path("own/fleet")).expect("readable"));
    assert!(!std::fs::exists(fleet.path("own/tenants/globex")).expect("readable"));
    // A foreign tenant's looks like one that does not exist.
    let foreign = fetch("tess", "none", &["--log", "globex"]);
    let nobodys = fetch("tess", "none", &["--log", "nobody"]);
    assert_eq!(code(&foreign), 1, "{foreign}");
    assert_eq!(
        foreign.stderr.replace("globex", "TENANT"),
        nobodys.stderr.replace("nobody", "TENANT")
    );
    assert_eq!(code(&fetch("tess", "none", &["--log", "fleet"])), 1);

    // The log goes on, and so does the copy; an auditor has all of them.
    let early = std::fs::read(fleet.path(served)).expect("a checkpoint");
    for number in 0..3 {
        apply(&format!("198.51.100.{number}"));
    }
    wait::wait_for("the log to have grown", START_LIMIT, || size(served) == 4);
    done(&fetch("tess", "own", &[]));
    assert_eq!(size("own/tenants/acme/checkpoint"), 4);
    let all = fetch("audrey", "all", &[]);
    assert!(all.ok().contains("3 logs"), "{all}");
    assert!(all.ok().contains("everything is there"), "{all}");

    // The node shows an older one: it is told, proved, and not believed.
    std::fs::write(fleet.path(served), early).expect("the node's own file");
    let told = fetch("tess", "own", &[]);
    assert_eq!(code(&told), CONTRADICTED, "{told}");
    assert!(told.stderr.contains("kept as proof"), "{told}");
    assert_eq!(size("own/tenants/acme/checkpoint"), 4);
}

/// A fleet of one control node, which listens for operators.
struct Fleet {
    scratch: Scratch,
    api: u16,
    // Stopped before the directory goes.
    _service: Service,
}

impl Fleet {
    fn start(init: &[&str]) -> Self {
        let scratch = Scratch::new("operators");
        let api = ports::free();
        let mesh = ports::free();
        let authority = TestAuthority::new("Test server authority");
        let _ = authority.server(&["*.db.test"]).write(&scratch, "server");
        scratch.write(
            "node.toml",
            format!(
                "name = \"n1\"\ndata = \"data\"\n[admin]\nsocket = \"admin.sock\"\n[fleet]\nroles = [\"control\"]\nlisten = \"127.0.0.1:{mesh}\"\n[api]\nlisten = \"127.0.0.1:{api}\"\n[[certificate]]\nchain = \"server.pem\"\nkey = \"server.key\"\n"
            ),
        );
        let config = scratch.path().join("node.toml");
        let mut command = Command::new(gateway::binary());
        command.arg("init").arg("--config").arg(&config);
        command
            .arg("--recovery-key")
            .arg(scratch.path().join("recovery.key"))
            .args(init);
        done(&process::run(&command, COMMAND_LIMIT));
        let mut command = Command::new(gateway::binary());
        command.arg("serve").arg("--config").arg(&config);
        let log = scratch.path().join("log");
        let mut service = Service::start("a control node", &command, &log, Signal::INT);
        let socket = scratch.path().join("admin.sock");
        let up = wait::until(START_LIMIT, || {
            let answers = UnixStream::connect(&socket).is_ok();
            (answers || service.ended().is_some()).then_some(answers)
        });
        assert_eq!(up, Some(true), "{}", service.log());
        let fleet = Self {
            scratch,
            api,
            _service: service,
        };
        wait::until(START_LIMIT, || {
            let standing = fleet.local(&["fleet", "status", "--json"]);
            let standing: Value = serde_json::from_str(standing.stdout.trim()).ok()?;
            (standing["quorum"] == true).then_some(())
        })
        .expect("a fleet of one has a quorum");
        fleet
    }

    /// Makes an operator, with a key and certificate in a directory of that name.
    fn enlist(&self, name: &str, roles: &str, tenants: &str) {
        let out = self.path(name);
        let mut arguments = vec!["operator", "add", name, "--roles", roles, "--out", &out];
        if !tenants.is_empty() {
            arguments.extend(["--tenants", tenants]);
        }
        done(&self.local(&arguments));
    }

    fn approve(&self, name: &str, pending: &Value) -> Finished {
        let id = pending["id"].to_string();
        let digest = pending["digest"].as_str().expect("a digest");
        self.by(name, &["approve", &id, "--digest", digest])
    }

    /// A command on the node's machine.
    fn local(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(gateway::binary());
        command
            .args(arguments)
            .env("PORTCULLIS_SOCKET", self.path("admin.sock"));
        process::run(&command, COMMAND_LIMIT)
    }

    /// A command by an operator, over the network.
    fn by(&self, name: &str, arguments: &[&str]) -> Finished {
        let mut command = Command::new(gateway::binary());
        command
            .args(arguments)
            .arg("--node")
            .arg(format!("127.0.0.1:{}", self.api))
            .arg("--identity")
            .arg(self.path(name));
        process::run(&command, COMMAND_LIMIT)
    }

    fn write(&self, name: &str, text: &str) {
        self.scratch.write(name, text);
    }

    fn path(&self, name: &str) -> String {
        self.scratch.path().join(name).display().to_string()
    }

    fn events(&self) -> Vec<Value> {
        let file: PathBuf = self.scratch.path().join("data/audit/events.jsonl");
        let text = std::fs::read_to_string(file).expect("events");
        let events = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        events.collect()
    }
}

fn done(finished: &Finished) {
    assert!(finished.status.success(), "{finished}");
}

fn code(finished: &Finished) -> i32 {
    finished.status.code().unwrap_or(-1)
}

fn tenant(id: &str, prefix: &str) -> String {
    format!(
        "tenant: {id}\n\
         clusters:\n  orders:\n    engine: postgresql\n    backends: [\"10.0.0.10:5432\"]\n    tls: unencrypted-and-unverified\n    \
         service: {{role: portcullis_service, database: postgres}}\n\
         endpoints:\n  orders:\n    cluster: orders\n    names: [{id}-orders.db.test]\n    authentication: scram\n    \
         doors: [public]\n    allow:\n      - {{prefix: {prefix}, origin: public, note: office, owner: ops@{id}.example}}\n"
    )
}
