//! All that follows from the log: the state, and the audit logs.

use crate::leaves::leaves_of;
use crate::logs::{Head, Leaf, Logs};
use crate::recorded::events_of;
use portcullis_audit::personal::Salt;
use portcullis_policy::{AUDIT_LEVEL, Applied, Command, Proposal, Rejection, State};
use sha2::{Digest, Sha256};

/// The state and the audit logs after an entry of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) state: State,
    pub(crate) logs: Logs,
}

/// What became of a proposal.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) answer: Result<Applied, Rejection>,
    /// What it appended to the audit logs.
    pub(crate) leaves: Vec<Leaf>,
    /// The heads that it fixed.
    pub(crate) heads: Vec<Head>,
}

impl Whole {
    /// Executes a proposal at this position of the log. Of the salt comes what hides persons in the leaves.
    pub(crate) fn apply(
        &mut self,
        proposal: &Proposal,
        salt: Option<&Salt>,
        position: u64,
    ) -> Outcome {
        let records = self.keeps_logs();
        // Judged by what was before: whoever records is of the fleet then.
        let (answer, recorded) = match events_of(proposal, &self.state, &self.logs) {
            Ok(recorded) => (self.state.apply(proposal), recorded),
            Err(rejection) => (Err(rejection), Vec::new()),
        };
        let (mut leaves, mut heads) = (Vec::new(), Vec::new());
        if let Ok(applied) = &answer
            && records
            && !applied.repeated
        {
            let own = leaves_of(proposal, applied, &self.state, position);
            for said in own.into_iter().chain(recorded) {
                let mut leaf = self.logs.append(said, salt);
                for opening in &mut leaf.openings {
                    // A node whose clock is ahead keeps nobody's name for longer.
                    opening.at_ms = opening.at_ms.min(applied.at.as_millis());
                }
                leaves.push(leaf);
            }
            if matches!(proposal.command, Command::Seal) {
                (leaves, heads) = self.logs.seal(applied.at.as_millis());
            }
        }
        Outcome {
            answer,
            leaves,
            heads,
        }
    }

    /// Whether what is executed leaves something in the audit logs. Once begun they go on, also while a
    /// node joins that has not said yet what it knows.
    pub(crate) fn keeps_logs(&self) -> bool {
        self.logs.has_begun() || self.everybody_has(AUDIT_LEVEL)
    }

    fn everybody_has(&self, level: u32) -> bool {
        let fleet = self.state.fleet();
        fleet.is_none_or(|fleet| fleet.lacking(level).is_empty())
    }

    /// What nodes compare. While there was never a leaf, what versions compare that know of none.
    pub(crate) fn root(&self) -> [u8; 32] {
        let state = *self.state.root().as_bytes();
        if !self.logs.has_begun() {
            return state;
        }
        let mut hash = Sha256::new();
        hash.update(ROOT);
        hash.update(state);
        hash.update(self.logs.chain());
        hash.finalize().into()
    }
}

const ROOT: &[u8] = b"portcullis state and logs v1\0";
