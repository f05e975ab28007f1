//! `portcullis selftest attack`: attacks a running gateway from outside, as a stranger would, and
//! reports which of the attacks were not refused as they must be.
//!
//! Safe to run against a gateway in service: nothing here has a credential, names a user that
//! exists, or takes more than a handful of connections. What it leaves behind are audit events.
//!
//! Deliberately absent: the product's own codecs (a mistake in them must not judge itself), and a
//! TLS that does not verify: whoever attacks with TLS says by `--ca` whom it expects.

pub(super) mod args;
mod attack;
mod attacker;
mod before_tls;
mod hello;
mod inside_tls;
mod judge;
mod report;

use std::sync::Arc;

use tokio::net::lookup_host;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::args::{AttackArgs, Target};
use self::attack::{Attack, Outcome};
use self::attacker::{Attacker, Tls};
use super::exit::Exit;
use super::output::complain;
use crate::http::SYSTEM_AUTHORITIES;

/// Attacks that run at once: far fewer connections than a gateway allows one source.
const AT_ONCE: usize = 8;

/// Runs the attacks and prints what came of them.
pub(super) async fn attack(args: AttackArgs) -> Exit {
    let attacks = match chosen(&args) {
        Ok(attacks) => attacks,
        Err(unknown) => {
            complain(&format!(
                "error: no attack is called {unknown}; `portcullis selftest attack --list` names them"
            ));
            return Exit::Usage;
        }
    };
    if args.list {
        report::list(&attacks, args.json);
        return Exit::Done;
    }
    let Some(against) = &args.against else {
        complain("error: whom to attack is missing: --against HOST:PORT");
        return Exit::Usage;
    };
    let attacker = match prepare(against, &args).await {
        Ok(attacker) => Arc::new(attacker),
        Err(why) => {
            complain(&format!("error: {why}"));
            return Exit::Error;
        }
    };
    let outcomes = run(&attacker, attacks).await;
    report::print(against, &outcomes, args.json);
    match outcomes.iter().any(|outcome| outcome.verdict.is_failure()) {
        true => Exit::Refused,
        false => Exit::Done,
    }
}

/// All attacks, or those that `--only` names; the unknown name if one is.
fn chosen(args: &AttackArgs) -> Result<Vec<Attack>, String> {
    let mut all = before_tls::attacks();
    all.extend(inside_tls::attacks(&args.server_name));
    if let Some(unknown) = args
        .only
        .iter()
        .find(|name| all.iter().all(|attack| attack.name != name.as_str()))
    {
        return Err(unknown.clone());
    }
    if !args.only.is_empty() {
        all.retain(|attack| args.only.iter().any(|name| name == attack.name));
    }
    Ok(all)
}

/// Finds the gateway, and that something is there.
async fn prepare(against: &Target, args: &AttackArgs) -> Result<Attacker, String> {
    let address = lookup_host((against.host.as_str(), against.port))
        .await
        .map_err(|error| format!("{against} cannot be resolved: {error}"))?
        .next()
        .ok_or_else(|| format!("{against} has no address"))?;
    let file = match &args.ca {
        Some(file) => file.display().to_string(),
        None => SYSTEM_AUTHORITIES.to_owned(),
    };
    let tls = match tokio::fs::read_to_string(&file).await {
        Ok(authorities) => {
            let known = args.server_name.first().unwrap_or(&against.host);
            Tls::new(&authorities, known).map_err(|why| format!("{file}: {why}"))?
        }
        Err(error) if args.ca.is_none() => Err(format!(
            "{file}: {error}; name the gateway's authority by --ca"
        )),
        Err(error) => return Err(format!("{file}: {error}")),
    };
    let attacker = Attacker::new(address, tls);
    attacker
        .reach()
        .await
        .map_err(|error| format!("{against} cannot be reached: {error}"))?;
    Ok(attacker)
}

/// Runs them a few at a time; outcomes in the attacks' order.
async fn run(attacker: &Arc<Attacker>, attacks: Vec<Attack>) -> Vec<Outcome> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for (index, attack) in attacks.into_iter().enumerate() {
        let (attacker, places) = (Arc::clone(attacker), Arc::clone(&places));
        running.spawn(async move {
            // Never closed.
            let _place = places.acquire().await;
            (index, attacker.carry_out(attack).await)
        });
    }
    let mut outcomes = running.join_all().await;
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}
