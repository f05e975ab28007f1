//! Which start of its process this node is, and what becomes of one that was overtaken by another.
//!
//! Two processes with one node's data could each give the node's one vote. Each start is counted on the
//! disk before anybody is greeted, and the mesh takes the latest start of a node alone. A process votes
//! once it has greeted every other control node that it reaches, so that whoever it overtakes is known
//! as overtaken by then. One that is shown a later start, signed with its own key, takes part in deciding
//! no more, also after a restart: its vote is what the other process remembers. Its customers are served
//! as before from the policy that it has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use portcullis_audit::kinds;
use portcullis_certs::fleet::NodeIdentity;
use portcullis_policy::NodeId;
use tokio::task::JoinSet;

use super::home::{Home, HomeError, Piece, read, write_private};
use super::peers::{Identity, Wire};
use super::{Fleet, words};
use crate::mesh::{Member, Start};
use crate::runtime::clock::{self, Duration};
use crate::runtime::random;

/// How long a node that starts waits for the others to take its greeting before it votes.
pub const GREETING: Duration = Duration::from_secs(1);

/// Where it stands by which start this one was overtaken.
const FILE: &str = "started-twice";

/// What this node knows of its own starts.
pub(super) struct Starts {
    start: Start,
    identity: NodeIdentity,
    path: PathBuf,
    /// Over which this node takes part in deciding.
    wire: Arc<Wire>,
    greeted: AtomicBool,
    /// Why this process is this node no longer; once known, for good.
    overtaken: OnceLock<Start>,
}

/// The start of a node that votes must be counted; another serves its customers though its disk is full,
/// and at worst is turned away once after its next start.
fn counted(home: &Home, epoch: u64, votes: Votes) -> Result<Start, String> {
    match (another(home, epoch), votes) {
        (Ok(start), _) => Ok(start),
        (Err(error), Votes::Yes) => Err(format!("this start could not be counted: {error}")),
        (Err(error), Votes::No) => {
            tracing::warn!(%error, "this start could not be counted");
            let before = count(home).unwrap_or_default();
            Ok(begun(epoch, before))
        }
    }
}

/// Whether a node takes part in deciding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Votes {
    Yes,
    No,
}

/// Counts one more start of the node whose files these are, durably.
///
/// # Errors
/// [`HomeError`]: the count cannot be read or written, so that the next start would count the same.
pub fn another(home: &Home, epoch: u64) -> Result<Start, HomeError> {
    let start = begun(epoch, count(home)?);
    home.write(Piece::Starts, &format!("{}\n", start.number))?;
    Ok(start)
}

fn begun(epoch: u64, before: u64) -> Start {
    Start {
        epoch,
        number: before.saturating_add(1),
        random: random::bytes(),
    }
}

fn count(home: &Home) -> Result<u64, HomeError> {
    let Some(text) = home.find(Piece::Starts)? else {
        return Ok(0);
    };
    let number = text.trim().parse();
    number.map_err(|_| home.unclear(Piece::Starts, "is not a number of starts"))
}

impl Starts {
    /// Goes on from what was written down, in the epoch in which this node lives; and what it says of
    /// itself in its greetings.
    pub(super) fn begin(
        home: &Home,
        identity: &Identity,
        epoch: u64,
        votes: Votes,
        wire: &Arc<Wire>,
    ) -> Result<(Self, Vec<u8>), String> {
        let start = counted(home, epoch, votes)?;
        let node: &NodeIdentity = &identity.node;
        let said = start.signed(node).ok_or("this node's key cannot sign")?;
        let path = home.directory().join(FILE);
        let starts = Self {
            start,
            identity: node.clone(),
            path,
            wire: Arc::clone(wire),
            greeted: AtomicBool::new(false),
            overtaken: OnceLock::new(),
        };
        let later = read(&starts.path).map_err(|error| error.to_string())?;
        // A recovery made this node's state anew since.
        let later = later.and_then(|later| starts.read(&later));
        if let Some(later) = later.filter(|later| later.epoch >= epoch) {
            starts.overtaken_by(later);
        }
        Ok((starts, said))
    }

    /// What these bytes show of this node.
    fn read(&self, said: &[u8]) -> Option<Start> {
        let own = &self.identity;
        Start::verified(said, own.fleet(), own.node(), &own.key())
    }

    /// Who this node is to others.
    pub(super) fn identity(&self) -> &NodeIdentity {
        &self.identity
    }

    /// How often it was started, this time included.
    pub(super) fn number(&self) -> u64 {
        self.start.number
    }

    /// Whether this process may vote: it has greeted the others, and is the latest.
    pub(super) fn may_decide(&self) -> bool {
        self.greeted.load(Ordering::SeqCst) && self.overtaken.get().is_none()
    }

    fn overtaken_by(&self, later: Start) -> bool {
        let first = self.overtaken.set(later).is_ok();
        self.wire.cut();
        if first {
            tracing::error!(
                own = %self.start,
                %later,
                "another process runs with this node's data, and is this node from now on: this one takes part in deciding no longer and leases nothing; stop it, and let it join anew with an empty data directory"
            );
        }
        first
    }

    fn has_greeted(&self) {
        self.greeted.store(true, Ordering::SeqCst);
        self.wire.open();
    }
}

/// Greets all who decide, then votes.
pub(super) async fn greet(fleet: Arc<Fleet>) {
    let (Some(starts), Some(mesh)) = (&fleet.starts, fleet.mesh.clone()) else {
        return;
    };
    let mut greetings = JoinSet::new();
    for other in fleet.other_voters() {
        let mesh = mesh.clone();
        greetings.spawn(async move {
            // Whatever it answers, it was greeted; whoever is not reached is waited for no longer.
            let asked = mesh.call(other.get(), words::CONFIRM, Vec::new(), GREETING);
            drop(asked.await);
        });
    }
    let all = async { while greetings.join_next().await.is_some() {} };
    drop(tokio::time::timeout(GREETING, all).await);
    starts.has_greeted();
    if fleet.overtaken().is_some() {
        fleet.keep_out().await;
    }
}

impl Fleet {
    /// By which later start of this node, in another process, this one was overtaken.
    pub(super) fn overtaken(&self) -> Option<Start> {
        self.starts.as_ref()?.overtaken.get().copied()
    }

    /// Whether this node has no part in deciding any more, whatever took it.
    pub(super) fn is_out(&self) -> bool {
        self.fenced().is_some() || self.overtaken().is_some()
    }

    /// Takes what shows that another process is this node by now, if it does.
    pub(super) fn started_again(self: &Arc<Self>, later: &[u8]) {
        let Some(starts) = &self.starts else { return };
        let Some(start) = starts.read(later).filter(|it| *it > starts.start) else {
            tracing::warn!("a later start of this node that its key did not sign was not believed");
            return;
        };
        if !starts.overtaken_by(start) {
            return;
        }
        self.lease.give_up(clock::boottime());
        self.record(kinds::FLEET_OVERTAKEN, |event| {
            let event = event.with("own", starts.start.number);
            event.with("later", start.number)
        });
        self.set_members();
        // A gateway gives no vote: started again, it is the latest.
        if self.source.consensus().is_some() {
            let (fleet, later) = (Arc::clone(self), later.to_vec());
            let path = starts.path.clone();
            self.tasks.spawn_blocking(move || write_down(&path, &later));
            self.tasks.spawn(async move { fleet.keep_out().await });
        }
    }

    /// Of those who belong to the fleet, to whom this process speaks: to nobody once another is this node.
    pub(super) fn spoken_to(&self, members: BTreeMap<u64, Member>) -> BTreeMap<u64, Member> {
        match self.overtaken() {
            Some(_) => BTreeMap::new(),
            None => members,
        }
    }

    async fn keep_out(&self) {
        if let Some(signing) = &self.signing {
            signing.be_silent();
        }
        if let Some(consensus) = self.source.consensus() {
            consensus.pause().await;
        }
    }

    /// Those who may vote, as far as this node knows, but for itself.
    fn other_voters(&self) -> Vec<NodeId> {
        let mut others = self.other_control_nodes();
        let status = self.source.status();
        others.extend(status.into_iter().flat_map(|status| status.voters));
        let told = self.membership.iter().flat_map(|it| &it.seeds);
        others.extend(told.map(|seed| seed.node));
        others.sort_unstable();
        others.dedup();
        others.retain(|node| *node != self.me);
        others
    }
}

fn write_down(path: &Path, later: &[u8]) {
    if let Err(error) = write_private(path, later) {
        tracing::error!(%error, "that this node was started twice could not be written down; a restart must hear it again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_start_is_counted_on_the_disk_and_what_is_no_count_is_not_believed() {
        let data = std::env::temp_dir().join(format!("portcullis-starts-{}", std::process::id()));
        let home = Home::of(&data);
        let file = home.directory().join("starts");
        let (one, two) = (another(&home, 3).unwrap(), another(&home, 3).unwrap());
        assert_eq!((one.epoch, one.number, two.number), (3, 1, 2));
        assert_ne!(one.random, two.random);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "2\n");
        // What is put back counts on from there.
        std::fs::write(&file, "1").unwrap();
        assert_eq!(another(&home, 3).unwrap().number, 2);
        for none in ["", "-1", "two", "99999999999999999999"] {
            std::fs::write(&file, none).unwrap();
            assert!(another(&home, 3).is_err(), "{none}");
            assert!(counted(&home, 3, Votes::Yes).is_err(), "{none}");
            assert_eq!(counted(&home, 3, Votes::No).unwrap().number, 1);
        }
        drop(std::fs::remove_dir_all(&data));
    }
}
