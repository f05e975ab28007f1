//! What a gateway is to be, and its `node.toml`.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use super::{Gateway, START_LIMIT, binary};
use crate::identities::{Credential, TestAuthority};
use crate::namespace::Namespace;
use crate::policy::TenantText;
use crate::postgres::GATEWAY_COMMON_NAME;
use crate::process::Service;
use crate::scratch::{Scratch, is_root, open_to_everybody};
use crate::{ports, wait};

/// One listener.
#[derive(Debug, Clone)]
pub struct Listener {
    ip: IpAddr,
    port: Option<u16>,
    origin: String,
    more: String,
    needs_dialer: bool,
}

impl Listener {
    /// The public door, on 127.0.0.1.
    #[must_use]
    pub fn public() -> Self {
        Self {
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: None,
            origin: "public".to_owned(),
            more: String::new(),
            needs_dialer: false,
        }
    }

    /// A peered network's door, on 127.0.0.1 unless said otherwise.
    #[must_use]
    pub fn network(id: &str) -> Self {
        Self {
            origin: format!("network:{id}"),
            ..Self::public()
        }
    }

    /// The door of private links behind a load balancer of that cloud, at one of the addresses
    /// `trusted`.
    #[must_use]
    pub fn private_links(cloud: &str, trusted: &str) -> Self {
        let listener = Self {
            origin: "private-links".to_owned(),
            ..Self::public()
        };
        listener.more(&format!("cloud = \"{cloud}\"\ntrusted = [\"{trusted}\"]\n"))
    }

    /// Behind a load balancer that speaks PROXY v2 from one of the addresses `trusted`.
    #[must_use]
    pub fn balanced(self, trusted: &str) -> Self {
        self.more(&format!(
            "proxy-protocol = true\ntrusted = [\"{trusted}\"]\n"
        ))
    }

    /// On another address.
    #[must_use]
    pub fn on(mut self, ip: IpAddr) -> Self {
        self.ip = ip;
        self
    }

    /// On a port of the test's choice instead of a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// In a network namespace, by the dialer (needs root).
    #[must_use]
    pub fn inside(mut self, namespace: &Namespace) -> Self {
        self.needs_dialer = true;
        self.more(&format!("network-namespace = \"{}\"\n", namespace.name()))
    }

    /// Further lines of its table in node.toml.
    #[must_use]
    pub fn more(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self
    }
}

/// What a gateway is to be.
#[derive(Debug, Clone)]
pub struct Builder {
    authority: TestAuthority,
    names: Vec<String>,
    listeners: Vec<Listener>,
    tenants: Vec<(String, String)>,
    certificates: Vec<Credential>,
    database_clients: Vec<(String, Credential)>,
    account: Account,
    dialer: bool,
    dialer_places: Option<Vec<String>>,
    hosts: Option<String>,
    open_files: Option<u64>,
    more: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Account {
    Ours,
    Nobody,
}

/// A hosts file of its own, in its scratch directory.
pub(super) const HOSTS: &str = "hosts";
/// The uid and gid of nobody on Debian.
const NOBODY: u32 = 65_534;

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            authority: TestAuthority::new("Test server authority"),
            names: vec!["*.db.test".to_owned()],
            listeners: Vec::new(),
            tenants: Vec::new(),
            certificates: Vec::new(),
            database_clients: Vec::new(),
            account: Account::Ours,
            dialer: false,
            dialer_places: None,
            hosts: None,
            open_files: None,
            more: String::new(),
        }
    }

    /// The names in its server certificate, instead of `*.db.test`.
    #[must_use]
    pub fn names(mut self, names: &[&str]) -> Self {
        self.names = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// A further server certificate, chosen by SNI.
    #[must_use]
    pub fn certificate(mut self, credential: &Credential) -> Self {
        self.certificates.push(credential.clone());
        self
    }

    /// A further listener.
    #[must_use]
    pub fn listener(mut self, listener: Listener) -> Self {
        self.dialer |= listener.needs_dialer;
        self.listeners.push(listener);
        self
    }

    /// A further tenant.
    #[must_use]
    pub fn tenant(mut self, tenant: &TenantText) -> Self {
        self.tenants
            .push((format!("{}.yaml", tenant.id()), tenant.yaml()));
        self
    }

    /// Any file for the policy directory.
    #[must_use]
    pub fn policy_text(mut self, file: &str, text: &str) -> Self {
        self.tenants.push((file.to_owned(), text.to_owned()));
        self
    }

    /// The certificate with which to sign in to that tenant's databases.
    #[must_use]
    pub fn database_client(mut self, tenant: &str, credential: &Credential) -> Self {
        self.database_clients
            .push((tenant.to_owned(), credential.clone()));
        self
    }

    /// The same, issued by an authority that the tenant's server trusts (see
    /// [`crate::postgres::Builder::client_authority`]).
    #[must_use]
    pub fn signs_in_at(self, tenant: &str, authority: &TestAuthority) -> Self {
        self.database_client(tenant, &authority.client(GATEWAY_COMMON_NAME, &[]))
    }

    /// Runs it as nobody (needs root): without privilege, as in production.
    #[must_use]
    pub fn unprivileged(mut self) -> Self {
        self.account = Account::Nobody;
        self
    }

    /// Runs a dialer beside it even though no listener needs one: a cluster will.
    #[must_use]
    pub fn dialer(mut self) -> Self {
        self.dialer = true;
        self
    }

    /// Lets the dialer make sockets in these places only (`network-namespace:NAME`), instead of any.
    #[must_use]
    pub fn dialer_only(mut self, places: &[&str]) -> Self {
        self.dialer_places = Some(places.iter().map(|place| (*place).to_owned()).collect());
        self.dialer()
    }

    /// Resolves names by this hosts file instead of the machine's (needs root);
    /// [`Gateway::write_hosts`] changes it.
    #[must_use]
    pub fn hosts(mut self, text: &str) -> Self {
        self.hosts = Some(text.to_owned());
        self
    }

    /// How many files it may open at most (RLIMIT_NOFILE).
    #[must_use]
    pub fn open_files(mut self, limit: u64) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// What stands in `[limits]` of node.toml, as `unauthenticated = 4, tls = 1`.
    #[must_use]
    pub fn limits(self, limits: &str) -> Self {
        self.more(&format!("limits = {{{limits}}}\n"))
    }

    /// Further lines at the head of node.toml: `workers = 2`.
    #[must_use]
    pub fn more(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self
    }

    /// Starts it and waits until it serves.
    ///
    /// # Panics
    /// When it does not, with its log.
    #[must_use]
    pub fn start(self) -> Gateway {
        self.try_start().unwrap_or_else(|told| panic!("{told}"))
    }

    /// Starts it, if it will.
    ///
    /// # Errors
    /// Its log, when it ends instead of serving.
    pub fn try_start(self) -> Result<Gateway, String> {
        let scratch = Scratch::new("gateway");
        let listeners: Vec<SocketAddr> = self
            .listeners
            .iter()
            .map(|it| SocketAddr::new(it.ip, it.port.unwrap_or_else(ports::free)))
            .collect();
        let metrics = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ports::free());
        self.write(&scratch, &listeners, metrics);
        if self.account == Account::Nobody {
            scratch.give_to((NOBODY, NOBODY));
        }
        let dialer = self.dialer.then(|| self.start_dialer(&scratch));
        let mut gateway = Gateway {
            service: None,
            dialer,
            start: self,
            scratch,
            listeners,
            metrics,
        };
        gateway.launch()?;
        Ok(gateway)
    }

    pub(super) fn authority(&self) -> &TestAuthority {
        &self.authority
    }

    /// The program as the account that it is to run as, which may be unable to walk down to where
    /// it was built: then a copy is made where it can.
    pub(super) fn as_its_account(&self, program: &Path, scratch: &Scratch) -> Command {
        match self.account {
            Account::Ours if self.hosts.is_some() => {
                assert!(self.open_files.is_none(), "one or the other");
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "--", "sh", "-c"]);
                command.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"");
                command.arg(scratch.path().join(HOSTS)).arg(program);
                command
            }
            Account::Ours => match self.open_files {
                None => Command::new(program),
                Some(limit) => {
                    let mut command = Command::new("prlimit");
                    command
                        .arg(format!("--nofile={limit}:{limit}"))
                        .arg(program);
                    command
                }
            },
            Account::Nobody => {
                assert!(is_root(), "only root can be somebody else");
                assert!(self.open_files.is_none(), "nobody keeps what we may open");
                let copy = scratch.path().join("portcullis");
                let program = if open_to_everybody(program) {
                    program
                } else {
                    std::fs::copy(program, &copy).expect("a scratch directory can be written");
                    &copy
                };
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={NOBODY}"))
                    .arg(format!("--regid={NOBODY}"));
                command
                    .args([
                        "--clear-groups",
                        "--no-new-privs",
                        "--bounding-set=-all",
                        "--",
                    ])
                    .arg(program);
                command
            }
        }
    }

    fn start_dialer(&self, scratch: &Scratch) -> Service {
        let socket = scratch.path().join("dialer.sock");
        let mut command = Command::new(binary());
        let uid = match self.account {
            Account::Ours => rustix::process::geteuid().as_raw(),
            Account::Nobody => NOBODY,
        };
        command.arg("dialer").arg("--socket").arg(&socket);
        command.args(["--allow-uid", &uid.to_string()]);
        match &self.dialer_places {
            None => command.arg("--allow-any"),
            Some(places) => command.args(places.iter().flat_map(|place| ["--allow", place])),
        };
        let mut dialer = Service::start(
            "the dialer",
            &command,
            &scratch.path().join("dialer.log"),
            Signal::TERM,
        );
        let up = wait::until(START_LIMIT, || {
            let answers = UnixStream::connect(&socket).is_ok();
            (answers || dialer.ended().is_some()).then_some(answers)
        });
        assert_eq!(
            up,
            Some(true),
            "the dialer did not start:\n{}",
            dialer.log()
        );
        dialer
    }

    fn write(&self, scratch: &Scratch, listeners: &[SocketAddr], metrics: SocketAddr) {
        for folder in ["policy", "data"] {
            std::fs::create_dir(scratch.path().join(folder)).expect("a fresh directory");
        }
        for (file, text) in &self.tenants {
            scratch.write(&format!("policy/{file}"), text);
        }
        if let Some(hosts) = &self.hosts {
            scratch.write(HOSTS, hosts);
        }
        let mut text = format!(
            "name = \"gw1\"\ndata = \"data\"\npolicy = \"policy\"\n{}",
            self.more
        );
        let _ = write!(
            text,
            "[admin]\nsocket = \"admin.sock\"\n[metrics]\nlisten = \"{metrics}\"\n"
        );
        if self.dialer {
            text.push_str("[dialer]\nsocket = \"dialer.sock\"\n");
        }
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let own = self.authority.server(&names);
        for (index, credential) in [&own].into_iter().chain(&self.certificates).enumerate() {
            let name = format!("server-{index}");
            let _ = credential.write(scratch, &name);
            let _ = write!(
                text,
                "[[certificate]]\nchain = \"{name}.pem\"\nkey = \"{name}.key\"\n"
            );
        }
        for (index, (tenant, credential)) in self.database_clients.iter().enumerate() {
            let name = format!("database-client-{index}");
            let _ = credential.write(scratch, &name);
            let _ = write!(
                text,
                "[[database-client]]\ntenant = \"{tenant}\"\nchain = \"{name}.pem\"\nkey = \"{name}.key\"\n"
            );
        }
        for (listener, address) in self.listeners.iter().zip(listeners) {
            let _ = write!(
                text,
                "[[listener]]\naddress = \"{address}\"\norigin = \"{}\"\n{}",
                listener.origin, listener.more
            );
        }
        scratch.write("node.toml", text);
    }
}
