//! The authority of a fleet.

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

use super::{FleetId, FleetName, FleetTrust, FleetTrustError, PublicKey};
use crate::Validity;
use crate::authority::{Authority, AuthorityError, Key, LeafRequest, Purpose};
use crate::pem;
use crate::schedule::Terms;

/// Issues the certificates of a fleet's nodes and operators. Its key belongs to control nodes only. `Debug` hides it.
pub struct FleetAuthority {
    authority: Authority,
    trust: FleetTrust,
    key_pem: zeroize::Zeroizing<String>,
    /// What leads here from the one before, PEM.
    link: Option<String>,
}

impl FleetAuthority {
    /// A new authority for a new fleet. Keep [`FleetAuthority::authority_pem`] and [`FleetAuthority::key_pem`]: made again from the same
    /// arguments it would have another fingerprint, since signatures are random.
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub fn new(fleet: FleetId, key: Key, validity: Validity) -> Result<Self, AuthorityError> {
        let key_pem = key.to_pem().into();
        let authority = Authority::new(&FleetTrust::subject(fleet), key, validity)?;
        let trust = FleetTrust::from_pem(authority.authority_pem()).map_err(refused)?;
        Ok(Self {
            authority,
            trust,
            key_pem,
            link: None,
        })
    }

    /// The authority of before, from what it wrote; of two, the first.
    ///
    /// # Errors
    /// [`AuthorityError`] if the certificate is not a fleet's authority, or the key is not its key.
    pub fn from_pem(authority_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let trust = FleetTrust::from_pem(authority_pem).map_err(refused)?;
        Self::from_der(&trust.der(), key_pem)
    }

    /// The same, from the certificate's bytes.
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub fn from_der(certificate: &[u8], key_pem: &str) -> Result<Self, AuthorityError> {
        let trust = FleetTrust::from_der(certificate).map_err(refused)?;
        let key = Key::from_pem(key_pem)?;
        if PublicKey::of(&key)?.hash() != trust.key() {
            return Err(AuthorityError {
                problem: "the key does not belong to the fleet's authority".into(),
            });
        }
        let key_pem = key.to_pem().into();
        let subject = FleetTrust::subject(trust.fleet());
        let pem = pem::certificate(certificate);
        let authority = Authority::existing(&pem, &subject, key, trust.validity())?;
        Ok(Self {
            authority,
            trust,
            key_pem,
            link: None,
        })
    }

    /// Another authority of the same fleet, and what leads to it from this one, DER: for [`FleetAuthority::with_link`].
    ///
    /// # Errors
    /// [`AuthorityError`]
    pub fn succeed(&self, key: Key, validity: Validity) -> Result<(Self, Vec<u8>), AuthorityError> {
        let next = Self::new(self.trust.fleet(), key, validity)?;
        let public = PublicKey::of(&Key::from_pem(&next.key_pem)?)?;
        let subject = FleetTrust::subject(self.trust.fleet());
        let until = self.trust.validity().not_after.min(validity.not_after);
        let validity = Validity {
            not_after: until,
            ..validity
        };
        let link = self.authority.link(&subject, &public, validity)?;
        Ok((next, link))
    }

    /// Shows, in the chains that it issues, what leads to it from the one before (DER).
    #[must_use]
    pub fn with_link(self, link: &[u8]) -> Self {
        Self {
            link: Some(pem::certificate(link)),
            ..self
        }
    }

    /// Whether the chains that it issues lead to it from the one before.
    pub fn has_link(&self) -> bool {
        self.link.is_some()
    }

    /// The authority's certificate, PEM.
    pub fn authority_pem(&self) -> &str {
        self.authority.authority_pem()
    }

    /// The authority's private key, PKCS#8 PEM, not encrypted: for a file that only its owner can read.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// What everybody may know: by it, the others are verified.
    pub fn trust(&self) -> &FleetTrust {
        &self.trust
    }

    /// A certificate by which a node serves and calls: the chain, PEM, the node's leaf first and then the authority, whose hash a node that
    /// joins knows and nothing else; then what leads to it from the one before. For [`super::NodeIdentity::from_pem`].
    ///
    /// # Errors
    /// [`AuthorityError`], also for node 0, and for a life longer than [`Terms::NODE`] says.
    pub fn issue_node(
        &self,
        node: u64,
        key: &PublicKey,
        validity: Validity,
    ) -> Result<String, AuthorityError> {
        let name = FleetName::node(self.trust.fleet(), node).map_err(refused)?;
        if Terms::NODE.are_exceeded_by(validity) {
            return Err(refused("a node's certificate lives for 7 days at most"));
        }
        // A space is in no label: an operator cannot be called so.
        let common_name = format!("node {node}");
        let usages = vec![ServerAuth, ClientAuth];
        self.issue(&name, common_name, usages, key, validity)
    }

    /// A certificate by which an operator calls the API, as [`FleetAuthority::issue_node`] gives a node's. For
    /// [`super::OperatorIdentity::from_pem`].
    ///
    /// # Errors
    /// [`AuthorityError`], also for what is no operator's name, and for a life longer than [`Terms::OPERATOR`] says.
    pub fn issue_operator(
        &self,
        name: &str,
        key: &PublicKey,
        validity: Validity,
    ) -> Result<String, AuthorityError> {
        let full = FleetName::operator(self.trust.fleet(), name).map_err(refused)?;
        if Terms::OPERATOR.are_exceeded_by(validity) {
            return Err(refused(
                "an operator's certificate lives for 90 days at most",
            ));
        }
        self.issue(&full, name.to_owned(), vec![ClientAuth], key, validity)
    }

    fn issue(
        &self,
        name: &FleetName,
        common_name: String,
        usages: Vec<rcgen::ExtendedKeyUsagePurpose>,
        key: &PublicKey,
        validity: Validity,
    ) -> Result<String, AuthorityError> {
        if validity.not_after > self.trust.validity().not_after {
            return Err(refused("the certificate would outlive its authority"));
        }
        let leaf = LeafRequest {
            common_name,
            dns: Vec::new(),
            uris: vec![name.to_string()],
            ips: Vec::new(),
            purpose: Purpose::Client,
            validity,
        };
        let mut chain = self.authority.sign(&leaf, usages, key)?;
        chain.push_str(self.authority_pem());
        chain.push_str(self.link.as_deref().unwrap_or_default());
        Ok(chain)
    }
}

impl std::fmt::Debug for FleetAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FleetAuthority")
            .field("fleet", &self.trust.fleet())
            .finish_non_exhaustive()
    }
}

fn refused(problem: impl std::fmt::Display) -> AuthorityError {
    AuthorityError {
        problem: problem.to_string(),
    }
}

impl From<FleetTrustError> for AuthorityError {
    fn from(error: FleetTrustError) -> Self {
        refused(error)
    }
}
