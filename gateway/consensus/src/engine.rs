//! One opening of the state: openraft, and the threads that it has to itself.

use crate::OpenError;
use crate::acknowledged::Acknowledged;
use crate::arriving::Arriving;
use crate::machine::Shown;
use crate::opening::open;
use crate::pace::Pace;
use crate::settings::Settings;
use crate::tables;
use crate::types::Raft;
use crate::writer::Thread;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// What takes part in consensus, until it is stopped or fails.
pub(crate) struct Engine {
    pub(crate) raft: Raft,
    pub(crate) arriving: Arc<Arriving>,
    pub(crate) acknowledged: Arc<Acknowledged>,
    pub(crate) pace: Arc<Pace>,
    /// Why it has ended, where it could not say so itself.
    pub(crate) broken: OnceLock<String>,
    own: Mutex<Option<(Runtime, Thread)>>,
}

/// Threads of consensus' own runtime: customers' traffic does not hold up a heartbeat, and an
/// apply does not hold up the next.
const THREADS: usize = 2;
/// How long openraft may take to end by itself.
const LAST_WORD: Duration = Duration::from_secs(2);
/// How long its threads may take then.
const STOP: Duration = Duration::from_secs(5);

impl Engine {
    /// Opens the state; `before` is what this process showed when it had it open before.
    pub(crate) async fn start(
        settings: Settings,
        before: Option<Arc<Shown>>,
    ) -> Result<(Self, Arc<Shown>), OpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("consensus")
            .enable_all()
            .build()
            .map_err(|error| tables::io(&settings.path, error))?;
        let opening = runtime.spawn(open(settings, before));
        match opening.await {
            Ok(Ok(opened)) => {
                let engine = Self {
                    raft: opened.raft,
                    arriving: opened.arriving,
                    acknowledged: opened.acknowledged,
                    pace: opened.pace,
                    broken: OnceLock::new(),
                    own: Mutex::new(Some((runtime, opened.thread))),
                };
                Ok((engine, opened.shown))
            }
            Ok(Err(error)) => {
                runtime.shutdown_background();
                Err(error)
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(OpenError::Engine(error.to_string()))
            }
        }
    }

    /// None once it was stopped.
    pub(crate) fn own(&self) -> MutexGuard<'_, Option<(Runtime, Thread)>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops, and lets go of the state's file.
    pub(crate) async fn stop(&self) {
        let own = self.own().take();
        let Some((runtime, thread)) = own else {
            return;
        };
        // It fails only where it has stopped already; one that is stuck ends with its threads.
        drop(timeout(LAST_WORD, self.raft.shutdown()).await);
        let stopped = tokio::task::spawn_blocking(move || {
            runtime.shutdown_timeout(STOP);
            thread.join();
        });
        drop(timeout(STOP, stopped).await);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let own = self
            .own
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((runtime, _thread)) = own {
            // A runtime may not wait for its end inside another.
            runtime.shutdown_background();
        }
    }
}
