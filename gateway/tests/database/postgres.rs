//! A throw-away PostgreSQL of its own for each test, with TLS, set up as the README says.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use portcullis::database::Upstreams;
use portcullis::database::service::{Services, Target};
use portcullis::runtime::clock;
use portcullis::runtime::dialer::Dialer;
use portcullis_certs::authority::{Authority, LeafRequest, Purpose};
use portcullis_certs::{Identity, Validity, generate_key};
use portcullis_policy::{
    Authentication, Backend, Cluster, Endpoint, Engine, Replication, Service, Tenant, UpstreamTls,
};

/// What the README says, word for word; only the gateway's address is another.
const README: &str = include_str!("../../deploy/postgres/README.md");
const SETUP: &str = include_str!("../../deploy/postgres/setup.sql");
const REMOVE: &str = include_str!("../../deploy/postgres/remove.sql");
const GATEWAY_IN_README: &str = "10.0.0.4/32";
const GATEWAY: &str = "127.0.0.1/32";

pub(crate) const SERVER_NAME: &str = "db.acme.internal";
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A running server, and what is needed to reach it. Stopped and deleted when dropped.
pub(crate) struct Postgres {
    pub(crate) port: u16,
    pub(crate) authority: Arc<Authority>,
    directory: PathBuf,
    process: Child,
}

/// Whether `setup.sql` has been run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Functions {
    Installed,
    Missing,
}

impl Postgres {
    /// `None`, said loudly, where no PostgreSQL is installed.
    pub(crate) fn start(functions: Functions) -> Option<Self> {
        let template = template()?;
        let authority = Arc::new(authority("acme"));
        let directory = scratch();
        run(Command::new("cp").arg("-a").arg(template).arg(&directory));
        let leaf = issue(&authority, SERVER_NAME, Purpose::Server);
        write(&directory, "server.crt", &leaf.chain_pem);
        write(&directory, "server.key", &leaf.key_pem);
        write(&directory, "portcullis-ca.crt", authority.authority_pem());
        let trusted = "local all all trust\n".to_owned();
        let rules = readme("pg_hba").replace(GATEWAY_IN_README, GATEWAY);
        write(&directory, "pg_hba.conf", &(trusted + &rules));
        write(&directory, "pg_ident.conf", &readme("pg_ident"));
        let port = free_port();
        let own = std::fs::read_to_string(directory.join("postgresql.conf")).unwrap();
        write(
            &directory,
            "postgresql.conf",
            &(own + &configuration(port, &directory)),
        );
        let process = Command::new("setpriv")
            .args(as_postgres())
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binaries()?.join("postgres"))
            .arg("-D")
            .arg(&directory)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("log")).unwrap())
            .spawn()
            .unwrap();
        let postgres = Self {
            port,
            authority,
            directory,
            process,
        };
        postgres.wait();
        if functions == Functions::Installed {
            postgres.set_up();
        }
        Some(postgres)
    }

    pub(crate) fn set_up(&self) {
        self.script(SETUP).unwrap();
    }

    pub(crate) fn remove(&self) {
        self.script(REMOVE).unwrap();
    }

    /// Runs `sql` as the superuser; its rows as psql prints them unaligned.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.script(sql).unwrap()
    }

    /// The same, as another role, or what the server said against it.
    pub(crate) fn script(&self, sql: &str) -> Result<String, String> {
        self.script_as("postgres", "postgres", sql)
    }

    pub(crate) fn script_as(
        &self,
        role: &str,
        database: &str,
        sql: &str,
    ) -> Result<String, String> {
        let mut psql = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h"])
            .arg(&self.directory)
            .args(["-p", &self.port.to_string(), "-U", role, "-d", database])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One statement after the other, as `psql -f` runs them. A broken pipe is an early end,
        // which the exit status tells.
        let _ = psql.stdin.take().unwrap().write_all(sql.as_bytes());
        let output = psql.wait_with_output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Where its Unix socket is.
    pub(crate) fn directory(&self) -> &str {
        self.directory.to_str().unwrap()
    }

    /// A session of `role` through `host` (an address, or the directory of the Unix socket) that
    /// sleeps until it is dropped.
    pub(crate) fn hold(&self, role: &str, host: &str) -> Held {
        let psql = Command::new("psql")
            .args(["-X", "-q", "-h", host])
            .args(["-p", &self.port.to_string(), "-U", role, "-d", "postgres"])
            .args(["-c", "SELECT pg_sleep(600)"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut held = Held { pid: 0, psql };
        let find = format!(
            "SELECT pid FROM pg_stat_activity WHERE usename = '{role}' AND query LIKE '%pg_sleep(600)' \
             AND pid <> pg_backend_pid()"
        );
        let until = clock::instant() + Duration::from_secs(5);
        loop {
            if let Ok(pid) = self.sql(&find).parse() {
                held.pid = pid;
                return held;
            }
            assert!(clock::instant() < until, "{role} did not get in");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Replaces a configuration file and has the server read it.
    pub(crate) fn configure(&self, file: &str, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.directory.join(file)).unwrap();
        write(&self.directory, file, &change(text));
        self.sql("SELECT pg_reload_conf()");
        // The postmaster reads it when it gets to it.
        std::thread::sleep(Duration::from_millis(200));
    }

    /// A database-client certificate that this server's authority signed.
    pub(crate) fn identity(&self, common_name: &str) -> Identity {
        let leaf = issue(&self.authority, common_name, Purpose::Client);
        Identity::from_pem(&leaf.chain_pem, &leaf.key_pem).unwrap()
    }

    /// The way to this server with the certificate that the README names.
    pub(crate) fn upstreams(&self) -> Arc<Upstreams> {
        let identities =
            BTreeMap::from([("acme".parse().unwrap(), self.identity("portcullis.acme"))]);
        Arc::new(Upstreams::new(Dialer::local(), identities))
    }

    pub(crate) fn services(&self) -> Arc<Services> {
        Arc::new(Services::new(self.upstreams()))
    }

    pub(crate) fn cluster(&self) -> Cluster {
        Cluster {
            engine: Engine::Postgresql,
            backends: vec![Backend {
                host: "127.0.0.1".into(),
                port: self.port,
            }],
            tls: UpstreamTls::Verified {
                server_name: SERVER_NAME.into(),
                authorities: self.authority.authority_pem().into(),
            },
            via: None,
            service: Some(Service {
                role: "portcullis_service".into(),
                database: "postgres".into(),
            }),
        }
    }

    pub(crate) fn target(&self) -> Target {
        target(self.cluster())
    }

    /// The tenant with this cluster and an endpoint for it.
    pub(crate) fn tenant(&self, authentication: Authentication) -> Tenant {
        let mut tenant = Tenant::new("acme".parse().unwrap());
        tenant
            .clusters
            .insert("orders".parse().unwrap(), self.cluster());
        tenant.endpoints.insert(
            "orders".parse().unwrap(),
            Endpoint {
                cluster: "orders".parse().unwrap(),
                names: vec!["acme-orders.db.example.net".parse().unwrap()],
                suspended: false,
                replication: Replication::Refused,
                authentication,
                doors: std::collections::BTreeSet::new(),
                allow: vec![],
            },
        );
        tenant
    }

    fn wait(&self) {
        let until = clock::instant() + Duration::from_secs(20);
        while self.script("SELECT 1").is_err() {
            let log = std::fs::read_to_string(self.directory.join("log")).unwrap();
            assert!(clock::instant() < until, "PostgreSQL did not start:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A session that does nothing, ended when dropped.
pub(crate) struct Held {
    pub(crate) pid: u32,
    psql: Child,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub(crate) fn target(cluster: Cluster) -> Target {
    Target {
        tenant: "acme".parse().unwrap(),
        id: "orders".parse().unwrap(),
        cluster: Arc::new(cluster),
    }
}

pub(crate) fn authority(name: &str) -> Authority {
    Authority::new(name, generate_key().unwrap(), validity()).unwrap()
}

pub(crate) fn issue(
    authority: &Authority,
    name: &str,
    purpose: Purpose,
) -> portcullis_certs::authority::Issued {
    let leaf = LeafRequest {
        common_name: name.into(),
        dns: vec![name.into()],
        uris: vec![],
        ips: vec![],
        purpose,
        validity: validity(),
    };
    authority.issue(&leaf, &generate_key().unwrap()).unwrap()
}

fn validity() -> Validity {
    let now = clock::unix_seconds();
    Validity {
        not_before: now - 3_600,
        not_after: now + 90 * 86_400,
    }
}

/// The first block of the README that is fenced by this word.
fn readme(word: &str) -> String {
    let (_, from) = README.split_once(&format!("```{word}\n")).unwrap();
    from.split_once("```").unwrap().0.to_owned()
}

fn configuration(port: u16, directory: &Path) -> String {
    format!(
        "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\n\
         ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n\
         ssl_ca_file = 'portcullis-ca.crt'\npassword_encryption = 'scram-sha-256'\n\
         fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nshared_buffers = 16MB\n\
         max_connections = 60\ntrack_functions = all\n",
        directory.display()
    )
}

/// A directory that `initdb` has filled, made once and kept for later runs.
fn template() -> Option<PathBuf> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = MAKING.lock().unwrap();
    let Some(binaries) = binaries() else {
        eprintln!("SKIPPED: no PostgreSQL server is installed (apt-get install postgresql)");
        return None;
    };
    let version = Command::new(binaries.join("postgres"))
        .arg("--version")
        .output()
        .unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let version = version.split_whitespace().nth(2).unwrap();
    let ready = std::env::temp_dir().join(format!("portcullis-test-template-{version}"));
    if !ready.exists() {
        let making = scratch();
        std::fs::create_dir(&making).unwrap();
        own(&making);
        run(Command::new("setpriv")
            .args(as_postgres())
            .arg("--")
            .arg(binaries.join("initdb"))
            .args([
                "--no-sync",
                "--wal-segsize=1",
                "--no-locale",
                "-E",
                "UTF8",
                "-A",
                "trust",
                "-U",
                "postgres",
                "-D",
            ])
            .arg(&making));
        // Another process may have been quicker; either is good.
        if std::fs::rename(&making, &ready).is_err() {
            std::fs::remove_dir_all(&making).unwrap();
        }
    }
    Some(ready)
}

/// `PORTCULLIS_TEST_POSTGRES` names another server's `bin`; otherwise the newest of Debian's.
fn binaries() -> Option<PathBuf> {
    static FOUND: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        if let Some(named) = std::env::var_os("PORTCULLIS_TEST_POSTGRES") {
            return Some(named.into());
        }
        let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .filter(|bin| bin.join("postgres").exists())
            .collect();
        versions.sort();
        versions.pop()
    });
    FOUND.clone()
}

/// PostgreSQL will not run as root.
fn as_postgres() -> Vec<String> {
    match postgres_user() {
        None => vec![],
        Some((uid, gid)) => {
            vec![
                format!("--reuid={uid}"),
                format!("--regid={gid}"),
                "--clear-groups".into(),
            ]
        }
    }
}

fn postgres_user() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let fields: Vec<&str> = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .unwrap()
        .split(':')
        .collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

fn write(directory: &Path, file: &str, text: &str) {
    let path = directory.join(file);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    own(&path);
}

fn own(path: &Path) {
    if let Some((uid, gid)) = postgres_user() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn scratch() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (process, next) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    std::env::temp_dir().join(format!("portcullis-test-postgres-{process}-{next}"))
}

/// A port on which nobody listens. Not taken twice by this process: the kernel hands out ports at
/// random, but a UDP socket of the same number, kept for good, marks it as ours.
pub(crate) fn free_port() -> u16 {
    static TAKEN: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if let Ok(mark) = UdpSocket::bind(("127.0.0.1", port)) {
            TAKEN.lock().unwrap().push(mark);
            return port;
        }
    }
}
