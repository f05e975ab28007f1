//! `init`, `join`, `restore` and `recover`: they work on the files of a node that is not running.

use std::io::Read;
use std::path::Path;

use portcullis_certs::fleet::{JoinToken, MAX_JOIN_TOKEN_TEXT};
use portcullis_policy::{GuardRails, People};
use zeroize::Zeroizing;

use crate::cli::exit::Exit;
use crate::cli::fleet_args::{InitArgs, JoinArgs, RecoverArgs, RestoreArgs};
use crate::cli::output::{complain, printable, say};
use crate::config::node::NodeConfig;
use crate::fleet::found::{Founded, found};
use crate::fleet::recover::{self, Recovered};
use crate::fleet::{backup, joining};

/// Founds a fleet.
pub(in crate::cli) async fn init(args: InitArgs) -> Exit {
    let config = match read(&args.config) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let guard_rails = if args.two_people {
        TWO_PEOPLE
    } else {
        GuardRails::NONE
    };
    match found(&config, &args.recovery_key, guard_rails).await {
        Ok((Founded::Now, membership)) => {
            say(&format!(
                "fleet {} is founded; this is node {} ({})\nrecovery key: {} (move it off this machine: whoever has it can begin a new epoch)\nnext: portcullis serve --config {}",
                membership.fleet,
                membership.node,
                membership.name,
                args.recovery_key.display(),
                args.config.display()
            ));
            Exit::Done
        }
        Ok((Founded::Before, membership)) => {
            say(&format!(
                "nothing to do: this is node {} ({}) of fleet {}",
                membership.node, membership.name, membership.fleet
            ));
            Exit::Done
        }
        Err(problem) => failed(&problem),
    }
}

/// Whatever can need two people does.
const TWO_PEOPLE: GuardRails = GuardRails {
    anywhere: People::TwoPeople,
    operators: People::TwoPeople,
    guard_rails: People::TwoPeople,
};

/// Joins a fleet.
pub(in crate::cli) async fn join(args: JoinArgs) -> Exit {
    let config = match read(&args.config) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let token = match token(&args.token) {
        Ok(token) => token,
        Err(problem) => return failed(&problem),
    };
    match joining::join(&config, &token).await {
        Ok(membership) => {
            say(&format!(
                "this is node {} ({}) of fleet {}\nnext: portcullis serve --config {}",
                membership.node,
                membership.name,
                membership.fleet,
                args.config.display()
            ));
            Exit::Done
        }
        Err(problem) => failed(&problem),
    }
}

/// Founds a fleet that begins with a back-up.
pub(in crate::cli) async fn restore(args: RestoreArgs) -> Exit {
    let config = match read(&args.config) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    match backup::restore(&config, &args.recovery_key, &args.file).await {
        Ok((Founded::Now, membership)) => {
            say(&format!(
                "{} is restored: a new fleet {} begins on this node with its tenants, operators and guard rails\nrecovery key: {}\nnext: portcullis serve --config {}, then invite and join the other nodes anew",
                args.file.display(),
                membership.fleet,
                args.recovery_key.display(),
                args.config.display()
            ));
            Exit::Done
        }
        Ok((Founded::Before, membership)) => failed(&format!(
            "this is node {} ({}) of fleet {} already; nothing was changed",
            membership.node, membership.name, membership.fleet
        )),
        Err(problem) => failed(&problem),
    }
}

/// Goes on alone.
pub(in crate::cli) async fn recover(args: RecoverArgs) -> Exit {
    let config = match read(&args.config) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    match recover::recover(&config, &args.recovery_key).await {
        Ok((Recovered::Now(lost), membership)) => {
            let lost: Vec<String> = lost.iter().map(ToString::to_string).collect();
            say(&format!(
                "epoch {} of fleet {} begins with this node ({}) alone; no longer of the fleet: {}\nnext: portcullis serve --config {}, then invite and join new control nodes, each with an empty data directory",
                membership.epoch,
                membership.fleet,
                membership.name,
                lost.join(", "),
                args.config.display()
            ));
            Exit::Done
        }
        Ok((Recovered::Before, membership)) => {
            say(&format!(
                "nothing to do: this node ({}) votes alone, in epoch {} of fleet {}",
                membership.name, membership.epoch, membership.fleet
            ));
            Exit::Done
        }
        Err(problem) => failed(&problem),
    }
}

fn token(path: &Path) -> Result<JoinToken, String> {
    let most = u64::try_from(MAX_JOIN_TOKEN_TEXT).unwrap_or(u64::MAX);
    let mut text = Zeroizing::new(String::with_capacity(MAX_JOIN_TOKEN_TEXT));
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    read.map_err(|error| format!("the token in {}: {error}", path.display()))?;
    JoinToken::parse(&text).map_err(|error| format!("the token in {}: {error}", path.display()))
}

/// A node's configuration; what is wrong with it has been said.
pub(in crate::cli) fn read(path: &Path) -> Result<NodeConfig, Exit> {
    NodeConfig::read(path).map_err(|mistakes| {
        for mistake in mistakes {
            complain(&mistake.to_string());
        }
        Exit::Error
    })
}

/// Says why nothing came of it.
pub(in crate::cli) fn failed(problem: &str) -> Exit {
    complain(&printable(&format!("error: {problem}")));
    Exit::Error
}
