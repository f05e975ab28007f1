//! Who is a member, who is connected, and which connection a call takes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use parking_lot::Mutex;
use quinn::Connection;
use tokio::sync::watch;

use super::closing::Closing;
use super::error::MeshError;
use super::hello::Hello;
use super::start::{Said, is_overtaken};
use crate::runtime::clock::{Duration, Instant};

/// A member as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// SHA-256 of its public key, as `portcullis_certs::fleet::Peer::key`: a certificate of another key is not this member's.
    pub key: [u8; 32],
    /// Where it is called (`host:port`), if anywhere.
    pub address: Option<String>,
}

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    ByUs,
    ByThem,
}

/// A live connection, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// The peer.
    pub peer: u64,
    /// Its present address.
    pub address: SocketAddr,
    /// Whether this node opened it.
    pub ours: bool,
    /// How long what it is sent takes to be acknowledged, smoothed over the latest.
    pub round_trip: Duration,
}

/// A connection whose handshake and greeting are done.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) peer: u64,
    pub(super) key: [u8; 32],
    pub(super) epoch: u64,
    pub(super) opened: Opened,
    /// Which start of its process the peer says that it is.
    said: Option<Said>,
    /// Datagrams received when a call got no answer while none arrived: unless more have arrived since, the peer is probably gone.
    suspect_at: Option<u64>,
}

impl Link {
    pub(super) fn new(
        connection: Connection,
        peer: u64,
        key: [u8; 32],
        epoch: u64,
        opened: Opened,
        said: Option<Said>,
    ) -> Self {
        Self {
            connection,
            peer,
            key,
            epoch,
            opened,
            said,
            suspect_at: None,
        }
    }

    /// Datagrams received so far.
    pub(super) fn received(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    pub(super) fn close(&self, reason: Closing) {
        close(&self.connection, reason);
    }

    /// Whether both were opened by one node that was started in between.
    fn is_of_other_start(&self, other: &Self) -> bool {
        let start = |link: &Self| link.said.as_ref().map(|said| said.start);
        start(self) != start(other)
    }

    fn is_live(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    fn is_sound(&self) -> bool {
        self.suspect_at.is_none_or(|at| self.received() > at)
    }
}

pub(super) fn close(connection: &Connection, reason: Closing) {
    connection.close(reason.code().into(), reason.name().as_bytes());
}

/// What a dial came to, once it is over.
pub(super) type Outcome = Option<Result<(), MeshError>>;

/// What to do to reach a peer.
pub(super) enum Way {
    /// Take this connection.
    Link(Link),
    /// Somebody dials already: wait.
    Wait(watch::Receiver<Outcome>),
    /// Dial that address, and tell those who wait.
    Dial(String, watch::Sender<Outcome>),
}

pub(super) struct Links(Mutex<State>);

struct State {
    epoch: u64,
    members: BTreeMap<u64, Member>,
    links: BTreeMap<u64, Vec<Link>>,
    dials: BTreeMap<u64, Dialling>,
    /// The latest start of each member that was heard of, until this node's own process ends.
    starts: BTreeMap<u64, Said>,
}

/// Present and failed dials of one peer.
#[derive(Default)]
struct Dialling {
    running: Option<watch::Receiver<Outcome>>,
    failures: u32,
    failed: Option<(Instant, MeshError)>,
}

impl Links {
    pub(super) fn new(epoch: u64) -> Self {
        Self(Mutex::new(State {
            epoch,
            members: BTreeMap::new(),
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            starts: BTreeMap::new(),
        }))
    }

    pub(super) fn epoch(&self) -> u64 {
        self.0.lock().epoch
    }

    pub(super) fn set_members(&self, epoch: u64, members: BTreeMap<u64, Member>) {
        let mut state = self.0.lock();
        state.epoch = state.epoch.max(epoch);
        let before = std::mem::replace(&mut state.members, members);
        let State {
            epoch,
            members,
            links,
            dials,
            starts,
        } = &mut *state;
        starts.retain(|peer, _| members.contains_key(peer));
        let moved = |peer: &u64| {
            let address =
                |of: &BTreeMap<u64, Member>| of.get(peer).and_then(|it| it.address.clone());
            address(&before) != address(members)
        };
        dials.retain(|peer, _| members.contains_key(peer) && !moved(peer));
        for link in links.values().flatten() {
            if let Err(reason) = belongs(members, link.peer, &link.key) {
                link.close(reason);
            } else if link.epoch < *epoch {
                link.close(Closing::OlderEpoch);
            } else if link.opened == Opened::ByUs && moved(&link.peer) {
                link.close(Closing::Moved);
            }
        }
        sweep(links);
    }

    /// Whether this peer is a member with this key.
    pub(super) fn belongs(&self, peer: u64, key: &[u8; 32]) -> Result<(), Closing> {
        belongs(&self.0.lock().members, peer, key)
    }

    /// Takes a connection in, if the peer belongs here at this very moment. An older one that the same side opened is closed: its end has
    /// forgotten it; so is every one of an earlier start of the peer's process.
    pub(super) fn insert(&self, link: Link, ours: &Hello) -> Result<(), Closing> {
        let mut state = self.0.lock();
        belongs(&state.members, link.peer, &link.key)?;
        let ours = Hello {
            epoch: state.epoch,
            ..*ours
        };
        ours.check_epoch(link.epoch)?;
        if is_overtaken(state.starts.get(&link.peer), link.said.as_ref()) {
            return Err(Closing::StartedTwice);
        }
        if let Some(said) = &link.said {
            state.starts.insert(link.peer, said.clone());
        }
        // A peer that called us can be called again at once.
        if link.opened == Opened::ByThem
            && let Some(dialling) = state.dials.get_mut(&link.peer)
        {
            dialling.failures = 0;
            dialling.failed = None;
        }
        let links = state.links.entry(link.peer).or_default();
        for older in links.iter() {
            if older.is_of_other_start(&link) {
                older.close(Closing::StartedTwice);
            } else if older.opened == link.opened {
                older.close(Closing::Replaced);
            }
        }
        links.retain(Link::is_live);
        links.push(link);
        Ok(())
    }

    /// The latest start of that peer, as it said it.
    pub(super) fn latest(&self, peer: u64) -> Option<Vec<u8>> {
        let state = self.0.lock();
        state.starts.get(&peer).map(|said| said.bytes.clone())
    }

    /// Forgets connections that are closed.
    pub(super) fn sweep(&self) {
        sweep(&mut self.0.lock().links);
    }

    /// After a call without an answer, during which nothing at all arrived on this connection.
    pub(super) fn suspect(&self, link: &Link, received_before: u64) {
        let received = link.received();
        if received > received_before {
            return;
        }
        let id = link.connection.stable_id();
        let mut state = self.0.lock();
        let links = state.links.get_mut(&link.peer).into_iter().flatten();
        for same in links.filter(|it| it.connection.stable_id() == id) {
            same.suspect_at = Some(received);
        }
    }

    /// How to reach `peer` now.
    pub(super) fn way(&self, peer: u64, now: Instant) -> Result<Way, MeshError> {
        let mut state = self.0.lock();
        let member = state.members.get(&peer);
        let address = member.ok_or(MeshError::NotAMember(peer))?.address.clone();
        let links = state.links.get(&peer).map_or(&[][..], Vec::as_slice);
        let mut live = links.iter().filter(|it| it.is_live());
        if let Some(sound) = live.clone().find(|it| it.is_sound()) {
            return Ok(Way::Link(sound.clone()));
        }
        let doubtful = live.next().cloned().map(Way::Link);
        let Some(address) = address else {
            return doubtful.ok_or(MeshError::NoAddress(peer));
        };
        let dialling = state.dials.entry(peer).or_default();
        if let Some(running) = &dialling.running {
            return Ok(Way::Wait(running.clone()));
        }
        if let Some((until, error)) = &dialling.failed
            && now < *until
        {
            return doubtful.ok_or_else(|| error.clone());
        }
        let (tell, hear) = watch::channel(None);
        dialling.running = Some(hear);
        Ok(Way::Dial(address, tell))
    }

    /// A dial is over. How many have failed in a row, this one included, tells how long to wait.
    pub(super) fn dialled(
        &self,
        peer: u64,
        outcome: &Result<(), MeshError>,
        again: impl FnOnce(u32) -> Instant,
    ) {
        let mut state = self.0.lock();
        let Some(dialling) = state.dials.get_mut(&peer) else {
            return;
        };
        dialling.running = None;
        match outcome {
            Ok(()) => *dialling = Dialling::default(),
            Err(error) => {
                dialling.failures = dialling.failures.saturating_add(1);
                dialling.failed = Some((again(dialling.failures), error.clone()));
            }
        }
    }

    pub(super) fn status(&self) -> Vec<LinkStatus> {
        let state = self.0.lock();
        let live = state.links.values().flatten().filter(|it| it.is_live());
        live.map(|link| LinkStatus {
            peer: link.peer,
            address: link.connection.remote_address(),
            ours: link.opened == Opened::ByUs,
            round_trip: link.connection.rtt(),
        })
        .collect()
    }
}

fn belongs(members: &BTreeMap<u64, Member>, peer: u64, key: &[u8; 32]) -> Result<(), Closing> {
    match members.get(&peer) {
        Some(member) if member.key == *key => Ok(()),
        Some(_) | None => Err(Closing::NotAMember),
    }
}

fn sweep(links: &mut BTreeMap<u64, Vec<Link>>) {
    links.retain(|_, links| {
        links.retain(Link::is_live);
        !links.is_empty()
    });
}
