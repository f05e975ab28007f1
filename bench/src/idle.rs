//! What a connection that has nothing to say takes up in the process in between.
//!
//! Measured fresh, and after a large answer has passed through each: what grew then should be gone.

use std::time::Duration;

use portcullis_tests::client::RawClient;
use serde_json::json;

use crate::machine::{load, resident_kib};
use crate::report::Table;
use crate::stage::{DATABASE, PASSWORD, Stage, USER, Way};

/// Connections opened before anything is counted: what is made once is made then.
const WARM_UP: usize = 20;
/// Bytes of the large answer.
const LARGE: usize = 1_000_000;
/// For what happens after the last byte.
const SETTLE: Duration = Duration::from_millis(500);

/// Measures.
pub(crate) fn measure(stage: &mut Stage, connections: usize) -> Table {
    let mut table = Table::new(
        "idle connections: resident memory of the process in between, TLS on both sides",
        &["way", "KiB each, fresh", "after a large answer"],
    );
    for (way, word) in [(Way::Gateway, "gateway"), (Way::Floor, "floor")] {
        stage.refresh(way);
        let loaded = load();
        let pid = stage.pid(way);
        let mut warm_up = open(stage, way, WARM_UP);
        burst(&mut warm_up);
        let before = settled_kib(pid);
        let mut clients = open(stage, way, connections);
        let fresh = (settled_kib(pid) - before) / connections as f64;
        burst(&mut clients);
        let after = (settled_kib(pid) - before) / connections as f64;
        table.row(
            vec![
                word.to_owned(),
                format!("{fresh:.1}"),
                format!("{after:.1}"),
            ],
            json!({
                "way": word,
                "connections": connections,
                "KiB each, fresh": fresh,
                "KiB each, after a large answer": after,
                "KiB without them": before,
                "load before": loaded,
            }),
        );
        drop((warm_up, clients));
    }
    table.note(format!(
        "{connections} connections; a large answer is {LARGE} bytes"
    ));
    table
}

fn open(stage: &Stage, way: Way, count: usize) -> Vec<RawClient> {
    let dial = stage.dial(way);
    (0..count)
        .map(|_| dial.sign_in(USER, PASSWORD, DATABASE))
        .collect()
}

fn burst(clients: &mut [RawClient]) {
    for client in clients {
        let rows = client.query(&format!("select repeat('x', {LARGE})"));
        assert_eq!(rows.expect("an answer").len(), 1);
    }
}

fn settled_kib(pid: u32) -> f64 {
    std::thread::sleep(SETTLE);
    resident_kib(pid)
}
