//! Names of things, parsed once: tenants, clusters, endpoints and networks; and the revision of a state.

use crate::text::{quoted, serde_as_text};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// One newtype over shared text whose constructor checks a grammar. Cloning one costs a counter, not a copy.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the grammar and keeps the text.
            ///
            /// # Errors
            /// [`NameError`] when the text does not follow the grammar above.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                match $check(text) {
                    Ok(()) => Ok(Self(Arc::from(text))),
                    Err(problem) => Err(NameError::new($what, text, problem)),
                }
            }

            /// The text as it was written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        serde_as_text!($name, $what);
    };
}

id! {
    /// A customer organisation. A label: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
    TenantId, "a tenant id", check_label
}
id! {
    /// A tenant's database deployment, unique within the tenant. A label like [`TenantId`].
    ClusterId, "a cluster id", check_label
}
id! {
    /// What a client connects to, unique within the tenant. A label like [`TenantId`].
    EndpointId, "an endpoint id", check_label
}
id! {
    /// A tenant's VPC, unique in the fleet, for example `aws/vpc-0a1b`: lower-case letters, digits and hyphens, with single
    /// `/`, `.` and `_` inside; at most 128 bytes.
    NetworkId, "a network id", check_network
}

id! {
    /// The name of a legal hold, unique in the fleet. A label like [`TenantId`].
    HoldId, "a legal hold's name", check_label
}
id! {
    /// A node's name, unique among the nodes of the fleet. A label like [`TenantId`].
    NodeName, "a node's name", check_label
}
id! {
    /// A person who may command the fleet over its API. A label like [`TenantId`].
    OperatorId, "an operator's id", check_label
}

/// The log index at which a state holds. It only grows; revision 0 is the empty state.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(u64);

impl Revision {
    /// The revision with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a piece of text is not the name that it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    what: &'static str,
    text: String,
    problem: NameProblem,
}

impl NameError {
    pub(crate) fn new(what: &'static str, text: &str, problem: NameProblem) -> Self {
        Self {
            what,
            text: quoted(text),
            problem,
        }
    }

    /// What is wrong with the text.
    #[must_use]
    pub fn problem(&self) -> NameProblem {
        self.problem
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not {}: {}", self.text, self.what, self.problem)
    }
}

impl std::error::Error for NameError {}

/// The ways in which a name can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameProblem {
    /// Nothing there.
    Empty,
    /// More bytes than the maximum carried here.
    TooLong(usize),
    /// A character that the grammar does not have.
    Character(char),
    /// The first or last character (of the name, or of one of its labels) is not a letter or digit.
    Edge,
    /// Two separators in a row: an empty label.
    EmptyLabel,
    /// A numeric address where a name belongs.
    AddressLiteral,
    /// A kind of thing that does not exist: the word before the colon.
    Kind,
    /// Not a decimal number without leading zeros, or out of range.
    Number,
}

impl fmt::Display for NameProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::TooLong(maximum) => write!(f, "it is longer than {maximum} bytes"),
            Self::Character(c) => write!(f, "{:?} is not allowed in it", c),
            Self::Edge => f.write_str("it must begin and end with a lower-case letter or a digit"),
            Self::EmptyLabel => f.write_str("two separators stand together"),
            Self::AddressLiteral => f.write_str("a name is needed, not an address"),
            Self::Kind => f.write_str("it does not begin with a known kind"),
            Self::Number => f.write_str("a plain decimal number in range is needed"),
        }
    }
}

/// `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`: a DNS label (RFC 1123 §2.1) in lower case.
pub(crate) fn check_label(text: &str) -> Result<(), NameProblem> {
    const MAX_LABEL: usize = 63;
    check(
        text,
        MAX_LABEL,
        |c| matches!(c, 'a'..='z' | '0'..='9' | '-'),
    )
}

fn check_network(text: &str) -> Result<(), NameProblem> {
    const MAX_NETWORK: usize = 128;
    const SEPARATORS: [char; 3] = ['/', '.', '_'];
    check(text, MAX_NETWORK, |c| {
        matches!(c, 'a'..='z' | '0'..='9' | '-') || SEPARATORS.contains(&c)
    })?;
    // An empty part (`a//b`, `a..b`) is a path trick or a typing mistake; it names nothing.
    match text.split(SEPARATORS).any(str::is_empty) {
        true => Err(NameProblem::EmptyLabel),
        false => Ok(()),
    }
}

fn check(text: &str, maximum: usize, allowed: impl Fn(char) -> bool) -> Result<(), NameProblem> {
    if text.is_empty() {
        return Err(NameProblem::Empty);
    }
    if text.len() > maximum {
        return Err(NameProblem::TooLong(maximum));
    }
    if let Some(stranger) = text.chars().find(|c| !allowed(*c)) {
        return Err(NameProblem::Character(stranger));
    }
    let edge = |c: char| !c.is_ascii_alphanumeric();
    match text.starts_with(edge) || text.ends_with(edge) {
        true => Err(NameProblem::Edge),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_their_grammar_to_the_last_byte() {
        let longest = "a".repeat(63);
        for good in ["a", "7", "acme", "acme-orders", "a--b", &longest] {
            assert_eq!(TenantId::parse(good).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(64);
        let bad = [
            ("", NameProblem::Empty),
            (too_long.as_str(), NameProblem::TooLong(63)),
            ("Acme", NameProblem::Character('A')),
            ("acme.orders", NameProblem::Character('.')),
            ("acme_orders", NameProblem::Character('_')),
            ("ac me", NameProblem::Character(' ')),
            ("acmé", NameProblem::Character('é')),
            ("acme\0", NameProblem::Character('\0')),
            ("-acme", NameProblem::Edge),
            ("acme-", NameProblem::Edge),
        ];
        for (text, problem) in bad {
            assert_eq!(
                TenantId::parse(text).unwrap_err().problem(),
                problem,
                "{text:?}"
            );
        }
    }

    #[test]
    fn networks_have_separators_inside_and_never_two_together() {
        for good in ["acme-vpc", "aws/vpc-0a1b", "gcp/project.vpc_1"] {
            assert_eq!(NetworkId::parse(good).unwrap().to_string(), good);
        }
        for bad in ["/a", "a/", "a//b", "a..b", "../a", "a/./b", "A", "a:b", ""] {
            assert!(NetworkId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(NetworkId::parse(&"n".repeat(128)).is_ok());
        assert!(NetworkId::parse(&"n".repeat(129)).is_err());
    }

    #[test]
    fn a_message_never_repeats_control_characters_or_endless_text() {
        let message = TenantId::parse("a\u{1b}[2J\u{202e}b")
            .unwrap_err()
            .to_string();
        assert!(
            !message.contains('\u{1b}') && !message.contains('\u{202e}'),
            "{message}"
        );
        let message = TenantId::parse(&"x".repeat(1_000_000))
            .unwrap_err()
            .to_string();
        assert!(message.len() < 300);
    }

    #[test]
    fn an_id_from_json_is_checked_like_any_other() {
        assert_eq!(
            serde_json::from_str::<TenantId>("\"acme\"").unwrap(),
            TenantId::parse("acme").unwrap()
        );
        assert!(serde_json::from_str::<TenantId>("\"Acme\"").is_err());
        assert_eq!(serde_json::to_string(&Revision::new(7)).unwrap(), "7");
    }
}
