//! A node that does not vote: which view it was told last, and for how long it may go on with it.
//!
//! What is put in force is on the disk first, so that a restart without any control node serves
//! what was served before and nothing older. A disk that does not answer holds up no withdrawal:
//! after [`DISK_PATIENCE`] the view is put in force without it, and the log says so.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use portcullis_consensus::view::{
    Follower, Frame, Kept, MAX_KEPT, Output, Publish, Trusted, Voters,
};
use portcullis_policy::View;
use tokio::sync::watch;
use tokio::time::timeout;

use super::home::{Home, Membership, Piece, write_private};
use super::staleness::{self, Staleness};
use crate::config::node::NodeConfig;
use crate::runtime::clock::{self, Duration};

/// How long a view waits for the disk before it is put in force without it.
const DISK_PATIENCE: Duration = Duration::from_millis(250);

/// What this node was told.
pub(super) struct Following {
    follower: Mutex<Follower>,
    disk: Arc<Disk>,
    pub(super) staleness: Staleness,
    /// None on a control node, whose own state is what counts.
    limit: Option<Duration>,
    /// Whether nobody is let in because the view is too old.
    lapsed: AtomicBool,
    turn: Mutex<()>,
}

impl Following {
    /// Reads the last good view; one that holds nothing if there is none that can be believed.
    pub(super) fn open(config: &NodeConfig, membership: &Membership) -> Result<Self, String> {
        Self::read(config, membership, staleness::View::Kept)
    }

    /// A view that is there counts as `kept`.
    fn read(
        config: &NodeConfig,
        membership: &Membership,
        kept: staleness::View,
    ) -> Result<Self, String> {
        let home = Home::of(&config.data);
        let path = home.directory().join("view.kept");
        let recovery_key = recovery_key(&home)?;
        let limit = config
            .fleet
            .as_ref()
            .map_or(Duration::ZERO, |fleet| fleet.stale_limit);
        let told = read(&path).and_then(|bytes| {
            let follow = |bytes: Vec<u8>| {
                Kept::from_bytes(&bytes)?.follow(membership.fleet, recovery_key, clock::now())
            };
            bytes.map(follow).transpose()
        });
        let (follower, kept) = match told {
            Ok(Some(follower)) => (follower, kept),
            Ok(None) => (
                Follower::new(at_first(membership, recovery_key)),
                staleness::View::None,
            ),
            Err(problem) => {
                tracing::error!(path = %path.display(), problem, "the kept view cannot be believed; a control node must tell it anew");
                (
                    Follower::new(at_first(membership, recovery_key)),
                    staleness::View::None,
                )
            }
        };
        let staleness = Staleness::read(home.directory(), kept);
        let lapsed = staleness.stale() >= limit;
        Ok(Self {
            disk: Arc::new(Disk {
                path,
                next: Mutex::default(),
                done: watch::Sender::new((0, 0)),
            }),
            follower: Mutex::new(follower),
            staleness,
            limit: Some(limit),
            lapsed: AtomicBool::new(lapsed),
            turn: Mutex::default(),
        })
    }

    /// The same on a control node, for what its own state does not have yet.
    pub(super) fn beside(config: &NodeConfig, membership: &Membership) -> Result<Self, String> {
        let mut following = Self::read(config, membership, staleness::View::Unserved)?;
        following.limit = None;
        following.lapsed = AtomicBool::new(false);
        Ok(following)
    }

    /// Goes on from a view that this node decided itself, if that is newer.
    pub(super) fn go_on_from(&self, view: &Arc<View>) {
        let Some(fleet) = view.fleet() else { return };
        let mut follower = self.follower.lock();
        let known = (follower.epoch(), follower.view().revision());
        if (fleet.epoch, view.revision()) > known {
            let trusted = Trusted {
                epoch: fleet.epoch,
                voters: Voters::of(fleet),
                ..follower.trusted().clone()
            };
            *follower = Follower::going_on(trusted, Arc::clone(view));
        }
    }

    /// The last good view.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(self.follower.lock().view())
    }

    /// The view that customers are served from: the last good one, while it is not too old.
    pub(super) fn in_force(&self) -> Arc<View> {
        match self.has_lapsed() {
            true => Arc::new(View::empty()),
            false => self.view(),
        }
    }

    /// The epoch and revision from which to go on.
    pub(super) fn at(&self) -> (u64, u64) {
        let follower = self.follower.lock();
        (follower.epoch(), follower.view().revision().get())
    }

    /// The epoch that is believed: newer than the view's while a recovery is known and no view yet.
    pub(super) fn trusted_epoch(&self) -> u64 {
        self.follower.lock().trusted().epoch
    }

    /// Takes what it is told.
    pub(super) fn take(&self, frame: Frame) -> Output {
        self.follower.lock().take(frame, clock::now())
    }

    pub(super) fn has_lapsed(&self) -> bool {
        self.lapsed.load(Ordering::SeqCst)
    }

    /// Whether the view became too old just now.
    pub(super) fn lapses(&self) -> bool {
        let too_old = |limit| self.staleness.stale() >= limit;
        self.limit.is_some_and(too_old) && !self.lapsed.swap(true, Ordering::SeqCst)
    }

    /// Takes a confirmation by a control node; whether the view had been too old.
    pub(super) fn confirmed(&self) -> bool {
        if self.limit.is_none() {
            return false;
        }
        self.staleness.confirmed();
        self.lapsed.swap(false, Ordering::SeqCst)
    }

    /// Does something that must not happen while the view is found to be too old, or confirmed.
    pub(super) fn in_turn<T>(&self, act: impl FnOnce() -> T) -> T {
        let _turn = self.turn.lock();
        act()
    }

    /// Makes a view durable, or gives up waiting.
    pub(super) async fn keep(&self, publish: &Publish) {
        let statement = &publish.signed.statement;
        let at = (statement.epoch, statement.revision);
        let mut done = self.disk.done.subscribe();
        self.disk.write(at, Kept::of(publish));
        match timeout(DISK_PATIENCE, done.wait_for(|done| *done >= at)).await {
            Ok(_) => {}
            Err(_) => tracing::error!(
                revision = at.1,
                "the disk has not answered in time; the view is put in force before it is kept"
            ),
        }
    }
}

/// Where the last good view is kept: by one write at a time, of the latest.
struct Disk {
    path: PathBuf,
    next: Mutex<Next>,
    /// The epoch and revision up to which everything was written, or could not be.
    done: watch::Sender<(u64, u64)>,
}

#[derive(Default)]
struct Next {
    view: Option<((u64, u64), Kept)>,
    /// Whether somebody is writing, and takes what is next when done.
    busy: bool,
}

impl Disk {
    fn write(self: &Arc<Self>, at: (u64, u64), kept: Kept) {
        let mut next = self.next.lock();
        next.view = Some((at, kept));
        if !std::mem::replace(&mut next.busy, true) {
            let disk = Arc::clone(self);
            tokio::task::spawn_blocking(move || disk.write_all());
        }
    }

    fn write_all(&self) {
        while let Some((at, kept)) = self.take() {
            let written = kept.to_bytes().and_then(|bytes| {
                write_private(&self.path, &bytes).map_err(|error| error.to_string())
            });
            if let Err(problem) = written {
                tracing::error!(
                    problem,
                    revision = at.1,
                    "the view could not be kept on the disk; a restart would go on with an older one"
                );
            }
            self.done.send_replace(at);
        }
    }

    fn take(&self) -> Option<((u64, u64), Kept)> {
        let mut next = self.next.lock();
        let view = next.view.take();
        next.busy = view.is_some();
        view
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(MAX_KEPT)
            .read_to_end(&mut bytes)
            .map(|_| Some(bytes))
            .map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// What a node believes that was just let in: what it was told by those who let it in.
fn at_first(membership: &Membership, recovery_key: [u8; 32]) -> Trusted {
    let voters = membership.seeds.iter();
    let voters = voters.filter_map(|seed| Some((seed.node, seed.view_key?)));
    Trusted {
        fleet: membership.fleet,
        epoch: membership.epoch,
        voters: Voters(voters.collect()),
        recovery_key,
    }
}

/// The public half of the fleet's recovery key.
pub(super) fn recovery_key(home: &Home) -> Result<[u8; 32], String> {
    let text = home
        .read(Piece::RecoveryPublic)
        .map_err(|error| error.to_string())?;
    let key: portcullis_policy::KeyHash = text
        .trim()
        .parse()
        .map_err(|error| format!("the recovery key's public half: {error}"))?;
    Ok(*key.as_bytes())
}
