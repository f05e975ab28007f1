//! What a reviewer should look at: allowed, but odd.

use crate::document::DocumentPath;
use crate::network::{AllowList, AllowLists, Count, entry_addresses};
use crate::origin::Origin;
use crate::tenant::{Endpoint, Entry, Tenant, UpstreamTls};
use crate::time::Timestamp;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;

/// Everything odd about a document that was validated, in the document's order. Expiry is judged at a moment.
#[must_use]
pub fn warnings(tenant: &Tenant, at: Timestamp) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let used: BTreeSet<_> = tenant
        .endpoints
        .values()
        .map(|endpoint| &endpoint.cluster)
        .collect();
    for (id, cluster) in &tenant.clusters {
        let path = DocumentPath::root().key("clusters").key(id.as_str());
        if !used.contains(id) {
            warnings.push(Warning {
                at: path.clone(),
                caution: Caution::UnusedCluster,
            });
        }
        if cluster.tls == UpstreamTls::Unencrypted {
            warnings.push(Warning {
                at: path.key("tls"),
                caution: Caution::Unencrypted,
            });
        }
    }
    for (id, endpoint) in &tenant.endpoints {
        let path = DocumentPath::root().key("endpoints").key(id.as_str());
        warnings_of_endpoint(&path, endpoint, at, &mut warnings);
    }
    warnings
}

/// Something odd and its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Warning {
    /// Where in the document.
    pub at: DocumentPath,
    /// What is odd there.
    pub caution: Caution,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.caution)
    }
}

/// The ways in which a valid document can be odd. Entries are given by their position in the endpoint's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Caution {
    /// Others admit all that this entry admits, for as long: removing it would change nothing.
    Shadowed {
        /// The entry.
        entry: usize,
        /// Some of those that stand before it, ascending.
        by: Vec<usize>,
    },
    /// The entry admits nobody.
    Unused {
        /// The entry.
        entry: usize,
        /// Why nobody.
        why: UnusedBecause,
    },
    /// The entry opens the public door to very many.
    Wide {
        /// The entry.
        entry: usize,
        /// How many addresses.
        addresses: Count,
    },
    /// The endpoint has this door, and no entry for it.
    NobodyVia(Origin),
    /// No endpoint leads to the cluster.
    UnusedCluster,
    /// The way to the cluster is not protected.
    Unencrypted,
}

impl Caution {
    /// A stable word for the kind.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Shadowed { .. } => "shadowed",
            Self::Unused { .. } => "unused",
            Self::Wide { .. } => "wide",
            Self::NobodyVia(_) => "nobody_via_door",
            Self::UnusedCluster => "unused_cluster",
            Self::Unencrypted => "unencrypted",
        }
    }
}

impl fmt::Display for Caution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shadowed { by, .. } => {
                f.write_str("shadowed: everyone it admits is admitted as long by ")?;
                for (position, entry) in by.iter().enumerate() {
                    f.write_str(if position == 0 { "" } else { ", " })?;
                    write!(f, "allow[{entry}]")?;
                }
                Ok(())
            }
            Self::Unused { why, .. } => write!(f, "unused: {why}"),
            Self::Wide { addresses, .. } => {
                write!(f, "wide: it admits {addresses} from the internet")
            }
            Self::NobodyVia(origin) => write!(f, "nobody may come via {origin}: there is no entry"),
            Self::UnusedCluster => f.write_str("no endpoint leads to this cluster"),
            Self::Unencrypted => {
                f.write_str("the way to this cluster is neither encrypted nor verified")
            }
        }
    }
}

/// Why an entry admits nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnusedBecause {
    /// Its door is not in the endpoint's boundary.
    NoSuchDoor,
    /// It no longer holds.
    Expired(Timestamp),
    /// Its excepts leave nothing of it.
    NothingLeft,
}

impl fmt::Display for UnusedBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchDoor => f.write_str("its origin is not a door of the endpoint"),
            Self::Expired(moment) => write!(f, "it expired at {moment}"),
            Self::NothingLeft => f.write_str("its excepts leave nothing of it"),
        }
    }
}

fn warnings_of_endpoint(
    path: &DocumentPath,
    endpoint: &Endpoint,
    at: Timestamp,
    warnings: &mut Vec<Warning>,
) {
    let lists = AllowLists::compile(&endpoint.allow);
    for door in &endpoint.doors {
        if lists.door(door).is_none() {
            let at = path.key("doors");
            warnings.push(Warning {
                at,
                caution: Caution::NobodyVia(door.clone()),
            });
        }
    }
    let speaking: BTreeSet<u32> = lists
        .doors()
        .flat_map(|(_, list)| list.all_spokesmen())
        .collect();
    for (number, entry) in (0_u32..).zip(&endpoint.allow) {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let caution = unused(index, endpoint, entry, at).or_else(|| {
            let list = lists
                .door(&entry.origin)
                .filter(|_| !speaking.contains(&number));
            list.map(|list| shadowed(index, entry, list))
        });
        let at = path.key("allow").index(index);
        warnings.extend(caution.map(|caution| Warning {
            at: at.clone(),
            caution,
        }));
        warnings.extend(wide(index, entry).map(|caution| Warning { at, caution }));
    }
}

fn unused(index: usize, endpoint: &Endpoint, entry: &Entry, at: Timestamp) -> Option<Caution> {
    let why = if !endpoint.doors.contains(&entry.origin) {
        UnusedBecause::NoSuchDoor
    } else if entry_addresses(entry).is_empty() {
        UnusedBecause::NothingLeft
    } else {
        let expired = entry.expires.filter(|moment| *moment <= at)?;
        UnusedBecause::Expired(expired)
    };
    Some(Caution::Unused { entry: index, why })
}

/// An entry that speaks for no address is covered everywhere by others that outlast it or, lasting as long, stand before it.
fn shadowed(index: usize, entry: &Entry, list: &AllowList) -> Caution {
    const MAX_NAMED: usize = 4;
    let mut by = BTreeSet::new();
    for found in list.spokesmen(&entry_addresses(entry)) {
        by.insert(usize::try_from(found.entry).unwrap_or(usize::MAX));
        if by.len() == MAX_NAMED {
            break;
        }
    }
    Caution::Shadowed {
        entry: index,
        by: by.into_iter().collect(),
    }
}

/// A /16 of IPv4 or a /32 of IPv6 is a provider, not an office.
fn wide(index: usize, entry: &Entry) -> Option<Caution> {
    const WIDE_V4: u64 = 1 << 16;
    const WIDE_V6: u128 = 1 << 96;
    if entry.origin != Origin::Public {
        return None;
    }
    let addresses = entry_addresses(entry).count();
    let is_wide = addresses.v4 >= WIDE_V4 || addresses.v6 >= WIDE_V6;
    is_wide.then_some(Caution::Wide {
        entry: index,
        addresses,
    })
}
