//! Whether a tenant's document holds together, and where it does not.
//!
//! Shapes of single values (ids, prefixes, names) were checked when they were made; here are the rules between them and the
//! named maxima. What is allowed but looks odd is no error: see [`warnings`](crate::warnings).

mod authentication;
mod check;
mod path;
mod words;

pub use path::{DocumentPath, PathSegment};
pub(crate) use words::line;

use crate::id::{ClusterId, EndpointId};
use crate::limits::{MAX_ENTRIES_PER_TENANT, MAX_REFUSED_AFTER, MIN_REFUSED_AFTER};
use crate::network::{Family, Prefix};
use crate::origin::Origin;
use crate::server_name::ServerName;
use crate::tenant::{Addresses, Tenant};
use crate::text::quoted;
use std::fmt;

impl Tenant {
    /// Checks the whole document and stops at the first thing that is wrong with it.
    ///
    /// # Errors
    /// [`DocumentError`]: the place in the document and the problem there.
    pub fn validate(&self) -> Result<(), DocumentError> {
        self.validate_within(MAX_ENTRIES_PER_TENANT)
    }

    /// [`Tenant::validate`] with another maximum for the weight of all allow lists together ([`Tenant::weight`]).
    ///
    /// # Errors
    /// As [`Tenant::validate`].
    pub fn validate_within(&self, max_entries: usize) -> Result<(), DocumentError> {
        check::tenant(self, max_entries)
    }
}

/// A place in a document and the problem there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentError {
    /// Where, for example `endpoints.orders.allow[3].except[0]`.
    pub at: DocumentPath,
    /// What is wrong there.
    pub problem: DocumentProblem,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.problem)
    }
}

impl std::error::Error for DocumentError {}

/// The ways in which the parts of a document can fail to fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentProblem {
    /// There are more of these than the maximum.
    TooMany {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        maximum: usize,
    },
    /// There must be at least one of these.
    None(&'static str),
    /// The endpoint names a cluster that the tenant does not have.
    NoSuchCluster(ClusterId),
    /// A door or entry names a network or private link that the tenant does not claim.
    NotClaimed(Origin),
    /// The same server name stands at two places of the document; the other endpoint is named.
    NameTwice(ServerName, EndpointId),
    /// The same value stands twice in a list.
    Twice(String),
    /// An `except` reaches outside the entry's own addresses.
    ExceptOutside(Prefix, Addresses),
    /// The entries of this door together are everyone of a family, and none of them says so.
    EveryoneUnsaid(Origin, Family),
    /// The moment is before 1970 or after the year 9999.
    MomentOutOfRange,
    /// The text is empty.
    Empty(&'static str),
    /// The text has more bytes than the maximum.
    TooLong {
        /// What the text is.
        what: &'static str,
        /// How many bytes it may have.
        maximum: usize,
    },
    /// The text is not what it should be; it is quoted.
    NotA(&'static str, String),
    /// A number that must not be 0.
    Zero(&'static str),
    /// New clients cannot be refused by a policy that is so many seconds old: that is too soon, or later than any node serves.
    RefusedAfter(u32),
}

impl DocumentProblem {
    pub(crate) fn not_a(what: &'static str, text: &str) -> Self {
        Self::NotA(what, quoted(text))
    }
}

impl fmt::Display for DocumentProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany {
                what,
                count,
                maximum,
            } => {
                write!(f, "{count} {what} are more than {maximum}")
            }
            Self::None(what) => write!(f, "at least one {what} is needed"),
            Self::NoSuchCluster(id) => write!(f, "the tenant has no cluster {id}"),
            Self::NotClaimed(origin) => {
                write!(
                    f,
                    "{origin} is not among the tenant's networks and private links"
                )
            }
            Self::NameTwice(name, endpoint) => {
                write!(f, "{name} is already a name of endpoint {endpoint}")
            }
            Self::Twice(value) => write!(f, "{value} is written twice"),
            Self::ExceptOutside(except, addresses) => {
                write!(f, "{except} is not inside {addresses}")
            }
            Self::EveryoneUnsaid(origin, family) => write!(
                f,
                "together the entries via {origin} are every {family} address; if that is meant, say \"anywhere\""
            ),
            Self::MomentOutOfRange => f.write_str("the moment is not between 1970 and 9999"),
            Self::Empty(what) => write!(f, "{what} is empty"),
            Self::TooLong { what, maximum } => write!(f, "{what} is longer than {maximum} bytes"),
            Self::NotA(what, text) => write!(f, "{text} is not {what}"),
            Self::Zero(what) => write!(f, "{what} must not be 0"),
            Self::RefusedAfter(seconds) => write!(
                f,
                "refuse-after {seconds}: write {MIN_REFUSED_AFTER} to {MAX_REFUSED_AFTER} seconds"
            ),
        }
    }
}
