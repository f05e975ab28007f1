//! The bounded queue between those who record and the one who writes.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::mpsc;

use parking_lot::{Condvar, Mutex};
use portcullis_audit::Event;
use tokio::sync::oneshot;

use super::limits::{GATHER, GATHERED_EVENTS, Limits, MAX_READERS, MAX_SHED_KINDS, QUEUE_DURABLE};
use crate::runtime::clock::Duration;

/// Events on their way to the writer. Its lock is held for a push or a swap, never across a
/// system call on a file.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    inside: Mutex<Inside>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    waiting: Vec<Waiting>,
    durable: usize,
    shed: BTreeMap<String, u64>,
    readers: Vec<mpsc::SyncSender<()>>,
    closed: bool,
}

/// One event, and who wants to know when it is on disk.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) event: Event,
    pub(super) done: Option<oneshot::Sender<io::Result<()>>>,
}

/// Everything that the writer has to do now.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) events: Vec<Waiting>,
    /// How many events of each kind were counted instead of queued.
    pub(super) shed: BTreeMap<String, u64>,
    /// Who waits to read what was recorded before they came.
    pub(super) readers: Vec<mpsc::SyncSender<()>>,
    /// Nothing will follow.
    pub(super) last: bool,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            inside: Mutex::default(),
            work: Condvar::new(),
        }
    }

    pub(super) fn push(&self, event: Event) {
        let mut inside = self.inside.lock();
        let ordinary = inside.waiting.len().saturating_sub(inside.durable);
        if inside.closed || ordinary >= self.limits.queue_events {
            inside.shed(event.kind.into_owned(), 1);
        } else {
            inside.waiting.push(Waiting { event, done: None });
        }
        // Between the first of a batch and the one that makes it large nobody needs to be woken.
        let waiting = inside.waiting.len();
        drop(inside);
        if waiting == 1 || waiting == GATHERED_EVENTS {
            self.work.notify_one();
        }
    }

    pub(super) fn push_durable(
        &self,
        event: Event,
    ) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        let (done, receiver) = oneshot::channel();
        let mut inside = self.inside.lock();
        if inside.closed {
            return Err(super::closed());
        }
        if inside.durable >= QUEUE_DURABLE {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                "too many events wait to be made durable",
            ));
        }
        inside.durable = inside.durable.saturating_add(1);
        inside.waiting.push(Waiting {
            event,
            done: Some(done),
        });
        drop(inside);
        self.work.notify_one();
        Ok(receiver)
    }

    /// Ends (the sender is dropped) when everything recorded so far is with the kernel.
    pub(super) fn caught_up(&self) -> mpsc::Receiver<()> {
        let (sender, receiver) = mpsc::sync_channel(0);
        let mut inside = self.inside.lock();
        if !inside.closed && inside.readers.len() < MAX_READERS {
            inside.readers.push(sender);
        }
        drop(inside);
        self.work.notify_one();
        receiver
    }

    /// Events that could not be written after all are counted like those that found no room.
    pub(super) fn count_shed(&self, kinds: BTreeMap<String, u64>) {
        let mut inside = self.inside.lock();
        for (kind, count) in kinds {
            inside.shed(kind, count);
        }
    }

    pub(super) fn close(&self) {
        self.inside.lock().closed = true;
        self.work.notify_one();
    }

    /// Waits for work: until there is some, or until `at_most` has passed if it is given.
    pub(super) fn take(&self, at_most: Option<Duration>) -> Batch {
        let mut inside = self.inside.lock();
        match at_most {
            None => self.work.wait_while(&mut inside, |inside| inside.is_idle()),
            Some(time) => {
                self.work
                    .wait_while_for(&mut inside, |inside| inside.is_idle(), time);
            }
        }
        // One write for what comes together.
        self.work
            .wait_while_for(&mut inside, |inside| inside.is_patient(), GATHER);
        inside.durable = 0;
        Batch {
            events: mem::take(&mut inside.waiting),
            shed: mem::take(&mut inside.shed),
            readers: mem::take(&mut inside.readers),
            last: inside.closed,
        }
    }
}

impl Inside {
    /// Shed counts alone do not wake the writer: they come while it is busy, or after a failure
    /// of the disk, which a loop at full speed would not heal.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.readers.is_empty() && !self.closed
    }

    /// There are ordinary events, few of them, and nobody waits for them to be written.
    fn is_patient(&self) -> bool {
        let few = (1..GATHERED_EVENTS).contains(&self.waiting.len());
        few && self.durable == 0 && self.readers.is_empty() && !self.closed
    }

    fn shed(&mut self, kind: String, count: u64) {
        metrics::counter!("portcullis_audit_events_shed_total").increment(count);
        let full = self.shed.len() >= MAX_SHED_KINDS && !self.shed.contains_key(&kind);
        let counted = self
            .shed
            .entry(if full { OTHER.to_owned() } else { kind })
            .or_default();
        *counted = counted.saturating_add(count);
    }
}

const OTHER: &str = "other";
