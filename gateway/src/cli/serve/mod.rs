//! `portcullis serve`: one node, put together and run until it is told to stop.
//!
//! Data threads carry customers' traffic, one single-threaded runtime each, with listening sockets
//! of their own (`SO_REUSEPORT`): a connection, its upstream and its timers stay on one core. The
//! control runtime does everything else: the admin API, policy, cancels, service connections.

mod build;
mod signals;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use portcullis_audit::{Event, kinds};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info};

use self::build::{Bound, Built};
use self::signals::Ending;
use super::exit::Exit;
use super::logging::log_as_json;
use super::output::complain;
use crate::api;
use crate::bots;
use crate::config::FileError;
use crate::config::node::NodeConfig;
use crate::proxy;
use crate::runtime::clock;
use crate::runtime::limits::{BACKENDS_GONE, DRAIN, EXPIRY_TICK, SHED_TICK, STOP};

/// Runs the node that the file at `path` describes, until SIGTERM (drain first) or SIGINT.
#[must_use]
pub fn run(path: &Path) -> ExitCode {
    log_as_json();
    let config = match NodeConfig::read(path) {
        Ok(config) => Arc::new(config),
        Err(mistakes) => return mistaken(&mistakes),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return broken(&format!("could not start a runtime: {error}")),
    };
    match runtime.block_on(node(config)) {
        Ok(()) => Exit::Done.into(),
        Err(why) => broken(&why),
    }
}

/// Threads of the control runtime. Two, so that one slow disk write does not hold up a cancel.
const CONTROL_THREADS: usize = 2;

async fn node(config: Arc<NodeConfig>) -> Result<(), String> {
    let Built {
        node,
        services,
        verifiers,
    } = build::build(&config).await?;
    if let Some(directory) = &config.policy {
        match api::policy::apply_directory(&node, directory, "start").await {
            Ok(_) => {}
            Err(refusal) => {
                error!(refusal = refusal.for_the_log(), directory = %directory.display(), "the policy directory was refused; the last good policy is in force")
            }
        }
    }
    let stop = CancellationToken::new();
    let bound = build::bind(&node, &config).await?;
    let admin = crate::http::bind_unix(&config.admin.socket)
        .map_err(|error| format!("admin socket {}: {error}", config.admin.socket.display()))?;
    let mut control = tokio::task::JoinSet::new();
    // The admin socket and the metrics outlive the drain: that is when an operator looks.
    let over = CancellationToken::new();
    control.spawn(api::serve(Arc::clone(&node), admin, over.clone()));
    if let Some((listener, handshake)) = build::api(&node).await? {
        let node = Arc::clone(&node);
        control.spawn(api::serve_tls(node, listener, handshake, over.clone()));
    }
    if let Some((listener, metrics)) = build::metrics(&config).await? {
        let (front, fleet) = (Arc::clone(&node.front), Arc::clone(&node.fleet));
        let serving = api::metrics::serve(front, fleet, listener, metrics, over.clone());
        control.spawn(serving);
    }
    build::ship(&node, &config, &mut control, &over);
    control.spawn(expiries(Arc::clone(&node.front), over.clone()));
    control.spawn(sheds(Arc::clone(&node.front), over.clone()));
    control.spawn(bots::certificates::keep(
        Arc::clone(&node.front),
        Arc::clone(&node.ledger),
        config.certificates.clone(),
        over.clone(),
    ));

    node.front
        .vigil()
        .keep()
        .map_err(|error| format!("could not start the heartbeat: {error}"))?;
    let workers = start_workers(&node, bound.workers, &stop)?;
    announce(&node, &bound.addresses);
    let mut removed = false;
    let ending = tokio::select! {
        ending = signals::until_told(&node, &config) => ending,
        () = node.fleet.until_removed() => {
            removed = true;
            Ending::Now
        }
    };

    node.front.drain();
    stop.cancel();
    if let Ending::Failed(problem) = &ending {
        error!(%problem, "the node's state cannot be kept: the process ends; free or replace the disk and start it again");
    }
    let drained = match &ending {
        Ending::Drain => {
            info!(limit = ?DRAIN, "draining: no new connections are let in");
            signals::drained(&node, DRAIN).await
        }
        Ending::Now | Ending::Failed(_) => false,
    };
    end(&node.front, workers).await;
    if timeout(BACKENDS_GONE, node.front.settled()).await.is_err() {
        error!("stopped before every cancelled backend was seen gone");
    }
    if removed {
        node.fleet.last_vote().await;
    }
    over.cancel();
    while control.join_next().await.is_some() {}
    node.front.tick();
    node.tasks.close();
    node.tasks.wait().await;
    node.fleet.close().await;
    services.close().await;
    verifiers.close().await;
    let ledger = Arc::clone(&node.ledger);
    ledger.record(
        Event::new(clock::now().as_millis(), kinds::NODE_STOPPED, ledger.node())
            .with("drained", drained),
    );
    drop(tokio::task::spawn_blocking(move || ledger.flush_and_close()).await);
    if removed {
        return Err("this node was removed from its fleet: its data works nowhere any more; `portcullis join` with an empty data directory makes it another".to_owned());
    }
    match ending {
        Ending::Failed(problem) => Err(format!("the node's state cannot be kept: {problem}")),
        Ending::Drain | Ending::Now => Ok(()),
    }
}

/// Ends what is live, again and again, until every worker has nothing left, or the limit has
/// passed: somebody may have been on the way in when the rest was ended.
async fn end(front: &proxy::Front, workers: Vec<std::thread::JoinHandle<()>>) {
    let since = clock::instant();
    while workers.iter().any(|worker| !worker.is_finished()) {
        front.end_all(since);
        if clock::instant().saturating_duration_since(since) >= STOP {
            error!("workers did not end in time; the process ends without them");
            return;
        }
        tokio::time::sleep(signals::LOOK_EVERY).await;
    }
}

/// One thread and one runtime per worker; each ends when its last connection has.
fn start_workers(
    node: &Arc<api::Node>,
    listeners: Vec<Vec<Bound>>,
    stop: &CancellationToken,
) -> Result<Vec<std::thread::JoinHandle<()>>, String> {
    let mut workers = Vec::new();
    for (index, bound) in listeners.into_iter().enumerate() {
        let front = Arc::clone(&node.front);
        let stop = stop.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("could not start worker {index}: {error}"))?;
        let worker = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || runtime.block_on(work(front, bound, stop)))
            .map_err(|error| format!("could not start worker {index}: {error}"))?;
        workers.push(worker);
    }
    Ok(workers)
}

async fn work(front: Arc<proxy::Front>, bound: Vec<Bound>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let accepting = TaskTracker::new();
    for Bound { door, listener } in bound {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                let serving = proxy::serve(
                    Arc::clone(&front),
                    door,
                    listener,
                    stop.clone(),
                    connections.clone(),
                );
                accepting.spawn(serving);
            }
            Err(error) => error!(%error, "a listener could not be registered with its worker"),
        }
    }
    stop.cancelled().await;
    accepting.close();
    accepting.wait().await;
    connections.close();
    connections.wait().await;
}

async fn expiries(front: Arc<proxy::Front>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EXPIRY_TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        front.expire();
    }
}

/// Writes down who was shed, each second; what is left is written when the node stops.
async fn sheds(front: Arc<proxy::Front>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SHED_TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        front.tick();
    }
}

fn announce(node: &api::Node, addresses: &[String]) {
    let revision = node.front.view().revision();
    info!(node = node.name, %revision, listeners = ?addresses, "ready");
    let mut event = Event::new(
        clock::now().as_millis(),
        kinds::NODE_STARTED,
        node.ledger.node(),
    )
    .with("version", env!("CARGO_PKG_VERSION"))
    .with("listeners", addresses.to_vec());
    event.revision = Some(revision.get());
    node.ledger.record(event);
}

fn mistaken(mistakes: &[FileError]) -> ExitCode {
    for mistake in mistakes {
        complain(&mistake.to_string());
    }
    Exit::Error.into()
}

fn broken(why: &str) -> ExitCode {
    complain(&format!("error: {why}"));
    Exit::Error.into()
}
