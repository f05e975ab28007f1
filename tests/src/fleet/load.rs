//! Customers who go on whatever befalls the fleet: on each node one who asks its database again
//! and again over one connection, and one who comes anew for every question.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Fleet;
use crate::client::Binding;
use crate::{Dial, RawClient};

/// Clients at work. Dropping it sends them home.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// One client's bad luck.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The index of the node.
    pub node: usize,
    /// When.
    pub at: Instant,
    /// What happened.
    pub what: String,
}

#[derive(Debug, Default)]
struct Shared {
    home: AtomicBool,
    queries: AtomicU64,
    connections: AtomicU64,
    failures: Mutex<Vec<Failure>>,
    /// The longest that a query took, in microseconds.
    slowest: AtomicU64,
}

/// Between two questions of one client.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two connections.
const BETWEEN: Duration = Duration::from_millis(150);

impl Load {
    /// Clients through these nodes. All are at work when it returns.
    ///
    /// # Panics
    /// When one is not let in.
    #[must_use]
    pub fn through(fleet: &Fleet, nodes: &[usize]) -> Self {
        let shared = Arc::<Shared>::default();
        let mut workers = Vec::new();
        for node in nodes {
            let dial = fleet.dial(*node, fleet.resident());
            let first = come(&dial).unwrap_or_else(|told| panic!("node {node}: {told}"));
            for kind in [Some(first), None] {
                let (dial, shared, node) = (dial.clone(), Arc::clone(&shared), *node);
                workers.push(std::thread::spawn(move || match kind {
                    Some(first) => stay(&dial, first, node, &shared),
                    None => come_and_go(&dial, node, &shared),
                }));
            }
        }
        Self { shared, workers }
    }

    /// What went wrong so far.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        self.shared.failures.lock().expect("no panics").clone()
    }

    /// What went wrong so far through these nodes.
    #[must_use]
    pub fn failures_at(&self, nodes: &[usize]) -> Vec<Failure> {
        let mut failures = self.failures();
        failures.retain(|failure| nodes.contains(&failure.node));
        failures
    }

    /// Questions that were answered, and connections that were made for one each.
    #[must_use]
    pub fn served(&self) -> (u64, u64) {
        (
            self.shared.queries.load(Ordering::SeqCst),
            self.shared.connections.load(Ordering::SeqCst),
        )
    }

    /// The longest that a question took.
    #[must_use]
    pub fn slowest(&self) -> Duration {
        Duration::from_micros(self.shared.slowest.load(Ordering::SeqCst))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.home.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

fn stay(dial: &Dial, first: RawClient, node: usize, shared: &Shared) {
    let mut client = Some(first);
    while !shared.home.load(Ordering::SeqCst) {
        let asked = match client.take() {
            Some(mut client) => ask(&mut client, shared).map(|()| client),
            None => come(dial),
        };
        match asked {
            Ok(still) => client = Some(still),
            Err(what) => shared.fail(node, what),
        }
        std::thread::sleep(PAUSE);
    }
}

fn come_and_go(dial: &Dial, node: usize, shared: &Shared) {
    while !shared.home.load(Ordering::SeqCst) {
        match come(dial).and_then(|mut client| ask(&mut client, shared)) {
            Ok(()) => {
                shared.connections.fetch_add(1, Ordering::SeqCst);
            }
            Err(what) => shared.fail(node, what),
        }
        std::thread::sleep(BETWEEN);
    }
}

fn come(dial: &Dial) -> Result<RawClient, String> {
    let wanted = [("user", "app"), ("database", "postgres")];
    let mut client = dial.start(&wanted).map_err(|error| error.to_string())?;
    client
        .authenticate("app", "secret", Binding::None)
        .map_err(|ending| format!("{ending:?}"))?;
    Ok(client)
}

fn ask(client: &mut RawClient, shared: &Shared) -> Result<(), String> {
    let began = Instant::now();
    let rows = client
        .query("select 1")
        .map_err(|ending| format!("{ending:?}"))?;
    if rows != [[Some("1".to_owned())]] {
        return Err(format!("answered {rows:?}"));
    }
    let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    shared.slowest.fetch_max(took, Ordering::SeqCst);
    shared.queries.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

impl Shared {
    fn fail(&self, node: usize, what: String) {
        let failure = Failure {
            node,
            at: Instant::now(),
            what,
        };
        self.failures.lock().expect("no panics").push(failure);
    }
}
