//! How soon a gateway that does not vote serves again after a kill, from the view that it kept and
//! without any control node, and how much memory that takes: with a little policy, and with all
//! that a fleet may have.

use std::fs::metadata;
use std::time::{Duration, Instant};

use portcullis_tests::fleet::{GATEWAY, Guests};
use portcullis_tests::{EndpointText, Fleet, TenantText, wait};
use serde_json::json;

use crate::board::Board;
use crate::client::Caller;
use crate::enforced::{caller, milliseconds};
use crate::machine::resident_kib;
use crate::report::Table;
use crate::sample::quantile;
use crate::stage::{DATABASE, PASSWORD, USER};

/// Tenants beside the one whose client comes in, each with as many entries as one may have.
const TENANTS: usize = 100;
/// Their entries, but for the last one's: with acme's two the fleet has as many as it may.
const ENTRIES: usize = 10_000;
/// Acme's.
const RESERVED: usize = 2;
/// Entries of the small policy, acme's with them.
const FEW: usize = 10;
/// Tenants applied at once.
const AT_ONCE: usize = 10;
/// Between two attempts of a client.
const AGAIN: Duration = Duration::from_millis(2);
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(120);
/// A file that has not been written for so long is whole.
const STILL: Duration = Duration::from_secs(3);

/// Measures.
pub(crate) fn measure(restarts: usize, board: &mut Board) -> Table {
    let mut fleet = Fleet::of(1);
    let gateway = fleet.unmade("edge", GATEWAY);
    fleet.join(gateway, "gateway");
    fleet.nodes[gateway].start();
    apply(&fleet, gateway, &[fleet.policy(Guests::Welcome)]);
    apply(&fleet, gateway, &[tenant(&fleet, 0, FEW - RESERVED)]);
    let little = Restarts::measure(&mut fleet, gateway, restarts);
    fleet.nodes[0].start();
    let all: Vec<TenantText> = (0..TENANTS)
        .map(|number| {
            let reserved = if number + 1 == TENANTS { RESERVED } else { 0 };
            tenant(&fleet, number, ENTRIES - reserved)
        })
        .collect();
    for some in all.chunks(AT_ONCE) {
        apply(&fleet, gateway, some);
    }
    let much = Restarts::measure(&mut fleet, gateway, restarts);
    let mut table = Table::new(
        "restart: a gateway-only node, killed, with no control node; to the first connection served",
        &[
            "entries",
            "restarts",
            "p50 ms",
            "most ms",
            "MiB resident",
            "MB kept on disk",
        ],
    );
    let mut told = |entries: usize, restarts: Restarts| {
        let Restarts {
            mut took,
            mut mib,
            kept,
        } = restarts;
        let count = took.len();
        let (p50, most) = (quantile(&mut took, 0.5), quantile(&mut took, 1.0));
        let mib = quantile(&mut mib, 0.5);
        table.row(
            vec![
                entries.to_string(),
                count.to_string(),
                format!("{p50:.0}"),
                format!("{most:.0}"),
                format!("{mib:.1}"),
                format!("{kept:.1}"),
            ],
            json!({ "entries": entries, "p50": p50, "most": most, "MiB": mib, "MB kept": kept }),
        );
        (p50, mib)
    };
    let little = told(FEW, little);
    let entries = TENANTS * ENTRIES;
    let much = told(entries, much);
    board.line(format!(
        "a restart of a gateway-only node after kill -9, every control node gone, to its first connection served: {:.0} ms and {:.0} MiB resident with {entries} entries of policy on its disk, {:.0} ms and {:.0} MiB with {FEW}",
        much.0, much.1, little.0, little.1
    ));
    table
}

/// Applies and waits until the gateway has it in force.
fn apply(fleet: &Fleet, gateway: usize, tenants: &[TenantText]) {
    let reply = fleet.nodes[0].apply(tenants).ok();
    let revision = reply["revision"].as_u64().expect("a number");
    let _ = wait::wait_for("the gateway is told", LIMIT, || {
        fleet.nodes[gateway].revision() >= revision
    });
}

/// A tenant of this number with so many entries.
fn tenant(fleet: &Fleet, number: usize, entries: usize) -> TenantText {
    let name = format!("t{number}-orders.db.test");
    let endpoint = (0..entries).fold(EndpointText::new("orders", &name), |endpoint, entry| {
        let [_, first, second, third] = u32::try_from(entry).expect("few").to_be_bytes();
        endpoint.allow(&format!("{}.{second}.{third}.0/24", 10 + first), "public")
    });
    TenantText::new(&format!("tenant-{number}"))
        .cluster("orders", &fleet.postgres)
        .endpoint(endpoint)
}

struct Restarts {
    took: Vec<f64>,
    mib: Vec<f64>,
    /// Megabytes of the kept view.
    kept: f64,
}

impl Restarts {
    /// Ends with the control node gone and the gateway running.
    fn measure(fleet: &mut Fleet, gateway: usize, count: usize) -> Self {
        let file = fleet.nodes[gateway].data().join("fleet/view.kept");
        let _ = wait::wait_for("the view is kept", LIMIT, || {
            let told = metadata(&file).expect("it is kept");
            let written = told.modified().expect("a time").elapsed();
            written.is_ok_and(|since| since >= STILL)
        });
        let kept = metadata(&file).expect("it is kept").len() as f64 / 1e6;
        fleet.nodes[0].kill();
        let caller = caller(fleet, gateway);
        let (mut took, mut mib) = (Vec::new(), Vec::new());
        for _ in 0..count {
            fleet.nodes[gateway].kill();
            let began = Instant::now();
            let served = std::thread::scope(|scope| {
                let client = scope.spawn(|| served(&caller));
                fleet.nodes[gateway].start();
                client.join().expect("it is served")
            });
            took.push(milliseconds(served.duration_since(began)));
            mib.push(resident_kib(fleet.nodes[gateway].pid()) / 1024.0);
        }
        Self { took, mib, kept }
    }
}

/// When a client was let in and answered, who tries again and again.
fn served(caller: &Caller) -> Instant {
    let until = Instant::now() + LIMIT;
    loop {
        let came = caller.sign_in(USER, PASSWORD, DATABASE);
        match came.and_then(|mut client| client.query("select 1")) {
            Ok(_) => return Instant::now(),
            Err(problem) if Instant::now() >= until => panic!("nobody is served: {problem}"),
            Err(_) => std::thread::sleep(AGAIN),
        }
    }
}
