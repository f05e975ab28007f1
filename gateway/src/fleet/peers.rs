//! This node among its peers: its identity, its mesh, and who belongs to it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};
use portcullis_audit::{Event, kinds};
use portcullis_certs::fleet::{
    FleetTrust, Joining, NodeIdentity, mesh_client_config, mesh_server_config,
};
use portcullis_consensus::{BoxFuture, Transport, TransportError};
use portcullis_policy::{KeyHash, NodeId};

use super::answers::Answers;
use super::home::{Home, Membership, Piece, Seed};
use super::words;
use crate::config::node::NodeConfig;
use crate::ledger::Ledger;
use crate::mesh::{Denied, Member, Mesh, MeshParts};
use crate::runtime::clock::{self, Duration};
use crate::runtime::random;

/// Who this node is to others, and whom it believes.
pub(super) struct Identity {
    pub(super) node: NodeIdentity,
    pub(super) trust: FleetTrust,
}

impl Identity {
    pub(super) fn load(home: &Home, membership: &Membership) -> Result<Self, String> {
        let told = |error: &dyn std::fmt::Display| format!("this node's identity: {error}");
        let read = |piece| home.read(piece).map_err(|error| told(&error));
        let trust = FleetTrust::from_pem(&read(Piece::Authority)?).map_err(|error| told(&error))?;
        let node = NodeIdentity::from_pem(&read(Piece::Certificate)?, &read(Piece::Key)?)
            .map_err(|error| told(&error))?;
        if node.node() != membership.node.get()
            || node.fleet() != trust.fleet()
            || node.fleet().0 != *membership.fleet.as_bytes()
        {
            return Err(format!(
                "the certificate in {} is not that of node {} of fleet {}",
                home.directory().display(),
                membership.node,
                membership.fleet
            ));
        }
        Ok(Self { node, trust })
    }
}

/// Whether a node.toml is that of this node of its fleet.
pub(super) fn check(config: &NodeConfig, membership: &Membership) -> Result<(), String> {
    if config.name != membership.name {
        return Err(format!(
            "node.toml calls this node {}, and it is of its fleet as {}: names are not changed",
            config.name, membership.name
        ));
    }
    if config.policy.is_some() {
        return Err(
            "node.toml has both `policy` and [fleet]: a fleet has one policy, which `portcullis apply` changes on any control node"
                .to_owned(),
        );
    }
    Ok(())
}

/// Opens this node's end of the mesh. Nobody is a member yet.
pub(super) fn mesh(
    config: &NodeConfig,
    membership: &Membership,
    identity: &Identity,
    start: Vec<u8>,
    answers: Arc<Answers>,
    ledger: &Arc<Ledger>,
) -> Result<Mesh, String> {
    let place = config.fleet.as_ref().ok_or("node.toml has no [fleet]")?;
    let joining = if place.roles.control {
        Joining::Offered
    } else {
        Joining::NotOffered
    };
    let server = mesh_server_config(&identity.node, &identity.trust, joining)
        .map_err(|error| format!("the mesh's TLS: {error}"))?;
    let (own, trust) = (identity.node.clone(), identity.trust.clone());
    Mesh::start(MeshParts {
        listen: place.listen,
        node: membership.node.get(),
        fleet: identity.node.fleet(),
        epoch: membership.epoch,
        start,
        server: place.listen.map(|_| server),
        client: Arc::new(move |node| mesh_client_config(&own, &trust, node).ok()),
        handler: answers,
        denied: denials(Arc::clone(ledger)),
        random: || u64::from_be_bytes(random::bytes()),
    })
    .map_err(|error| error.to_string())
}

/// A refused connection leaves an event.
fn denials(ledger: Arc<Ledger>) -> Arc<dyn Fn(Denied) + Send + Sync> {
    Arc::new(move |denied| {
        let mut event = Event::new(clock::now().as_millis(), kinds::FLEET_DENIED, ledger.node())
            .with("code", denied.reason.name())
            .with("address", denied.address.ip().to_string())
            .with("port", denied.address.port())
            .with("story", denied.detail);
        if let Some(claimed) = denied.claimed {
            event = event.with("claimed", claimed);
        }
        ledger.record(event);
    })
}

/// Who belongs to the fleet, as this node knows it: the view says, and before there is one, what
/// it was told when it joined.
pub(super) fn members(
    fleet: Option<&portcullis_policy::Fleet>,
    membership: &Membership,
    me: NodeId,
) -> (u64, BTreeMap<u64, Member>) {
    let Some(fleet) = fleet else {
        let seeds = membership.seeds.iter().filter(|seed| seed.node != me);
        let members = seeds.map(|seed| {
            let member = Member {
                key: *seed.key.as_bytes(),
                address: seed.address.clone(),
            };
            (seed.node.get(), member)
        });
        return (membership.epoch, members.collect());
    };
    let others = fleet.nodes.values().filter(|node| node.id != me);
    let members = others.map(|node| {
        let member = Member {
            key: *node.key.as_bytes(),
            address: node.address.clone(),
        };
        (node.id.get(), member)
    });
    (fleet.epoch.max(membership.epoch), members.collect())
}

/// The other nodes as the mesh knows them, also on disk: a voter that was removed is in no state any
/// more, and its vote is needed until it is let go, also by a node that starts again meanwhile.
pub(super) struct Peers {
    home: Home,
    known: Mutex<BTreeMap<u64, Member>>,
    /// One decides at a time who they are,
    deciding: Mutex<()>,
    /// and one writes at a time, always the latest.
    writing: Mutex<()>,
}

impl Peers {
    /// Those whom this node knew when it was last up.
    pub(super) fn load(home: Home) -> Arc<Self> {
        let text = home.find(Piece::Peers).unwrap_or_else(|error| {
            tracing::warn!(%error, "the other nodes as they were last known could not be read; the state says who they are");
            None
        });
        let seeds: Vec<Seed> = text
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default();
        let known = seeds.into_iter().map(|seed| {
            let (key, address) = (*seed.key.as_bytes(), seed.address);
            (seed.node.get(), Member { key, address })
        });
        Arc::new(Self {
            home,
            known: Mutex::new(known.collect()),
            deciding: Mutex::default(),
            writing: Mutex::default(),
        })
    }

    /// Held by whoever decides who they are, until the mesh is told.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.deciding.lock()
    }

    /// A node as it was known before.
    pub(super) fn get(&self, node: u64) -> Option<Member> {
        self.known.lock().get(&node).cloned()
    }

    /// From now on these are known; whether that is news, which [`Peers::write`] keeps.
    pub(super) fn are(&self, members: &BTreeMap<u64, Member>) -> bool {
        let mut known = self.known.lock();
        let news = *known != *members;
        if news {
            known.clone_from(members);
        }
        news
    }

    /// Keeps them on disk. Waits for the disk.
    pub(super) fn write(&self) {
        let _one = self.writing.lock();
        let known = self.known.lock().clone();
        let seeds = known.into_iter().filter_map(|(node, member)| {
            Some(Seed {
                node: NodeId::new(node)?,
                key: KeyHash::new(member.key),
                address: member.address,
                view_key: None,
            })
        });
        let seeds: Vec<Seed> = seeds.collect();
        let written = serde_json::to_string_pretty(&seeds)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                let written = self.home.write(Piece::Peers, &text);
                written.map_err(|error| error.to_string())
            });
        if let Err(error) = written {
            tracing::warn!(
                error,
                "the other nodes could not be kept on disk; it is tried again when they change"
            );
        }
    }
}

/// What carries consensus' messages: the mesh, once it is there.
#[derive(Default)]
pub(super) struct Wire {
    mesh: OnceLock<Mesh>,
    open: AtomicBool,
    cut: AtomicBool,
}

impl Wire {
    pub(super) fn connect(&self, mesh: Mesh) {
        // Connected once, by `Fleet::start`.
        drop(self.mesh.set(mesh));
    }

    /// From now on it carries, unless it is cut.
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// From now on nothing is carried.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }
}

impl Transport for Wire {
    fn call(
        &self,
        to: NodeId,
        request: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, TransportError>> {
        let mesh = self.mesh.get().cloned();
        let cut = self.cut.load(Ordering::SeqCst);
        let open = self.open.load(Ordering::SeqCst);
        Box::pin(async move {
            if cut {
                return Err(TransportError::new("this node has no part in deciding"));
            }
            if !open {
                return Err(TransportError::new("this node has not greeted the others"));
            }
            let mesh = mesh.ok_or_else(|| TransportError::new("the mesh is not open yet"))?;
            mesh.call(to.get(), words::RAFT, request, within)
                .await
                .map_err(|error| TransportError::new(&error.to_string()))
        })
    }
}
