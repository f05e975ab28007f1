//! Control nodes sign every view that they have applied, and tell each other their signatures.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use portcullis_certs::fleet::ViewKey;
use portcullis_consensus::view::{Feed, Step, Succession, Vouched, decode, encode};
use portcullis_policy::{Author, Command, NodeId, Principal, TenantId, View};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::home::{Home, Piece};
use super::{Fleet, words};
use crate::mesh::Refused;
use crate::runtime::clock::Duration;

/// How often signatures that are missing are asked for.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long one control node may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What this control node signed, and what others did.
pub(super) struct Signing {
    feed: Mutex<Feed>,
    changed: watch::Sender<u64>,
    /// Those who are being told at this moment.
    told: Mutex<BTreeSet<NodeId>>,
    /// Set while this node's state is not what the others have.
    silent: AtomicBool,
}

impl Signing {
    /// With the key in this node's files; nothing on a node without one.
    pub(super) fn load(home: &Home, me: NodeId) -> Result<Option<Arc<Self>>, String> {
        let told = |error: &dyn std::fmt::Display| format!("the key for views: {error}");
        let Some(key) = home.find(Piece::ViewKey).map_err(|error| told(&error))? else {
            return Ok(None);
        };
        let key = ViewKey::from_pem(&key).map_err(|error| told(&error))?;
        Ok(Some(Arc::new(Self {
            feed: Mutex::new(Feed::new(me, key)),
            changed: watch::Sender::new(0),
            told: Mutex::default(),
            silent: AtomicBool::new(false),
        })))
    }

    /// Signs a view that was applied here.
    pub(super) fn show(&self, view: Arc<View>, touched: Option<BTreeSet<TenantId>>) {
        if self.is_silent() {
            return;
        }
        self.feed.lock().show(view, touched);
        self.turn();
    }

    /// Signs nothing more, and says nothing of what it signed.
    pub(super) fn be_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
        self.feed.lock().forget();
        self.turn();
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::SeqCst)
    }

    /// Signs again what it is shown from now on.
    pub(super) fn speak_again(&self) {
        self.feed.lock().forget();
        self.silent.store(false, Ordering::SeqCst);
    }

    /// Turns whenever there may be something new to tell.
    pub(super) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn ready(&self) -> Option<(u64, u64)> {
        self.feed.lock().ready()
    }

    pub(super) fn since(&self, epoch: u64, revision: u64) -> Option<Step> {
        self.feed.lock().since(epoch, revision)
    }

    fn vouched(&self, node: NodeId, vouched: Vouched) {
        if self.feed.lock().vouched(node, vouched) {
            self.turn();
        }
    }

    fn turn(&self) {
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// Tells the other control nodes what this one signed, until each has said the same.
pub(super) async fn tell(fleet: Arc<Fleet>, signing: Arc<Signing>) {
    let mut changed = signing.changed();
    let mut ticks = interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let latest = signing.feed.lock().latest();
        let mut missing = latest.map(|(_, missing)| missing).unwrap_or_default();
        let view = fleet.source.view();
        let voters = view.fleet().into_iter().flat_map(|all| all.control());
        missing.extend(voters.map(|node| node.id));
        missing.retain(|node| !signing.feed.lock().unanswered(*node).is_empty());
        for node in missing.into_iter().filter(|node| *node != fleet.me) {
            if signing.told.lock().insert(node) {
                let telling = tell_one(Arc::clone(&fleet), Arc::clone(&signing), node);
                fleet.tasks.spawn(telling);
            }
        }
        let next = async {
            tokio::select! {
                _ = ticks.tick() => fleet.succeed(&signing).await,
                _ = changed.changed() => {}
            }
        };
        if fleet.stop.run_until_cancelled(next).await.is_none() {
            return;
        }
    }
}

async fn tell_one(fleet: Arc<Fleet>, signing: Arc<Signing>, node: NodeId) {
    let latest = signing.feed.lock().latest();
    let mut answered = false;
    let unanswered = signing.feed.lock().unanswered(node);
    if let Some(mesh) = fleet.mesh()
        && let Ok(request) = words::encode(&unanswered)
        && let Ok(answer) = mesh
            .call(node.get(), words::SIGN, request, ANSWER_LIMIT)
            .await
    {
        answered = true;
        for vouched in words::decode::<Vec<Vouched>>(&answer).unwrap_or_default() {
            signing.vouched(node, vouched);
        }
    }
    signing.told.lock().remove(&node);
    // Another view may have been signed meanwhile.
    let now = signing.feed.lock().latest();
    if answered && now.map(|(word, _)| word) != latest.map(|(word, _)| word) {
        signing.turn();
    }
}

impl Fleet {
    /// Takes another control node's signature, and says what this one signed at that revision.
    pub(super) fn countersign(&self, from: NodeId, request: &[u8]) -> Result<Vec<u8>, Refused> {
        let signing = self.signing.as_ref();
        let signing = signing.ok_or_else(|| Refused("this node signs nothing".to_owned()))?;
        let words: Vec<Vouched> = words::decode(request).map_err(Refused)?;
        let is_control = self.is_control(from);
        let mut own = Vec::new();
        for vouched in words {
            let revision = vouched.statement.revision;
            if is_control {
                signing.vouched(from, vouched);
            }
            own.extend(signing.feed.lock().own(revision));
        }
        words::encode(&own).map_err(Refused)
    }

    /// Keeps in the state who votes since the voters changed, for gateways
    /// that are away meanwhile.
    async fn succeed(&self, signing: &Signing) {
        let successions = signing.feed.lock().successions();
        let Some(state) = self.source.state() else {
            return;
        };
        let known = state.successions();
        let known = known.filter_map(|known| decode::<Succession>(known).ok());
        // Those before the last are known, or forgotten for good.
        let last = known.map(|known| known.signed.statement.revision).max();
        let new = successions
            .into_iter()
            .find(|it| Some(it.signed.statement.revision) > last);
        let Some(statement) = new.and_then(|new| encode(&new).ok()) else {
            return;
        };
        let author = Author {
            name: self.name.to_string(),
            principal: Principal::Node(self.me),
        };
        let command = Command::Succession { statement };
        if let Err(error) = self.write(None, author, command).await {
            tracing::warn!(%error, "who votes from now on could not be kept; it is tried again");
        }
    }
}
