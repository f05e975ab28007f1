//! Authorities and certificates for a test, issued by the product's own authority code: P-256,
//! which every driver's channel binding understands.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use portcullis_certs::authority::{Authority, LeafRequest, Purpose};
use portcullis_certs::{Validity, generate_key};

use crate::scratch::Scratch;

/// An authority that a test trusts, or pointedly does not. Clones are the same authority.
#[derive(Clone)]
pub struct TestAuthority {
    name: String,
    authority: Arc<Authority>,
}

/// A certificate chain and its key.
#[derive(Clone)]
pub struct Credential {
    /// The leaf, as PEM.
    pub chain_pem: String,
    /// Its private key (PKCS#8), as PEM.
    pub key_pem: String,
}

impl TestAuthority {
    /// A new authority with a key of its own.
    ///
    /// # Panics
    /// When there is no randomness.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let key = generate_key().expect("randomness");
        let authority = Authority::new(name, key, validity(-1, 365)).expect("a plain name");
        Self {
            name: name.to_owned(),
            authority: Arc::new(authority),
        }
    }

    /// Its own certificate: what those who trust it are given.
    #[must_use]
    pub fn pem(&self) -> String {
        self.authority.authority_pem().to_owned()
    }

    /// A server's certificate for DNS names; the first may be a wildcard.
    ///
    /// # Panics
    /// When a name is none.
    #[must_use]
    pub fn server(&self, names: &[&str]) -> Credential {
        let common_name = names.first().expect("a name");
        self.issue(&LeafRequest {
            common_name: (*common_name).to_owned(),
            dns: names.iter().map(|name| (*name).to_owned()).collect(),
            ..empty(Purpose::Server)
        })
    }

    /// A client's certificate with a common name and URI names.
    ///
    /// # Panics
    /// When a name is none.
    #[must_use]
    pub fn client(&self, common_name: &str, uris: &[&str]) -> Credential {
        self.issue(&LeafRequest {
            common_name: common_name.to_owned(),
            uris: uris.iter().map(|uri| (*uri).to_owned()).collect(),
            ..empty(Purpose::Client)
        })
    }

    /// Whatever a test wants to see refused or allowed.
    ///
    /// # Panics
    /// When a name is none.
    #[must_use]
    pub fn issue(&self, leaf: &LeafRequest) -> Credential {
        let key = generate_key().expect("randomness");
        let issued = self
            .authority
            .issue(leaf, &key)
            .unwrap_or_else(|e| panic!("{}: {e}", self.name));
        Credential {
            chain_pem: issued.chain_pem,
            key_pem: issued.key_pem,
        }
    }
}

impl Credential {
    /// Writes `NAME.pem` and `NAME.key` (which only the owner may read); returns both paths.
    #[must_use]
    pub fn write(&self, scratch: &Scratch, name: &str) -> (PathBuf, PathBuf) {
        let chain = scratch.write(&format!("{name}.pem"), &self.chain_pem);
        let key = scratch.write_secret(&format!("{name}.key"), &self.key_pem);
        (chain, key)
    }
}

/// A leaf for nobody, good from yesterday for a month; to be filled in.
#[must_use]
pub fn empty(purpose: Purpose) -> LeafRequest {
    LeafRequest {
        common_name: "nobody".to_owned(),
        dns: Vec::new(),
        uris: Vec::new(),
        ips: Vec::<IpAddr>::new(),
        purpose,
        validity: validity(-1, 30),
    }
}

/// From and until so many days from now; negative is before.
///
/// # Panics
/// When the clock stands before 1970.
#[must_use]
pub fn validity(from_days: i64, until_days: i64) -> Validity {
    const DAY: i64 = 86_400;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let now = i64::try_from(now).expect("before the year 292 billion");
    Validity {
        not_before: now + from_days * DAY,
        not_after: now + until_days * DAY,
    }
}

impl fmt::Debug for TestAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestAuthority").field(&self.name).finish()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}
