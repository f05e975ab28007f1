//! `portcullis dev`: a node, or a fleet of them, and a throw-away PostgreSQL on loopback, and nothing left of them.
//!
//! Everything lies in one private directory and runs as a child of this process, on a leash
//! (`children`): a pipe that only this process holds. Ending in order and being killed are the
//! same to a child, its pipe closes. The janitor removes the directory when the last has ended.
//!
//! Deliberately absent: any configuration. This is for looking at Portcullis and for trying a
//! policy, not for customers' traffic.

mod children;
mod fleet;
mod home;
mod identities;
mod installation;
mod janitor;
mod node;
mod postgres;
mod psql;
mod report;
mod tenants;

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::fleet::Fleet;
use self::home::Home;
use self::installation::Installation;
use self::janitor::{Janitor, Leftovers};
use super::args::DevArgs;
use super::exit::Exit;
use super::output::{complain, counted, say};

/// Starts everything, says how to use it, and ends it again on SIGINT, SIGTERM or SIGHUP.
#[must_use]
pub fn run(args: DevArgs) -> ExitCode {
    // One thread: there is nothing here but waiting.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(dev(&args)),
        Err(error) => Err(format!("could not start: {error}")),
    };
    match outcome {
        Ok(()) => Exit::Done.into(),
        Err(problem) => {
            complain(&format!("error: {problem}"));
            Exit::Error.into()
        }
    }
}

async fn dev(args: &DevArgs) -> Result<(), String> {
    let mut told = Told::listen()?;
    let installation = Installation::find()?;
    let home = Home::create(installation.account, args.nodes.into())?;
    let janitor = match Janitor::start(&home.directory, keeping(args)) {
        Ok(janitor) => janitor,
        Err(problem) => {
            home.remove();
            return Err(problem);
        }
    };
    if !args.json {
        let directory = home.directory.display();
        say(&format!(
            "Starting PostgreSQL {} and {} in {directory} …",
            installation.version,
            counted(args.nodes.into(), "node")
        ));
    }
    let outcome = live(args, &home, &installation, &janitor, &mut told).await;
    let tidied = janitor.finish().await;
    if args.keep {
        complain(&format!("kept: {}", home.directory.display()));
    }
    outcome.and(tidied)
}

/// From the first child to the last one's end, whoever wanted it.
async fn live(
    args: &DevArgs,
    home: &Home,
    installation: &Installation,
    janitor: &Janitor,
    told: &mut Told,
) -> Result<(), String> {
    // Told to stop meanwhile: what has been started so far is dropped, and so let off its leash.
    let mut fleet = tokio::select! {
        fleet = Fleet::start(home, installation, janitor) => fleet?,
        () = told.stopped() => return Ok(()),
    };
    let report = fleet.report(home, installation);
    say(&if args.json {
        report.json()?
    } else {
        report.page()
    });
    let outcome = tokio::select! {
        problem = fleet.ended(home) => Err(problem),
        () = told.stopped() => Ok(()),
    };
    fleet.stop().await;
    outcome
}

fn keeping(args: &DevArgs) -> Leftovers {
    if args.keep {
        Leftovers::Keep
    } else {
        Leftovers::Remove
    }
}

/// The signals that end this command in order.
struct Told {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Told {
    fn listen() -> Result<Self, String> {
        let listen =
            |kind| signal(kind).map_err(|error| format!("signals cannot be listened for: {error}"));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn stopped(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
