//! A node's state and identity, read before anything else of it is made.

use std::sync::Arc;

use portcullis_audit::personal::Salt;
use portcullis_consensus::{Consensus, Settings};
use portcullis_policy::View;

use super::aging::Aging;
use super::following::Following;
use super::forked;
use super::home::{Home, Membership};
use super::keeping::Keeping;
use super::peers::{self, Identity, Wire};
use super::source::{Source, at};
use super::staleness;
use crate::config::node::NodeConfig;
use crate::runtime::clock::{self, Duration};
use crate::runtime::random;

/// Hides persons in the audit logs.
pub(super) fn salt() -> Salt {
    Salt(random::bytes())
}

/// A node's state and identity, read before its doors are made.
pub struct Opened {
    pub(super) source: Source,
    pub(super) aging: Option<Arc<Aging>>,
    pub(super) relay: Option<Arc<Following>>,
    /// None on a node that does not vote.
    pub(super) keeping: Option<Arc<Keeping>>,
    pub(super) place: Option<(Membership, Identity, Arc<Wire>)>,
}

impl Opened {
    /// Reads what this node is and opens its state.
    ///
    /// # Errors
    /// In words, with what to do.
    pub async fn open(config: &NodeConfig) -> Result<Self, String> {
        let home = Home::of(&config.data);
        let membership = home.membership().map_err(|error| error.to_string())?;
        let mut relay = None;
        let (settings, place) = match (&config.fleet, membership) {
            (None, None) => (Settings::alone(&config.data), None),
            (None, Some(membership)) => {
                return Err(format!(
                    "this node is node {} of fleet {}, and node.toml has no [fleet]: write it again, or use another data directory",
                    membership.node, membership.fleet
                ));
            }
            (Some(_), None) => {
                return Err(
                    "node.toml has a [fleet], and this node is of none yet: `portcullis init` founds one, `portcullis join` joins one"
                        .to_owned(),
                );
            }
            (Some(_), Some(membership)) => {
                peers::check(config, &membership)?;
                let identity = Identity::load(&home, &membership)?;
                if config.fleet.as_ref().is_some_and(|it| !it.roles.control) {
                    let following = Following::open(config, &membership)?;
                    let wire = Arc::<Wire>::default();
                    return Ok(Self {
                        source: Source::Told(Arc::new(following)),
                        aging: None,
                        relay: None,
                        keeping: None,
                        place: Some((membership, identity, wire)),
                    });
                }
                let wire = Arc::<Wire>::default();
                let transport = Arc::clone(&wire);
                relay = Some(Arc::new(Following::beside(config, &membership)?));
                let settings = Settings::in_fleet(&config.data, membership.node, transport);
                (settings, Some((membership, identity, wire)))
            }
        };
        let steady = || Duration::from_millis(clock::boottime().as_millis());
        let keeping = Keeping::open(&config.data)?;
        let leaves = Arc::<Keeping>::clone(&keeping);
        let consensus = Consensus::open(
            settings
                .with_clock(steady)
                .with_leaves(leaves)
                .with_salts(salt),
        )
        .await
        .map_err(|error| match keeping.forked() {
            Some((log, size)) => forked::explain(&config.data, &home, &log, size),
            None => format!("the node's state in {}: {error}", config.data.display()),
        })?;
        let carries = config.fleet.as_ref().filter(|it| it.roles.gateway);
        let view = consensus.view();
        let kept = match view.fleet() {
            Some(_) if view.tenants().next().is_some() => staleness::View::Kept,
            // At its first start, of which nobody can have confirmed anything.
            Some(_) => staleness::View::Unserved,
            None => staleness::View::None,
        };
        let aging = carries.map(|it| Aging::open(home.directory(), it.stale_limit, kept));
        Ok(Self {
            source: Source::Own(Arc::new(consensus)),
            aging: aging.map(Arc::new),
            relay,
            keeping: Some(keeping),
            place,
        })
    }

    /// The view that was in force when the node was last up.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        match &self.source {
            Source::Own(_) if self.aging.as_ref().is_some_and(|it| it.has_lapsed()) => {
                Arc::new(View::empty())
            }
            Source::Own(consensus) => {
                let own = consensus.view();
                let told = self.relay.as_ref().map(|relay| relay.view());
                told.filter(|told| at(told) > at(&own)).unwrap_or(own)
            }
            Source::Told(following) => following.in_force(),
        }
    }
}
