//! Control nodes seal the audit logs, sign their heads, and show them once a majority has.
//!
//! The one that leads has the logs sealed every second in which they grew, or sooner where they grew
//! much. Every control node signs what it applied itself, and tells the others, until each has said
//! the same. Nothing waits for it: where nobody signs, the logs grow and the checkpoint stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_audit::personal::Opening;
use portcullis_audit::tlog::{Checkpoint, Note, NoteKey, TILE_WIDTH, TrustPolicy};
use portcullis_certs::fleet::{LogKey, ViewKey};
use portcullis_consensus::{AuditLog, Consensus, Draft, Head};
use portcullis_policy::{Author, Command, FleetId, NodeId, Principal, Timestamp, View};
use tokio::time::{MissedTickBehavior, interval};

use super::heads::{Cosigned, Heads, Heard, cosigner, log_key};
use super::home::{Home, Piece};
use super::keeping::Keeping;
use super::{Fleet, words};
use crate::ledger::tiles::{LogError, LogFile, LogId};
use crate::mesh::Refused;
use crate::runtime::clock::{self, Duration};
use crate::runtime::limits::{HEADS_TOLD, SEAL_EVERY};

/// How long one control node may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What a control node signs heads with, and what it heard.
pub(super) struct Sealing {
    fleet: FleetId,
    me: NodeId,
    /// The log key's public half,
    public: [u8; 32],
    /// and that of this node's own.
    own: [u8; 32],
    heads: Mutex<Heads>,
    keeping: Arc<Keeping>,
    /// Those who are being told at this moment.
    told: Mutex<BTreeSet<NodeId>>,
    /// Why checkpoints cannot be written here.
    unwritten: Mutex<Option<String>>,
}

impl Sealing {
    /// With the keys in this node's files; nothing on a node without them.
    pub(super) fn load(
        home: &Home,
        fleet: FleetId,
        me: NodeId,
        keeping: Arc<Keeping>,
    ) -> Result<Option<Arc<Self>>, String> {
        let told = |error: &dyn std::fmt::Display| format!("the audit logs' keys: {error}");
        let log = home.find(Piece::LogKey).map_err(|error| told(&error))?;
        let view = home.find(Piece::ViewKey).map_err(|error| told(&error))?;
        let (Some(log), Some(view)) = (log, view) else {
            return Ok(None);
        };
        let log = LogKey::from_pem(&log).map_err(|error| told(&error))?;
        let view = ViewKey::from_pem(&view).map_err(|error| told(&error))?;
        Ok(Some(Arc::new(Self {
            fleet,
            me,
            public: log.public(),
            own: view.public(),
            heads: Mutex::new(Heads::new(fleet, me, log, view)),
            keeping,
            told: Mutex::default(),
            unwritten: Mutex::default(),
        })))
    }

    /// Whose cosignatures count, and the keys. Of a node that is a fleet by itself, its own.
    fn signers(&self, view: &View) -> BTreeMap<NodeId, [u8; 32]> {
        let Some(fleet) = view.fleet() else {
            return BTreeMap::from([(self.me, self.own)]);
        };
        let keyed = fleet.control().map(|node| (node.id, node.view_key));
        keyed.filter_map(|(node, key)| Some((node, key?))).collect()
    }

    pub(super) fn keeping(&self) -> &Arc<Keeping> {
        &self.keeping
    }

    /// A log of which no checkpoint could be shown is whole by now.
    pub(super) fn show_again(&self, log: &AuditLog) {
        self.heads.lock().show_again(&self.origin(log));
        self.keeping.turn();
    }

    /// What is wrong with this node's files, for whoever looks after it.
    pub(super) fn problem(&self) -> Option<String> {
        let problem = self.unwritten.lock().clone()?;
        Some(format!(
            "this node's audit logs cannot be written ({problem}): the checkpoints that it shows stay as they are, and entries wait in memory; make room on the disk under `data/audit`: what is missing is written by itself within seconds of that"
        ))
    }

    /// Shows checkpoints, in this order. What the disk does not take is tried again.
    fn write(&self, ready: impl Iterator<Item = (AuditLog, Note)>) {
        let (mut problem, mut full) = (None, false);
        for (log, note) in ready {
            let shown = match full {
                true => None,
                false => Some(self.keeping.publish(&log, &note)),
            };
            match shown {
                Some(Ok(())) => continue,
                Some(Err(error @ LogError::Io { .. })) => {
                    full = error.is_full();
                    problem.get_or_insert(error.with_cause());
                }
                Some(Err(error)) => {
                    tracing::error!(%error, ?log, "the checkpoint of an audit log is not shown");
                    continue;
                }
                None => {}
            }
            self.heads.lock().show_again(&self.origin(&log));
        }
        let before = std::mem::replace(&mut *self.unwritten.lock(), problem.clone());
        match (before, problem) {
            (None, Some(problem)) => tracing::error!(
                problem,
                "this node's audit logs cannot be written: the checkpoints that it shows stay as they are; it is tried again every second"
            ),
            (Some(_), None) => tracing::info!("this node's audit logs are written again"),
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    fn origin(&self, log: &AuditLog) -> String {
        let fleet = self.fleet;
        match log {
            AuditLog::Fleet => format!("{ORIGIN}/{fleet}"),
            AuditLog::Tenant(tenant) => format!("{ORIGIN}/{fleet}/{TENANTS}/{tenant}"),
        }
    }

    fn log_of(&self, origin: &str) -> Option<AuditLog> {
        let rest = origin.strip_prefix(&self.origin(&AuditLog::Fleet))?;
        if rest.is_empty() {
            return Some(AuditLog::Fleet);
        }
        let tenant = rest.strip_prefix('/')?.strip_prefix(TENANTS)?;
        let tenant = tenant.strip_prefix('/')?.parse().ok()?;
        Some(AuditLog::Tenant(tenant))
    }

    fn sign(&self, heads: Vec<Head>) {
        let now = u64::try_from(clock::now().as_millis() / 1_000).unwrap_or_default();
        let mut signed = self.heads.lock();
        for head in heads {
            let checkpoint = Checkpoint {
                origin: self.origin(&head.log),
                size: head.size,
                root: head.root,
            };
            signed.seal(checkpoint, now);
        }
    }
}

/// What the names of all logs begin with.
const ORIGIN: &str = "portcullis";
const TENANTS: &str = "tenants";

/// Seals, signs, tells and shows.
pub(super) async fn seal(fleet: Arc<Fleet>, sealing: Arc<Sealing>, consensus: Arc<Consensus>) {
    let mut ticks = interval(SEAL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = async {
            tokio::select! {
                _ = ticks.tick() => {}
                () = sealing.keeping.turned() => {}
            }
        };
        if fleet.stop.run_until_cancelled(next).await.is_none() {
            return;
        }
        if fleet.leads() && sealing.keeping.has_unsealed() {
            let draft = Draft {
                request: None,
                author: fleet.as_author(),
                command: Command::Seal,
            };
            // Its moment is that of the last command: time does not pass because of it, and a clock that
            // was set a moment ago moves nothing. Whoever leads next does it if this one does not.
            let moment = || Timestamp::from_millis(i64::MIN);
            if let Err(error) = consensus.propose(draft, moment).await {
                tracing::debug!(%error, "the audit logs are not sealed now; it is tried again");
            }
        }
        // One whose state is not what the others have signs nothing.
        if fleet.signing.as_ref().is_some_and(|it| it.is_silent()) {
            sealing.heads.lock().forget();
            *sealing.unwritten.lock() = None;
            continue;
        }
        sealing.sign(sealing.keeping.take_heads());
        fleet.tell_heads(&sealing);
        fleet.show_heads(&sealing).await;
    }
}

impl Fleet {
    fn as_author(&self) -> Author {
        let name = self.name.to_string();
        let principal = match self.source.view().fleet() {
            Some(_) => Principal::Node(self.me),
            None => Principal::Local,
        };
        Author { name, principal }
    }

    fn tell_heads(self: &Arc<Self>, sealing: &Arc<Sealing>) {
        let view = self.source.view();
        let control = view.fleet().into_iter().flat_map(|fleet| fleet.control());
        for node in control.map(|node| node.id).filter(|id| *id != self.me) {
            let words = sealing.heads.lock().untold(node, HEADS_TOLD);
            if !words.is_empty() && sealing.told.lock().insert(node) {
                let (fleet, sealing) = (Arc::clone(self), Arc::clone(sealing));
                self.tasks.spawn(async move {
                    fleet.tell_head_to(&sealing, node, &words).await;
                    sealing.told.lock().remove(&node);
                });
            }
        }
    }

    async fn tell_head_to(&self, sealing: &Sealing, node: NodeId, words: &Vec<Cosigned>) {
        let (Some(mesh), Ok(request)) = (self.mesh(), words::encode(words)) else {
            return;
        };
        let asked = mesh.call(node.get(), words::SEAL, request, ANSWER_LIMIT);
        let Some(answer) = self.stop.run_until_cancelled(asked).await else {
            return;
        };
        let answer = answer.ok().and_then(|answer| words::decode(&answer).ok());
        let said: Vec<Cosigned> = answer.unwrap_or_default();
        let own: Vec<Cosigned> = self.hear_heads(sealing, node, &said);
        if !own.is_empty() {
            sealing.keeping.turn();
        }
    }

    /// Takes what a control node says of heads; what this one says of the same.
    fn hear_heads(&self, sealing: &Sealing, from: NodeId, said: &[Cosigned]) -> Vec<Cosigned> {
        let view = self.source.view();
        let known = view.fleet().and_then(|fleet| fleet.nodes.get(&from));
        let Some(key) = known
            .filter(|node| node.is_control())
            .and_then(|node| node.view_key)
        else {
            return Vec::new();
        };
        let mut heads = sealing.heads.lock();
        let mut own = Vec::new();
        for word in said.iter().take(HEADS_TOLD) {
            let (heard, answer) = heads.hear(from, key, word);
            match heard {
                Heard::Counts | Heard::Nothing => {}
                Heard::Forged => {
                    tracing::error!(%from, "a signature under the head of an audit log is not that node's");
                }
                Heard::Differs => {
                    tracing::error!(%from, checkpoint = word.checkpoint, "a control node signed another head of an audit log than this one has");
                }
            }
            own.extend(answer);
        }
        own
    }

    /// Answers a control node that says what it signed.
    pub(super) fn cosign(&self, from: NodeId, request: &[u8]) -> Result<Vec<u8>, Refused> {
        let sealing = self.sealing.as_ref();
        let sealing = sealing.ok_or_else(|| Refused("this node signs nothing".to_owned()))?;
        let said: Vec<Cosigned> = words::decode(request).map_err(Refused)?;
        let own = self.hear_heads(sealing, from, &said);
        sealing.keeping.turn();
        words::encode(&own).map_err(Refused)
    }

    async fn show_heads(&self, sealing: &Arc<Sealing>) {
        let view = self.source.view();
        let all = sealing.signers(&view);
        let ready = sealing.heads.lock().ready(|signers| {
            let signers = signers.filter(|signer| all.contains_key(signer));
            signers.count() * 2 > all.len()
        });
        if ready.is_empty() {
            return;
        }
        let sealing = Arc::clone(sealing);
        let published = tokio::task::spawn_blocking(move || {
            // The fleet's log says how far the others are: whoever sees its checkpoint finds theirs.
            let (fleets, tenants): (Vec<_>, Vec<_>) = ready
                .into_iter()
                .filter_map(|(origin, note)| Some((sealing.log_of(&origin)?, note)))
                .partition(|(log, _)| *log == AuditLog::Fleet);
            sealing.write(tenants.into_iter().chain(fleets));
        });
        // It ends; a panic in it is told by itself.
        drop(published.await);
    }

    /// Whose signatures make a checkpoint of the fleet's log believed, as a file for the offline
    /// tools (C2SP tlog-policy); none where this node signs nothing.
    #[must_use]
    pub fn audit_trust(&self) -> Option<TrustPolicy> {
        let sealing = self.sealing.as_ref()?;
        let view = self.source.view();
        let voters = sealing.signers(&view).into_iter();
        let voters = voters.filter_map(|(node, key)| cosigner(sealing.fleet, node, key));
        let voters: Vec<NoteKey> = voters.collect();
        let log = log_key(&sealing.origin(&AuditLog::Fleet), sealing.public)?;
        let majority = voters.len() / 2 + 1;
        let policy = TrustPolicy::of(log, voters, majority).ok()?;
        Some(self.witnesses.named_in(policy))
    }

    /// The audit logs that this node keeps, the fleet's first; none where it keeps none.
    #[must_use]
    pub fn audit_logs(&self) -> Option<Vec<LogId>> {
        let sealing = self.sealing.as_ref()?;
        Some(sealing.keeping.logs().logs())
    }

    /// What opens the commitments of an entry of an audit log, as lines; none where this node keeps no logs.
    ///
    /// # Errors
    /// In words: it cannot be read.
    pub async fn audit_openings(
        &self,
        log: LogId,
        index: u64,
    ) -> Option<Result<Vec<String>, String>> {
        let openings = Arc::clone(self.sealing.as_ref()?.keeping.openings());
        let bundle = index / u64::from(TILE_WIDTH);
        let read = tokio::task::spawn_blocking(move || openings.of(&log, bundle)).await;
        let read = read.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        let own = |it: &Opening| it.index == index;
        let lines = read.map(|all| all.into_iter().filter(own).map(|it| it.line()).collect());
        Some(lines.map_err(|error| error.to_string()))
    }

    /// A file of an audit log, if there is such a file; none where this node keeps none.
    ///
    /// # Errors
    /// In words: it cannot be read.
    pub async fn audit_file(
        &self,
        log: LogId,
        file: LogFile,
    ) -> Option<Result<Option<Vec<u8>>, String>> {
        let logs = Arc::clone(self.sealing.as_ref()?.keeping.logs());
        let read = tokio::task::spawn_blocking(move || logs.read(&log, file));
        Some(match read.await {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        })
    }
}
