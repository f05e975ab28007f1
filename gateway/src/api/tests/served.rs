//! A node on temporary files behind a real admin socket.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_certs::authority::{Authority, LeafRequest, Purpose};
use portcullis_certs::cancel_key::CancelKeys;
use portcullis_certs::{Identity, ServerIdentities, Validity, generate_key};
use portcullis_policy::GuardRails;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::policy;
use crate::api::types::{ApplyReply, ErrorBody, ErrorReply, StatusReply};
use crate::api::{Node, Readers, Turns, serve, serve_tls};
use crate::config::node::NodeConfig;
use crate::database::Upstreams;
use crate::database::service::Services;
use crate::database::verifiers::Verifiers;
use crate::fleet::found::found;
use crate::fleet::{Fleet, FleetParts, Opened};
use crate::http::client::{AnswerLimits, Question, ask_unix};
use crate::http::server::bind_tcp;
use crate::http::{Method, bind_unix};
use crate::ledger::Ledger;
use crate::proxy::{Front, FrontLimits, FrontParts};
use crate::runtime::clock::{self, Duration};
use crate::runtime::dialer::Dialer;
use crate::runtime::machine::Machine;

pub(in crate::api) struct Served {
    pub(in crate::api) node: Arc<Node>,
    directory: PathBuf,
    _stop: tokio_util::sync::DropGuard,
}

impl Served {
    pub(in crate::api) async fn start(name: &str) -> Self {
        let directory =
            std::env::temp_dir().join(format!("portcullis-api-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        Self::on(directory, NODE_TOML).await
    }

    /// A node that founded a fleet, with an API for operators; where that is.
    pub(super) async fn in_fleet(name: &str, rails: GuardRails) -> (Self, SocketAddr) {
        let directory =
            std::env::temp_dir().join(format!("portcullis-api-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let toml = format!("{NODE_TOML}{FLEET_TOML}");
        let config = NodeConfig::parse(&toml, &directory.join("node.toml")).unwrap();
        found(&config, &directory.join("recovery.key"), rails)
            .await
            .unwrap();
        fs::write(config.data.join("mock-secret"), [7; 32]).unwrap();
        let served = Self::on(directory, &toml).await;
        let handshake = served.node.fleet.handshake().unwrap();
        let listener = bind_tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve_tls(
            Arc::clone(&served.node),
            listener,
            handshake,
            stop.clone(),
        ));
        (served, address)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    async fn on(directory: PathBuf, toml: &str) -> Self {
        let node = Arc::new(node(&directory, toml).await);
        let stop = CancellationToken::new();
        let listener = bind_unix(&node.config.admin.socket).unwrap();
        tokio::spawn(serve(Arc::clone(&node), listener, stop.clone()));
        Self {
            node,
            directory,
            _stop: stop.drop_guard(),
        }
    }

    pub(super) async fn ask(&self, method: Method, target: &str, body: Vec<u8>) -> (u16, String) {
        let limits = AnswerLimits {
            bytes: 16 * 1024 * 1024,
            time: Duration::from_secs(20),
        };
        let question = Question {
            method,
            target,
            body,
        };
        let answer = ask_unix(&self.node.config.admin.socket, question, limits)
            .await
            .unwrap();
        // A back-up is no text.
        (
            answer.status,
            String::from_utf8_lossy(&answer.body).into_owned(),
        )
    }

    pub(in crate::api) async fn get<T: DeserializeOwned>(&self, target: &str) -> T {
        let (status, body) = self.ask(Method::Get, target, Vec::new()).await;
        assert_eq!(status, 200, "{target}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, target: &str, body: &impl Serialize) -> T {
        let (status, body) = self
            .ask(Method::Post, target, serde_json::to_vec(body).unwrap())
            .await;
        assert_eq!(status, 200, "{target}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub(super) async fn refused(&self, target: &str, body: &impl Serialize) -> (u16, ErrorBody) {
        let (status, body) = self
            .ask(Method::Post, target, serde_json::to_vec(body).unwrap())
            .await;
        assert_ne!(status, 200, "{target}: {body}");
        (
            status,
            serde_json::from_str::<ErrorReply>(&body).unwrap().error,
        )
    }

    pub(super) async fn apply(&self, files: &BTreeMap<String, String>) -> ApplyReply {
        self.post("/v1/apply", &policy(files)).await
    }

    pub(super) async fn status(&self) -> StatusReply {
        self.get("/v1/status").await
    }

    pub(in crate::api) fn events(&self, kind: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.directory.join("data/audit/events.jsonl")).unwrap();
        let events = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["kind"] == kind).collect()
    }
}

/// A node on temporary files, with a certificate of its own making and no listener.
async fn node(directory: &Path, toml: &str) -> Node {
    let config = NodeConfig::parse(toml, &directory.join("node.toml")).unwrap();
    let config = Arc::new(config);
    fs::create_dir_all(&config.data).unwrap();
    let opened = Opened::open(&config).await.unwrap();
    let ledger = Arc::new(Ledger::open(&config.data.join("audit"), &config.name).unwrap());
    let upstreams = Arc::new(Upstreams::new(Dialer::local(), BTreeMap::new()));
    let services = Arc::new(Services::new(Arc::clone(&upstreams)));
    let front = Front::new(FrontParts {
        view: opened.view(),
        identities: ServerIdentities::new(identity(), Vec::new()).unwrap(),
        ledger: Arc::clone(&ledger),
        verifiers: Arc::new(Verifiers::new(Arc::clone(&services))),
        services,
        mock_secret: [7; 32],
        cancel_keys: CancelKeys::new(&[7; 32], &config.name, [1; 8], [1; 8]).unwrap(),
        limits: FrontLimits::settle(&config.limits, Machine::look().unwrap(), 1).unwrap(),
        background: tokio::runtime::Handle::current(),
    });
    let front = Arc::new(front.unwrap());
    let fleet = Fleet::start(FleetParts {
        config: Arc::clone(&config),
        opened,
        front: Arc::clone(&front),
        ledger: Arc::clone(&ledger),
    });
    Node {
        name: config.name.clone(),
        config,
        fleet: fleet.unwrap(),
        front,
        upstreams,
        ledger,
        since: clock::now(),
        tasks: TaskTracker::new(),
        turns: Turns::default(),
        readers: Readers::default(),
    }
}

const NODE_TOML: &str = r#"
name = "gw1"
data = "data"
[admin]
socket = "admin.sock"
[[certificate]]
chain = "server.pem"
key = "server.key"
[[listener]]
address = "127.0.0.1:0"
origin = "public"
"#;

const FLEET_TOML: &str = r#"
[fleet]
listen = "127.0.0.1:0"
address = "127.0.0.1:7443"
[api]
listen = "127.0.0.1:0"
"#;

fn identity() -> Identity {
    let now = clock::unix_seconds();
    let validity = Validity {
        not_before: now - 60,
        not_after: now + 3600,
    };
    let authority = Authority::new("test", generate_key().unwrap(), validity).unwrap();
    let leaf = LeafRequest {
        common_name: "db.example.net".to_owned(),
        dns: vec!["*.db.example.net".to_owned()],
        uris: Vec::new(),
        ips: Vec::new(),
        purpose: Purpose::Server,
        validity,
    };
    let key = generate_key().unwrap();
    let issued = authority.issue(&leaf, &key).unwrap();
    Identity::from_pem(&issued.chain_pem, &issued.key_pem).unwrap()
}
