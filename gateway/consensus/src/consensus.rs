//! The facade.

use crate::store::Store;
use crate::{OpenError, ProposeError, StorageError};
use arc_swap::ArcSwap;
use portcullis_policy::{Applied, Command, Proposal, Rejection, State, Timestamp, View};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// The state of this fleet, of which this node is the one voter.
pub struct Consensus {
    writer: Mutex<Writer>,
    published: ArcSwap<View>,
}

/// What only one proposal at a time may touch.
struct Writer {
    state: State,
    store: Store,
    /// A write failed, so that nobody knows what is on the disk: nothing more is written to it.
    failed: bool,
}

impl Consensus {
    /// Opens the state kept in the file at `path`, or begins an empty one at revision 0.
    ///
    /// The file is readable by its owner alone and open in one process at a time. Reads all of
    /// it and checks every page.
    ///
    /// Errors: [`OpenError`]; nothing was changed then.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let (store, snapshot) = Store::open(path)?;
        let state = State::restore(snapshot).map_err(|rejection| OpenError::Rejected {
            path: path.to_owned(),
            rejection,
        })?;
        Ok(Self {
            published: ArcSwap::from_pointee(state.view()),
            writer: Mutex::new(Writer {
                state,
                store,
                failed: false,
            }),
        })
    }

    /// The latest state that is durable. Never waits for a proposal.
    pub fn view(&self) -> Arc<View> {
        self.published.load_full()
    }

    /// What `command` would do as of the moment `at`: the view that it would leave and what it
    /// would change. Nobody sees it and nothing is written.
    ///
    /// Errors: the [`Rejection`] that the command itself would meet.
    pub fn rehearse(&self, command: &Command, at: Timestamp) -> Result<(View, Applied), Rejection> {
        // Cheap: per-tenant parts are shared, and the writer is held only for as long as that takes.
        let mut state = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .state
            .clone();
        let applied = state.apply(&Proposal::local("", at, command.clone()))?;
        Ok((state.view(), applied))
    }

    /// Executes `command` as of the moment `at`, whole or not at all.
    ///
    /// When it returns, the new state is durable and [`Consensus::view`] shows it. A command that
    /// changes nothing writes nothing and leaves the revision as it is.
    ///
    /// Errors: [`ProposeError::Rejected`] if the state refuses it; [`ProposeError::Storage`] if it
    /// could not be made durable, and then every further proposal fails too until the node is
    /// started again: what a failed write left on the disk is known only by reading it back.
    pub fn propose(&self, command: &Command, at: Timestamp) -> Result<Applied, ProposeError> {
        // A panic between lock and unlock leaves the old state in place, which is whole.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.failed {
            return Err(ProposeError::Storage(StorageError::FailedBefore));
        }
        let mut next = writer.state.clone();
        let proposal = Proposal::local("", at, command.clone());
        let applied = next.apply(&proposal).map_err(ProposeError::Rejected)?;
        if applied.tenants.is_empty() {
            return Ok(applied);
        }
        let view = next.view();
        if let Err(error) = writer.store.write(&view, &applied.tenants) {
            writer.failed = true;
            return Err(ProposeError::Storage(error));
        }
        writer.state = next;
        self.published.store(Arc::new(view));
        Ok(applied)
    }
}

impl fmt::Debug for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus")
            .field("revision", &self.view().revision())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy::Tenant;

    #[test]
    fn after_a_failed_write_nothing_more_is_written() {
        let directory =
            std::env::temp_dir().join(format!("portcullis-consensus-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("state.redb");
        let consensus = Consensus::open(&path).unwrap();
        consensus.writer.lock().unwrap().failed = true;
        let command = Command::Apply {
            base: None,
            put: vec![Tenant::new("a".parse().unwrap())],
            remove: vec![],
            expected: std::collections::BTreeMap::new(),
        };
        let refused = consensus.propose(&command, Timestamp::from_millis(0));
        assert!(matches!(
            refused,
            Err(ProposeError::Storage(StorageError::FailedBefore))
        ));
        assert_eq!(*consensus.view(), View::empty());
        drop(consensus);
        assert_eq!(*Consensus::open(&path).unwrap().view(), View::empty());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
