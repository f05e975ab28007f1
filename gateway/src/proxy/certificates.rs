//! What handshakes show: every certificate with its TLS configuration made beforehand, replaced as a whole while connections go on.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_certs::{
    ClientCertificates, Identity, Resumption, ServerIdentities, TlsError, server_config,
};
use tokio_rustls::rustls::ServerConfig;

use crate::runtime::limits::CLIENT_TLS_CONFIGURATIONS;

/// The certificates of this node's doors.
pub(super) struct Certificates {
    identities: ServerIdentities,
    plain: BTreeMap<[u8; 32], Arc<ServerConfig>>,
    asking: Mutex<BTreeMap<AskingKey, Arc<ServerConfig>>>,
}

/// An identity's fingerprint and the tenant's authorities that may vouch for clients.
type AskingKey = ([u8; 32], Arc<str>);

/// What a handshake shows and asks.
pub(super) struct Shown {
    pub(super) configuration: Arc<ServerConfig>,
    pub(super) identity: Arc<Identity>,
    /// The authorities that must have issued the client's certificate, where one is asked for.
    pub(super) vouching: Option<Arc<str>>,
}

impl Certificates {
    pub(super) fn new(identities: ServerIdentities) -> Result<Self, TlsError> {
        let mut plain = BTreeMap::new();
        for identity in identities.all() {
            let configuration =
                server_config(identity, ClientCertificates::NotAsked, Resumption::Off)?;
            plain.insert(identity.fingerprint(), configuration);
        }
        Ok(Self {
            identities,
            plain,
            asking: Mutex::default(),
        })
    }

    /// For a client that named this server, and whose certificate these authorities may vouch for.
    pub(super) fn shown(
        &self,
        server_name: Option<&str>,
        vouching: Option<Arc<str>>,
    ) -> Result<Shown, TlsError> {
        let identity = Arc::clone(self.identities.choose(server_name));
        let configuration = match &vouching {
            Some(authorities) => self.asking(&identity, authorities)?,
            None => match self.plain.get(&identity.fingerprint()) {
                Some(configuration) => Arc::clone(configuration),
                None => server_config(&identity, ClientCertificates::NotAsked, Resumption::Off)?,
            },
        };
        Ok(Shown {
            configuration,
            identity,
            vouching,
        })
    }

    pub(super) fn identities(&self) -> &[Arc<Identity>] {
        self.identities.all()
    }

    fn asking(
        &self,
        identity: &Identity,
        authorities: &Arc<str>,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let key = (identity.fingerprint(), Arc::clone(authorities));
        if let Some(known) = self.asking.lock().get(&key) {
            return Ok(Arc::clone(known));
        }
        let asked = ClientCertificates::Asked {
            authorities_pem: &key.1,
        };
        let made = server_config(identity, asked, Resumption::Off)?;
        let mut configurations = self.asking.lock();
        if configurations.len() >= CLIENT_TLS_CONFIGURATIONS {
            configurations.clear();
        }
        configurations.insert(key, Arc::clone(&made));
        Ok(made)
    }
}
