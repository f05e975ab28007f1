//! Whom a fleet's members believe: its authority's certificate, two while one is exchanged for another, and nothing else.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::FleetId;
use crate::pem::{self, PemError};
use crate::{Identity, Validity, provider};

/// Whose certificates a fleet's members believe: the authority that issues, and while it is exchanged the other one, too. Not secret. Cheap to
/// clone; what is believed is so in every clone, and in the next handshake of each configuration that was made from one.
#[derive(Clone)]
pub struct FleetTrust {
    fleet: FleetId,
    believed: Arc<RwLock<Arc<Believed>>>,
}

/// The authorities of a moment.
struct Believed {
    issuing: Root,
    /// Who issued what nodes still show.
    other: Option<Root>,
    /// Who issued what operators still show.
    retired: Option<Root>,
    /// Who calls as a node is verified by these,
    nodes: Arc<dyn ClientCertVerifier>,
    /// and who calls as an operator by these.
    operators: Arc<dyn ClientCertVerifier>,
    roots: Arc<RootCertStore>,
}

/// One authority's certificate.
#[derive(Clone)]
struct Root {
    roots: Arc<RootCertStore>,
    certificate: CertificateDer<'static>,
    key: [u8; 32],
    validity: Validity,
}

/// Which authorities are to be believed.
#[derive(Debug, Clone, Copy)]
pub struct Believable<'a> {
    /// Who issues, DER.
    pub issuing: &'a [u8],
    /// Who issued what nodes still show, DER.
    pub other: Option<&'a [u8]>,
    /// Who issued what operators still show, DER. What it says of nodes is not believed.
    pub retired: Option<&'a [u8]>,
}

impl FleetTrust {
    /// Reads what [`FleetTrust::to_pem`] wrote: who issues first, and at most one more.
    ///
    /// # Errors
    /// [`FleetTrustError`]
    pub fn from_pem(text: &str) -> Result<Self, FleetTrustError> {
        let found = pem::certificates(text, 2).map_err(FleetTrustError::Pem)?;
        match found.as_slice() {
            [issuing, other] if issuing == other => {
                Err(FleetTrustError::Pem(PemError::TooMany { limit: 1 }))
            }
            [issuing, others @ ..] => Self::of(&Believable {
                issuing,
                other: others.first().map(AsRef::as_ref),
                retired: None,
            }),
            [] => Err(FleetTrustError::Pem(PemError::NothingFound)),
        }
    }

    /// Reads one authority's certificate, DER.
    ///
    /// # Errors
    /// [`FleetTrustError`]
    pub fn from_der(der: &[u8]) -> Result<Self, FleetTrustError> {
        Self::of(&Believable {
            issuing: der,
            other: None,
            retired: None,
        })
    }

    fn of(believable: &Believable<'_>) -> Result<Self, FleetTrustError> {
        let (fleet, _) = Root::read(believable.issuing)?;
        let believed = Believed::read(fleet, believable)?;
        Ok(Self {
            fleet,
            believed: Arc::new(RwLock::new(Arc::new(believed))),
        })
    }

    /// The authority with this fingerprint among the certificates that a server showed: how a node that joins by a token comes to trust.
    ///
    /// # Errors
    /// [`FleetTrustError`]
    pub fn pinned(
        chain: &[CertificateDer<'_>],
        fleet: FleetId,
        fingerprint: [u8; 32],
    ) -> Result<Self, FleetTrustError> {
        let authority = chain.iter().find(|der| hash(der) == fingerprint);
        let trust = Self::from_der(authority.ok_or(FleetTrustError::NotPinned)?)?;
        match trust.fleet == fleet {
            true => Ok(trust),
            false => Err(FleetTrustError::NoFleet),
        }
    }

    /// Believes these from now on, in every clone; whether that is news.
    ///
    /// # Errors
    /// [`FleetTrustError`]: one is no authority of this fleet. What was believed before still is.
    pub fn believe(&self, believable: &Believable<'_>) -> Result<bool, FleetTrustError> {
        let before = self.now();
        let der = |root: &Option<Root>| root.as_ref().map(|root| root.certificate.to_vec());
        if before.issuing.certificate.as_ref() == believable.issuing
            && der(&before.other).as_deref() == believable.other
            && der(&before.retired).as_deref() == believable.retired
        {
            return Ok(false);
        }
        let believed = Believed::read(self.fleet, believable)?;
        let mut now = self
            .believed
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *now = Arc::new(believed);
        Ok(true)
    }

    /// The fleet.
    pub fn fleet(&self) -> FleetId {
        self.fleet
    }

    /// SHA-256 of the certificate (DER) of who issues: what a join token pins.
    pub fn fingerprint(&self) -> [u8; 32] {
        hash(&self.now().issuing.certificate)
    }

    /// Whether the authority with this fingerprint is believed of nodes.
    pub fn believes(&self, fingerprint: [u8; 32]) -> bool {
        self.now()
            .of_nodes()
            .any(|root| hash(&root.certificate) == fingerprint)
    }

    /// When the authority that issues is valid. rustls does not look; instead, no certificate is issued that outlives it.
    pub fn validity(&self) -> Validity {
        self.now().issuing.validity
    }

    /// The certificate of who issues, DER.
    pub fn der(&self) -> Vec<u8> {
        self.now().issuing.certificate.to_vec()
    }

    /// Those that are believed of nodes, who issues first: PEM, for [`FleetTrust::from_pem`].
    pub fn to_pem(&self) -> String {
        self.now()
            .of_nodes()
            .map(|root| pem::certificate(&root.certificate))
            .collect()
    }

    /// SHA-256 of the public key of who issues.
    pub(super) fn key(&self) -> [u8; 32] {
        self.now().issuing.key
    }

    /// Whether one of these authorities issued the identity's leaf, and whether that holds at `now` (Unix seconds): the fingerprint of that
    /// authority, or the problem in words.
    pub(super) fn issued(&self, identity: &Identity, now: i64) -> Result<[u8; 32], String> {
        let leaf = identity.chain().first().ok_or("there is none")?;
        let leaf = ParsedCertificate::try_from(leaf).map_err(|error| error.to_string())?;
        let since = u64::try_from(now).unwrap_or_default();
        let since = UnixTime::since_unix_epoch(Duration::from_secs(since));
        let mut problem = String::new();
        for root in self.now().of_nodes() {
            match root.verify(&leaf, since) {
                Ok(()) => return Ok(hash(&root.certificate)),
                Err(error) => problem = error.to_string(),
            }
        }
        Err(problem)
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.now().roots)
    }

    /// What verifies who calls as a node.
    pub(super) fn nodes(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.now().nodes)
    }

    /// What verifies who calls as an operator.
    pub(super) fn operators(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.now().operators)
    }

    fn now(&self) -> Arc<Believed> {
        let believed = self.believed.read();
        Arc::clone(&believed.unwrap_or_else(PoisonError::into_inner))
    }

    /// What the authority of a fleet calls itself.
    pub(super) fn subject(fleet: FleetId) -> String {
        format!("{SUBJECT}{fleet}")
    }
}

impl Believed {
    fn read(fleet: FleetId, believable: &Believable<'_>) -> Result<Self, FleetTrustError> {
        let read = |der| match Root::read(der)? {
            (found, root) if found == fleet => Ok(root),
            (_, _) => Err(FleetTrustError::NoFleet),
        };
        let issuing = read(believable.issuing)?;
        let other = believable.other.map(read).transpose()?;
        let retired = believable.retired.map(read).transpose()?;
        let of_nodes = [Some(&issuing), other.as_ref(), None];
        let of_operators = [Some(&issuing), other.as_ref(), retired.as_ref()];
        let roots = store(of_nodes)?;
        Ok(Self {
            nodes: verifier(&roots)?,
            operators: verifier(&store(of_operators)?)?,
            roots,
            issuing,
            other,
            retired,
        })
    }

    fn of_nodes(&self) -> impl Iterator<Item = &Root> {
        [Some(&self.issuing), self.other.as_ref()]
            .into_iter()
            .flatten()
    }
}

impl Root {
    fn read(der: &[u8]) -> Result<(FleetId, Self), FleetTrustError> {
        let Ok(([], parsed)) = X509Certificate::from_der(der) else {
            return Err(FleetTrustError::NotAnAuthority);
        };
        if !parsed.is_ca() {
            return Err(FleetTrustError::NotAnAuthority);
        }
        // The common name and nothing else: what is issued repeats the subject as its issuer, and must find it again.
        let subject = parsed.subject();
        let alone = subject.iter_attributes().count() == 1;
        let name = subject.iter_common_name().next().filter(|_| alone);
        let fleet = name
            .and_then(|name| name.as_str().ok())
            .and_then(|name| name.strip_prefix(SUBJECT))
            .and_then(|fleet| fleet.parse().ok());
        let fleet = fleet.ok_or(FleetTrustError::NoFleet)?;
        let certificate = CertificateDer::from(der.to_vec());
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate.clone())
            .map_err(|_| FleetTrustError::NotAnAuthority)?;
        let root = Self {
            roots: Arc::new(roots),
            certificate,
            key: Sha256::digest(parsed.public_key().raw).into(),
            validity: Validity {
                not_before: parsed.validity().not_before.timestamp(),
                not_after: parsed.validity().not_after.timestamp(),
            },
        };
        Ok((fleet, root))
    }

    fn verify(&self, leaf: &ParsedCertificate<'_>, now: UnixTime) -> Result<(), rustls::Error> {
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(leaf, &self.roots, &[], now, algorithms)
    }
}

fn store(all: [Option<&Root>; 3]) -> Result<Arc<RootCertStore>, FleetTrustError> {
    let mut roots = RootCertStore::empty();
    for root in all.into_iter().flatten() {
        let added = roots.add(root.certificate.clone());
        added.map_err(|_| FleetTrustError::NotAnAuthority)?;
    }
    Ok(Arc::new(roots))
}

fn verifier(roots: &Arc<RootCertStore>) -> Result<Arc<dyn ClientCertVerifier>, FleetTrustError> {
    let roots = Arc::clone(roots);
    WebPkiClientVerifier::builder_with_provider(roots, provider())
        .clear_root_hint_subjects()
        .build()
        .map_err(|_| FleetTrustError::NotAnAuthority)
}

fn hash(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

const SUBJECT: &str = "Portcullis fleet ";

impl fmt::Debug for FleetTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetTrust")
            .field("fleet", &self.fleet)
            .field("validity", &self.validity())
            .finish_non_exhaustive()
    }
}

/// A certificate is not that of the fleet's authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetTrustError {
    /// The text is not the certificates that it should be.
    Pem(PemError),
    /// The certificate cannot be read, or is no authority's (`CA:TRUE` is missing).
    NotAnAuthority,
    /// The certificate's subject is no fleet, or another.
    NoFleet,
    /// None of the certificates has the fingerprint.
    NotPinned,
}

impl fmt::Display for FleetTrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(problem) => write!(f, "the fleet's authority cannot be read: {problem}"),
            Self::NotAnAuthority => f.write_str("the certificate is not an authority's"),
            Self::NoFleet => f.write_str("the authority is not that of this fleet"),
            Self::NotPinned => f.write_str(
                "the server does not show the authority that the join token names: it is another fleet, or somebody in between",
            ),
        }
    }
}

impl std::error::Error for FleetTrustError {}
