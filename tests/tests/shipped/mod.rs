//! What is in a node's logs, read from their files alone, and receivers that are brought it.

mod rsyslog;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use portcullis_tests::process::Service;
use portcullis_tests::scratch::{repository, tools};
use portcullis_tests::{Gateway, Scratch, TestAuthority, ports, wait};
use rustix::process::Signal;
use serde_json::Value;

pub(crate) use rsyslog::Rsyslog;

pub(crate) const SOON: Duration = Duration::from_secs(120);

/// The entries of the logs in a directory of them, up to their published checkpoints, under their origins.
pub(crate) fn entries(logs: &Path) -> BTreeMap<String, Vec<String>> {
    let mut folders = vec![logs.join("fleet")];
    if let Ok(tenants) = fs::read_dir(logs.join("tenants")) {
        folders.extend(tenants.map(|tenant| tenant.unwrap().path()));
    }
    folders.iter().filter_map(|folder| of_log(folder)).collect()
}

fn of_log(folder: &Path) -> Option<(String, Vec<String>)> {
    let checkpoint = fs::read_to_string(folder.join("checkpoint")).ok()?;
    let mut lines = checkpoint.lines();
    let origin = lines.next()?.to_owned();
    let size: usize = lines.next()?.parse().ok()?;
    let mut entries = Vec::new();
    while entries.len() < size {
        let (bundle, width) = (entries.len() / 256, size - entries.len());
        assert!(bundle < 1000, "a test's log is small");
        let name = format!("{bundle:03}");
        let bundles = folder.join("tile/entries");
        let full = fs::read(bundles.join(&name)).ok();
        // Partial ones go while this looks.
        let partial = || fs::read(bundles.join(format!("{name}.p")).join(width.to_string())).ok();
        let bytes = full.or_else(partial)?;
        let mut rest = bytes.as_slice();
        while let [high, low, after @ ..] = rest {
            let (entry, after) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
            entries.push(String::from_utf8(entry.to_vec()).unwrap());
            rest = after;
        }
    }
    entries.truncate(size);
    Some((origin, entries))
}

/// Waits until everything that the node's logs have now has arrived, whole and in order; entries that came again were the same. Gives how
/// many came again.
pub(crate) fn wait_for_all(
    logs: &Path,
    arrived: impl Fn() -> Vec<(String, usize, String)>,
) -> usize {
    let logs = || Some(entries(logs)).filter(|logs| logs.values().any(|log| !log.is_empty()));
    let expected = wait::until(SOON, logs).expect("logs");
    let there = |log: &str, index: usize, all: &[(String, usize, String)]| {
        all.iter().any(|it| (it.0.as_str(), it.1) == (log, index))
    };
    let whole = |all: &[(String, usize, String)]| {
        expected
            .iter()
            .all(|(log, lines)| lines.is_empty() || there(log, lines.len() - 1, all))
    };
    let all = wait::until(SOON, || Some(arrived()).filter(|all| whole(all)));
    let all = all.unwrap_or_else(|| panic!("of {expected:#?}\nthere are only {:#?}", arrived()));
    let mut next = BTreeMap::<&str, usize>::new();
    let mut again = 0;
    for (log, index, line) in &all {
        let next = next.entry(log).or_default();
        assert!(index <= next, "{log}: {index} came before {next}");
        again += usize::from(index < next);
        *next = (*next).max(index + 1);
        if let Some(expected) = expected.get(log).and_then(|lines| lines.get(*index)) {
            assert_eq!(line, expected, "{log}:{index}");
        }
    }
    again
}

/// tests/programs/receiver.py.
pub(crate) struct Receiver {
    kind: &'static str,
    port: u16,
    scratch: Scratch,
    authority: TestAuthority,
    secure: bool,
    wants: Option<(&'static str, String)>,
    service: Option<Service>,
}

impl Receiver {
    /// One that takes everything, over TLS.
    pub(crate) fn new(kind: &'static str) -> Self {
        Self::start(kind, true, None)
    }

    /// The same, which wants to see a token, or a certificate of the authority in a file.
    pub(crate) fn that_wants(kind: &'static str, variable: &'static str, value: String) -> Self {
        Self::start(kind, true, Some((variable, value)))
    }

    /// One that takes everything, over plain TCP.
    pub(crate) fn plain(kind: &'static str) -> Self {
        Self::start(kind, false, None)
    }

    fn start(kind: &'static str, secure: bool, wants: Option<(&'static str, String)>) -> Self {
        let scratch = Scratch::new(kind);
        let authority = TestAuthority::new("Receivers");
        let _ = authority
            .server(&["localhost", "siem.test"])
            .write(&scratch, "server");
        scratch.write("ca.pem", authority.pem());
        let mut receiver = Self {
            kind,
            port: ports::free(),
            scratch,
            authority,
            secure,
            wants,
            service: None,
        };
        receiver.behave("take");
        receiver.start_again();
        receiver
    }

    pub(crate) fn start_again(&mut self) {
        let mut command = Command::new(tools().join("venv/bin/python"));
        command
            .arg(repository().join("tests/programs/receiver.py"))
            .args([self.kind, &self.port.to_string()])
            .arg(self.out())
            .arg(self.scratch.path().join("mode"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .envs(self.wants.clone());
        if self.secure {
            let file = |name: &str| self.scratch.path().join(name);
            command.args([file("server.pem"), file("server.key")]);
        }
        let log = self.scratch.path().join("log");
        self.service = Some(Service::start(self.kind, &command, &log, Signal::KILL));
        wait::wait_for("the receiver", SOON, || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    pub(crate) fn kill(&mut self) {
        self.service.take().expect("running").kill();
    }

    /// See the program.
    pub(crate) fn behave(&self, mode: &str) {
        let beside = self.scratch.write("mode.new", mode);
        fs::rename(beside, self.scratch.path().join("mode")).unwrap();
    }

    /// What node.toml says for it.
    pub(crate) fn table(&self) -> String {
        let (port, ca) = (self.port, self.scratch.path().join("ca.pem"));
        let ca = ca.display();
        match (self.kind, self.secure) {
            ("otlp", true) => {
                format!("[audit.otlp]\nurl = \"https://localhost:{port}/v1/logs\"\nca = \"{ca}\"\n")
            }
            ("otlp", false) => format!("[audit.otlp]\nurl = \"http://127.0.0.1:{port}/v1/logs\"\n"),
            (_, true) => format!(
                "[audit.syslog]\naddress = \"127.0.0.1:{port}\"\nca = \"{ca}\"\nserver-name = \"siem.test\"\nenterprise-number = 99999\n"
            ),
            (_, false) => {
                format!("[audit.syslog]\naddress = \"127.0.0.1:{port}\"\ntransport = \"tcp\"\n")
            }
        }
    }

    /// Has another authority than it has.
    pub(crate) fn ca_of_another(&self) -> PathBuf {
        let other = TestAuthority::new("Others");
        assert_ne!(other.pem(), self.authority.pem());
        self.scratch.write("other.pem", other.pem())
    }

    fn out(&self) -> PathBuf {
        self.scratch.path().join("out")
    }

    /// Everything that it took, in order.
    pub(crate) fn taken(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.out()).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines().filter(|line| !line.is_empty());
        let taken: Vec<Value> = lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let fault = taken.iter().find(|it| it.get("fault").is_some());
        assert_eq!(fault, None, "what came is not as the public text says");
        taken
    }

    /// How often somebody came.
    pub(crate) fn met(&self) -> u64 {
        let file = self.scratch.path().join("out.met");
        file.metadata().map_or(0, |file| file.len())
    }

    /// Behaves otherwise while `change` is made, until somebody has met it so several times.
    pub(crate) fn through(&self, mode: &str, times: u64, change: impl FnOnce()) {
        self.behave(mode);
        let before = self.met();
        change();
        wait::wait_for(mode, SOON, || self.met() >= before + times);
        self.behave("take");
    }

    /// Waits until it has all that is in the node's logs now; how many entries came again.
    pub(crate) fn has_all(&self, gateway: &Gateway) -> usize {
        self.has_all_of(&gateway.data_directory())
    }

    /// The same, of the node with this directory.
    pub(crate) fn has_all_of(&self, data: &Path) -> usize {
        wait_for_all(&data.join("audit/logs"), || {
            let taken = self
                .taken()
                .into_iter()
                .filter(|it| it.get("last").is_none());
            let taken = taken.map(|it| {
                let index = it["index"].as_u64().unwrap();
                let text = |name: &str| it[name].as_str().unwrap().to_owned();
                (text("log"), usize::try_from(index).unwrap(), text("line"))
            });
            taken.collect()
        })
    }
}
