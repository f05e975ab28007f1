//! Evidence on disk: audit events as JSON lines, written by one thread behind a bounded queue.
//!
//! Two ways in. [`Ledger::record`] is for the data threads: it never waits for the disk, and when
//! the queue is full the event is counted instead, so that the file says exactly what it lacks.
//! [`Ledger::record_durable`] is for what must not be lost (policy changes): it returns after the
//! sync. In the directory lie `events.jsonl` (being written), `events-000001.jsonl` and so on
//! (rotated, the highest number newest), `changes.jsonl` (policy changes out of files that
//! rotation removed: a flood of denials cannot push them out; `changes-older.jsonl` before it) and, after a crash, `torn.jsonl`
//! (what a half-written last line held).
//!
//! Deliberately absent: what an event means (audit/), and any promise that nobody rewrote these
//! files: that is what the Merkle logs are for, whose files `tiles` keeps.

pub mod export;
mod files;
mod find;
pub mod inspect;
pub mod limits;
pub mod openings;
mod queue;
pub mod recording;
mod tail;
pub mod tiles;
pub mod witness;
mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use portcullis_audit::Event;
use portcullis_policy::Reference;

use self::files::Files;
use self::limits::Limits;
use self::queue::Queue;
pub use self::tail::{Place, Tail};

/// A node's audit events.
#[derive(Debug)]
pub struct Ledger {
    node: String,
    queue: Arc<Queue>,
    files: Arc<Files>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Ledger {
    /// Opens the ledger in `directory` (made 0700 if missing) for the node of that name, which
    /// its own events carry.
    ///
    /// # Errors
    /// `WouldBlock` if another process has it open; whatever the system says.
    pub fn open(directory: &Path, node: &str) -> io::Result<Self> {
        Self::open_within(directory, node, Limits::ORDINARY)
    }

    /// `open` with other limits.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn open_within(directory: &Path, node: &str, limits: Limits) -> io::Result<Self> {
        let (files, torn) = Files::open(directory, limits)?;
        let files = Arc::new(files);
        let queue = Arc::new(Queue::new(limits));
        if let Some(torn) = torn {
            queue.push(writer::torn_event(node, &torn));
        }
        let writer = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn({
                let (node, queue, files) =
                    (node.to_owned(), Arc::clone(&queue), Arc::clone(&files));
                move || writer::run(&node, &queue, &files)
            })?;
        Ok(Self {
            node: node.to_owned(),
            queue,
            files,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// The node whose events these are.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Records an event soon: within milliseconds it is with the kernel, within `SYNC_EVERY` on
    /// disk. Never waits; if the queue is full, the event is counted and a `limit.shed` event with
    /// the exact counts follows as soon as there is room.
    pub fn record(&self, event: Event) {
        self.queue.push(event);
    }

    /// Records an event and returns once it is on disk. Events that wait at the same time share
    /// one sync.
    ///
    /// # Errors
    /// The disk's; `WouldBlock` when more than `QUEUE_DURABLE` wait already; `BrokenPipe` after
    /// `flush_and_close`.
    pub async fn record_durable(&self, event: Event) -> io::Result<()> {
        let done = self.queue.push_durable(event)?;
        done.await.unwrap_or_else(|_| Err(closed()))
    }

    /// The events that carry this reference, oldest first: at most `MAX_FOUND`, the newest of
    /// them. Reads files: call it where waiting is allowed.
    ///
    /// # Errors
    /// Those of reading.
    pub fn find(&self, reference: &Reference) -> io::Result<Vec<Event>> {
        // Whoever was just told a reference must find it. A writer that is stuck must not keep
        // the rest from being found, so this wait has an end.
        self.queue
            .caught_up()
            .recv_timeout(limits::CATCH_UP)
            .unwrap_or_default();
        find::by_reference(self.files.open_all()?, reference)
    }

    /// The oldest event that is kept, and where the durable ones end.
    ///
    /// # Errors
    /// Those of reading.
    pub fn span(&self) -> io::Result<(Place, Place)> {
        self.files.span()
    }

    /// Durable bytes behind a place.
    ///
    /// # Errors
    /// Those of reading.
    pub fn behind(&self, place: Place) -> io::Result<u64> {
        self.files.behind(place)
    }

    /// Durable lines from a place on, at most so many bytes of them. Reads files: call it where
    /// waiting is allowed.
    ///
    /// # Errors
    /// Those of reading.
    pub fn tail(&self, from: Place, most: usize) -> io::Result<Tail> {
        tail::read(&self.files, from, most)
    }

    /// Writes and syncs what is queued and stops the writer. What is recorded afterwards is lost.
    pub fn flush_and_close(&self) {
        self.queue.close();
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the ledger's writer had stopped before its time");
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.flush_and_close();
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the ledger is closed")
}

#[cfg(test)]
mod tests;
