//! A fleet asks witnesses to cosign its checkpoints: they come whoever leads, a rollback is caught, and a witness that lies is not believed.

#[path = "logs/mod.rs"]
mod logs;

#[path = "liars/mod.rs"]
mod liars;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use liars::{Liar, respond};
use portcullis_audit::tlog::{Checkpoint, KeyKind, Note, NoteKey, Said, TrustPolicy};
use portcullis_tests::fleet::{Guests, Node};
use portcullis_tests::gateway::binary;
use portcullis_tests::process::Service;
use portcullis_tests::{Fleet, Scratch, ports, wait};
use rustix::process::Signal;
use serde_json::Value;

const LOGS: [&str; 2] = ["fleet", "tenants/acme"];
/// A machine under load takes its time.
const LONG: Duration = Duration::from_secs(120);

#[test]
fn checkpoints_are_witnessed_whoever_leads_and_again_once_the_witness_is_back() {
    let mut fleet = Fleet::of(3);
    let mut witness = Witness::start(&trust(&fleet.nodes[0]));
    for node in &mut fleet.nodes {
        enter(node, "customer", &witness.url(), &witness.key.to_string());
    }
    fleet.settled();
    let all = |fleet: &Fleet, witness: &Witness| {
        let mut running = fleet.nodes.iter().filter(|node| node.runs());
        running.all(|node| LOGS.iter().all(|log| is_witnessed(node, log, &witness.key)))
    };
    wait::wait_for("cosignatures on every node", LONG, || all(&fleet, &witness));

    // The policy that a node prints names the witness, and asks for a majority as before; whoever asks for both believes what was witnessed.
    let printed = trust(&fleet.nodes[1]);
    assert!(
        printed.contains(&format!("\nwitness customer {}\n", witness.key)),
        "{printed}"
    );
    assert!(printed.ends_with("quorum voters\n"), "{printed}");
    let both = "group both all voters customer\nquorum both\n";
    let both = printed.replace("quorum voters\n", both);
    let policy = TrustPolicy::parse(&both).unwrap();
    let scratch = Scratch::new("witnessed");
    let file = scratch.write("both.policy", &both).display().to_string();
    wait::wait_for("a stranger's yes", LONG, || {
        let copy = scratch.path().join("copy");
        drop(fs::remove_dir_all(&copy));
        logs::copy(&fleet.nodes[1].data().join("audit/logs/fleet"), &copy);
        assert!(policy.check(&read(&copy, "checkpoint").unwrap()).is_err());
        let note = read(&copy, "checkpoint.witnessed").unwrap();
        assert!(policy.check(&note).is_ok(), "{note}");
        fs::copy(copy.join("checkpoint.witnessed"), copy.join("checkpoint")).unwrap();
        // A partial tile may have been superseded meanwhile.
        logs::stranger(&["log", &copy.display().to_string(), &file])
            .status
            .success()
    });

    // Whoever checks the whole is told how much was witnessed, and when.
    let plain = scratch
        .write("trust.policy", &printed)
        .display()
        .to_string();
    wait::wait_for("what verify says of it", LONG, || {
        let copy = scratch.path().join("whole");
        drop(fs::remove_dir_all(&copy));
        logs::copy(&fleet.nodes[1].data().join("audit/logs"), &copy);
        let whole = size_in(&copy.join("tenants/acme"), "checkpoint.witnessed");
        let said = logs::audit(&["verify", &copy.display().to_string(), "--trust", &plain]);
        let line = format!("; {whole} entries witnessed by customer at 20");
        let whole = said.status.success() && said.to_string().contains(&line);
        if whole {
            // A log without what was witnessed of it.
            let newer = read(&copy.join("fleet"), "checkpoint.witnessed").unwrap();
            fs::write(
                copy.join("tenants/acme/checkpoint.witnessed"),
                newer.to_string(),
            )
            .unwrap();
            let said = logs::audit(&["verify", &copy.display().to_string(), "--trust", &plain]);
            assert!(
                said.status.success() && !said.to_string().contains(&line),
                "{said}"
            );
        }
        whole
    });

    // Nobody hands anything over: the others go on.
    let leader = fleet.leader();
    fleet.nodes[leader].kill();
    let next = fleet.leader_but(Some(leader));
    let before = size(&fleet.nodes[next], "tenants/acme", "checkpoint.witnessed");
    let _ = fleet.nodes[next].apply(&[fleet.policy(Guests::Unwelcome)]);
    wait::wait_for("what was changed since", LONG, || {
        all(&fleet, &witness)
            && size(&fleet.nodes[next], "tenants/acme", "checkpoint.witnessed") > before
    });
    fleet.nodes[leader].start();
    wait::wait_for("all three", LONG, || all(&fleet, &witness));

    // Without it the logs go on, and it is seen how old the last cosignature is.
    witness.stop();
    let before = size(&fleet.nodes[next], "tenants/acme", "checkpoint.witnessed");
    let _ = fleet.nodes[next].apply(&[fleet.policy(Guests::Welcome)]);
    wait::wait_for("a log that goes on", LONG, || {
        size(&fleet.nodes[next], "tenants/acme", "checkpoint") > before
    });
    wait::wait_for("an age that grows", LONG, || age(&fleet.nodes[next]) >= 5.0);
    assert_eq!(
        size(&fleet.nodes[next], "tenants/acme", "checkpoint.witnessed"),
        before
    );
    witness.start_again();
    wait::wait_for("all of it", LONG, || {
        all(&fleet, &witness)
            && size(&fleet.nodes[next], "tenants/acme", "checkpoint.witnessed") > before
    });
    for node in &fleet.nodes {
        assert!(!node.log_text().contains("CONTRADICTED"));
    }
}

#[test]
fn a_fleet_from_an_older_disk_is_told_and_so_is_its_other_history() {
    let mut fleet = Fleet::of(1);
    let witness = Witness::start(&trust(&fleet.nodes[0]));
    enter(
        &mut fleet.nodes[0],
        "customer",
        &witness.url(),
        &witness.key.to_string(),
    );
    fleet.settled();
    let whole = |node: &Node| LOGS.iter().all(|log| is_witnessed(node, log, &witness.key));
    wait::wait_for("cosignatures", LONG, || whole(&fleet.nodes[0]));
    let printed = trust(&fleet.nodes[0]);
    fleet.nodes[0].stop();
    let scratch = Scratch::new("older");
    let (data, older) = (fleet.nodes[0].data(), scratch.path().join("data"));
    copy_whole(&data, &older);
    let tenant = "tenants/acme";
    let before = size(&fleet.nodes[0], tenant, "checkpoint.witnessed");
    fleet.nodes[0].start();
    for guests in [
        Guests::Unwelcome,
        Guests::Welcome,
        Guests::Unwelcome,
        Guests::Welcome,
    ] {
        let _ = fleet.nodes[0].apply(&[fleet.policy(guests)]).ok();
    }
    wait::wait_for("more of it", LONG, || {
        whole(&fleet.nodes[0])
            && size(&fleet.nodes[0], tenant, "checkpoint.witnessed") >= before + 4
    });
    fleet.nodes[0].stop();
    let witnessed = size(&fleet.nodes[0], tenant, "checkpoint.witnessed");
    fs::rename(&data, scratch.path().join("newer")).unwrap();
    copy_whole(&older, &data);
    // What was witnessed later binds the files of before: whoever has both finds it without asking anybody.
    let copy = scratch.path().join("logs");
    logs::copy(&older.join("audit/logs"), &copy);
    let later = scratch.path().join("newer/audit/logs").join(tenant);
    fs::copy(
        later.join("checkpoint.witnessed"),
        copy.join(tenant).join("checkpoint.witnessed"),
    )
    .unwrap();
    let policy = scratch
        .write("trust.policy", &printed)
        .display()
        .to_string();
    let said = logs::audit(&["verify", &copy.display().to_string(), "--trust", &policy]);
    assert_eq!(said.status.code(), Some(9), "{said}");
    fleet.nodes[0].start();
    fleet.settled();
    let node = &fleet.nodes[0];
    let told = |cause: &str| {
        node.events().into_iter().find(|event| {
            event["kind"] == "log.contradicted" && event["cause"] == cause && event["log"] == tenant
        })
    };
    wait::wait_for("what the witness saw more of", LONG, || {
        told("longer").is_some()
    });
    let event = told("longer").unwrap();
    assert_eq!(
        (&event["witness"], &event["witnessed"]),
        (&"customer".into(), &witnessed.into())
    );
    assert_eq!(event["size"], size(node, tenant, "checkpoint"));
    assert!(node.said().contains("AUDIT LOG CONTRADICTED"));
    let status = node.status().unwrap();
    assert!(
        status["problems"]
            .to_string()
            .contains("AUDIT LOG CONTRADICTED"),
        "{status}"
    );

    // It serves and takes commands; once it is longer than what was witnessed, it is another history.
    while size(node, tenant, "checkpoint") <= witnessed {
        for guests in [Guests::Unwelcome, Guests::Welcome] {
            let _ = node.apply(&[fleet.policy(guests)]).ok();
        }
        std::thread::sleep(Duration::from_secs(2));
    }
    let client = fleet.connect(0, fleet.guest());
    drop(client);
    wait::wait_for("another history", LONG, || told("rewritten").is_some());
    assert_eq!(told("rewritten").unwrap()["witnessed"], witnessed);
    // The witness signed none of it, and what it signed before stays as it was.
    assert_eq!(witness.size(&format!("/{tenant}")), witnessed);
    assert!(size(node, tenant, "checkpoint.witnessed") < witnessed);
}

#[test]
fn a_witness_that_lies_is_never_believed_and_stops_nothing() {
    let mut fleet = Fleet::of(1);
    let other = Liar::start(|_| respond("200 OK", "not a signature\n"));
    let forged = Liar::start(|body| {
        // The right name and number over the right text, and another's key.
        let (_, note) = body.split_once("\n\n").unwrap();
        let note = Note::parse(note.as_bytes()).unwrap();
        let line = liars_key("forged").cosign(&note.text, 1_800_000_000, |_| [7; 64]);
        respond("200 OK", &line.to_string())
    });
    let huge = Liar::start(|_| respond("409 Conflict", "1000000000000\n"));
    let endless = Liar::start(|_| {
        let mut all = respond("200 OK", "");
        all.truncate(all.len() - "Content-Length: 0\r\n\r\n".len());
        all.extend_from_slice(b"\r\n");
        all.resize(4 << 20, b'x');
        all
    });
    let stalls = Liar::start(|_| Vec::new());
    let liars = [
        ("other", &other),
        ("forged", &forged),
        ("huge", &huge),
        ("endless", &endless),
        ("stalls", &stalls),
    ];
    for (name, liar) in liars {
        write(
            &fleet.nodes[0],
            name,
            &format!("http://{}", liar.address),
            &liars_key(name).to_string(),
        );
    }
    fleet.nodes[0].stop();
    fleet.nodes[0].start();
    fleet.settled();
    wait::wait_for("each was asked more than once", LONG, || {
        liars
            .iter()
            .all(|(_, liar)| liar.asked.load(Ordering::SeqCst) >= 3)
    });
    let node = &fleet.nodes[0];
    wait::wait_for("the claim to be told", LONG, || {
        node.events()
            .iter()
            .any(|event| event["kind"] == "log.contradicted" && event["witness"] == "huge")
    });
    let before = size(node, "fleet", "checkpoint");
    let _ = node.apply(&[fleet.policy(Guests::Unwelcome)]).ok();
    wait::wait_for("a log that goes on", LONG, || {
        size(node, "fleet", "checkpoint") > before
    });
    for log in LOGS {
        assert!(
            read(
                &node.data().join("audit/logs").join(log),
                "checkpoint.witnessed"
            )
            .is_none()
        );
    }
    let metrics = metrics(node);
    for (name, outcome) in [
        ("other", "unbelieved"),
        ("forged", "unbelieved"),
        ("huge", "contradicted"),
        ("endless", "failed"),
        ("stalls", "failed"),
    ] {
        let line =
            format!("portcullis_witness_asked_total{{witness=\"{name}\",outcome=\"{outcome}\"}}");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    assert!(!metrics.contains("portcullis_witness_age_seconds{"));
}

fn liars_key(name: &str) -> NoteKey {
    let mut key = [1; 32];
    key[..name.len()].copy_from_slice(name.as_bytes());
    NoteKey::new(&format!("{name}.example"), KeyKind::Cosigner, key).unwrap()
}

/// Enters a witness and starts the node again.
fn enter(node: &mut Node, name: &str, url: &str, key: &str) {
    write(node, name, url, key);
    node.stop();
    node.start();
}

fn write(node: &Node, name: &str, url: &str, key: &str) {
    let entry = format!(
        "[[audit.witnesses]]\nname = \"{name}\"\nurl = \"{url}\"\nkey = \"{key}\"\n[[certificate]]\n"
    );
    node.rewrite("[[certificate]]\n", &entry);
}

fn trust(node: &Node) -> String {
    let told = node
        .ask("GET", "/v1/audit/trust", &Value::Null)
        .unwrap()
        .ok();
    told["policy"].as_str().unwrap().to_owned()
}

fn read(folder: &Path, file: &str) -> Option<Note> {
    Some(Note::parse(&fs::read(folder.join(file)).ok()?).unwrap())
}

fn size(node: &Node, log: &str, file: &str) -> u64 {
    size_in(&node.data().join("audit/logs").join(log), file)
}

fn size_in(folder: &Path, file: &str) -> u64 {
    let note = read(folder, file);
    note.map_or(0, |note| Checkpoint::parse(&note.text).unwrap().size)
}

/// Whether what this node shows of a log is what the witness cosigned.
fn is_witnessed(node: &Node, log: &str, key: &NoteKey) -> bool {
    let folder = node.data().join("audit/logs").join(log);
    let (Some(witnessed), Some(shown)) = (
        read(&folder, "checkpoint.witnessed"),
        read(&folder, "checkpoint"),
    ) else {
        return false;
    };
    assert!(
        matches!(key.check(&witnessed), Said::Yes { .. }),
        "{witnessed}"
    );
    witnessed.text == shown.text
}

fn metrics(node: &Node) -> String {
    let text = fs::read_to_string(node.configuration()).unwrap();
    let (_, rest) = text.split_once("[metrics]\nlisten = \"").unwrap();
    http_get(rest.split_once('"').unwrap().0.parse().unwrap(), "/metrics")
}

fn http_get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// A copy with the owners and modes of everything.
fn copy_whole(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

fn age(node: &Node) -> f64 {
    let metrics = metrics(node);
    let line = metrics.lines().find_map(|line| {
        line.strip_prefix("portcullis_witness_age_seconds{witness=\"customer\"} ")
    });
    line.map_or(0.0, |age| age.parse().unwrap())
}

/// A real process.
struct Witness {
    scratch: Scratch,
    address: SocketAddr,
    service: Option<Service>,
    key: NoteKey,
}

impl Witness {
    fn start(trust: &str) -> Self {
        let scratch = Scratch::new("witness");
        scratch.write("trust.policy", trust);
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let (service, key) = launch(&scratch, address);
        Self {
            scratch,
            address,
            service: Some(service),
            key,
        }
    }

    fn stop(&mut self) {
        assert!(self.service.take().unwrap().stop().unwrap().success());
    }

    fn start_again(&mut self) {
        let (service, key) = launch(&self.scratch, self.address);
        assert_eq!(key, self.key);
        self.service = Some(service);
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The size that it cosigned last of the log whose name ends so.
    fn size(&self, end: &str) -> u64 {
        let shown: Value = serde_json::from_str(&http_get(self.address, "/")).unwrap();
        let logs = shown["logs"].as_array().unwrap();
        let log = logs
            .iter()
            .find(|log| log["origin"].as_str().unwrap().ends_with(end));
        log.unwrap()["size"].as_u64().unwrap()
    }
}

fn launch(scratch: &Scratch, address: SocketAddr) -> (Service, NoteKey) {
    let log = scratch.path().join("witness.log");
    drop(fs::remove_file(&log));
    let path = |name: &str| scratch.path().join(name);
    let mut command = Command::new(binary());
    command.args([
        "audit",
        "witness",
        "--name",
        "witness.example/w1",
        "--listen",
    ]);
    command.arg(address.to_string());
    command.arg("--trust").arg(path("trust.policy"));
    command.arg("--state").arg(path("state"));
    command.arg("--key").arg(path("w.pem"));
    let service = Service::start("the witness", &command, &log, Signal::TERM);
    let mut key = None;
    wait::wait_for("the witness", Duration::from_secs(60), || {
        let said = service.log();
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("witness witness.example/w1 "));
        key = line.and_then(|line| NoteKey::parse(line.trim()).ok());
        key.is_some() && TcpStream::connect(address).is_ok()
    });
    (service, key.unwrap())
}
