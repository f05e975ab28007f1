//! What one changed entry costs until every decision is made by it.
//!
//! Two tenants' worth of documents take turns, so that every command changes exactly one entry.
//! Once in memory (`State::apply`, then the view is published), and once as the node does it, with
//! the state durable before the view is published; beside that, what the disk takes by itself.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use portcullis_consensus::{Consensus, Draft, Logs, Settings, begin_alone, in_pieces};
use portcullis_policy::{Author, Command, Family, NodeId, Proposal, State, Timestamp, View};
use portcullis_tests::Scratch;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::fleet::{Fleet, put};
use crate::machine::{Watch, load};
use crate::report::Table;
use crate::sample::Sample;

/// Commands timed in each round.
const BATCH: usize = 10;
/// Tenants in one command while the policy is built up.
const TENANTS_AT_ONCE: u32 = 100;
/// What the disk is asked to make durable, for comparison: one page.
const PAGE: [u8; 4096] = [7; 4096];

/// Tenants, and entries of each. The first is what the others are compared with.
const FLEETS: [(u32, u32); 4] = [(1, 1_000), (1_000, 1_000), (1, 10_000), (100, 10_000)];

/// Measures.
pub(crate) fn measure(rounds: usize) -> Table {
    let mut memory: Vec<InMemory> = FLEETS.map(fleet).into_iter().map(InMemory::new).collect();
    let mut disk: Vec<OnDisk> = FLEETS.map(fleet).into_iter().map(OnDisk::new).collect();
    let bare = BareDisk::new();
    let mut in_memory = FLEETS.map(|_| Sample::default());
    let mut on_disk = FLEETS.map(|_| Sample::default());
    let mut pages = Sample::default();
    let (loaded, watch) = (load(), Watch::begin(&[]));
    // The first round only warms up.
    for round in 0..=rounds {
        let page = median_of_batch(|| bare.write());
        let memory = memory.iter_mut().map(|it| median_of_batch(|| it.change()));
        let memory: Vec<f64> = memory.collect();
        let disk = disk.iter_mut().map(|it| median_of_batch(|| it.change()));
        let disk: Vec<f64> = disk.collect();
        if round > 0 {
            pages.push(page);
            for (sample, figure) in in_memory.iter_mut().zip(memory) {
                sample.push(figure);
            }
            for (sample, figure) in on_disk.iter_mut().zip(disk) {
                sample.push(figure);
            }
        }
    }
    let others = watch.end();
    let mut table = Table::new(
        "apply: one changed entry until the view is published",
        &[
            "entries",
            "µs in memory",
            "to 1 × 1000",
            "µs durable",
            "to 1 × 1000",
            "to a bare write",
        ],
    );
    for (index, shape) in FLEETS.iter().enumerate() {
        let (memory, disk) = (&in_memory[index], &on_disk[index]);
        let (to_first, durable_to_first) = (memory.over(&in_memory[0]), disk.over(&on_disk[0]));
        table.row(
            vec![
                format!("{} ({} × {})", shape.0 * shape.1, shape.0, shape.1),
                format!("{memory:.0}"),
                format!("{to_first:.2}"),
                format!("{disk:.0}"),
                format!("{durable_to_first:.2}"),
                format!("{:.2}", disk.over(&pages)),
            ],
            json!({
                "tenants": shape.0,
                "entries each": shape.1,
                "entries": shape.0 * shape.1,
                "in memory µs": memory.json(),
                "in memory, ratio to 1,000 entries": to_first.json(),
                "durable µs": disk.json(),
                "durable, ratio to 1,000 entries": durable_to_first.json(),
                "durable, ratio to a bare write": disk.over(&pages).json(),
                "bare write µs": pages.json(),
                "load before": loaded,
                "percent of the machine used by others": others,
            }),
        );
    }
    table.note(format!(
        "tenants × entries of each, all of a tenant's at one endpoint; a bare write is one page and fdatasync: {pages:.0} µs"
    ));
    table.note(format!(
        "medians (low–high) of {rounds} rounds of {BATCH}; others used {others:.0} % of the machine"
    ));
    table
}

fn fleet((tenants, entries_each): (u32, u32)) -> Fleet {
    Fleet {
        family: Family::V4,
        tenants,
        entries_each,
    }
}

/// Microseconds.
fn median_of_batch(mut run: impl FnMut()) -> f64 {
    let time = |_| {
        let begin = Instant::now();
        run();
        begin.elapsed().as_secs_f64() * 1e6
    };
    (0..BATCH).map(time).collect::<Sample>().median()
}

/// The same tenant without and with a change, turn and turn about.
struct Turns {
    commands: [Command; 2],
    next: usize,
}

impl Turns {
    fn new(fleet: &Fleet) -> Self {
        let number = fleet.tenants / 2;
        let commands = [fleet.tenant_with_a_change(number), fleet.tenant(number)];
        Self {
            commands: commands.map(|tenant| put(vec![tenant])),
            next: 0,
        }
    }

    fn next(&mut self) -> &Command {
        let turn = self.next;
        self.next = 1 - turn;
        &self.commands[turn]
    }
}

/// The commands that build a fleet up.
fn beginnings(fleet: Fleet) -> impl Iterator<Item = Command> {
    let tenants = TENANTS_AT_ONCE as usize;
    (0..fleet.tenants).step_by(tenants).map(move |first| {
        let last = fleet.tenants.min(first + TENANTS_AT_ONCE);
        put((first..last).map(|number| fleet.tenant(number)).collect())
    })
}

struct InMemory {
    state: State,
    published: ArcSwap<View>,
    turns: Turns,
}

impl InMemory {
    fn new(fleet: Fleet) -> Self {
        let mut state = State::default();
        for command in beginnings(fleet) {
            state
                .apply(&Proposal::local("bench", NOW, command))
                .expect("a policy in order");
        }
        Self {
            published: ArcSwap::from_pointee(state.view()),
            state,
            turns: Turns::new(&fleet),
        }
    }

    fn change(&mut self) {
        let proposal = Proposal::local("bench", NOW, self.turns.next().clone());
        let applied = self.state.apply(&proposal).expect("in order");
        self.published.store(Arc::new(self.state.view()));
        assert_eq!(applied.changes.len(), 1, "one endpoint differs");
    }
}

struct OnDisk {
    runtime: Runtime,
    consensus: Consensus,
    turns: Turns,
    _scratch: Scratch,
}

impl OnDisk {
    fn new(fleet: Fleet) -> Self {
        let scratch = Scratch::new("state");
        let mut state = State::default();
        for command in beginnings(fleet) {
            let proposal = Proposal::local("bench", NOW, command);
            state.apply(&proposal).expect("a policy in order");
        }
        begin_alone(scratch.path(), NodeId::FIRST, &state, &Logs::default()).expect("a new file");
        let runtime = Runtime::new().expect("threads");
        let opening = Consensus::open(Settings::alone(scratch.path()));
        let consensus = runtime.block_on(opening).expect("our own file");
        Self {
            runtime,
            consensus,
            turns: Turns::new(&fleet),
            _scratch: scratch,
        }
    }

    fn change(&mut self) {
        let draft = |command| Draft {
            request: None,
            author: Author::local("bench"),
            command,
        };
        let mut revision = None;
        for command in in_pieces(self.turns.next().clone()) {
            let proposed = self.consensus.propose(draft(command), || NOW);
            revision = Some(self.runtime.block_on(proposed).expect("in order").revision);
        }
        assert_eq!(Some(self.consensus.view().revision()), revision);
    }
}

struct BareDisk {
    file: File,
    _scratch: Scratch,
}

impl BareDisk {
    fn new() -> Self {
        let scratch = Scratch::new("page");
        let path = scratch.write("page", PAGE);
        let file = File::options().write(true).open(path);
        Self {
            file: file.expect("our own file"),
            _scratch: scratch,
        }
    }

    fn write(&self) {
        self.file.write_all_at(&PAGE, 0).expect("our own file");
        self.file.sync_data().expect("our own file");
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
