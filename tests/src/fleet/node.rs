//! One node of a fleet: its files, its process, and what is asked of it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::admin::{Answer, ask};
use super::disk::Disk;
use super::wires::Host;
use crate::client::Dial;
use crate::gateway::{binary, event_files, http_get};
use crate::identities::Credential;
use crate::process::{self, Finished, Service};
use crate::scratch::Scratch;
use crate::{TenantText, wait};

/// How long a node may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a command to it may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// How long an event may take until it can be read.
const EVENT_LIMIT: Duration = Duration::from_secs(15);

/// One node. Dropping it stops it.
#[derive(Debug)]
pub struct Node {
    name: String,
    // Stopped before its disk and its directory go.
    service: Option<Service>,
    disk: Option<Disk>,
    scratch: Scratch,
    listen: SocketAddr,
    metrics: SocketAddr,
    host: Option<Host>,
    authorities_pem: String,
    environment: Vec<(String, String)>,
    said_before: usize,
}

/// What a node is to be.
pub(super) struct NodeParts<'a> {
    pub(super) name: &'a str,
    pub(super) listen: SocketAddr,
    pub(super) metrics: SocketAddr,
    pub(super) mesh: SocketAddr,
    pub(super) dialled: SocketAddr,
    pub(super) host: Option<Host>,
    pub(super) roles: &'a str,
    pub(super) server: &'a Credential,
    pub(super) authorities_pem: String,
    pub(super) database_client: &'a Credential,
}

impl Node {
    pub(super) fn new(parts: NodeParts<'_>) -> Self {
        let scratch = Scratch::new(parts.name);
        let _ = parts.server.write(&scratch, "server");
        let _ = parts.database_client.write(&scratch, "database-client");
        std::fs::create_dir(scratch.path().join("data")).expect("a fresh directory");
        let mut text = format!("name = \"{}\"\ndata = \"data\"\n", parts.name);
        let _ = write!(
            text,
            "[admin]\nsocket = \"admin.sock\"\n[metrics]\nlisten = \"{}\"\n\
             [fleet]\nlisten = \"{}\"\naddress = \"{}\"\nroles = {}\n\
             [[certificate]]\nchain = \"server.pem\"\nkey = \"server.key\"\n\
             [[database-client]]\ntenant = \"acme\"\nchain = \"database-client.pem\"\nkey = \"database-client.key\"\n\
             [[database-client]]\ntenant = \"globex\"\nchain = \"database-client.pem\"\nkey = \"database-client.key\"\n\
             [[listener]]\naddress = \"{}\"\norigin = \"public\"\n",
            parts.metrics, parts.mesh, parts.dialled, parts.roles, parts.listen
        );
        scratch.write("node.toml", text);
        Self {
            name: parts.name.to_owned(),
            service: None,
            disk: None,
            scratch,
            listen: parts.listen,
            metrics: parts.metrics,
            host: parts.host,
            authorities_pem: parts.authorities_pem,
            environment: Vec::new(),
            said_before: 0,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its host, where it has one of its own.
    ///
    /// # Panics
    /// When it runs in the tests' own network.
    #[must_use]
    pub fn host(&self) -> &Host {
        self.host.as_ref().expect("a fleet on wires")
    }

    /// Its configuration file.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.scratch.path().join("node.toml")
    }

    /// Changes its configuration file.
    pub fn rewrite(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.configuration()).expect("written");
        assert!(text.contains(from), "no {from} in {text}");
        self.scratch.write("node.toml", text.replace(from, to));
    }

    /// Its directory.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.scratch.path()
    }

    /// Where it keeps what it remembers.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        let data = self.scratch.path().join("data");
        match &self.disk {
            Some(disk) => disk.seen(&data),
            None => data,
        }
    }

    /// The file of its state.
    #[must_use]
    pub fn state_file(&self) -> PathBuf {
        self.data().join("state.redb")
    }

    /// Gives it a disk of its own, of so many MiB, empty (needs root). Before it joins.
    pub fn small_disk(&mut self, mebibytes: u32) -> &Disk {
        let disk = Disk::new(&self.scratch, &self.scratch.path().join("data"), mebibytes);
        self.disk.insert(disk)
    }

    /// Gives its evidence alone, `data/audit`, a disk of its own (needs root). Before it joins.
    pub fn small_audit_disk(&mut self, mebibytes: u32) -> &Disk {
        let over = self.scratch.path().join("data/audit");
        std::fs::create_dir(&over).expect("nothing is there yet");
        let disk = Disk::new(&self.scratch, &over, mebibytes);
        self.disk.insert(disk)
    }

    /// Its disk, if it has one of its own.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("a disk of its own")
    }

    /// What stands in its environment from its next start on.
    pub fn environment(&mut self, variables: &[(&str, &str)]) {
        self.environment = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
    }

    /// The raw client, ready to call it.
    #[must_use]
    pub fn dial(&self, server_name: &str) -> Dial {
        Dial::tls(self.listen, server_name, &self.authorities_pem)
    }

    /// What its metrics say now.
    #[must_use]
    pub fn metrics(&self) -> String {
        http_get(self.metrics, "/metrics").expect("an answer")
    }

    /// Where clients call it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Who signed the certificate that it shows, as PEM.
    #[must_use]
    pub fn authorities_pem(&self) -> &str {
        &self.authorities_pem
    }

    /// The number of its process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.service.as_ref().expect("running").pid()
    }

    /// Runs `portcullis` where this node runs.
    #[must_use]
    pub fn portcullis(&self, arguments: &[&str]) -> Finished {
        process::run(&self.command(arguments), COMMAND_LIMIT)
    }

    /// The same, not waited for: to be killed in the middle.
    #[must_use]
    pub fn portcullis_alongside(&self, arguments: &[&str]) -> Service {
        let log = self.scratch.path().join("alongside.log");
        Service::start("a command", &self.command(arguments), &log, Signal::KILL)
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it does not answer on its admin socket, with what it said.
    pub fn start(&mut self) {
        self.try_start().unwrap_or_else(|told| panic!("{told}"));
    }

    /// Starts it, if it will.
    ///
    /// # Errors
    /// What it said, when it ends instead of answering.
    pub fn try_start(&mut self) -> Result<(), String> {
        assert!(self.service.is_none(), "{} runs already", self.name);
        self.said_before = self.log_text().len();
        let configuration = self.configuration().display().to_string();
        let command = self.command(&["serve", "--config", &configuration]);
        let _ = std::fs::remove_file(self.socket());
        let log = self.scratch.path().join("log");
        let mut service = Service::start(&self.name, &command, &log, Signal::INT);
        let up = wait::until(START_LIMIT, || {
            // The page of metrics comes up after the socket.
            let answers = self.ask("GET", "/v1/status", &Value::Null).is_some()
                && http_get(self.metrics, "/metrics").is_ok();
            (answers || service.ended().is_some()).then_some(answers)
        });
        if up == Some(true) {
            self.service = Some(service);
            return Ok(());
        }
        Err(self.said())
    }

    /// What it has said since it was last started.
    #[must_use]
    pub fn said(&self) -> String {
        let all = self.log_text();
        all.get(self.said_before..).unwrap_or_default().to_owned()
    }

    /// Everything it has ever said.
    #[must_use]
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    /// Whether it was started and not stopped; it may have ended by itself.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.service.is_some()
    }

    /// Whether it ended by itself, and how.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        let status = self.service.as_mut()?.ended()?;
        self.service = None;
        Some(status)
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        self.service.take().expect("running").kill();
    }

    /// Ends it in order, its connections at once.
    ///
    /// # Panics
    /// When it does not.
    pub fn stop(&mut self) {
        let mut service = self.service.take().expect("running");
        let _ = service.stop().unwrap_or_else(|told| panic!("{told}"));
    }

    /// Stops it where it stands, every thread of it (SIGSTOP).
    pub fn freeze(&self) {
        self.service().freeze();
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.service().thaw();
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("running")
    }

    /// Asks it something; `None` when it does not answer.
    #[must_use]
    pub fn ask(&self, method: &str, target: &str, body: &Value) -> Option<Answer> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        ask(&self.socket(), method, target, &body, COMMAND_LIMIT)
    }

    /// Its view of the fleet (`fleet status --json`).
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        Some(self.ask("GET", "/v1/fleet", &Value::Null)?.ok())
    }

    /// The revision that it has in force.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn revision(&self) -> u64 {
        let status = self.status().expect("it answers");
        status["revision"].as_u64().expect("a number")
    }

    /// Applies these tenants through it and waits for the receipt, whatever comes of it.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn apply(&self, tenants: &[TenantText]) -> Answer {
        self.apply_as(tenants, None)
    }

    /// The same, with a request id: 32 hex digits.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn apply_as(&self, tenants: &[TenantText], request: Option<&str>) -> Answer {
        self.try_apply_as(tenants, request).expect("an answer")
    }

    /// The same; `None` when it does not answer.
    #[must_use]
    pub fn try_apply_as(&self, tenants: &[TenantText], request: Option<&str>) -> Option<Answer> {
        let files: serde_json::Map<String, Value> = tenants
            .iter()
            .map(|tenant| (format!("{}.yaml", tenant.id()), tenant.yaml().into()))
            .collect();
        let mut body = json!({"files": files, "prune": false});
        if let Some(request) = request {
            body["request"] = request.into();
        }
        self.ask("POST", "/v1/apply", &body)
    }

    /// A change of the state that waits for no receipt; how long it took until a quorum had made
    /// it durable.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn write(&self, name: &str) -> (Answer, Duration) {
        let began = Instant::now();
        let asked = json!({"name": name, "roles": ["gateway"], "minutes": 1});
        let answer = self
            .ask("POST", "/v1/fleet/invite", &asked)
            .expect("an answer");
        (answer, began.elapsed())
    }

    /// A token with which a node of this name may join, in a file.
    ///
    /// # Panics
    /// When there is none to be had.
    #[must_use]
    pub fn invite(&self, name: &str, roles: &str) -> PathBuf {
        let socket = self.socket().display().to_string();
        let finished = self.portcullis(&[
            "fleet", "invite", name, "--roles", roles, "--socket", &socket,
        ]);
        self.scratch
            .write_secret(&format!("token-{name}"), finished.ok())
    }

    /// Makes a node of the fleet of it with this token.
    #[must_use]
    pub fn join(&self, token: &Path) -> Finished {
        let configuration = self.configuration().display().to_string();
        let token = token.display().to_string();
        self.portcullis(&["join", "--config", &configuration, "--token", &token])
    }

    /// Its audit events on disk so far, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        let mut files = Vec::new();
        event_files(&self.data(), &mut files);
        files.sort();
        let texts = files
            .iter()
            .map(|file| std::fs::read_to_string(file).unwrap_or_default());
        texts
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

    /// Its admin socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("admin.sock")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.scratch.path());
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        let on_its_disk = match &self.disk {
            Some(disk) => disk.command(&command),
            None => command,
        };
        match &self.host {
            Some(host) => host.namespace.command(&on_its_disk),
            None => on_its_disk,
        }
    }
}
