//! Applying what was decided.
//!
//! The state lives in memory; what makes it durable is the log, the latest snapshot, and how far
//! the log was applied. That last is written, and durable, before the view that follows is shown
//! to anybody: a node never comes back with an older view than it has served, not even without a
//! quorum.

use crate::image::{Image, damaged};
use crate::logs::Leaves;
use crate::payload;
use crate::reinstall::forget_served;
use crate::roots::Roots;
use crate::tables::{COMMITTED, FENCE, Loaded, SNAPSHOT, image_name, sweep};
use crate::types::{Answer, Entry, LogId, Membership, Snapshot, SnapshotMeta, Types};
use crate::whole::{Outcome, Whole};
use crate::writer::Writer;
use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use portcullis_policy::{Applied, Rejection, State, View};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use tokio::sync::{Mutex, broadcast};

/// A view, and what led to it.
#[derive(Debug)]
pub struct Published {
    /// The view.
    pub view: Arc<View>,
    /// What changed.
    pub applied: Arc<Applied>,
}

/// What is said to those who follow the state.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// The next view.
    Next(Arc<Published>),
    /// A view that does not follow step by step: a snapshot was installed.
    Replaced,
    /// The state was reinstalled: what was shown before was not what the others have.
    Reinstalled,
}

/// What everybody may read, without waiting.
pub(crate) struct Shown {
    pub(crate) state: ArcSwap<State>,
    pub(crate) view: ArcSwap<View>,
    pub(crate) told: broadcast::Sender<Told>,
    /// What the state hashed to, and where.
    pub(crate) roots: std::sync::Mutex<Roots>,
    /// While the state is being reinstalled: up to which entry it must come before this node takes
    /// part again. 0 otherwise.
    pub(crate) fence: AtomicU64,
    /// Whether what is executed leaves something in the audit logs.
    keeps_logs: AtomicBool,
}

/// Views that somebody may be behind until they are told to catch up.
const BEHIND: usize = 1_024;

impl Shown {
    fn of(state: &State) -> Arc<Self> {
        Arc::new(Self {
            state: ArcSwap::from_pointee(state.clone()),
            view: ArcSwap::from_pointee(state.view()),
            told: broadcast::Sender::new(BEHIND),
            roots: std::sync::Mutex::default(),
            fence: AtomicU64::new(0),
            keeps_logs: AtomicBool::new(false),
        })
    }

    pub(crate) fn keeps_logs(&self) -> bool {
        self.keeps_logs.load(Ordering::SeqCst)
    }

    fn note_logs(&self, whole: &Whole) {
        self.keeps_logs.store(whole.keeps_logs(), Ordering::SeqCst);
    }

    pub(crate) fn roots(&self) -> std::sync::MutexGuard<'_, Roots> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fence(&self) -> Option<u64> {
        Some(self.fence.load(Ordering::SeqCst)).filter(|fence| *fence > 0)
    }
}

/// The state machine.
pub(crate) struct Machine {
    whole: Whole,
    applied: Option<LogId>,
    membership: Membership,
    shown: Arc<Shown>,
    /// Up to which entry nothing is shown: what is shown already is later.
    hold: Option<u64>,
    keeper: Keeper,
    leaves: Arc<dyn Leaves>,
}

/// Makes and keeps snapshots. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keeper {
    /// The state's file; snapshots lie beside it.
    path: Arc<PathBuf>,
    writer: Writer,
    current: Arc<ArcSwap<Option<(SnapshotMeta, Image)>>>,
    /// One is kept at a time: of one that was built here and one that came from the leader, the
    /// later stays.
    turn: Arc<Mutex<()>>,
    leaves: Arc<dyn Leaves>,
}

impl Machine {
    /// `before` is what was shown already by this process: it stays until the state has come as far.
    pub(crate) fn new(
        loaded: &Loaded,
        path: &Path,
        writer: Writer,
        before: Option<Arc<Shown>>,
        leaves: Arc<dyn Leaves>,
    ) -> io::Result<(Self, Arc<Shown>)> {
        leaves.begin(loaded.whole.logs.trees(), loaded.whole.logs.heads())?;
        let meta = loaded.snapshot.as_ref().map(|(meta, _)| meta.clone());
        let meta = meta.unwrap_or_default();
        let recovered = loaded.committed.map(|committed| committed.index);
        let reopened = before.is_some();
        let recovered = recovered.filter(|_| reopened);
        let served = loaded.served.as_ref().unwrap_or(&loaded.whole.state);
        let shown = before.unwrap_or_else(|| Shown::of(served));
        *shown.roots() = Roots::default();
        shown.note_logs(&loaded.whole);
        if let Some(last) = meta.last_log_id {
            shown.roots().note(last.index, true, || loaded.whole.root());
        }
        let fence = loaded.fence.unwrap_or_default();
        shown.fence.store(fence, Ordering::SeqCst);
        let hold = loaded.fence.max(recovered);
        let applied = meta.last_log_id.map(|last| last.index);
        let machine = Self {
            whole: loaded.whole.clone(),
            applied: meta.last_log_id,
            membership: meta.last_membership,
            shown: Arc::clone(&shown),
            // A fence on the disk is taken away by who releases it, also where the snapshot that led up to
            // it was kept and this node ended right then.
            hold: hold.filter(|hold| loaded.fence.is_some() || applied < Some(*hold)),
            keeper: Keeper {
                path: Arc::new(path.to_owned()),
                writer,
                current: Arc::new(ArcSwap::from_pointee(loaded.snapshot.clone())),
                turn: Arc::default(),
                leaves: Arc::clone(&leaves),
            },
            leaves,
        };
        if reopened && machine.hold.is_none() {
            // A snapshot may have been installed that was not shown any more.
            shown.state.store(Arc::new(loaded.whole.state.clone()));
            shown.view.store(Arc::new(loaded.whole.state.view()));
            // Nobody may be listening.
            drop(shown.told.send(Told::Replaced));
        }
        Ok((machine, shown))
    }

    fn execute(
        &mut self,
        bytes: &[u8],
        position: u64,
    ) -> io::Result<Result<Arc<Applied>, Rejection>> {
        // What is not understood is never skipped: this node would then believe another state
        // than the others.
        let (salt, proposal) = payload::decode(bytes).map_err(damaged)?;
        let Outcome {
            answer,
            leaves,
            heads,
        } = self.whole.apply(&proposal, salt.as_ref(), position);
        if !leaves.is_empty() {
            self.leaves.append(leaves)?;
        }
        if !heads.is_empty() {
            self.leaves.sealed(heads);
        }
        Ok(answer.map(Arc::new))
    }

    /// Shows again what has come as far as what was shown before, or as the others were when this
    /// node had to reinstall its state.
    async fn release(&mut self) -> io::Result<()> {
        let applied = self.applied.map(|applied| applied.index);
        if self.hold.is_none_or(|hold| applied < Some(hold)) {
            return Ok(());
        }
        let told = if self.shown.fence().is_some() {
            let cleared = postcard::to_stdvec(&None::<u64>).map_err(damaged)?;
            self.keeper.writer.put(FENCE, cleared).await?;
            forget_served(&self.keeper.path);
            Told::Reinstalled
        } else {
            Told::Replaced
        };
        self.hold = None;
        self.shown.state.store(Arc::new(self.whole.state.clone()));
        self.shown.view.store(Arc::new(self.whole.state.view()));
        self.shown.fence.store(0, Ordering::SeqCst);
        // Nobody may be listening.
        drop(self.shown.told.send(told));
        Ok(())
    }

    fn show(&self, applied: &Arc<Applied>) {
        if self.hold.is_some() {
            return;
        }
        let view = Arc::new(self.whole.state.view());
        self.shown.state.store(Arc::new(self.whole.state.clone()));
        self.shown.view.store(Arc::clone(&view));
        let published = Arc::new(Published {
            view,
            applied: Arc::clone(applied),
        });
        // Nobody may be listening.
        drop(self.shown.told.send(Told::Next(published)));
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Image;
    type SnapshotBuilder = Building;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        // What is at hand is executed together, and made durable by one sync.
        let mut batches = entries.ready_chunks(BATCH);
        while let Some(batch) = batches.next().await {
            self.apply_batch(batch).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Building {
        Building {
            whole: self.whole.clone(),
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            keeper: self.keeper.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Image,
    ) -> Result<(), io::Error> {
        let image = snapshot.clone();
        let whole = tokio::task::spawn_blocking(move || image.whole())
            .await
            .map_err(io::Error::other)??;
        self.keeper.keep(meta.clone(), snapshot).await?;
        self.leaves.begin(whole.logs.trees(), whole.logs.heads())?;
        self.shown.note_logs(&whole);
        self.whole = whole;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        if let Some(last) = self.applied {
            self.shown
                .roots()
                .note(last.index, true, || self.whole.root());
        }
        if self.hold.is_some() {
            return self.release().await;
        }
        self.shown.state.store(Arc::new(self.whole.state.clone()));
        self.shown.view.store(Arc::new(self.whole.state.view()));
        // Nobody may be listening.
        drop(self.shown.told.send(Told::Replaced));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let current = self.keeper.current.load_full();
        Ok(Option::clone(&current).map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Entries that are executed together.
const BATCH: usize = 256;

impl Machine {
    async fn apply_batch(
        &mut self,
        batch: Vec<Result<EntryResponder<Types>, io::Error>>,
    ) -> Result<(), io::Error> {
        let batch: Vec<EntryResponder<Types>> = batch.into_iter().collect::<Result<_, _>>()?;
        let Some(last) = batch.last().map(|(entry, _)| entry.log_id()) else {
            return Ok(());
        };
        let bytes = postcard::to_stdvec(&last).map_err(damaged)?;
        self.keeper.writer.put(COMMITTED, bytes).await?;
        for (entry, responder) in batch {
            let before = self.whole.state.revision();
            let answer = self.apply_one(&entry)?;
            self.applied = Some(entry.log_id());
            self.shown.note_logs(&self.whole);
            let position = entry.log_id().index;
            let end = position == last.index;
            self.shown.roots().note(position, end, || self.whole.root());
            if let Some(Ok(applied)) = &answer.0
                && self.whole.state.revision() > before
            {
                self.show(applied);
            }
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        if self.hold.is_some() {
            return self.release().await;
        }
        // Also what changed without a new revision: requests, pieces.
        self.shown.state.store(Arc::new(self.whole.state.clone()));
        Ok(())
    }

    fn apply_one(&mut self, entry: &Entry) -> io::Result<Answer> {
        match &entry.payload {
            EntryPayload::Blank => Ok(Answer(None)),
            EntryPayload::Normal(payload) => {
                let answer = self.execute(&payload.0, entry.log_id().index)?;
                Ok(Answer(Some(answer)))
            }
            EntryPayload::Membership(membership) => {
                self.membership = Membership::new(Some(entry.log_id()), membership.clone());
                Ok(Answer(None))
            }
        }
    }
}

/// A snapshot in the making, apart from the state that goes on.
pub(crate) struct Building {
    whole: Whole,
    meta: SnapshotMeta,
    keeper: Keeper,
}

impl RaftSnapshotBuilder<Types> for Building {
    type SnapshotData = Image;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let Whole { state, logs } = self.whole.clone();
        let image = tokio::task::spawn_blocking(move || Image::of(&state, &logs))
            .await
            .map_err(io::Error::other)??;
        let meta = self.meta.clone();
        self.keeper.keep(meta.clone(), image.clone()).await?;
        Ok(Snapshot {
            meta,
            snapshot: image,
        })
    }
}

impl Keeper {
    /// Makes this the snapshot that a restart finds, then lets go of the one before.
    async fn keep(&self, meta: SnapshotMeta, image: Image) -> io::Result<()> {
        let _turn = self.turn.lock().await;
        let current = self.current.load_full();
        if let Some((kept, _)) = current.as_ref()
            && kept.last_log_id > meta.last_log_id
        {
            // The log may begin after that one already.
            return Ok(());
        }
        // After this the leaves can be had from nowhere else here.
        self.leaves.durable().await?;
        let name = image_name(meta.last_log_id.map_or(0, |last| last.index));
        let file = self.path.with_file_name(&name);
        let (kept, of) = (image.clone(), meta.clone());
        tokio::task::spawn_blocking(move || kept.write(&file, &of))
            .await
            .map_err(io::Error::other)??;
        let bytes = postcard::to_stdvec(&name).map_err(damaged)?;
        self.writer.put(SNAPSHOT, bytes).await?;
        self.current.store(Arc::new(Some((meta, image))));
        let path = Arc::clone(&self.path);
        tokio::task::spawn_blocking(move || sweep(&path, Some(&name)))
            .await
            .map_err(io::Error::other)
    }
}
