//! A fleet on loopback.

use parking_lot::Mutex;
use portcullis_certs::Validity;
use portcullis_certs::authority::generate_key;
use portcullis_certs::fleet::{
    FleetAuthority, JoinToken, Joining, NodeIdentity, PublicKey, join_client_config,
    mesh_client_config, mesh_server_config,
};

use super::*;
use crate::runtime::{clock, random};

/// Time enough for anything that should happen.
pub(super) const SOON: Duration = Duration::from_secs(20);
/// Answers with the request.
pub(super) const ECHO: u8 = 1;
/// Answers with who called.
pub(super) const WHO: u8 = 2;
/// Refuses.
pub(super) const NO: u8 = 3;
/// Never answers.
pub(super) const NEVER: u8 = 4;
/// A stream that sends back what comes.
pub(super) const MIRROR: u8 = 5;
/// A stream that sends frames as fast as it can and counts them.
pub(super) const FLOOD: u8 = 6;
/// Bytes of a frame of the flood.
pub(super) const FLOOD_FRAME: usize = 16 * 1024;

pub(super) const EPOCH: u64 = 3;

/// An authority and what it issues.
pub(super) struct World {
    pub(super) authority: FleetAuthority,
    identities: BTreeMap<u64, NodeIdentity>,
}

pub(super) struct Node {
    pub(super) id: u64,
    pub(super) mesh: Mesh,
    pub(super) told: Arc<Mutex<Vec<Denied>>>,
    pub(super) seen: Arc<Seen>,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) running: Mutex<(usize, usize)>,
    pub(super) flooded: Mutex<usize>,
    pub(super) proofs: Mutex<Vec<Vec<u8>>>,
    pub(super) overtaken: Mutex<Vec<Vec<u8>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listens {
    Yes,
    No,
}

pub(super) fn validity() -> Validity {
    let now = clock::unix_seconds();
    Validity {
        not_before: now - 3600,
        not_after: now + 3600,
    }
}

impl World {
    /// A fleet of this id, with identities for these nodes.
    pub(super) fn new(fleet: u8, nodes: &[u64]) -> Self {
        let key = generate_key().unwrap();
        // Certificates are made later, and must not outlive it.
        let own = validity();
        let longer = Validity {
            not_after: own.not_after + 3600,
            ..own
        };
        let authority = FleetAuthority::new(FleetId([fleet; 16]), key, longer).unwrap();
        let mut world = Self {
            authority,
            identities: BTreeMap::new(),
        };
        for node in nodes {
            let identity = world.issue(*node);
            world.identities.insert(*node, identity);
        }
        world
    }

    /// A new certificate of a new key for that node.
    pub(super) fn issue(&self, node: u64) -> NodeIdentity {
        let key = generate_key().unwrap();
        let public = PublicKey::of(&key).unwrap();
        let chain = self
            .authority
            .issue_node(node, &public, validity())
            .unwrap();
        NodeIdentity::from_pem(&chain, &key.to_pem()).unwrap()
    }

    pub(super) fn start(&self, id: u64, listens: Listens) -> Node {
        self.start_as(id, self.identities[&id].clone(), EPOCH, listens)
    }

    /// A node that says it is `id` and shows `identity`.
    pub(super) fn start_as(
        &self,
        id: u64,
        identity: NodeIdentity,
        epoch: u64,
        listens: Listens,
    ) -> Node {
        self.start_of(id, identity, epoch, listens, None)
    }

    /// The same, which says which start of its process it is.
    pub(super) fn start_of(
        &self,
        id: u64,
        identity: NodeIdentity,
        epoch: u64,
        listens: Listens,
        start: Option<Start>,
    ) -> Node {
        let trust = self.authority.trust().clone();
        let server = mesh_server_config(&identity, &trust, Joining::Offered).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&told);
        let seen = Arc::new(Seen::default());
        let mesh = Mesh::start(MeshParts {
            listen: match listens {
                Listens::Yes => Some("127.0.0.1:0".parse().unwrap()),
                Listens::No => None,
            },
            node: id,
            fleet: trust.fleet(),
            epoch,
            start: start
                .map(|it| it.signed(&identity).unwrap())
                .unwrap_or_default(),
            server: Some(server),
            client: Arc::new(move |to| mesh_client_config(&identity, &trust, to).ok()),
            handler: Arc::new(Answers(Arc::clone(&seen))),
            denied: Arc::new(move |denied| hears.lock().push(denied)),
            random: || u64::from_be_bytes(random::bytes()),
        });
        Node {
            id,
            mesh: mesh.unwrap(),
            told,
            seen,
        }
    }

    /// Members as these nodes are, at the addresses where they listen.
    pub(super) fn members(&self, nodes: &[(&Node, Listens)]) -> BTreeMap<u64, Member> {
        let of =
            |(node, listens): &(&Node, Listens)| (node.id, self.member(node.id, node, *listens));
        nodes.iter().map(of).collect()
    }

    /// Members with the keys that they should have; those with a node are called there.
    pub(super) fn members_of(&self, nodes: &[(u64, Option<&Node>)]) -> BTreeMap<u64, Member> {
        let of = |(id, node): &(u64, Option<&Node>)| {
            let address = node.map(|node| node.address().to_string());
            let key = self.identities[id].key();
            (*id, Member { key, address })
        };
        nodes.iter().map(of).collect()
    }

    fn member(&self, id: u64, node: &Node, listens: Listens) -> Member {
        let key = self.identities[&id].key();
        let address = (listens != Listens::No).then(|| node.address().to_string());
        Member { key, address }
    }

    pub(super) fn identity(&self, node: u64) -> NodeIdentity {
        self.identities[&node].clone()
    }

    /// Two nodes that know each other; the second listens as told.
    pub(super) fn pair(&self, second: Listens) -> (Node, Node) {
        let (one, two) = (self.start(1, Listens::Yes), self.start(2, second));
        let members = self.members(&[(&one, Listens::Yes), (&two, second)]);
        one.mesh.set_members(EPOCH, members.clone());
        two.mesh.set_members(EPOCH, members);
        (one, two)
    }

    pub(super) fn join_config(&self) -> Arc<ClientConfig> {
        let trust = self.authority.trust();
        let at = vec!["127.0.0.1:1".to_owned()];
        let token = JoinToken::new(trust.fleet(), trust.fingerprint(), at, [9; 32]);
        join_client_config(&token.unwrap()).unwrap()
    }
}

impl Node {
    pub(super) fn address(&self) -> SocketAddr {
        self.mesh.local_address().unwrap()
    }

    pub(super) async fn echo(&self, to: u64, text: &[u8]) -> Result<Vec<u8>, MeshError> {
        self.mesh.call(to, ECHO, text.to_vec(), SOON).await
    }

    pub(super) fn reasons(&self) -> Vec<Closing> {
        self.told.lock().iter().map(|it| it.reason).collect()
    }

    /// Waits until this node was told of such a denial.
    pub(super) async fn hears(&self, reason: Closing) -> Denied {
        let look = || {
            self.told
                .lock()
                .iter()
                .find(|it| it.reason == reason)
                .cloned()
        };
        until(|| look().is_some()).await;
        look().unwrap()
    }
}

pub(super) async fn until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap();
}

struct Answers(Arc<Seen>);

impl Handler for Answers {
    fn call(
        &self,
        from: Caller,
        service: u8,
        request: Vec<u8>,
    ) -> BoxFuture<'static, Result<Vec<u8>, Refused>> {
        let seen = Arc::clone(&self.0);
        Box::pin(async move {
            {
                let mut running = seen.running.lock();
                running.0 += 1;
                running.1 = running.1.max(running.0);
            }
            tokio::task::yield_now().await;
            let answer = match service {
                JOIN | ECHO => Ok(request),
                WHO => Ok(format!("{from:?}").into_bytes()),
                NEVER => std::future::pending().await,
                _ => Err(Refused("no".repeat(300))),
            };
            seen.running.lock().0 -= 1;
            answer
        })
    }

    fn newer_epoch(&self, proof: &[u8]) {
        self.0.proofs.lock().push(proof.to_vec());
    }

    fn started_again(&self, later: &[u8]) {
        self.0.overtaken.lock().push(later.to_vec());
    }

    fn stream(&self, _: u64, service: u8, mut stream: Duplex) -> BoxFuture<'static, ()> {
        let seen = Arc::clone(&self.0);
        Box::pin(async move {
            if service == MIRROR {
                while let Ok(Some(frame)) = stream.recv().await {
                    if stream.send(&frame).await.is_err() {
                        return;
                    }
                }
                return;
            }
            while stream.send(&[7; FLOOD_FRAME]).await.is_ok() {
                *seen.flooded.lock() += 1;
            }
        })
    }
}

/// A wire between one caller and a node, which can be cut and led elsewhere.
pub(super) struct Wire {
    pub(super) address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
}

impl Wire {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let front = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let behind = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let target = Arc::new(Mutex::new(Some(target)));
        let led = Arc::clone(&target);
        tokio::spawn(async move {
            let (mut there, mut back) = ([0; 2048], [0; 2048]);
            let mut caller = None;
            loop {
                tokio::select! {
                    Ok((size, from)) = front.recv_from(&mut there) => {
                        caller = Some(from);
                        let to = *led.lock();
                        if let Some(to) = to {
                            behind.send_to(&there[..size], to).await.unwrap();
                        }
                    }
                    Ok((size, from)) = behind.recv_from(&mut back) => {
                        let known = *led.lock() == Some(from);
                        if let Some(caller) = caller.filter(|_| known) {
                            front.send_to(&back[..size], caller).await.unwrap();
                        }
                    }
                }
            }
        });
        Self { address, target }
    }

    pub(super) fn lead(&self, target: Option<SocketAddr>) {
        *self.target.lock() = target;
    }
}
