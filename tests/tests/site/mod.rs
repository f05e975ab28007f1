//! One tenant's network with everything on one host, and a dialer that a test commands itself.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use portcullis_tests::client::Binding;
use portcullis_tests::gateway::{Builder, binary};
use portcullis_tests::process::Service;
use portcullis_tests::{
    Ending, EndpointText, Gateway, Listener, Namespace, Postgres, RawClient, Scratch, TenantText,
    TestAuthority, Version, wait,
};
use rustix::process::Signal;
use serde_json::Value;

pub(crate) const NAME: &str = "acme.db.test";
pub(crate) const SOON: Duration = Duration::from_secs(10);
pub(crate) const NOBODY: u32 = 65_534;
/// Another account without rights of its own.
const DAEMON: u32 = 1;

/// The network of acme, with a database, the gateway's leg and clients on its one host.
pub(crate) struct Site {
    pub(crate) host: Namespace,
    pub(crate) clients: TestAuthority,
    pub(crate) server: Postgres,
}

impl Site {
    pub(crate) fn new() -> Self {
        let host = Namespace::new("acme");
        for address in ["10.0.0.5/32", "10.0.0.10/32"] {
            host.add_address("lo", address);
        }
        let clients = TestAuthority::new("Database clients");
        let server = Postgres::builder(Version::V15)
            .listen("10.0.0.10".parse().unwrap())
            .port(5432)
            .namespace(&host)
            .client_authority(&clients)
            .role("app", "secret")
            .served()
            .start();
        Self {
            host,
            clients,
            server,
        }
    }

    pub(crate) fn via(&self) -> String {
        format!("network-namespace: {}", self.host.name())
    }

    pub(crate) fn tenant(&self, via: &str) -> TenantText {
        let endpoint = EndpointText::new("orders", NAME).allow("anywhere", "public");
        self.tenant_with(via, endpoint.allow("anywhere", "network:acme-vpc"))
    }

    pub(crate) fn tenant_with(&self, via: &str, endpoint: EndpointText) -> TenantText {
        let via = format!("    via: {{{via}}}\n");
        let acme = TenantText::new("acme").network("acme-vpc");
        acme.cluster_at("orders", self.server.address(), &self.server, &via)
            .endpoint(endpoint)
    }

    /// A gateway with a public listener, which needs no dialer, before a cluster that does.
    pub(crate) fn gateway(&self, dialer: &Dialer) -> Builder {
        Gateway::builder()
            .more(&format!(
                "[dialer]\nsocket = \"{}\"\n",
                dialer.socket.display()
            ))
            .listener(Listener::public())
            .tenant(&self.tenant(&self.via()))
            .signs_in_at("acme", &self.clients)
    }

    pub(crate) fn listener(&self) -> Listener {
        let listener = Listener::network("acme-vpc").on("10.0.0.5".parse().unwrap());
        listener.more(&format!("network-namespace = \"{}\"\n", self.host.name()))
    }

    pub(crate) fn sign_in(&self, gateway: &Gateway) -> RawClient {
        gateway.dial(NAME).sign_in("app", "secret", "postgres")
    }

    /// What the operator is told of a client that is let in and finds no database; the client
    /// itself is told nothing.
    pub(crate) fn why_not_reached(&self, gateway: &Gateway) -> String {
        let wanted = [("user", "app"), ("database", "postgres")];
        let mut client = gateway.dial(NAME).start(&wanted).unwrap();
        let told = match client.authenticate("app", "secret", Binding::None) {
            Err(Ending::Refused(error)) => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(told.sqlstate(), "57P03");
        let opaque = format!(
            "the database cannot be reached right now (reference {})",
            told.reference()
        );
        assert_eq!(told.field(b'M'), Some(opaque));
        let why = gateway.command(&["why", &told.reference()]);
        why.ok().to_owned()
    }
}

/// A dialer process, and where it listens.
pub(crate) struct Dialer {
    service: Option<Service>,
    command: Command,
    pub(crate) socket: PathBuf,
    scratch: Scratch,
}

impl Dialer {
    /// As root.
    pub(crate) fn start(uid: u32, arguments: &[&str]) -> Self {
        let mut dialer = Self::new(
            Command::new(binary()),
            Scratch::new("dialer"),
            uid,
            arguments,
        );
        dialer.start_again();
        dialer
    }

    /// As an account with no capability but these (`,+sys_admin`).
    pub(crate) fn start_with(capabilities: &str, uid: u32, arguments: &[&str]) -> Self {
        let scratch = Scratch::new("dialer");
        let program = scratch.path().join("portcullis");
        std::fs::copy(binary(), &program).unwrap();
        scratch.give_to((DAEMON, DAEMON));
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            "1",
            "--regid",
            "1",
            "--clear-groups",
            "--no-new-privs",
        ]);
        for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
            command.arg(format!("{set}=-all{capabilities}"));
        }
        command.arg("--").arg(program);
        let mut dialer = Self::new(command, scratch, uid, arguments);
        dialer.start_again();
        dialer
    }

    /// One that was never started.
    pub(crate) fn nowhere() -> Self {
        Self::new(Command::new(binary()), Scratch::new("dialer"), 0, &[])
    }

    fn new(mut command: Command, scratch: Scratch, uid: u32, arguments: &[&str]) -> Self {
        let socket = scratch.path().join("dialer.sock");
        command.arg("dialer").arg("--socket").arg(&socket);
        command
            .args(["--allow-uid", &uid.to_string()])
            .args(arguments);
        Self {
            service: None,
            command,
            socket,
            scratch,
        }
    }

    pub(crate) fn start_again(&mut self) {
        let log = self.scratch.path().join("log");
        let service = Service::start("the dialer", &self.command, &log, Signal::TERM);
        self.service = Some(service);
        wait::wait_for("the dialer", SOON, || {
            UnixStream::connect(&self.socket).is_ok()
        });
    }

    /// Says these bytes to it as one frame: a big-endian u16 length before JSON, both ways.
    pub(crate) fn ask(&self, request: &str) -> Value {
        let mut connection = UnixStream::connect(&self.socket).unwrap();
        connection.set_read_timeout(Some(SOON)).unwrap();
        let length = u16::try_from(request.len()).unwrap().to_be_bytes();
        connection
            .write_all(&[&length[..], request.as_bytes()].concat())
            .unwrap();
        let mut reply = Vec::new();
        connection.read_to_end(&mut reply).unwrap();
        serde_json::from_slice(&reply[2..]).unwrap()
    }

    pub(crate) fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    pub(crate) fn service_mut(&mut self) -> &mut Service {
        self.service.as_mut().unwrap()
    }

    pub(crate) fn open_files(&self) -> usize {
        let pid = self.service().pid().to_string();
        let folder = Path::new("/proc").join(pid).join("fd");
        std::fs::read_dir(folder).unwrap().count()
    }
}
