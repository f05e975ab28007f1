//! What a node says of itself to control nodes, again and again.

use portcullis_consensus::{ROOTS_TOLD, Rooted};
use portcullis_policy::{Revision, Timestamp};
use serde::{Deserialize, Serialize};

use super::words;

/// Changes that a report tells of; whoever missed more learns only that they are enforced.
pub(super) const RECENT: usize = 32;

/// What one node says of itself.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Report {
    /// Which start of its process says so: drawn anew at each.
    pub start: u64,
    /// Counts the reports of one start.
    pub sequence: u64,
    /// Every change up to this revision is enforced there.
    pub through: Revision,
    /// What it took to enforce the latest of them, oldest first; at most [`RECENT`].
    pub recent: Vec<Summary>,
    /// Live connections.
    pub connections: u64,
    /// How long it serves customers from a policy that no control node confirms, in seconds.
    pub stale_limit: u64,
    /// Since when no control node has confirmed its policy, in seconds; 0 on one that votes with a
    /// quorum.
    pub stale: u64,
    /// Its version.
    pub version: String,
    /// How its state stands among those of the others.
    pub condition: Condition,
    /// What its state hashed to, and at which positions of the log; at most [`ROOTS_TOLD`]. Nothing
    /// on a node that does not vote.
    pub roots: Vec<Rooted>,
    /// How long its disk takes to make a write of the state durable, in milliseconds: the middle of
    /// the latest; none where there were few.
    pub write_pace_ms: Option<u64>,
    /// What time it is there when it says so; none of a version that does not.
    #[serde(skip)]
    pub at: Option<Timestamp>,
}

/// How a node's state stands among those of the others, as the node itself knows it.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is what the others have, as far as is known.
    InStep,
    /// It is not what a majority has: the node keeps out until it may let go of it.
    Differs,
    /// The node has let go of it and is given it anew.
    Reinstalling,
}

/// A report on its way: versions are added at the end.
#[derive(Serialize, Deserialize)]
enum Message {
    First(Report),
}

/// What was added to its end, each after the other.
#[derive(Serialize, Deserialize)]
struct Added {
    /// Unix milliseconds.
    at: Option<i64>,
}

impl Report {
    /// As it is sent.
    ///
    /// # Errors
    /// In words: it cannot be encoded.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut bytes = words::encode(&Message::First(self.clone()))?;
        let at = self.at.map(Timestamp::as_millis);
        bytes.extend(words::encode(&Added { at })?);
        Ok(bytes)
    }

    /// As it came, of this version or a later one that adds to its end. It is no longer than ours
    /// are.
    ///
    /// # Errors
    /// In words: what is wrong with the bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let unclear = |error: postcard::Error| error.to_string();
        let (Message::First(mut report), added) =
            postcard::take_from_bytes(bytes).map_err(unclear)?;
        if !added.is_empty() {
            let (Added { at }, _) = postcard::take_from_bytes(added).map_err(unclear)?;
            report.at = at.map(Timestamp::from_millis);
        }
        report.recent.truncate(RECENT);
        report.roots.truncate(ROOTS_TOLD);
        Ok(report)
    }
}

/// What enforcing one change took on one node.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct Summary {
    /// The change.
    pub revision: Revision,
    /// Live connections that were decided again.
    pub decided_again: u64,
    /// Those that lapsed and were closed.
    pub closed: u64,
    /// Those that were not seen closed within the limit.
    pub unfinished: u64,
    /// Closed connections whose backend was not seen gone.
    pub backends_left: u64,
    /// From the moment the node knew the change to the moment from which the last of them passed
    /// no byte, milliseconds.
    pub slowest_ms: Option<f64>,
}

/// A report for tests.
#[cfg(test)]
pub(super) fn sample(through: u64, recent: &[u64]) -> Report {
    let summary = |revision: &u64| Summary {
        revision: Revision::new(*revision),
        decided_again: 3,
        closed: 1,
        unfinished: 0,
        backends_left: 0,
        slowest_ms: Some(1.5),
    };
    Report {
        start: 1,
        sequence: through,
        through: Revision::new(through),
        recent: recent.iter().map(summary).collect(),
        connections: 0,
        stale_limit: 60,
        stale: 0,
        version: String::new(),
        condition: Condition::InStep,
        roots: Vec::new(),
        write_pace_ms: None,
        at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(version: u32, meant: &Report) -> Vec<u8> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("testdata/mesh/report.v{version}.bin"));
        if std::env::var_os("BLESS").is_some() && !path.exists() {
            std::fs::write(&path, meant.to_bytes().unwrap()).unwrap();
        }
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn a_report_is_read_as_it_was_first_written_and_a_later_one_may_say_more() {
        let first = Report {
            start: u64::MAX - 1,
            connections: 300,
            version: "0.1.0".to_owned(),
            condition: Condition::Reinstalling,
            roots: vec![Rooted {
                position: 812,
                root: [7; 32],
            }],
            write_pace_ms: Some(1_000),
            ..sample(811, &[810, 811])
        };
        let meant = Report {
            at: Some(Timestamp::from_millis(1_800_000_000_123)),
            ..first.clone()
        };
        let before = written(1, &first);
        assert_eq!(Report::from_bytes(&before).unwrap(), first);
        let mut written = written(2, &meant);
        assert_eq!(Report::from_bytes(&written).unwrap(), meant);
        assert_eq!(meant.to_bytes().unwrap(), written);
        for end in 0..written.len() {
            // What was all once is whole.
            let whole = end == before.len();
            let read = Report::from_bytes(&written[..end]);
            assert_eq!(read.is_ok(), whole, "cut at {end}");
        }
        written.extend([1, 2, 3]);
        assert_eq!(Report::from_bytes(&written).unwrap(), meant);
    }
}
