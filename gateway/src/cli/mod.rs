//! The command line: the composition root.
//!
//! `args` is what can be typed, `exit` what a command can end with. Commands that ask a node go
//! through its admin socket and know nothing that the API does not tell; `serve` and `dev` build
//! the rooms and put them together.
//!
//! Deliberately absent: any decision, and any configuration by environment but the variable that
//! names the socket, and what `dev` needs to find PostgreSQL and a place for its files.

pub mod args;
mod ask;
mod audit;
pub mod audit_args;
pub mod certs;
pub mod dev;
mod dialer;
pub mod exit;
mod fleet;
pub mod fleet_args;
pub mod keeping_args;
mod logging;
mod operator;
pub mod operator_args;
pub mod output;
pub mod paths;
mod policy;
mod questions;
mod revoke;
pub mod revoke_args;
pub mod search_args;
mod selftest;
pub mod serve;
mod text;
pub mod vault;
mod witness;

use std::future::Future;
use std::process::ExitCode;

use args::{Cli, ClusterCommand, Command, PolicyCommand};
use audit_args::AuditCommand;
use certs::CertsCommand;
use exit::Exit;
use fleet_args::FleetCommand;
use operator_args::{GuardRailsCommand, OperatorCommand};
use selftest::args::SelftestCommand;
use vault::VaultCommand;

use crate::runtime::secrecy;

/// Does what was typed.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    // Every one of them, so that none can be forgotten that draws a key, reads one or is given a secret.
    if let Err(problem) = secrecy::keep_memory_off_disk() {
        output::complain(&format!("warning: {problem}"));
    }
    match cli.command {
        Command::Serve(args) => serve::run(&args.config),
        Command::Dev(args) => dev::run(args),
        Command::Dialer(args) => dialer::run(args),
        Command::Plan(args) => client(policy::plan(args)),
        Command::Apply(args) => client(policy::apply(args)),
        Command::Explain(args) => client(questions::explain(args)),
        Command::Reach(args) => client(questions::reach(args)),
        Command::Why(args) => client(questions::why(args)),
        Command::Revoke(args) => client(revoke::revoke(args)),
        Command::Revocations(args) => client(revoke::revocations(args)),
        Command::Connections(args) => client(questions::connections(args)),
        Command::Cluster(ClusterCommand::Check(args)) => client(questions::cluster_check(args)),
        Command::Status(args) => client(questions::status(args)),
        Command::Limits(args) => client(questions::limits(args)),
        Command::Policy(PolicyCommand::Check(args)) => policy::check(&args).into(),
        Command::Policy(PolicyCommand::Show(args)) => client(policy::show(args)),
        Command::Policy(PolicyCommand::Put(args)) => client(policy::put(args)),
        Command::Operator(OperatorCommand::Add(args)) => client(operator::add(args)),
        Command::Operator(OperatorCommand::List(args)) => client(operator::list(args)),
        Command::Operator(OperatorCommand::Remove(args)) => client(operator::remove(args)),
        Command::Pending(args) => client(operator::pending(args)),
        Command::Approve(args) => client(operator::approve(args)),
        Command::Reject(args) => client(operator::reject(args)),
        Command::GuardRails(GuardRailsCommand::Show(args)) => client(operator::show_rails(args)),
        Command::GuardRails(GuardRailsCommand::Set(args)) => client(operator::set_rails(args)),
        Command::Init(args) => client(fleet::init(args)),
        Command::Join(args) => client(fleet::join(args)),
        Command::Backup(args) => client(fleet::backup(args)),
        Command::Restore(args) => client(fleet::restore(args)),
        Command::Recover(args) => client(fleet::recover(args)),
        Command::Fleet(FleetCommand::Status(args)) => client(fleet::status(args)),
        Command::Fleet(FleetCommand::Invite(args)) => client(fleet::invite(args)),
        Command::Fleet(FleetCommand::Remove(args)) => client(fleet::remove(args)),
        Command::Fleet(FleetCommand::StepDown(args)) => client(fleet::step_down(args)),
        Command::Audit(AuditCommand::Verify(args)) => client(audit::verify(args)),
        Command::Audit(AuditCommand::Prove(args)) => client(audit::prove(args)),
        Command::Audit(AuditCommand::Check(args)) => client(audit::check(args)),
        Command::Audit(AuditCommand::Reach(args)) => client(audit::reach(args)),
        Command::Audit(AuditCommand::Export(args)) => client(audit::export(args)),
        Command::Audit(AuditCommand::Fetch(args)) => client(audit::fetch(args)),
        Command::Audit(AuditCommand::Search(args)) => client(audit::search(*args)),
        Command::Audit(AuditCommand::Open(args)) => client(audit::open(args)),
        Command::Audit(AuditCommand::Keep(args)) => client(audit::keep(args)),
        Command::Audit(AuditCommand::Hold(args)) => client(audit::hold(args)),
        Command::Audit(AuditCommand::Release(args)) => client(audit::release(args)),
        Command::Audit(AuditCommand::Trust(args)) => client(audit::trust(args)),
        Command::Audit(AuditCommand::Witness(args)) => client(witness::witness(args)),
        Command::Certs(CertsCommand::List(args)) => client(certs::list(args)),
        Command::Certs(CertsCommand::Rotate(args)) => client(certs::rotate(args)),
        Command::Vault(VaultCommand::Check(args)) => vault::check(&args).into(),
        Command::Vault(VaultCommand::Reseal(args)) => vault::reseal(&args).into(),
        Command::Selftest(SelftestCommand::Attack(args)) => client(selftest::attack(args)),
    }
}

/// Runs a command that only asks a node: one thread is plenty.
fn client(command: impl Future<Output = Exit>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(command).into(),
        Err(error) => {
            output::complain(&format!("error: could not start: {error}"));
            Exit::Error.into()
        }
    }
}
