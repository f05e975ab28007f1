//! Authorities, and handshakes in memory.

use std::sync::Arc;

use portcullis_certs::authority::{Authority, Issued, LeafRequest, Purpose};
use portcullis_certs::{Identity, Validity, generate_key};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};

/// From 2020 to 2120.
pub(crate) const LONG: Validity = Validity {
    not_before: 1_577_836_800,
    not_after: 4_733_510_400,
};

pub(crate) fn authority(name: &str) -> Authority {
    Authority::new(name, generate_key().unwrap(), LONG).unwrap()
}

pub(crate) fn server_leaf(dns: &[&str]) -> LeafRequest {
    LeafRequest {
        common_name: "server".into(),
        dns: dns.iter().map(|&name| name.to_owned()).collect(),
        uris: vec![],
        ips: vec![],
        purpose: Purpose::Server,
        validity: LONG,
    }
}

pub(crate) fn client_leaf(common_name: &str) -> LeafRequest {
    LeafRequest {
        common_name: common_name.into(),
        purpose: Purpose::Client,
        ..server_leaf(&[])
    }
}

pub(crate) fn issue(authority: &Authority, leaf: &LeafRequest) -> Identity {
    identity(&authority.issue(leaf, &generate_key().unwrap()).unwrap())
}

pub(crate) fn identity(issued: &Issued) -> Identity {
    Identity::from_pem(&issued.chain_pem, &issued.key_pem).unwrap()
}

/// A certificate that no [`Authority`] would issue, signed with a key that somebody has.
pub(crate) fn forge(
    issuer_name: &str,
    issuer_key_pem: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Issued {
    let mut issuer = CertificateParams::default();
    issuer
        .distinguished_name
        .push(DnType::CommonName, issuer_name);
    issuer.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(issuer, KeyPair::from_pem(issuer_key_pem).unwrap());
    let mut leaf = CertificateParams::new(vec!["forged.example".into()]).unwrap();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut leaf);
    let key = KeyPair::generate().unwrap();
    Issued {
        chain_pem: leaf.signed_by(&key, &issuer).unwrap().pem(),
        key_pem: key.serialize_pem(),
    }
}

/// A handshake run to its end, or to where one side gave up.
pub(crate) struct Handshake {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
    pub(crate) client_error: Option<Error>,
    pub(crate) server_error: Option<Error>,
}

impl Handshake {
    pub(crate) fn run(client: Arc<ClientConfig>, server: Arc<ServerConfig>, name: &str) -> Self {
        let name = name.to_owned().try_into().unwrap();
        let mut it = Self {
            client: ClientConnection::new(client, name).unwrap(),
            server: ServerConnection::new(server).unwrap(),
            client_error: None,
            server_error: None,
        };
        // A handshake with client certificates and tickets takes fewer rounds than this.
        for _ in 0..8 {
            let mut flight = vec![];
            while it.client.wants_write() {
                it.client.write_tls(&mut flight).unwrap();
            }
            it.server_error = it.server_error.or(feed(&flight, |rest| {
                it.server.read_tls(rest).unwrap();
                it.server.process_new_packets().map(|_| ())
            }));
            let mut flight = vec![];
            while it.server.wants_write() {
                it.server.write_tls(&mut flight).unwrap();
            }
            it.client_error = it.client_error.or(feed(&flight, |rest| {
                it.client.read_tls(rest).unwrap();
                it.client.process_new_packets().map(|_| ())
            }));
        }
        it
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.client_error.is_none()
            && self.server_error.is_none()
            && !self.client.is_handshaking()
            && !self.server.is_handshaking()
    }

    #[track_caller]
    pub(crate) fn must_succeed(self) -> Self {
        assert!(
            self.succeeded(),
            "client: {:?}, server: {:?}",
            self.client_error,
            self.server_error
        );
        self
    }
}

fn feed(mut bytes: &[u8], mut take: impl FnMut(&mut &[u8]) -> Result<(), Error>) -> Option<Error> {
    while !bytes.is_empty() {
        if let Err(error) = take(&mut bytes) {
            return Some(error);
        }
    }
    None
}
