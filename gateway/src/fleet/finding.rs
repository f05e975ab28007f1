//! What evidence says under a reference, whichever node of the fleet has it.
//!
//! A client knows a reference and not the node that gave it. A control node asks all others at
//! once; a gateway asks a control node to do so. Whoever does not answer in time is named.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use portcullis_audit::Event;
use portcullis_policy::{NodeId, Reference};
use serde::{Deserialize, Serialize};

use super::{Fleet, words};
use crate::mesh::Refused;
use crate::runtime::clock::Duration;
use crate::runtime::limits::{FOUND_BYTES, FOUND_TOLD};

/// How long one node may search.
const SEARCH_LIMIT: Duration = Duration::from_secs(3);
/// Searches for other nodes at once.
pub const SEARCHES_AT_ONCE: usize = 2;
/// How long a control node may take to ask the others, and to search itself.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// What is looked for.
#[derive(Debug, Serialize, Deserialize)]
struct Sought {
    /// See [`Reference::bits`].
    reference: u64,
    /// Whether the called node is to ask all others too.
    everywhere: bool,
}

/// What was found.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    /// Events' lines.
    lines: Vec<String>,
    /// Who did not answer.
    silent: BTreeSet<NodeId>,
}

/// What the other nodes have under a reference.
#[derive(Debug, Default)]
pub struct Elsewhere {
    /// Their events.
    pub events: Vec<Event>,
    /// The names of those that did not answer in time.
    pub silent: Vec<String>,
}

impl Fleet {
    /// Looks for a reference on all other nodes.
    pub async fn find_elsewhere(&self, reference: Reference) -> Elsewhere {
        let others = self.others(None);
        let told = if self.is_control(self.me) {
            self.ask_all(reference, others).await
        } else {
            self.ask_one_to_ask(reference, others).await
        };
        let events = told.lines.iter().filter_map(|line| Event::parse(line).ok());
        let sought = reference.to_string();
        Elsewhere {
            events: events
                .filter(|event| event.reference.as_ref() == Some(&sought))
                .collect(),
            silent: told.silent.iter().map(|node| self.name_of(*node)).collect(),
        }
    }

    /// Everybody but this node and whoever asks.
    fn others(&self, asking: Option<NodeId>) -> Vec<NodeId> {
        let others = self.nodes().into_iter().map(|node| node.id);
        others
            .filter(|node| *node != self.me && Some(*node) != asking)
            .collect()
    }

    async fn ask_all(&self, reference: Reference, nodes: Vec<NodeId>) -> Told {
        let asked = nodes.into_iter().map(|node| async move {
            let told = self.ask_for(node, reference, false, SEARCH_LIMIT).await;
            (node, told)
        });
        let mut all = Told::default();
        for (node, told) in join_all(asked).await {
            match told {
                Some(told) => all.lines.extend(told.lines),
                None => {
                    all.silent.insert(node);
                }
            }
        }
        all
    }

    /// Asks one control node after the other to ask everybody.
    async fn ask_one_to_ask(&self, reference: Reference, others: Vec<NodeId>) -> Told {
        let mut silent = BTreeSet::new();
        for node in others.iter().filter(|node| self.is_control(**node)) {
            match self.ask_for(*node, reference, true, ASK_LIMIT).await {
                Some(told) => {
                    silent.extend(told.silent);
                    return Told {
                        lines: told.lines,
                        silent,
                    };
                }
                None => {
                    silent.insert(*node);
                }
            }
        }
        Told {
            lines: Vec::new(),
            silent: others.into_iter().collect(),
        }
    }

    async fn ask_for(
        &self,
        node: NodeId,
        reference: Reference,
        everywhere: bool,
        limit: Duration,
    ) -> Option<Told> {
        let reference = reference.bits();
        let request = words::encode(&Sought {
            reference,
            everywhere,
        });
        let answer = self
            .mesh()?
            .call(node.get(), words::FIND, request.ok()?, limit)
            .await
            .ok()?;
        words::decode(&answer).ok()
    }

    /// Answers another node that looks for a reference.
    pub(super) async fn find_for(&self, from: NodeId, request: &[u8]) -> Result<Vec<u8>, Refused> {
        let sought: Sought = words::decode(request).map_err(Refused)?;
        if sought.everywhere && !self.is_control(self.me) {
            return Err(Refused("only control nodes ask all others".to_owned()));
        }
        let reference = Reference::from_bits(sought.reference);
        let asked = async {
            match sought.everywhere {
                true => self.ask_all(reference, self.others(Some(from))).await,
                false => Told::default(),
            }
        };
        // A search reads all files: those of other nodes wait for each other, and for no person.
        let searched = async {
            let turn = self.searches.acquire().await;
            let _turn = turn.map_err(|error| error.to_string())?;
            self.find_here(reference).await
        };
        let (mut told, own) = tokio::join!(asked, searched);
        let own = own.map_err(Refused)?;
        told.lines.extend(own.iter().map(Event::line));
        words::encode(&bounded(told)).map_err(Refused)
    }

    async fn find_here(&self, reference: Reference) -> Result<Vec<Event>, String> {
        let ledger = Arc::clone(&self.ledger);
        let searched = tokio::task::spawn_blocking(move || ledger.find(&reference)).await;
        searched
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }
}

/// What fits into an answer: the first of the events, which say how it began.
fn bounded(mut told: Told) -> Told {
    let mut bytes = 0_usize;
    told.lines.truncate(FOUND_TOLD);
    told.lines.retain(|line| {
        bytes = bytes.saturating_add(line.len());
        bytes <= FOUND_BYTES
    });
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_fits_into_a_frame() {
        let line = "x".repeat(portcullis_audit::MAX_EVENT_BYTES);
        let told = bounded(Told {
            lines: vec![line; 1_000],
            silent: BTreeSet::new(),
        });
        assert!(told.lines.len() > 10);
        let bytes = words::encode(&told).unwrap();
        assert!(bytes.len() < crate::mesh::limits::FRAME_BYTES);
        let few = bounded(Told {
            lines: vec![String::new(); 1_000],
            silent: BTreeSet::new(),
        });
        assert_eq!(few.lines.len(), FOUND_TOLD);
    }
}
