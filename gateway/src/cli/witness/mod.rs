//! `audit witness`: a server that cosigns checkpoints, and so catches a log that is rolled back or shows two histories.

mod pace;
mod service;

use std::sync::Arc;

use portcullis_audit::tlog::{KeyKind, NoteKey, Witness};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::service::Door;
use super::audit::{apart, failed, trusted};
use super::audit_args::WitnessArgs;
use super::exit::Exit;
use super::logging::log_as_json;
use super::output::say;
use crate::http::server::{bind_tcp, serve_tcp};
use crate::ledger::witness::{Home, Opened};
use crate::runtime::random;

/// Serves until it is stopped, or can keep nothing any more.
pub(super) async fn witness(args: WitnessArgs) -> Exit {
    log_as_json();
    match serve(args).await {
        Ok(exit) => exit,
        Err(problem) => failed(&problem),
    }
}

async fn serve(args: WitnessArgs) -> Result<Exit, String> {
    let trust = trusted(&args.trust)?;
    let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let [Ok(mut terminate), Ok(mut interrupt)] = signals else {
        return Err("no handler for signals".to_owned());
    };
    let opened = apart(move || Home::open(&args.state, &args.key, random::bytes())).await?;
    let Opened {
        home,
        key,
        remembered,
    } = opened.map_err(|error| error.to_string())?;
    let name = NoteKey::new(&args.name, KeyKind::Cosigner, key.public())
        .map_err(|error| format!("--name {}: {error}", args.name))?;
    let listener = bind_tcp(args.listen).await;
    let listener = listener.map_err(|error| format!("{}: {error}", args.listen))?;
    // For the trust policy of whoever relies on this witness.
    say(&format!("witness {} {name}", args.name));
    tracing::info!(listen = %args.listen, key = %name, logs = remembered.len(), "the witness is ready");
    let (stop, broken) = (CancellationToken::new(), CancellationToken::new());
    let witness = Witness::new(trust, remembered);
    let door = Arc::new(Door::new(witness, home, name, key, broken.clone()));
    let served = tokio::spawn(serve_tcp(listener, door, stop.clone()));
    let exit = tokio::select! {
        _ = terminate.recv() => Exit::Done,
        _ = interrupt.recv() => Exit::Done,
        () = broken.cancelled() => Exit::Error,
    };
    stop.cancel();
    // It ends by itself, in a bounded time.
    drop(served.await);
    Ok(exit)
}
