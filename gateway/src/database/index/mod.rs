//! The index of the audit logs in a PostgreSQL database: tables of ours in a schema of ours, written from the logs and searched.
//!
//! It is never evidence: whoever can write to the database can change what it says, so every row carries its entry's log, index and leaf
//! hash, by which the entry itself is found and proved. Deliberately absent: reading logs, and when to write (`ship`'s).

mod error;
mod guarded;
pub mod limits;
mod row;
mod schema;
mod search;
mod tls;
mod write;

use std::future::Future;
use std::net::SocketAddr;

use portcullis_certs::client_config;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{Client, NoTls};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::task::AbortOnDropHandle;

use self::guarded::Guarded;
use self::limits::{
    INDEX_ANSWER_BYTES, INDEX_ANSWER_TIME, INDEX_CONNECT_TIME, INDEX_LOCK_TIME,
    INDEX_STATEMENT_TIME,
};
use self::tls::Verified;
use super::allowance::{Allowance, Metered};
use crate::config::index::{IndexFiles, IndexHost, IndexPlace, SchemaName};

pub use self::error::IndexError;
pub use self::row::Row;
pub use self::search::{After, Found, Question};
pub use self::write::{Move, Standing, Written};

/// A signed-in connection to the index. Dropping it ends it.
#[derive(Debug)]
pub struct Index {
    client: Client,
    allowance: Allowance,
    schema: SchemaName,
    driver: AbortOnDropHandle<()>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Making the schema and writing to it.
    Write,
    /// Nothing but reading.
    Search,
}

impl Index {
    /// Connects and signs in; for writing, the schema is made, or brought up to what this version needs.
    ///
    /// # Errors
    /// [`IndexError`]
    pub async fn open(place: &IndexPlace, purpose: Purpose) -> Result<Self, IndexError> {
        let read = place.clone();
        let files = tokio::task::spawn_blocking(move || read.files()).await;
        let files = files.map_err(|error| IndexError::Files(error.to_string()))?;
        let files = files.map_err(IndexError::Files)?;
        let mut index = Self::connect(place, &files, purpose).await?;
        if purpose == Purpose::Write {
            index.migrate().await?;
        }
        Ok(index)
    }

    async fn connect(
        place: &IndexPlace,
        files: &IndexFiles,
        purpose: Purpose,
    ) -> Result<Self, IndexError> {
        let url = &place.url;
        let mut config = tokio_postgres::Config::new();
        config
            .user(&url.role)
            .dbname(&url.database)
            .application_name("portcullis-audit-index")
            .options(session_options(purpose));
        if let Some(password) = &files.password {
            config.password(password.as_bytes());
        }
        let host = match &url.host {
            IndexHost::Socket(directory) => {
                config.ssl_mode(SslMode::Disable);
                let socket = directory.join(format!(".s.PGSQL.{}", url.port));
                let stream = reached(UnixStream::connect(socket)).await?;
                return sign_in(&config, Guarded::new(stream), NoTls, place).await;
            }
            IndexHost::Network(host) => host,
        };
        let Some(authorities) = &files.ca else {
            let stream = dial(host, url.port, SocketAddrs::Loopback).await?;
            config.ssl_mode(SslMode::Disable);
            return sign_in(&config, Guarded::new(stream), NoTls, place).await;
        };
        let tls = client_config(authorities, None).map_err(|error| match &place.ca {
            Some(file) => IndexError::Files(format!("{}: {error}", file.display())),
            None => IndexError::Files(error.to_string()),
        })?;
        let name = ServerName::try_from(host.clone())
            .map_err(|_| IndexError::Files(format!("{host} is no server's name")))?;
        let stream = dial(host, url.port, SocketAddrs::Any).await?;
        config.ssl_mode(SslMode::Require);
        sign_in(&config, stream, Verified { config: tls, name }, place).await
    }

    /// The schema's name in a statement.
    fn quoted(&self) -> String {
        format!("\"{}\"", self.schema)
    }

    /// Does one thing in the database, in bounded time and with so many bytes of answer.
    async fn within<T>(
        &self,
        bytes: usize,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, IndexError> {
        self.allowance.renew(bytes);
        match timeout(INDEX_ANSWER_TIME, work).await {
            Ok(done) => done.map_err(IndexError::Database),
            Err(_) => {
                self.driver.abort();
                Err(IndexError::Late)
            }
        }
    }
}

/// Which of a name's addresses may be spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SocketAddrs {
    Any,
    /// What is said to others is said under TLS.
    Loopback,
}

async fn dial(host: &str, port: u16, which: SocketAddrs) -> Result<TcpStream, IndexError> {
    let found = reached(lookup_host((host, port))).await?;
    let addresses: Vec<SocketAddr> = found
        .filter(|it| which == SocketAddrs::Any || it.ip().is_loopback())
        .collect();
    let stream = reached(TcpStream::connect(addresses.as_slice())).await?;
    stream.set_nodelay(true).map_err(IndexError::Unreachable)?;
    Ok(stream)
}

async fn reached<T>(work: impl Future<Output = std::io::Result<T>>) -> Result<T, IndexError> {
    match timeout(INDEX_CONNECT_TIME, work).await {
        Ok(reached) => reached.map_err(IndexError::Unreachable),
        Err(_) => Err(IndexError::Late),
    }
}

async fn sign_in<S, T>(
    config: &tokio_postgres::Config,
    stream: S,
    tls: T,
    place: &IndexPlace,
) -> Result<Index, IndexError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsConnect<Metered<S>>,
    T::Stream: Send + 'static,
{
    let allowance = Allowance::of(INDEX_ANSWER_BYTES);
    let stream = Metered::new(stream, allowance.clone());
    let signed_in = timeout(INDEX_CONNECT_TIME, config.connect_raw(stream, tls)).await;
    let (client, connection) = signed_in
        .map_err(|_| IndexError::Late)?
        .map_err(IndexError::Database)?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the index of the audit logs ended");
        }
    });
    Ok(Index {
        client,
        allowance,
        schema: place.schema.clone(),
        driver: AbortOnDropHandle::new(driver),
    })
}

/// Nothing that somebody planted in another schema is found by our statements.
fn session_options(purpose: Purpose) -> String {
    let read_only = match purpose {
        Purpose::Search => "on",
        Purpose::Write => "off",
    };
    format!(
        "-c search_path=pg_catalog -c TimeZone=UTC -c default_transaction_read_only={read_only} -c statement_timeout={} -c lock_timeout={}",
        INDEX_STATEMENT_TIME.as_millis(),
        INDEX_LOCK_TIME.as_millis()
    )
}
