//! `portcullis recover`: one control node goes on alone after a majority was lost for good.
//!
//! It takes what this node holds, begins a new epoch with this node as the only voter, and signs
//! that with the recovery key. Whoever lives in the old epoch is refused from then on, also a
//! majority that comes back. The state is replaced in one step; a run that was cut off is finished
//! by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::path::Path;

use portcullis_certs::fleet::RecoveryKey;
use portcullis_consensus::view::{Recovery, Signature, Voters, encode};
use portcullis_consensus::{begin_alone, salvage};
use portcullis_policy::{Command, NodeName, Proposal, Rejection};
use zeroize::Zeroizing;

use super::epochs::heard_of;
use super::home::{Home, Membership, Seed};
use super::keeping::Keeping;
use super::opened::salt;
use crate::config::node::NodeConfig;
use crate::runtime::clock;

/// What `recover` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// This node goes on alone; these control nodes are no longer of the fleet.
    Now(Vec<NodeName>),
    /// It votes alone already: there is no quorum to be lost.
    Before,
}

/// Lets the node that `config` describes, which is not running, go on without the others.
///
/// # Errors
/// In words; the same call goes on where this one stopped.
pub async fn recover(
    config: &NodeConfig,
    recovery: &Path,
) -> Result<(Recovered, Membership), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let home = Home::of(&config.data);
    let membership = home
        .membership()
        .map_err(|error| told(&error))?
        .ok_or("this node is of no fleet: there is nothing to recover")?;
    let key = recovery_key(recovery)?;
    let (data, me) = (config.data.clone(), membership.node);
    let mut salvaged = tokio::task::spawn_blocking(move || salvage(&data, me))
        .await
        .map_err(|error| told(&error))?
        .map_err(|error| told(&error))?;
    let fleet = salvaged
        .state()
        .fleet()
        .ok_or("this node was never given the fleet's state: recover another one")?
        .clone();
    let own = fleet
        .nodes
        .get(&me)
        .ok_or("this node is no longer of the fleet: recover another one")?;
    let view_key = own
        .view_key
        .ok_or("this node does not vote: recover a control node")?;
    if key.public() != fleet.recovery_key {
        return Err(format!(
            "{} is not the recovery key of fleet {}; nothing was changed",
            recovery.display(),
            fleet.id
        ));
    }
    let seeds = vec![Seed {
        node: me,
        key: own.key,
        view_key: own.view_key,
        address: own.address.clone(),
    }];
    if salvaged.voters == BTreeSet::from([me]) {
        // A run that was cut off before its last step comes by here.
        let membership = settle(&home, membership, fleet.epoch, seeds)?;
        return Ok((Recovered::Before, membership));
    }
    // Where another node was recovered before: beyond that one's.
    let heard = heard_of(&home, fleet.id, &fleet.recovery_key)?;
    let newest = heard.map_or(fleet.epoch, |heard| heard.epoch.max(fleet.epoch));
    let epoch = newest.saturating_add(1);
    let voters = Voters(BTreeMap::from([(me, view_key)]));
    let signature = key.sign(&Recovery::message(fleet.id, epoch, &voters));
    let statement = Recovery {
        fleet: fleet.id,
        epoch,
        voters,
        signature: Signature::new(signature),
    };
    let command = Command::Recover {
        epoch,
        survivor: me,
        statement: encode(&statement).map_err(|error| told(&error))?,
    };
    salvaged
        .apply(
            &Proposal::local("recover", clock::now(), command),
            Some(&salt()),
        )
        .map_err(|rejection: Rejection| told(&rejection))?;
    let lost = fleet.control().filter(|node| node.id != me);
    let lost = lost.map(|node| node.name.clone()).collect();
    // Before the entries go from which these could be had again.
    let (begun, leaves) = (take(&mut salvaged.begun), take(&mut salvaged.leaves));
    Keeping::salvage(&config.data, begun, leaves).await?;
    let data = config.data.clone();
    tokio::task::spawn_blocking(move || begin_alone(&data, me, salvaged.state(), salvaged.logs()))
        .await
        .map_err(|error| told(&error))?
        .map_err(|error| told(&error))?;
    let membership = settle(&home, membership, epoch, seeds)?;
    Ok((Recovered::Now(lost), membership))
}

fn settle(
    home: &Home,
    before: Membership,
    epoch: u64,
    seeds: Vec<Seed>,
) -> Result<Membership, String> {
    if before.epoch >= epoch {
        return Ok(before);
    }
    let membership = Membership {
        epoch,
        seeds,
        ..before
    };
    home.write_membership(&membership)
        .map_err(|error| error.to_string())?;
    Ok(membership)
}

fn recovery_key(path: &Path) -> Result<RecoveryKey, String> {
    let told =
        |error: &dyn std::fmt::Display| format!("the recovery key {}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| told(&error))?;
    RecoveryKey::from_pem(&Zeroizing::new(text)).map_err(|error| told(&error))
}
