//! The audit logs of a node that is a fleet by itself, and that founds one later.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use portcullis_tests::process::{self, Service};
use portcullis_tests::{Finished, Scratch, TestAuthority, gateway, ports, wait};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_node_alone_signs_its_logs_and_they_go_on_when_it_founds_a_fleet() {
    let node = Node::new();
    let alone = node.serve();
    let first = node.wait_for_whole_logs();
    let log = first.lines().find(|line| line.starts_with("log ")).unwrap();
    let checkpoint = node.scratch.path().join("data/audit/logs/fleet/checkpoint");
    let before = node.scratch.path().join("before");
    std::fs::copy(&checkpoint, &before).unwrap();
    drop(alone);

    node.configure("", "[fleet]\nlisten = \"127.0.0.1:PORT\"\n");
    let _ = node
        .run(&[
            "init",
            "--config",
            "node.toml",
            "--recovery-key",
            "recovery.key",
        ])
        .ok();
    let founder = node.serve();
    let then = node.wait_for_whole_logs();
    assert!(then.contains(log), "{then}");
    let verified = node.verify(&["--since", "before"]);
    assert!(verified.status.success(), "{verified}");
    let text = std::fs::read_to_string(&checkpoint).unwrap();
    let size = |text: &str| text.lines().nth(1).unwrap().parse::<u64>().unwrap();
    assert!(size(&text) > size(&std::fs::read_to_string(&before).unwrap()));

    // One key signs for all logs: another log's files are not taken for this one's.
    let fetch = |to| {
        let fetch = ["audit", "fetch", to, "--log", "acme", "--trust", "trust"];
        node.run(&[&fetch[..], &["--socket", "admin.sock"]].concat())
    };
    assert!(fetch("copy").status.success());
    let logs = node.scratch.path().join("data/audit/logs");
    let swap = "rm -r tenants/acme && cp -r fleet tenants/acme";
    let _ = process::run(
        Command::new("sh").args(["-c", swap]).current_dir(&logs),
        SOON,
    )
    .ok();
    let told = fetch("other");
    assert_eq!(told.status.code(), Some(1), "{told}");
    assert!(
        told.stderr.contains("another log than tenants/acme"),
        "{told}"
    );
    assert!(!node.scratch.path().join("other/tenants/acme/tile").exists());
    drop(founder);
}

struct Node {
    scratch: Scratch,
    mesh: u16,
    door: u16,
}

impl Node {
    fn new() -> Self {
        let scratch = Scratch::new("audit-alone");
        let authority = TestAuthority::new("Test server authority");
        let _ = authority.server(&["*.db.test"]).write(&scratch, "server");
        let node = Self {
            scratch,
            mesh: ports::free(),
            door: ports::free(),
        };
        node.configure("policy = \"policy\"\n", "");
        node
    }

    fn configure(&self, policy: &str, fleet: &str) {
        let fleet = fleet.replace("PORT", &self.mesh.to_string());
        self.scratch.write(
            "node.toml",
            format!(
                "name = \"n1\"\ndata = \"data\"\n{policy}[admin]\nsocket = \"admin.sock\"\n{fleet}[[listener]]\naddress = \"127.0.0.1:{}\"\norigin = \"public\"\n[[certificate]]\nchain = \"server.pem\"\nkey = \"server.key\"\n",
                self.door
            ),
        );
        let files = self.scratch.path().join("policy");
        std::fs::create_dir_all(&files).unwrap();
        std::fs::write(files.join("acme.yaml"), "tenant: acme\n").unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(gateway::binary());
        command.args(arguments).current_dir(self.scratch.path());
        process::run(&command, SOON)
    }

    fn serve(&self) -> Service {
        let mut command = Command::new(gateway::binary());
        command.args(["serve", "--config", "node.toml"]);
        command.current_dir(self.scratch.path());
        let log: PathBuf = self.scratch.path().join("log");
        let mut service = Service::start("a node", &command, &log, Signal::INT);
        let socket = self.scratch.path().join("admin.sock");
        let up = wait::until(SOON, || {
            let answers = UnixStream::connect(&socket).is_ok();
            (answers || service.ended().is_some()).then_some(answers)
        });
        assert_eq!(up, Some(true), "{}", service.log());
        service
    }

    /// Waits until there are logs, and they are whole; what to trust.
    fn wait_for_whole_logs(&self) -> String {
        let trust = self.scratch.path().join("trust");
        wait::wait_for("logs that are whole", SOON, || {
            let told = self.run(&["audit", "trust", "--socket", "admin.sock"]);
            std::fs::write(&trust, format!("{}\n", told.ok())).unwrap();
            self.verify(&[]).status.success()
        });
        std::fs::read_to_string(trust).unwrap()
    }

    fn verify(&self, more: &[&str]) -> Finished {
        let logs = ["audit", "verify", "data/audit/logs", "--trust", "trust"];
        self.run(&[&logs, more].concat())
    }
}
