//! What agreeing costs by itself: commands that three voters make durable.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portcullis_consensus::{
    BoxFuture, Consensus, Draft, Logs, Settings, Transport, TransportError, await_leader,
    begin_alone,
};
use portcullis_policy::{Author, Command, NodeId, State, Tenant, Timestamp};
use portcullis_tests::Scratch;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::enforced::milliseconds;
use crate::report::Table;
use crate::sample::quantile;

/// Writers at once.
const WRITERS: [usize; 3] = [1, 16, 64];
/// How long each number of writers is at it.
const WRITING: Duration = Duration::from_secs(2);
/// What the disk is asked to make durable, for comparison: one page.
const PAGE: [u8; 4096] = [7; 4096];

/// The engine alone: three voters in this process, real files, no network.
pub(crate) fn engine() -> Table {
    let mut table = Table::new(
        "agree: commands that three voters make durable",
        &[
            "writers",
            "commands/s",
            "p50 ms",
            "p99 ms",
            "to bare syncs/s",
        ],
    );
    let runtime = Runtime::new().expect("threads");
    let scratch = Scratch::new("agree");
    let voters = runtime.block_on(voters(&scratch));
    let bare = bare_syncs(&scratch);
    for writers in WRITERS {
        let mut took = runtime.block_on(write(&voters, writers));
        let rate = took.len() as f64 / WRITING.as_secs_f64();
        let (p50, p99) = (quantile(&mut took, 0.5), quantile(&mut took, 0.99));
        table.row(
            vec![
                writers.to_string(),
                format!("{rate:.0}"),
                format!("{p50:.2}"),
                format!("{p99:.2}"),
                format!("{:.2}", rate / bare),
            ],
            json!({ "writers": writers, "rate": rate, "p50": p50, "p99": p99, "bare": bare }),
        );
    }
    table.note(format!(
        "{bare:.0} bare writes of one page, each synced, in a second on the same disk"
    ));
    for voter in &voters {
        runtime.block_on(voter.shutdown());
    }
    table
}

async fn voters(scratch: &Scratch) -> Vec<Arc<Consensus>> {
    let all = All::default();
    let mut voters = Vec::new();
    for number in 1..=3 {
        let node = NodeId::new(number).expect("not 0");
        let data = scratch.path().join(format!("v{number}"));
        std::fs::create_dir_all(&data).expect("our own directory");
        if number == 1 {
            begin_alone(&data, node, &State::default(), &Logs::default()).expect("a new file");
        } else {
            await_leader(&data, node).expect("a new file");
        }
        let way = Arc::new(Way(node, all.clone()));
        let opened = Consensus::open(Settings::in_fleet(&data, node, way)).await;
        let voter = Arc::new(opened.expect("our own file"));
        all.0
            .lock()
            .expect("no panic")
            .insert(node, Arc::clone(&voter));
        voters.push(voter);
    }
    for voter in 2..=3 {
        let node = NodeId::new(voter).expect("not 0");
        while voters[0].add_learner(node).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        while !voters[0].status().caught_up(node) || voters[0].promote(node).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    voters
}

/// The milliseconds that each command took.
async fn write(voters: &[Arc<Consensus>], writers: usize) -> Vec<f64> {
    let until = Instant::now() + WRITING;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..writers {
        let leader = Arc::clone(&voters[0]);
        tasks.spawn(async move {
            let mut took = Vec::new();
            let mut suspended = false;
            while Instant::now() < until {
                suspended = !suspended;
                let mut tenant = Tenant::new(format!("t{writer}").parse().expect("a label"));
                tenant.suspended = suspended;
                let draft = Draft {
                    request: None,
                    author: Author::local("bench"),
                    command: Command::Apply {
                        base: None,
                        expected: BTreeMap::new(),
                        put: vec![tenant],
                        remove: vec![],
                    },
                };
                let began = Instant::now();
                leader.propose(draft, || NOW).await.expect("in order");
                took.push(milliseconds(began.elapsed()));
            }
            took
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

fn bare_syncs(scratch: &Scratch) -> f64 {
    let path = scratch.write("page", PAGE);
    let file = File::options()
        .write(true)
        .open(path)
        .expect("our own file");
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < WRITING / 2 {
        file.write_all_at(&PAGE, 0).expect("our own file");
        file.sync_data().expect("our own file");
        count += 1;
    }
    f64::from(count) / began.elapsed().as_secs_f64()
}

#[derive(Clone, Default)]
struct All(Arc<Mutex<BTreeMap<NodeId, Arc<Consensus>>>>);

/// From one voter to the others, in this process.
struct Way(NodeId, All);

impl Transport for Way {
    fn call(
        &self,
        to: NodeId,
        request: Vec<u8>,
        _within: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, TransportError>> {
        let from = self.0;
        let there = self.1.0.lock().expect("no panic").get(&to).cloned();
        Box::pin(async move {
            let there = there.ok_or_else(|| TransportError::new("not there yet"))?;
            there.answer(from, request).await
        })
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
