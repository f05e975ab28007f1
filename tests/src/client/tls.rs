//! The client's TLS: set up here and not by the product's builders, so that a mistake in those
//! does not answer to itself.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, SignatureScheme, StreamOwned,
};

use crate::identities::Credential;

pub(super) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) server_name: String,
    pub(super) send_server_name: bool,
    pub(super) authorities_pem: String,
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) tls12_only: bool,
    pub(super) credential: Option<Credential>,
}

impl Settings {
    pub(super) fn new(server_name: &str, authorities_pem: &str) -> Self {
        Self {
            server_name: server_name.to_owned(),
            send_server_name: true,
            authorities_pem: authorities_pem.to_owned(),
            alpn: Vec::new(),
            tls12_only: false,
            credential: None,
        }
    }

    /// Hears the server's whole flight and answers nothing; whether it asked for a certificate.
    pub(super) fn half_a_handshake(&self, socket: TcpStream) -> io::Result<(TlsStream, bool)> {
        let name = ServerName::try_from(self.server_name.clone()).map_err(io::Error::other)?;
        let asked = Arc::new(Asked::default());
        let mut config = self.config();
        config.client_auth_cert_resolver = Arc::clone(&asked) as Arc<dyn ResolvesClientCert>;
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut stream.sock)?;
        }
        // In TLS 1.3 it is over for the client then; in 1.2 it would have something to say.
        let heard = |conn: &ClientConnection| match conn.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => conn.wants_write(),
            _ => !conn.is_handshaking(),
        };
        while !heard(&stream.conn) {
            if stream.conn.read_tls(&mut stream.sock)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let processed = stream.conn.process_new_packets();
            processed.map_err(io::Error::other)?;
        }
        Ok((stream, asked.0.load(Ordering::Relaxed)))
    }

    /// Shakes hands to the end, so that what goes wrong is seen here and not at the first read.
    pub(super) fn handshake(&self, socket: TcpStream) -> io::Result<TlsStream> {
        let name = ServerName::try_from(self.server_name.clone()).map_err(io::Error::other)?;
        let connection =
            ClientConnection::new(Arc::new(self.config()), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    fn config(&self) -> ClientConfig {
        let versions: &[&rustls::SupportedProtocolVersion] = if self.tls12_only {
            &[&rustls::version::TLS12]
        } else {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_protocol_versions(versions)
        .expect("the provider has suites for both")
        .with_root_certificates(roots(&self.authorities_pem));
        let mut config = match &self.credential {
            None => builder.with_no_client_auth(),
            Some(credential) => {
                let chain = CertificateDer::pem_slice_iter(credential.chain_pem.as_bytes())
                    .collect::<Result<_, _>>();
                let key = PrivateKeyDer::from_pem_slice(credential.key_pem.as_bytes());
                builder
                    .with_client_auth_cert(chain.expect("PEM"), key.expect("PEM"))
                    .expect("a key that fits")
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.enable_sni = self.send_server_name;
        config
    }
}

/// Has no certificate, and remembers whether it was asked for one.
#[derive(Debug, Default)]
struct Asked(AtomicBool);

impl ResolvesClientCert for Asked {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The anchors in some PEM text.
pub(crate) fn roots(authorities_pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities_pem.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("an authority");
    }
    roots
}
