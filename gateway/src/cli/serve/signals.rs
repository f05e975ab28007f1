//! What the operating system tells a node: read the policy again, drain, stop.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use crate::api;
use crate::config::node::NodeConfig;
use crate::runtime::clock::Duration;

/// How a node was told to stop.
pub(super) enum Ending {
    /// SIGTERM: let connections finish, within the limit.
    Drain,
    /// SIGINT: at once.
    Now,
    /// The node's state can no longer be kept: at once, as a failure. What the disk has of it is
    /// known only by reading it back.
    Failed(String),
}

/// Serves SIGHUP until SIGTERM or SIGINT says to stop. Without signal handlers there would be no
/// way to stop the node in order, so failing to install them stops it at once.
pub(super) async fn until_told(node: &Arc<api::Node>, config: &NodeConfig) -> Ending {
    let (Ok(mut hup), Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::hangup()),
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        error!("signal handlers could not be installed");
        return Ending::Now;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ending::Drain,
            _ = interrupt.recv() => return Ending::Now,
            // Where customers come in they are served as before, from what this node knows; it takes
            // part in nothing else, and says so.
            problem = node.fleet.failed(), if config.listeners.is_empty() => return Ending::Failed(problem),
            _ = hup.recv() => apply_again(node, config).await,
        }
    }
}

async fn apply_again(node: &Arc<api::Node>, config: &NodeConfig) {
    let Some(directory) = &config.policy else {
        return error!(
            "SIGHUP, but node.toml names no policy directory; use `portcullis apply DIR`"
        );
    };
    match api::policy::apply_directory(node, directory, "SIGHUP").await {
        Ok(reply) => {
            info!(receipt = %serde_json::to_string(&reply).unwrap_or_default(), "policy directory applied")
        }
        Err(refusal) => error!(
            refusal = refusal.for_the_log(),
            "the policy directory was refused; nothing was changed"
        ),
    }
}

/// Waits until no connection is live, at most `limit`; a second signal ends the wait.
pub(super) async fn drained(node: &api::Node, limit: Duration) -> bool {
    let impatient = async {
        let (Ok(mut terminate), Ok(mut interrupt)) = (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        ) else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let empty = async {
        while node.front.count() > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        () = empty => true,
        () = impatient => false,
        () = tokio::time::sleep(limit) => false,
    }
}

pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);
