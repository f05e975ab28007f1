//! How soon many subscribers have what control nodes decided: each with its own identity, its own
//! connection under mutual TLS and its own [`Follower`], all of them in this process.
//!
//! They are admitted like anybody's nodes, by a token and `join`; what they lack is what comes
//! after: they keep nothing on a disk and report nothing.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use portcullis::fleet::home::{Home, Membership, Piece};
use portcullis::mesh::{BoxFuture, Caller, Duplex, Handler, Member, Mesh, MeshParts, Refused};
use portcullis::runtime::{clock, random};
use portcullis_certs::fleet::{FleetTrust, NodeIdentity, mesh_client_config};
use portcullis_consensus::view::{
    Asked, Assembler, Follower, Frame, Output, Trusted, Voters, decode, encode,
};
use portcullis_policy::KeyHash;
use portcullis_tests::fleet::{GATEWAY, Guests, Node};
use portcullis_tests::{Fleet, TenantText};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::board::Board;
use crate::enforced::milliseconds;
use crate::report::Table;
use crate::sample::quantile;

/// Subscribers.
const SUBSCRIBERS: usize = 100;
/// Control nodes.
const NODES: usize = 3;
/// Changes told to one, and to all, for each round that a run was asked for.
const CHANGES_A_ROUND: usize = 20;
/// Between two changes.
const PAUSE: Duration = Duration::from_millis(100);
/// Nothing here should take longer.
const LIMIT: Duration = Duration::from_secs(30);
/// The mesh's number of the subscription to the view (`gateway/src/fleet/words.rs`).
const VIEW: u8 = 6;

/// Measures.
pub(crate) fn measure(rounds: usize, board: &mut Board) -> Table {
    let mut fleet = Fleet::of(u8::try_from(NODES).expect("few"));
    let homes: Vec<usize> = (0..=SUBSCRIBERS)
        .map(|number| {
            let index = fleet.unmade(&format!("s{number}"), GATEWAY);
            fleet.join(index, "gateway");
            index
        })
        .collect();
    let data: Vec<_> = homes.iter().map(|home| fleet.nodes[*home].data()).collect();
    let runtime = Runtime::new().expect("threads");
    let mut commits = Vec::new();
    let changes = rounds * CHANGES_A_ROUND;
    let mut one = tell(
        &fleet,
        &runtime,
        &data[SUBSCRIBERS..],
        changes,
        &mut commits,
    );
    let mut all = tell(
        &fleet,
        &runtime,
        &data[..SUBSCRIBERS],
        changes,
        &mut commits,
    );
    let mut table = Table::new(
        "subscribers: real views over the mesh (QUIC, mutual TLS), followed in one process",
        &[
            "what",
            "changes",
            "p50 ms",
            "p99 ms",
            "p50 to one subscriber",
        ],
    );
    let base = quantile(&mut one.slowest, 0.5);
    let mut told = |what: &str, took: &mut Vec<f64>, ratio: bool| {
        let figures = [0.5, 0.99].map(|part| quantile(took, part));
        let ratio = ratio.then(|| figures[0] / base);
        let mut cells = vec![what.to_owned(), took.len().to_string()];
        cells.extend(figures.map(|figure| format!("{figure:.1}")));
        cells.push(ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}")));
        table.row(
            cells,
            json!({ "what": what, "ms": figures, "ratio": ratio }),
        );
        figures
    };
    let commit = told("a write, asked to committed", &mut commits, false);
    let alone = told(
        "1 subscriber: asked to view believed",
        &mut one.slowest,
        false,
    );
    let median = told(
        &format!("{SUBSCRIBERS} subscribers: asked to the median one's"),
        &mut all.median,
        true,
    );
    let slowest = told(
        &format!("{SUBSCRIBERS} subscribers: asked to the slowest one's"),
        &mut all.slowest,
        true,
    );
    table.note(
        "asked to committed is a write of another kind through the same nodes before each change; subscribers keep nothing on disk",
    );
    board.line(format!(
        "a change told to {SUBSCRIBERS} subscribers over the mesh (each a follower of its own under mutual TLS, all in one process, none keeping it on disk): asked to believed by the median one {:.1} / {:.1} ms, by the slowest {:.1} / {:.1} (p50 / p99; by 1 subscriber {:.1} / {:.1}; the commit itself {:.1} / {:.1})",
        median[0], median[1], slowest[0], slowest[1], alone[0], alone[1], commit[0], commit[1]
    ));
    table
}

/// From a change being asked for, in milliseconds.
#[derive(Default)]
struct Told {
    median: Vec<f64>,
    slowest: Vec<f64>,
}

fn tell(
    fleet: &Fleet,
    runtime: &Runtime,
    data: &[impl AsRef<Path>],
    changes: usize,
    commits: &mut Vec<f64>,
) -> Told {
    let (tell, mut arrivals) = unbounded_channel();
    let mut subscribers = JoinSet::new();
    for (number, data) in data.iter().enumerate() {
        let subscriber = Subscriber::load(data.as_ref());
        subscribers.spawn_on(subscriber.follow(number, tell.clone()), runtime.handle());
    }
    // The policy in force is everybody's first news.
    let _ = arrived(runtime, &mut arrivals, data.len(), Instant::now());
    let mut told = Told::default();
    std::thread::scope(|scope| {
        let mut asked = VecDeque::new();
        for round in 0..changes {
            // A node performs one change after the other, and its answer waits a moment for reports,
            // which subscribers do not give: each node is done before it is asked again.
            if asked.len() == NODES {
                let before: ScopedJoinHandle<'_, Value> = asked.pop_front().expect("some");
                let _ = before.join().expect("an answer");
            }
            let node = &fleet.nodes[round % NODES];
            let (answer, took) = node.write(&format!("nobody-{}-{round}", data.len()));
            assert_eq!(answer.status, 200, "{}", answer.body);
            commits.push(milliseconds(took));
            std::thread::sleep(PAUSE);
            let guests = match round % 2 {
                0 => Guests::Unwelcome,
                _ => Guests::Welcome,
            };
            let policy = fleet.policy(guests);
            let began = Instant::now();
            asked.push_back(scope.spawn(move || change(node, &policy)));
            let mut took = arrived(runtime, &mut arrivals, data.len(), began);
            told.median.push(quantile(&mut took, 0.5));
            told.slowest.push(quantile(&mut took, 1.0));
        }
    });
    subscribers.abort_all();
    told
}

/// Applies without waiting for a receipt of all, which subscribers do not give.
fn change(node: &Node, tenant: &TenantText) -> Value {
    let asked = json!({
        "files": { (format!("{}.yaml", tenant.id())): tenant.yaml() },
        "prune": false,
        "receipt": false,
    });
    let answer = node.ask("POST", "/v1/apply", &asked);
    answer.expect("an answer").ok()
}

/// Waits for news at so many subscribers, and how long it took to each.
fn arrived(
    runtime: &Runtime,
    arrivals: &mut UnboundedReceiver<(usize, Instant)>,
    count: usize,
    began: Instant,
) -> Vec<f64> {
    let mut at = BTreeMap::new();
    while at.len() < count {
        let next = runtime.block_on(async { timeout(LIMIT, arrivals.recv()).await });
        let (who, when) = next.expect("news in time").expect("subscribers");
        let known = at.insert(who, milliseconds(when.saturating_duration_since(began)));
        assert!(known.is_none(), "subscriber {who} was told twice");
    }
    at.into_values().collect()
}

struct Subscriber {
    membership: Membership,
    identity: NodeIdentity,
    trust: FleetTrust,
    recovery_key: [u8; 32],
}

impl Subscriber {
    fn load(data: &Path) -> Self {
        let home = Home::of(data);
        let read = |piece| home.read(piece).expect("it has joined");
        let recovery: KeyHash = read(Piece::RecoveryPublic).trim().parse().expect("a key");
        Self {
            membership: home.membership().expect("a file").expect("it has joined"),
            identity: NodeIdentity::from_pem(&read(Piece::Certificate), &read(Piece::Key))
                .expect("its own"),
            trust: FleetTrust::from_pem(&read(Piece::Authority)).expect("the fleet's"),
            recovery_key: *recovery.as_bytes(),
        }
    }

    /// Tells of each view that changes a tenant, once it is believed. The subscribers are spread
    /// over the control nodes.
    async fn follow(self, number: usize, tell: UnboundedSender<(usize, Instant)>) {
        let seeds = self.membership.seeds.iter();
        let control: Vec<_> = seeds
            .filter(|seed| seed.view_key.is_some())
            .cloned()
            .collect();
        let mut follower = Follower::new(Trusted {
            fleet: self.membership.fleet,
            epoch: self.membership.epoch,
            voters: Voters(
                control
                    .iter()
                    .filter_map(|seed| Some((seed.node, seed.view_key?)))
                    .collect(),
            ),
            recovery_key: self.recovery_key,
        });
        let teller = control[number % control.len()].node.get();
        let mesh = self.mesh();
        let stream = mesh.open(teller, VIEW).await.expect("a control node");
        let (mut sender, mut receiver) = stream.split();
        let from_nothing = Asked::From {
            epoch: 0,
            revision: 0,
        };
        let mut ask = encode(&from_nothing).expect("small");
        sender.send(&ask).await.expect("it listens");
        let mut assembler = Assembler::default();
        loop {
            let piece = receiver.recv().await.expect("it tells").expect("it tells");
            let Some(message) = assembler.take(&piece).expect("a piece") else {
                continue;
            };
            let frame = decode(&message).expect("a frame");
            // All changes of voters are told; those before this one's own voters are not for it.
            let succession = matches!(frame, Frame::Succeeded(_));
            match follower.take(frame, clock::now()) {
                Output::Publish(publish) => {
                    if !publish.applied.tenants.is_empty() {
                        let _ = tell.send((number, Instant::now()));
                    }
                    let revision = publish.view.revision().get();
                    ask = encode(&Asked::Ack { revision }).expect("small");
                    sender.send(&ask).await.expect("it listens");
                }
                Output::Alive { .. } | Output::Taken => {}
                Output::Refused(_) if succession => {}
                other => panic!("subscriber {number}: {other:?}"),
            }
        }
    }

    fn mesh(self) -> Mesh {
        let members = self.membership.seeds.iter().map(|seed| {
            let member = Member {
                key: *seed.key.as_bytes(),
                address: seed.address.clone(),
            };
            (seed.node.get(), member)
        });
        let members: BTreeMap<u64, Member> = members.collect();
        let epoch = self.membership.epoch;
        let (identity, trust) = (self.identity, self.trust);
        let mesh = Mesh::start(MeshParts {
            listen: None,
            node: self.membership.node.get(),
            fleet: identity.fleet(),
            epoch,
            // It is started this once, and has no directory that could be copied.
            start: Vec::new(),
            server: None,
            client: Arc::new(move |node| mesh_client_config(&identity, &trust, node).ok()),
            handler: Arc::new(Nothing),
            denied: Arc::new(|denied| panic!("{denied:?}")),
            random: || u64::from_be_bytes(random::bytes()),
        });
        let mesh = mesh.expect("a socket");
        mesh.set_members(epoch, members);
        mesh
    }
}

/// Answers nobody.
struct Nothing;

impl Handler for Nothing {
    fn call(
        &self,
        _from: Caller,
        _service: u8,
        _request: Vec<u8>,
    ) -> BoxFuture<'static, Result<Vec<u8>, Refused>> {
        Box::pin(async { Err(Refused("a subscriber answers nothing".to_owned())) })
    }

    fn stream(&self, _from: u64, _service: u8, _stream: Duplex) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn newer_epoch(&self, _: &[u8]) {}

    fn started_again(&self, _: &[u8]) {}
}
