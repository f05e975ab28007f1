//! The rooms of a node, built from its configuration and put together.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use portcullis_certs::cancel_key::CancelKeys;
use portcullis_certs::{Identity, ServerIdentities};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use crate::api::{Node, Readers, Turns};
use crate::bots::certificates;
use crate::config::node::{NodeConfig, PemPair};
use crate::database::Upstreams;
use crate::database::service::Services;
use crate::database::verifiers::Verifiers;
use crate::fleet::home::{Home, Piece};
use crate::fleet::{Fleet, FleetParts, Opened};
use crate::http::Handshake;
use crate::ledger::Ledger;
use crate::proxy::{Door, Front, FrontLimits, FrontParts};
use crate::runtime::dialer::Dialer;
use crate::runtime::machine::Machine;
use crate::runtime::sockets::BACKLOG;
use crate::runtime::{clock, random};
use crate::ship::{self, OcsfFile, Otlp, Syslog};
use tokio_util::sync::CancellationToken;

/// A node whose doors are still shut.
pub(super) struct Built {
    pub(super) node: Arc<Node>,
    pub(super) services: Arc<Services>,
    pub(super) verifiers: Arc<Verifiers>,
}

/// A listening socket and the door it is.
pub(super) struct Bound {
    pub(super) door: Arc<Door>,
    pub(super) listener: std::net::TcpListener,
}

/// The sockets of every worker, and what was bound in words.
pub(super) struct Listening {
    pub(super) workers: Vec<Vec<Bound>>,
    pub(super) addresses: Vec<String>,
}

pub(super) async fn build(config: &Arc<NodeConfig>) -> Result<Built, String> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data)
        .map_err(|error| format!("data directory {}: {error}", config.data.display()))?;
    let opened = Opened::open(config).await?;
    let files = config
        .load_identities()
        .map_err(|mistakes| lines(&mistakes))?;
    let identities = server_identities(config, &files.certificates)?;
    let mut database_clients = BTreeMap::new();
    for (tenant, pair) in &files.database_clients {
        let identity = Identity::from_pem(&pair.chain, &pair.key)
            .map_err(|error| format!("the database-client certificate of {tenant}: {error}"))?;
        database_clients.insert(tenant.clone(), identity);
    }
    let ledger = Ledger::open(&config.data.join("audit"), &config.name)
        .map_err(|error| format!("the audit log in {}: {error}", config.data.display()))?;
    let ledger = Arc::new(ledger);
    let dialer = config
        .dialer
        .as_ref()
        .map_or_else(Dialer::local, Dialer::remote);
    let upstreams = Arc::new(Upstreams::new(dialer, database_clients));
    let services = Arc::new(Services::new(Arc::clone(&upstreams)));
    let verifiers = Arc::new(Verifiers::new(Arc::clone(&services)));
    let secret = fleet_secret(&config.data.join("mock-secret"))?;
    let cancel_keys = CancelKeys::new(&secret, &config.name, random::bytes(), random::bytes())
        .map_err(|error| error.to_string())?;
    let front = Front::new(FrontParts {
        view: opened.view(),
        identities,
        ledger: Arc::clone(&ledger),
        services: Arc::clone(&services),
        verifiers: Arc::clone(&verifiers),
        limits: limits(config)?,
        mock_secret: secret,
        cancel_keys,
        background: tokio::runtime::Handle::current(),
    })
    .map_err(|error| format!("the TLS configuration: {error}"))?;
    let front = Arc::new(front);
    let fleet = Fleet::start(FleetParts {
        config: Arc::clone(config),
        opened,
        front: Arc::clone(&front),
        ledger: Arc::clone(&ledger),
    })?;
    let node = Arc::new(Node {
        name: config.name.clone(),
        config: Arc::clone(config),
        fleet,
        front,
        upstreams,
        ledger,
        since: clock::now(),
        tasks: TaskTracker::new(),
        turns: Turns::default(),
        readers: Readers::default(),
    });
    Ok(Built {
        node,
        services,
        verifiers,
    })
}

/// What this node takes on at most, said aloud: it depends on the machine.
fn limits(config: &NodeConfig) -> Result<FrontLimits, String> {
    let machine = Machine::look()?;
    let listening = config.listeners.len().saturating_mul(workers(config));
    let limits = FrontLimits::settle(&config.limits, machine, listening)?;
    tracing::info!(
        connections = limits.connections.value,
        staff_reserve = limits.staff_reserve,
        unauthenticated = limits.unauthenticated.value,
        descriptors = machine.descriptors,
        memory = machine.memory,
        "limits"
    );
    if let Some(wanted) = config.limits.connections
        && wanted > limits.connections.value
    {
        tracing::warn!(
            wanted,
            connections = limits.connections.value,
            "the machine gives too few file descriptors for the connections that node.toml asks for"
        );
    }
    Ok(limits)
}

fn workers(config: &NodeConfig) -> usize {
    config
        .workers
        .or_else(|| std::thread::available_parallelism().ok())
        .map_or(1, std::num::NonZeroUsize::get)
}

/// Binds every listener once per worker. Where the kernel chooses the port, all workers share its
/// first choice.
pub(super) async fn bind(node: &Node, config: &NodeConfig) -> Result<Listening, String> {
    let mut workers: Vec<Vec<Bound>> = (0..workers(config)).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for configured in &config.listeners {
        let door = Arc::new(Door::new(configured));
        let mut address = configured.address;
        for worker in &mut workers {
            let listener = node
                .upstreams
                .dialer()
                .listener(configured.via.as_ref(), address, BACKLOG)
                .await
                .map_err(|error| format!("listener {}: {error}", configured.address))?;
            address = listener
                .local_addr()
                .map_err(|error| format!("listener {}: {error}", configured.address))?;
            worker.push(Bound {
                door: Arc::clone(&door),
                listener,
            });
        }
        addresses.push(describe(address, configured.via.as_ref()));
    }
    Ok(Listening { workers, addresses })
}

fn describe(address: SocketAddr, via: Option<&portcullis_policy::Via>) -> String {
    use portcullis_policy::Via;
    match via {
        None => address.to_string(),
        Some(Via::NetworkNamespace(name)) => format!("{address} in namespace {name}"),
        Some(Via::Interface(name)) => format!("{address} on {name}"),
    }
}

/// Starts bringing entries of the audit logs where node.toml says.
pub(super) fn ship(
    node: &Arc<Node>,
    config: &NodeConfig,
    tasks: &mut tokio::task::JoinSet<()>,
    over: &CancellationToken,
) {
    let audit = &config.audit;
    if let Some(file) = &audit.ocsf {
        // Each has a file of its own.
        start(
            node,
            config,
            OcsfFile::new(file.clone()),
            |_| true,
            (tasks, over),
        );
    }
    if let Some(place) = audit.index.clone() {
        let (data, ledger) = (config.data.clone(), Arc::clone(&node.ledger));
        let (fleet, over) = (Arc::clone(&node.fleet), over.clone());
        let filling =
            async move { ship::index(&data, place, ledger, || fleet.leads(), over).await };
        tasks.spawn(filling);
    }
    if let Some(target) = &audit.otlp {
        let sink = Otlp::new(target.clone(), config.name.clone());
        start(node, config, sink, Fleet::leads, (tasks, over));
    }
    if let Some(target) = &audit.syslog {
        let sink = Syslog::new(target.clone(), config.name.clone());
        start(node, config, sink, Fleet::leads, (tasks, over));
    }
}

fn start<S: ship::Sink>(
    node: &Arc<Node>,
    config: &NodeConfig,
    sink: S,
    ships: fn(&Fleet) -> bool,
    (tasks, over): (&mut tokio::task::JoinSet<()>, &CancellationToken),
) {
    let (data, ledger) = (config.data.clone(), Arc::clone(&node.ledger));
    let (fleet, over) = (Arc::clone(&node.fleet), over.clone());
    tasks.spawn(async move { ship::ship(&data, sink, ledger, || ships(&fleet), over).await });
}

/// The metrics page, where node.toml names an address for it.
pub(super) async fn metrics(
    config: &NodeConfig,
) -> Result<Option<(TcpListener, PrometheusHandle)>, String> {
    let Some(address) = config.metrics else {
        return Ok(None);
    };
    let handle = crate::api::metrics::install().map_err(|error| format!("metrics: {error}"))?;
    let listener = crate::http::server::bind_tcp(address)
        .await
        .map_err(|error| format!("metrics on {address}: {error}"))?;
    Ok(Some((listener, handle)))
}

/// The API for operators, where node.toml names an address for it.
pub(super) async fn api(node: &Node) -> Result<Option<(TcpListener, Handshake)>, String> {
    let Some(address) = node.config.api else {
        return Ok(None);
    };
    let handshake = node.fleet.handshake()?;
    let listener = crate::http::server::bind_tcp(address)
        .await
        .map_err(|error| format!("api on {address}: {error}"))?;
    tracing::info!(%address, "operators are heard");
    Ok(Some((listener, handshake)))
}

/// What endpoints show. A node without doors has none of its own, and nobody will ask: it is given
/// its certificate as a node.
fn server_identities(config: &NodeConfig, pairs: &[PemPair]) -> Result<ServerIdentities, String> {
    if pairs.is_empty() && config.listeners.is_empty() {
        let home = Home::of(&config.data);
        let read = |piece| home.read(piece).map_err(|error| error.to_string());
        let own = Identity::from_pem(&read(Piece::Certificate)?, &read(Piece::Key)?)
            .map_err(|error| format!("this node's identity: {error}"))?;
        return ServerIdentities::new(own, Vec::new()).map_err(|error| error.to_string());
    }
    certificates::understand(pairs)
}

/// The secret behind mock verifiers and cancel keys, drawn once and kept: two attempts for an
/// unknown role must meet the same salt, also after a restart. Its file is called after its first
/// use.
fn fleet_secret(path: &Path) -> Result<[u8; 32], String> {
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    match fs::read(path) {
        Ok(bytes) => bytes.try_into().map_err(|_| {
            format!(
                "{}: not 32 bytes; remove it to draw a new one",
                path.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let secret = random::bytes::<32>();
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .map_err(fail)?;
            file.write_all(&secret)
                .and_then(|()| file.sync_all())
                .map_err(fail)?;
            Ok(secret)
        }
        Err(error) => Err(fail(error)),
    }
}

fn lines(mistakes: &[crate::config::FileError]) -> String {
    mistakes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
