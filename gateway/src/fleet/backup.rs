//! `portcullis restore`: a new fleet that begins with what an old one had.
//!
//! Tenants, operators and guard rails are taken over; nodes, tokens and everything that was under
//! way are not: the fleet is another one, with an authority of its own. Every step may be repeated.

use std::path::Path;

use portcullis_consensus::{Logs, MAX_BACKUP, begin_alone, from_backup};
use portcullis_policy::{GuardRails, NodeId, Revision, Snapshot, State};

use super::found::{Founded, found};
use super::home::{Home, Membership, Piece};
use crate::config::node::NodeConfig;

/// Founds a fleet on the node that `config` describes, which is not running and has no state, with
/// what is in this back-up.
///
/// # Errors
/// In words; the same call goes on where this one stopped.
pub async fn restore(
    config: &NodeConfig,
    recovery: &Path,
    file: &Path,
) -> Result<(Founded, Membership), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let home = Home::of(&config.data);
    let bytes = read(file).map_err(|error| format!("the back-up {}: {error}", file.display()))?;
    let kept =
        from_backup(&bytes).map_err(|error| format!("the back-up {}: {error}", file.display()))?;
    let digest = hex(kept.root().as_bytes());
    let begun = home
        .find(Piece::Restoring)
        .map_err(|error| told(&error))?
        .map(|text| text.trim().to_owned());
    let founded = home.membership().map_err(|error| told(&error))?;
    if let Some(founded) = founded {
        home.remove(Piece::Restoring)
            .map_err(|error| told(&error))?;
        return match begun {
            // Cut off between the last two steps.
            Some(begun) if begun == digest => Ok((Founded::Now, founded)),
            Some(_) | None => Ok((Founded::Before, founded)),
        };
    }
    let path = config.data.join("state.redb");
    if path.exists() && begun.as_deref() != Some(digest.as_str()) {
        return Err(format!(
            "{} holds a state: a back-up is restored into an empty data directory",
            path.display()
        ));
    }
    let guard_rails = kept.guard_rails().unwrap_or(GuardRails::NONE);
    let state = beginning(kept).map_err(|error| told(&error))?;
    home.write(Piece::Restoring, &digest)
        .map_err(|error| told(&error))?;
    let data = config.data.clone();
    tokio::task::spawn_blocking(move || {
        begin_alone(&data, NodeId::FIRST, &state, &Logs::default())
    })
    .await
    .map_err(|error| told(&error))?
    .map_err(|error| told(&error))?;
    let founded = found(config, recovery, guard_rails).await?;
    home.remove(Piece::Restoring)
        .map_err(|error| told(&error))?;
    Ok(founded)
}

/// With what the new fleet begins. Its revision is above the back-up's, so that nobody takes it
/// for what was there before.
fn beginning(kept: State) -> Result<State, portcullis_policy::Rejection> {
    let Snapshot {
        revision,
        tenants,
        at,
        policy,
        operators,
        fleet: _,
        ids: _,
        invitations: _,
        requests: _,
        staged: _,
        pending: _,
        guard_rails: _,
        recovery: _,
        successions: _,
        // The new fleet has another authority: nobody's certificate is good there.
        operator_keys: _,
        authorities: _,
        confirmed: _,
        keeping,
        // The new fleet has other nodes, and other logs.
        recorded: _,
    } = kept.snapshot();
    State::restore(Snapshot {
        revision: Revision::new(revision.get().saturating_add(1)),
        tenants,
        at,
        policy,
        operators,
        keeping,
        ..State::default().snapshot()
    })
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let most = u64::try_from(MAX_BACKUP).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    std::fs::File::open(file)?
        .take(most)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy::{Command, Proposal, Tenant, Timestamp};

    #[test]
    fn a_restored_state_has_the_tenants_and_no_fleet_and_is_later() {
        let mut kept = State::default();
        let command = Command::Apply {
            base: None,
            expected: std::collections::BTreeMap::new(),
            put: vec![Tenant::new("acme".parse().unwrap())],
            remove: vec![],
        };
        kept.apply(&Proposal::local("test", Timestamp::from_millis(5), command))
            .unwrap();
        let operator = Command::PutOperator {
            operator: "ann".parse().unwrap(),
            roles: vec![portcullis_policy::Role::FleetOperator],
        };
        drop(kept.apply(&Proposal::local(
            "test",
            Timestamp::from_millis(6),
            operator,
        )));
        let before = kept.clone();
        let state = beginning(kept).unwrap();
        assert!(state.revision() > before.revision());
        assert!(state.fleet().is_none());
        assert_eq!(state.view().tenants().count(), 1);
        assert_eq!(state.operators().count(), before.operators().count());
    }
}
