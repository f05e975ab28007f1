//! The real gateway, run by the tests as its own process with a configuration of its own.

mod configuration;

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

pub use configuration::{Builder, Listener};

use crate::client::Dial;
use crate::drivers::{NodePg, Psql, Psycopg};
use crate::identities::TestAuthority;
use crate::policy::TenantText;
use crate::process::{self, Finished, Service};
use crate::scratch::{Scratch, repository};
use crate::wait;

/// How long the gateway may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a command to it may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long an event may take until it can be read.
const EVENT_LIMIT: Duration = Duration::from_secs(10);

/// A running gateway, and the dialer that it needs, if any. Dropping it stops both.
#[derive(Debug)]
pub struct Gateway {
    // Stopped in this order, before the directory goes.
    service: Option<Service>,
    dialer: Option<Service>,
    start: Builder,
    scratch: Scratch,
    listeners: Vec<SocketAddr>,
    metrics: SocketAddr,
}

impl Gateway {
    /// For a gateway with nothing yet: no listener, no tenant.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A gateway with one public listener on 127.0.0.1 and these tenants.
    #[must_use]
    pub fn public(tenants: &[TenantText]) -> Self {
        let builder = Self::builder().listener(Listener::public());
        tenants
            .iter()
            .fold(builder, |builder, tenant| builder.tenant(tenant))
            .start()
    }

    /// Where its first listener is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener(0)
    }

    /// Where a listener is, in the order in which they were given.
    #[must_use]
    pub fn listener(&self, index: usize) -> SocketAddr {
        self.listeners[index]
    }

    /// Where metrics and health are served.
    #[must_use]
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics
    }

    /// What a client must trust.
    #[must_use]
    pub fn authorities_pem(&self) -> String {
        self.start.authority().pem()
    }

    /// The authority of its server certificates.
    #[must_use]
    pub fn authority(&self) -> &TestAuthority {
        self.start.authority()
    }

    /// The raw client, ready to call its first listener over TLS.
    #[must_use]
    pub fn dial(&self, server_name: &str) -> Dial {
        Dial::tls(self.address(), server_name, &self.authorities_pem())
    }

    /// psql, ready to call its first listener.
    #[must_use]
    pub fn psql(&self, server_name: &str) -> Psql {
        Psql::new(self.address(), server_name, &self.authorities_pem())
    }

    /// psycopg, ready to call its first listener.
    #[must_use]
    pub fn psycopg(&self, server_name: &str) -> Psycopg {
        Psycopg::new(self.address(), server_name, &self.authorities_pem())
    }

    /// node-postgres, ready to call its first listener.
    #[must_use]
    pub fn node_pg(&self, server_name: &str) -> NodePg {
        NodePg::new(self.address(), server_name, &self.authorities_pem())
    }

    /// Runs `portcullis` with these arguments against this node's admin socket.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .env("PORTCULLIS_SOCKET", self.admin_socket());
        process::run(&command, COMMAND_LIMIT)
    }

    /// The same with `--json`, its answer parsed.
    ///
    /// # Panics
    /// When the answer is not JSON.
    #[must_use]
    pub fn ask(&self, arguments: &[&str]) -> Value {
        let finished = self.command(&[arguments, &["--json"]].concat());
        serde_json::from_str(finished.stdout.trim()).unwrap_or_else(|e| panic!("{e} in {finished}"))
    }

    /// The admin socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.scratch.path().join("admin.sock")
    }

    /// The directory of its policy files.
    #[must_use]
    pub fn policy_directory(&self) -> PathBuf {
        self.scratch.path().join("policy")
    }

    /// Where it keeps what it remembers.
    #[must_use]
    pub fn data_directory(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// Its configuration file.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.scratch.path().join("node.toml")
    }

    /// Writes a tenant's policy file; nothing is applied yet.
    pub fn write_policy(&self, tenant: &TenantText) {
        self.write_policy_text(&format!("{}.yaml", tenant.id()), &tenant.yaml());
    }

    /// Writes any file into the policy directory; nothing is applied yet.
    pub fn write_policy_text(&self, file: &str, text: &str) {
        self.scratch.write(&format!("policy/{file}"), text);
    }

    /// Writes tenants' policy files and applies the directory, waiting for the receipt.
    ///
    /// # Panics
    /// When the policy is refused.
    pub fn apply(&self, tenants: &[TenantText]) -> Value {
        for tenant in tenants {
            self.write_policy(tenant);
        }
        let directory = self.policy_directory();
        let finished = self.command(&[
            "apply",
            &directory.display().to_string(),
            "--receipt",
            "--json",
        ]);
        serde_json::from_str(finished.ok()).unwrap_or_else(|e| panic!("{e} in {finished}"))
    }

    /// Changes the hosts file that it was given by [`Builder::hosts`].
    pub fn write_hosts(&self, text: &str) {
        self.scratch.write(configuration::HOSTS, text);
    }

    /// Sends SIGHUP: read the policy directory again.
    pub fn hang_up(&self) {
        self.service().signal(Signal::HUP);
    }

    /// Its log so far: the lines that are JSON.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        self.log_text()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Its log so far, as it stands in the file.
    #[must_use]
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    /// The audit events on disk so far, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let mut files = Vec::new();
        event_files(&self.data_directory(), &mut files);
        files.sort();
        let read = |file: &PathBuf| std::fs::read_to_string(file).unwrap_or_default();
        files
            .iter()
            .map(read)
            .flat_map(|text| {
                text.lines()
                    .filter_map(|line| serde_json::from_str(line).ok())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Waits until there is an audit event that fits, and returns it.
    ///
    /// # Panics
    /// When there is none in time, with all there are.
    pub fn event(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        wait::until(EVENT_LIMIT, || self.events().into_iter().find(&fits)).unwrap_or_else(|| {
            let all: Vec<String> = self.events().iter().map(Value::to_string).collect();
            panic!("no audit event for {what} among\n{}", all.join("\n"))
        })
    }

    /// The dialer beside it, if it has one.
    #[must_use]
    pub fn dialer(&self) -> Option<&Service> {
        self.dialer.as_ref()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.service().pid()
    }

    /// Resident memory, in KiB.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("running");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("a process has memory");
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number")
    }

    /// GETs a path of the metrics listener; the answer's body.
    ///
    /// # Panics
    /// When it does not answer 200.
    #[must_use]
    pub fn metrics(&self, path: &str) -> String {
        let answer = http_get(self.metrics, path).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        body.to_owned()
    }

    /// Sends it any signal.
    pub fn signal(&self, signal: Signal) {
        self.service().signal(signal);
    }

    /// Asks it to drain and end (SIGTERM) and waits; no connection may be live.
    ///
    /// # Panics
    /// When it does not end in order.
    pub fn terminate(&mut self) {
        let mut service = self.service.take().expect("running");
        let status = service.stop_by(Signal::TERM).expect("ends in time");
        assert!(
            status.success(),
            "ended with {status}:\n{}",
            self.log_text()
        );
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.service.as_mut().expect("running").ended()
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.service.take().expect("running").kill();
    }

    /// Starts it again after [`Gateway::terminate`] or [`Gateway::kill`], with everything it had.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        self.launch().unwrap_or_else(|told| panic!("{told}"));
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("running")
    }

    fn launch(&mut self) -> Result<(), String> {
        let mut command = self.start.as_its_account(&binary(), &self.scratch);
        command
            .arg("serve")
            .arg("--config")
            .arg(self.configuration())
            .current_dir(self.scratch.path());
        let _ = std::fs::remove_file(self.admin_socket());
        let mut service = Service::start(
            "the gateway",
            &command,
            &self.scratch.path().join("log"),
            // At once: a test that ends does not wait for its connections to drain.
            Signal::INT,
        );
        let up = wait::until(START_LIMIT, || {
            let answers = UnixStream::connect(self.admin_socket()).is_ok();
            (answers || service.ended().is_some()).then_some(answers)
        });
        match up {
            Some(true) => {
                self.service = Some(service);
                Ok(())
            }
            Some(false) => Err(format!("the gateway did not start:\n{}", self.log_text())),
            None => Err(format!(
                "the gateway was not ready within {START_LIMIT:?}:\n{}",
                self.log_text()
            )),
        }
    }
}

/// The program under test: `$PORTCULLIS_BINARY` if set; otherwise what cargo built with these
/// tests, or else `portcullis` in the same folder (for benchmarks, which `make bench` builds it for).
///
/// # Panics
/// When there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("PORTCULLIS_BINARY") {
        return std::fs::canonicalize(&named)
            .unwrap_or_else(|e| panic!("{}: {e}", PathBuf::from(named).display()));
    }
    let own = std::env::current_exe().expect("a test has a file");
    // target/debug/deps/harness-… and target/release/portcullis-bench.
    let folders: Vec<&Path> = own.ancestors().skip(1).take(2).collect();
    let names = ["portcullis-under-test", "portcullis"];
    let mut candidates = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "no portcullis-under-test beside {}: run `cargo test -p portcullis-tests`",
            own.display()
        )
    })
}

/// The files that the product ships for databases: `gateway/deploy/postgres`.
#[must_use]
pub fn deploy(file: &str) -> PathBuf {
    repository().join("gateway/deploy").join(file)
}

pub(crate) fn event_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            event_files(&path, found);
        } else if name.starts_with("events") && name.ends_with(".jsonl") {
            found.push(path);
        }
    }
}

pub(crate) fn http_get(to: SocketAddr, path: &str) -> std::io::Result<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect_timeout(&to, EVENT_LIMIT)?;
    stream.set_read_timeout(Some(EVENT_LIMIT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
