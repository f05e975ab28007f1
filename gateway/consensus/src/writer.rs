//! The one thread that writes the state's file.
//!
//! Everything goes through one queue, in order, and what has gathered in it becomes one
//! transaction: one sync makes many entries durable (group commit), and a vote can never overtake
//! the entries before it. After a write that failed, nothing more is written: what it left on the
//! disk is known only by reading it back.

use crate::mark::Mark;
use crate::pace::Pace;
use crate::tables::{LOG, RAFT, SEQUENCE};
use crate::types::Types;
use openraft::storage::IOFlushed;
use redb::{Database, Durability};
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Writes that may wait for the disk.
const QUEUE: usize = 1_024;
/// Writes in one transaction.
const GROUP: usize = 512;

/// One write.
pub(crate) enum Write {
    /// Entries by index, and who is told when they are durable.
    Append(Vec<(u64, Vec<u8>)>, IOFlushed<Types>),
    /// A value under a key.
    Put(&'static str, Vec<u8>, Done),
    /// Entries that are no more, and a value that says so.
    Remove(RangeInclusive<u64>, Option<(&'static str, Vec<u8>)>, Done),
    /// Nothing follows.
    #[cfg(test)]
    Fail,
}

/// Who waits for a write.
pub(crate) type Done = oneshot::Sender<io::Result<()>>;

/// The way to the thread. The thread ends when the last of these is dropped.
#[derive(Clone)]
pub(crate) struct Writer(mpsc::Sender<Write>);

/// The thread.
pub(crate) struct Thread(Option<JoinHandle<()>>);

impl Thread {
    /// Waits until everything is written. The writers must be gone.
    pub(crate) fn join(mut self) {
        if let Some(handle) = self.0.take() {
            // A panic there was told to everybody who waited for a write.
            drop(handle.join());
        }
    }
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(
        database: Arc<Database>,
        sequence: u64,
        mark: Arc<Mark>,
        pace: Arc<Pace>,
    ) -> io::Result<(Self, Thread)> {
        let (queue, writes) = mpsc::channel(QUEUE);
        let handle = std::thread::Builder::new()
            .name("state-writer".to_owned())
            .spawn(move || run(&database, sequence, &mark, &pace, writes))?;
        Ok((Self(queue), Thread(Some(handle))))
    }

    /// Puts a write into the queue; it is done when whoever waits for it is told.
    pub(crate) async fn send(&self, write: Write) -> io::Result<()> {
        self.0.send(write).await.map_err(|_| stopped())
    }

    /// Writes a value and waits until it is durable.
    pub(crate) async fn put(&self, key: &'static str, value: Vec<u8>) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        self.send(Write::Put(key, value, done)).await?;
        written.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Removes entries and waits until that is durable.
    pub(crate) async fn remove(
        &self,
        entries: RangeInclusive<u64>,
        value: Option<(&'static str, Vec<u8>)>,
    ) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        self.send(Write::Remove(entries, value, done)).await?;
        written.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> io::Error {
    io::Error::other("the state's writer has stopped")
}

/// Who is told of one write of a group.
enum Told {
    Raft(IOFlushed<Types>),
    Waiting(Done),
}

fn run(
    database: &Database,
    mut sequence: u64,
    mark: &Mark,
    pace: &Pace,
    mut writes: mpsc::Receiver<Write>,
) {
    let mut failed: Option<String> = None;
    while let Some(first) = writes.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = writes.try_recv()
        {
            group.push(next);
        }
        let mut told = Vec::with_capacity(group.len());
        let outcome = match &failed {
            Some(problem) => {
                told.extend(group.into_iter().filter_map(who));
                Err(problem.clone())
            }
            None => {
                sequence = sequence.saturating_add(1);
                pace.begin();
                let written = write(database, sequence, group, &mut told)
                    .and_then(|()| mark.set(sequence).map_err(text));
                pace.end();
                if written.is_err()
                    && let Err(error) = mark.suspect(sequence.saturating_sub(1))
                {
                    tracing::error!(%error, "it could not be noted that a write of the state failed: do not start this node again without its machine");
                }
                written
            }
        };
        for whom in told {
            let outcome = outcome.clone().map_err(io::Error::other);
            match whom {
                Told::Raft(flushed) => flushed.io_completed(outcome),
                // Whoever waited may have gone.
                Told::Waiting(done) => drop(done.send(outcome)),
            }
        }
        if let Err(problem) = outcome {
            failed.get_or_insert(problem);
        }
    }
}

fn who(write: Write) -> Option<Told> {
    match write {
        Write::Append(_, flushed) => Some(Told::Raft(flushed)),
        Write::Put(_, _, done) | Write::Remove(_, _, done) => Some(Told::Waiting(done)),
        #[cfg(test)]
        Write::Fail => None,
    }
}

fn write(
    database: &Database,
    sequence: u64,
    group: Vec<Write>,
    told: &mut Vec<Told>,
) -> Result<(), String> {
    let mut outcome = Ok(());
    let begun = database.begin_write().map_err(text).and_then(|mut it| {
        it.set_durability(Durability::Immediate).map_err(text)?;
        Ok(it)
    });
    let transaction = match begun {
        Ok(transaction) => transaction,
        Err(problem) => {
            told.extend(group.into_iter().filter_map(who));
            return Err(problem);
        }
    };
    {
        let tables = transaction
            .open_table(LOG)
            .and_then(|log| Ok((log, transaction.open_table(RAFT)?)));
        let (mut log, mut raft) = match tables {
            Ok(tables) => tables,
            Err(error) => {
                told.extend(group.into_iter().filter_map(who));
                return Err(text(error));
            }
        };
        for write in group {
            let done = match &write {
                Write::Append(entries, _) => entries.iter().try_for_each(|(index, bytes)| {
                    log.insert(index, bytes.as_slice()).map(drop).map_err(text)
                }),
                Write::Put(key, value, _) => {
                    raft.insert(*key, value.as_slice()).map(drop).map_err(text)
                }
                Write::Remove(entries, value, _) => log
                    .retain_in(entries.clone(), |_, _| false)
                    .map_err(text)
                    .and_then(|()| match value {
                        Some((key, value)) => {
                            raft.insert(*key, value.as_slice()).map(drop).map_err(text)
                        }
                        None => Ok(()),
                    }),
                #[cfg(test)]
                Write::Fail => Err("made to fail".to_owned()),
            };
            outcome = outcome.and(done);
            told.extend(who(write));
        }
        let number = postcard::to_stdvec(&sequence).map_err(text);
        let numbered = number.and_then(|number| {
            raft.insert(SEQUENCE, number.as_slice())
                .map(drop)
                .map_err(text)
        });
        outcome = outcome.and(numbered);
    }
    outcome?;
    transaction.commit().map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
