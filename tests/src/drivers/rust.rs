//! tokio-postgres, over rustls, with channel binding.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Config, SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use crate::client::roots;

/// How the TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With an SSLRequest.
    SslRequest,
    /// At the first byte, with ALPN.
    Direct,
}

/// A tokio-postgres client and the task that moves its bytes (which ends with the error that
/// ended the connection).
#[derive(Debug)]
pub struct Connected {
    /// What one queries with.
    pub client: tokio_postgres::Client,
    /// The connection's own task.
    pub connection: JoinHandle<Result<(), tokio_postgres::Error>>,
    /// What `client.cancel_token().cancel_query(…)` needs.
    pub tls: Rustls,
}

/// Signs in as `user` at the endpoint `server_name`, reached at `to`.
///
/// # Errors
/// The server's refusal, or what broke.
pub async fn connect(
    to: SocketAddr,
    (server_name, authorities_pem): (&str, &str),
    (user, password, database): (&str, &str, &str),
    start: Start,
) -> Result<Connected, tokio_postgres::Error> {
    let mut config = Config::new();
    config
        .host(server_name)
        .hostaddr(to.ip())
        .port(to.port())
        .user(user)
        .password(password)
        .dbname(database);
    config.ssl_mode(SslMode::Require);
    config.ssl_negotiation(match start {
        Start::SslRequest => SslNegotiation::Postgres,
        Start::Direct => SslNegotiation::Direct,
    });
    let tls = Rustls::new(authorities_pem, start);
    let (client, connection) = config.connect(tls.clone()).await?;
    Ok(Connected {
        client,
        connection: tokio::spawn(connection),
        tls,
    })
}

/// rustls for tokio-postgres.
#[derive(Clone)]
pub struct Rustls {
    connector: TlsConnector,
}

impl std::fmt::Debug for Rustls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rustls").finish_non_exhaustive()
    }
}

impl Rustls {
    /// Trusts these authorities.
    ///
    /// # Panics
    /// When they are none.
    #[must_use]
    pub fn new(authorities_pem: &str, start: Start) -> Self {
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites")
        .with_root_certificates(roots(authorities_pem))
        .with_no_client_auth();
        if start == Start::Direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Self {
            connector: TlsConnector::from(Arc::new(config)),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Rustls {
    type Stream = Stream<S>;
    type TlsConnect = Named;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Named> {
        let name = ServerName::try_from(domain.to_owned()).map_err(io::Error::other)?;
        Ok(Named {
            connector: self.connector.clone(),
            name,
        })
    }
}

/// A connector that knows whom it will meet.
#[derive(Clone)]
pub struct Named {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Named {
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { Ok(Stream(self.connector.connect(self.name, stream).await?)) })
    }
}

/// The encrypted stream.
pub struct Stream<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        let leaf = self
            .0
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first);
        let hash = leaf.and_then(|leaf| portcullis_certs::binding::tls_server_end_point(leaf).ok());
        hash.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
