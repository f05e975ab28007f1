//! Serving requests over TLS to callers whom a client certificate names.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use super::limits::{HANDSHAKE_TIME, MAX_HANDSHAKES};
use super::message::{Operator, Peer};
use super::server::{Server, Service, pause};

/// How callers are met, and told apart.
#[derive(Clone)]
pub struct Handshake {
    /// The handshake; it must demand a client certificate.
    pub tls: Arc<ServerConfig>,
    /// Whom the certificates of a handshake name.
    pub identify: Identify,
    /// What the names in certificates must be of.
    pub fleet: [u8; 16],
}

/// From the fleet's id and the certificates of a handshake to whom they name.
pub type Identify = fn([u8; 16], &[CertificateDer<'_>]) -> Option<Identified>;

/// Whom a certificate names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// The name.
    pub name: String,
    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER).
    pub key: [u8; 32],
    /// When the certificate ends, in Unix seconds.
    pub until: i64,
}

/// Serves a TCP listener over TLS until `stop`, then gives open requests `STOP_TIME`. Whoever shows
/// no certificate that names somebody is not spoken to.
pub async fn serve_tls<S: Service>(
    listener: TcpListener,
    handshake: Handshake,
    service: Arc<S>,
    stop: CancellationToken,
) {
    let server = Arc::new(Server::new(service, stop));
    let with = Arc::new(handshake);
    let places = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let accepted = tokio::select! {
            () = server.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let (server, with) = (Arc::clone(&server), Arc::clone(&with));
                    let tasks = server.tasks.clone();
                    tasks.spawn(meet(server, with, stream, address, place));
                }
                Err(_) => {
                    tracing::warn!(%address, "an API connection was closed: too many handshakes are under way");
                }
            },
            Err(error) => pause(&error).await,
        }
    }
    server.finish().await;
}

/// One handshake, then whatever the caller asks.
async fn meet<S: Service>(
    server: Arc<Server<S>>,
    with: Arc<Handshake>,
    stream: TcpStream,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
) {
    let met = TlsAcceptor::from(Arc::clone(&with.tls)).accept(stream);
    let met = tokio::select! {
        () = server.stop.cancelled() => return,
        met = timeout(HANDSHAKE_TIME, met) => met,
    };
    drop(place);
    let stream = match met {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, %address, "a TLS handshake with the API failed");
            return;
        }
        Err(_) => {
            tracing::debug!(%address, "a TLS handshake with the API took too long");
            return;
        }
    };
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let Some(Identified { name, key, until }) = (with.identify)(with.fleet, shown) else {
        tracing::debug!(%address, "a caller of the API showed a certificate that names nobody");
        return;
    };
    let operator = Operator {
        name: name.into(),
        key,
        until,
        address,
    };
    server.take(stream, Peer::Operator(operator));
}
