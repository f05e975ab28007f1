//! The host name that a TLS client says it wants (SNI), in the one form in which it is compared.

use crate::id::{NameError, NameProblem, check_label};
use crate::limits::MAX_HOST;
use crate::text::serde_as_text;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A DNS host name (RFC 6066 §3, RFC 1123 §2.1), lower-cased once: labels of 1 to 63 letters, digits and inner hyphens, at
/// most 253 bytes; no trailing dot, no address, no wildcard.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(Arc<str>);

impl ServerName {
    /// Lower-cases ASCII letters and checks the grammar.
    ///
    /// # Errors
    /// [`NameError`] when the text is not such a name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let fail = |problem| NameError::new("a server name", text, problem);
        if text.len() > MAX_HOST {
            return Err(fail(NameProblem::TooLong(MAX_HOST)));
        }
        let lower = text.to_ascii_lowercase();
        if lower.is_empty() {
            return Err(fail(NameProblem::Empty));
        }
        for label in lower.split('.') {
            match check_label(label) {
                Ok(()) => {}
                Err(NameProblem::Empty) => return Err(fail(NameProblem::EmptyLabel)),
                Err(problem) => return Err(fail(problem)),
            }
        }
        // No top-level domain is a number (RFC 1123 §2.1); what ends in one is an IPv4 address in some spelling.
        let is_address = lower
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        match is_address {
            true => Err(fail(NameProblem::AddressLiteral)),
            false => Ok(Self(Arc::from(lower))),
        }
    }

    /// The name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerName({})", self.0)
    }
}

serde_as_text!(ServerName, "a server name");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_folded_once() {
        let name = ServerName::parse("Acme-Orders.DB.Example.NET").unwrap();
        assert_eq!(name.as_str(), "acme-orders.db.example.net");
        assert_eq!(
            name,
            ServerName::parse("acme-orders.db.example.net").unwrap()
        );
    }

    #[test]
    fn what_is_not_a_host_name_is_refused() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), 253);
        assert!(ServerName::parse(&longest).is_ok());
        for bad in [
            "",
            ".",
            "acme.example.net.",
            ".acme",
            "acme..net",
            "*.example.net",
            "acme_orders.example.net",
            "-a.example.net",
            "a-.example.net",
            "127.0.0.1",
            "1",
            "0x7f.1",
            "::1",
            "[::1]",
            "acme.net\0",
            "acme.net:5433",
            "ácme.net",
            &format!("{longest}a"),
            &format!("{}.net", "a".repeat(64)),
        ] {
            assert!(ServerName::parse(bad).is_err(), "{bad:?}");
        }
        // A hexadecimal last label is no number to DNS, and no address to us.
        assert!(ServerName::parse("acme.7f").is_ok());
    }
}
