//! The names that a certificate carries, and whether a rule's name is one of them.

use std::fmt;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a leaf certificate calls its holder. The gateway matches a tenant's rules against it, after rustls has verified the chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateNames {
    /// URI alternative names, in the certificate's order, as written.
    pub uris: Vec<String>,
    /// DNS alternative names, lower-cased; a wildcard is kept as written.
    pub dns: Vec<String>,
    /// E-mail alternative names, the domain lower-cased.
    pub emails: Vec<String>,
    /// The subject's common name; `None` if there is none, or more than one (nobody could say which is meant).
    pub common_name: Option<String>,
}

impl CertificateNames {
    /// Reads the names of a certificate (DER). Names that cannot be read make the whole certificate refused; kinds of names that no rule
    /// can ask for (directory names, addresses, other names) are left aside.
    ///
    /// # Errors
    /// [`NamesError`]
    pub fn of(leaf_der: &[u8]) -> Result<Self, NamesError> {
        let (rest, leaf) =
            X509Certificate::from_der(leaf_der).map_err(|_| NamesError::NotACertificate)?;
        if !rest.is_empty() {
            return Err(NamesError::NotACertificate);
        }
        let mut names = Self::default();
        let alternatives = leaf
            .subject_alternative_name()
            .map_err(|_| NamesError::MalformedAlternativeNames)?;
        let general = alternatives
            .iter()
            .flat_map(|extension| &extension.value.general_names);
        for (index, name) in general.enumerate() {
            if index >= MAX_ALTERNATIVE_NAMES {
                return Err(NamesError::TooMany);
            }
            match name {
                GeneralName::URI(uri) => names.uris.push(printable(uri)?),
                GeneralName::DNSName(dns) => names.dns.push(printable(dns)?.to_ascii_lowercase()),
                GeneralName::RFC822Name(email) => names.emails.push(mailbox(&printable(email)?)),
                GeneralName::Invalid(..) => return Err(NamesError::MalformedAlternativeNames),
                GeneralName::OtherName(..)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::IPAddress(_)
                | GeneralName::RegisteredID(_) => {}
            }
        }
        if names.uris.len() > 1 && names.uris.iter().any(|uri| uri.starts_with(SPIFFE)) {
            return Err(NamesError::SeveralIdentities);
        }
        let mut common = leaf.subject().iter_common_name();
        if let (Some(only), None) = (common.next(), common.next()) {
            let text = only.as_str().map_err(|_| NamesError::MalformedCommonName)?;
            names.common_name = Some(printable_text(text).ok_or(NamesError::MalformedCommonName)?);
        }
        Ok(names)
    }

    /// Whether the certificate carries the name that a rule asks for: `uri:…`, `dns:…`, `email:…` or `cn:…`.
    ///
    /// Whole names only: no wildcard in the certificate stands for a rule's name, and no prefix does. URIs and common names are compared
    /// as written, DNS names and the domain of an e-mail without regard to case. A rule without one of the four kinds matches nothing.
    pub fn matches(&self, rule: &str) -> bool {
        let Some((kind, wanted)) = rule.split_once(':') else {
            return false;
        };
        if wanted.is_empty() {
            return false;
        }
        match kind {
            "uri" => self.uris.iter().any(|uri| uri == wanted),
            "dns" => {
                !wanted.contains('*') && self.dns.iter().any(|dns| dns.eq_ignore_ascii_case(wanted))
            }
            "email" => {
                let wanted = mailbox(wanted);
                self.emails.contains(&wanted)
            }
            "cn" => self.common_name.as_deref() == Some(wanted),
            _ => false,
        }
    }
}

/// A workload's identity stands alone (SPIFFE X.509-SVID section 2): of two, nobody could say which is meant.
const SPIFFE: &str = "spiffe://";

/// Alternative names in one certificate.
pub const MAX_ALTERNATIVE_NAMES: usize = 256;

/// The part before the last `@` is the mail server's business and kept; the domain is lower-cased (RFC 5280 §7.5).
fn mailbox(email: &str) -> String {
    match email.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
        None => email.to_owned(),
    }
}

/// Alternative names are IA5 strings; a control character (above all NUL) has ended names early in other programs.
fn printable(name: &str) -> Result<String, NamesError> {
    printable_text(name)
        .filter(|name| name.is_ascii())
        .ok_or(NamesError::MalformedAlternativeNames)
}

fn printable_text(name: &str) -> Option<String> {
    (!name.is_empty() && !name.chars().any(char::is_control)).then(|| name.to_owned())
}

/// A certificate's names cannot be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamesError {
    /// The bytes are not one X.509 certificate.
    NotACertificate,
    /// An alternative name is empty, not ASCII, or has control characters; or the extension is broken or repeated.
    MalformedAlternativeNames,
    /// The common name is empty, has control characters, or is in an encoding that cannot be read.
    MalformedCommonName,
    /// A `spiffe://` name beside another URI.
    SeveralIdentities,
    /// More than [`MAX_ALTERNATIVE_NAMES`] alternative names.
    TooMany,
}

impl fmt::Display for NamesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotACertificate => f.write_str("not an X.509 certificate"),
            Self::MalformedAlternativeNames => {
                f.write_str("the subject's alternative names are malformed")
            }
            Self::MalformedCommonName => f.write_str("the subject's common name is malformed"),
            Self::SeveralIdentities => {
                f.write_str("a SPIFFE identity stands beside another URI name")
            }
            Self::TooMany => write!(f, "more than {MAX_ALTERNATIVE_NAMES} alternative names"),
        }
    }
}

impl std::error::Error for NamesError {}
