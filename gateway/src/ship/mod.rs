//! Entries of the audit logs, brought to where operators already look.
//!
//! Each sink has a task and a cursor of its own, so one that is dead holds up nothing else. An entry leaves only once it is in a log whose
//! checkpoint is published, carries its log and its place there, and is sent at least once: the cursor moves after the sink has it.
//!
//! Deliberately absent: which node ships (whoever starts the tasks knows who leads), and any way to lose an entry quietly: what cannot be
//! read is sent as a gap, and what a receiver rejects is told as one.

mod cursor;
mod failures;
mod index;
pub mod limits;
mod ocsf;
mod ocsf_file;
mod otlp;
mod syslog;
mod tail;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::failures::Failures;
pub use self::index::index;
use self::limits::{SHIP_LOOK, SHIP_SETTLED_AFTER};
pub use self::ocsf_file::OcsfFile;
pub use self::otlp::Otlp;
pub use self::syslog::Syslog;
pub use self::tail::Item;
use self::tail::{Batch, Tail};
use crate::ledger::Ledger;

/// Where entries are brought.
pub trait Sink: Send + 'static {
    /// Its name in metrics, events and the name of its cursor's file.
    const NAME: &'static str;

    /// How many of the latest may be lost on the way, because it does not say what it has: they are sent again after a failure and after a
    /// start.
    const UNCONFIRMED: usize = 0;

    /// Brings them there, in order. Once it returns, they are not sent again unless this node dies at once.
    ///
    /// # Errors
    /// A sentence; some of them may have arrived, and all will be sent again.
    fn send(&mut self, items: Arc<[Item]>) -> impl Future<Output = Result<Taken, Failed>> + Send;

    /// Looks whether it is still there, while there is nothing to send.
    ///
    /// # Errors
    /// It is not; what was on its way is sent again.
    fn look(&mut self) -> impl Future<Output = Result<(), Failed>> + Send {
        std::future::ready(Ok(()))
    }
}

/// What a sink did with what it was sent.
#[derive(Debug, Default)]
pub struct Taken {
    /// Entries that it will not have, whatever is tried: how many, and what it says.
    rejected: Option<(u64, String)>,
}

/// Why a sink has not got them.
#[derive(Debug)]
pub struct Failed {
    why: String,
    /// For how long it asks to be left alone.
    after: Option<Duration>,
}

impl Failed {
    /// For that reason.
    pub(crate) fn new(why: impl fmt::Display) -> Self {
        Self {
            why: why.to_string(),
            after: None,
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Ships to one sink until `stop`, whenever `ships` says that this node is one that does. `data` is the node's directory.
pub async fn ship<S: Sink>(
    data: &Path,
    sink: S,
    ledger: Arc<Ledger>,
    ships: impl Fn() -> bool + Send,
    stop: CancellationToken,
) {
    let logs = data.join("audit").join("logs");
    let cursors = data.join("audit").join("ship");
    let tail = Tail::open(logs, &cursors, S::NAME, ledger.node()).unconfirmed(S::UNCONFIRMED);
    let mut shipping = Shipping {
        tail: Some(tail),
        sink,
        failures: Failures::new(S::NAME, ledger),
        calm: 0,
    };
    let work = async {
        loop {
            let pause = match ships() {
                true => shipping.round().await,
                false => shipping.rest(),
            };
            match pause {
                Ok(pause) => tokio::time::sleep(pause).await,
                Err(Ended) => {
                    tracing::error!(
                        sink = S::NAME,
                        "entries of the audit logs are shipped no more"
                    );
                    return;
                }
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

struct Shipping<S> {
    /// Away while it waits for the disk.
    tail: Option<Tail>,
    sink: S,
    failures: Failures,
    /// Looks in a row that found it there, with nothing to send.
    calm: u32,
}

/// A look at the disk panicked, and has taken the tail with it.
struct Ended;

impl<S: Sink> Shipping<S> {
    /// Sends a batch; how long to wait until the next.
    async fn round(&mut self) -> Result<Duration, Ended> {
        let batch = self.on_disk(Tail::next).await?;
        self.failures.lag(batch.lag);
        self.failures.tell_in_time();
        self.failures.unreadable(batch.problem.as_deref());
        let idle = batch.items.is_empty();
        let outcome = self.bring(batch).await?;
        Ok(match outcome {
            Ok(()) => {
                // Who does not say what it has is well only once it is found there a while later.
                if S::UNCONFIRMED == 0 || self.calm > 1 {
                    self.failures.over();
                }
                if idle { SHIP_LOOK } else { Duration::ZERO }
            }
            Err(why) => {
                if S::UNCONFIRMED > 0 {
                    self.on_disk(Tail::again).await?;
                }
                self.failures.one(&why)
            }
        })
    }

    async fn bring(&mut self, batch: Batch) -> Result<Result<(), Failed>, Ended> {
        if batch.items.is_empty() {
            let there = self.sink.look().await;
            self.calm = match there {
                Ok(()) => self.calm.saturating_add(1),
                Err(_) => 0,
            };
            if there.is_ok() && self.calm == SHIP_SETTLED_AFTER && S::UNCONFIRMED > 0 {
                let settled = self.on_disk(Tail::settled).await?;
                return Ok(settled.map_err(|error| Failed::new(format!("the cursor: {error}"))));
            }
            return Ok(there);
        }
        self.calm = 0;
        let items: Arc<[Item]> = batch.items.into();
        match self.sink.send(Arc::clone(&items)).await {
            Ok(taken) => self.failures.told(&items, taken),
            Err(why) => return Ok(Err(why)),
        }
        let moved = self.on_disk(move |tail| tail.advance(&items)).await?;
        Ok(moved.map_err(|error| Failed::new(format!("the cursor: {error}"))))
    }

    /// Another node ships; how long to wait.
    fn rest(&mut self) -> Result<Duration, Ended> {
        self.failures.lag(0);
        self.tail.as_mut().ok_or(Ended)?.forget();
        Ok(SHIP_LOOK)
    }

    async fn on_disk<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Tail) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let mut tail = self.tail.take().ok_or(Ended)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&mut tail);
            (tail, done)
        });
        let (tail, done) = done.await.map_err(|_| Ended)?;
        self.tail = Some(tail);
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use super::tail::tests::{Folder, log};
    use super::*;

    /// Takes everything, and does not say so.
    #[derive(Clone, Default)]
    struct Silent(Arc<Mutex<Vec<u64>>>);

    impl Sink for Silent {
        const NAME: &'static str = "silent";
        const UNCONFIRMED: usize = 100;

        async fn send(&mut self, items: Arc<[Item]>) -> Result<Taken, Failed> {
            self.0
                .lock()
                .unwrap()
                .extend(items.iter().map(|item| item.first));
            Ok(Taken::default())
        }
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_read_holds_up_no_other() {
        let folder = Folder::new("unreadable");
        log(folder.path(), 600, |_, _| {});
        let broken = folder.path().join("tenants/acme");
        fs::create_dir_all(&broken).unwrap();
        fs::write(broken.join("checkpoint"), "nothing like it").unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger"), "n1").unwrap();
        let ledger = Arc::new(ledger);
        let sink = Silent::default();
        let cursors = folder.path().join("ship");
        let tail = Tail::open(folder.path().to_owned(), &cursors, "silent", "n1");
        let mut shipping = Shipping {
            tail: Some(tail.unconfirmed(Silent::UNCONFIRMED)),
            sink: sink.clone(),
            failures: Failures::new("silent", Arc::clone(&ledger)),
            calm: 0,
        };
        for _ in 0..6 {
            let pause = shipping.round().await.ok().unwrap();
            assert!(pause <= SHIP_LOOK);
        }
        assert!(sink.0.lock().unwrap().iter().copied().eq(0..600));
        // It is told, once.
        drop(shipping);
        ledger.flush_and_close();
        let text = fs::read_to_string(folder.path().join("ledger/events.jsonl")).unwrap();
        assert_eq!(text.matches("ship.stalled").count(), 1, "{text}");
        assert!(text.contains("tenants/acme"), "{text}");
    }
}
