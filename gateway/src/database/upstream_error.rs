//! Why a database could not be reached: one story with every try in it, in two voices.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use portcullis_certs::TlsError;
use portcullis_policy::{ClusterId, TenantId};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError};

use crate::runtime::dialer::DialerError;

/// No backend of a cluster could be reached and verified.
#[derive(Debug)]
pub struct UpstreamError {
    /// Whose cluster.
    pub tenant: TenantId,
    /// Which cluster.
    pub cluster: ClusterId,
    /// Every try, in order; the last one gives the reason.
    pub tries: Vec<Try>,
}

impl UpstreamError {
    /// A stable word for metrics and audit events: that of the last try.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.tries
            .last()
            .map_or("no_backend", |one| one.problem.reason())
    }

    /// What a client is told: the same whatever happened.
    #[must_use]
    pub fn for_client(&self) -> &'static str {
        "the database cannot be reached right now"
    }

    /// What an operator is told: every try.
    #[must_use]
    pub fn for_operator(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cluster {}/{} cannot be reached",
            self.tenant, self.cluster
        )?;
        for (i, one) in self.tries.iter().enumerate() {
            f.write_str(if i == 0 { ": " } else { "; " })?;
            one.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for UpstreamError {}

/// One failed try.
#[derive(Debug)]
pub struct Try {
    /// The backend as the policy writes it, `host:port`.
    pub backend: String,
    /// The address it led to, if it got so far.
    pub address: Option<SocketAddr>,
    /// What went wrong.
    pub problem: Problem,
}

impl fmt::Display for Try {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.backend)?;
        match self.address {
            Some(address) if address.to_string() != self.backend => write!(f, " ({address})")?,
            Some(_) | None => {}
        }
        write!(f, ": {}", self.problem)
    }
}

/// What went wrong on the way to one backend.
#[derive(Debug)]
pub enum Problem {
    /// The name was not resolved in time.
    ResolveTimeout,
    /// The resolver failed.
    Resolve(io::Error),
    /// The name has no address.
    NoAddress,
    /// A name led only to addresses that a name may not lead to.
    Rebound {
        /// The first of them.
        address: SocketAddr,
        /// Why not.
        why: Forbidden,
    },
    /// The policy spells out an address that is never connected to.
    Forbidden {
        /// The address.
        address: SocketAddr,
        /// Why not.
        why: Forbidden,
    },
    /// There is no socket to connect with.
    Dialer(DialerError),
    /// The kernel's answer to connecting.
    Connect(io::Error),
    /// No connection in time.
    ConnectTimeout,
    /// The connection broke before the answer to SSLRequest.
    Answer(io::Error),
    /// No answer to SSLRequest, or no end of the handshake, in time.
    HandshakeTimeout,
    /// `N`: the server has TLS switched off.
    TlsNotOffered,
    /// `E`: the server reports an error before TLS. Its text comes from no verified server and is
    /// not read (CVE-2024-10977).
    ErrorBeforeTls,
    /// Neither `S`, `N` nor `E`.
    NotPostgres(u8),
    /// Bytes followed `S` before the handshake (CVE-2021-23222).
    BytesBeforeTls,
    /// The server's certificate was refused by us.
    Certificate(CertificateError),
    /// The server refused the handshake.
    Alert(AlertDescription),
    /// The handshake failed in another way.
    Tls(io::Error),
    /// The cluster's authorities or server name make no TLS configuration.
    Configuration(TlsError),
    /// The cluster's server name is no name.
    ServerName(String),
}

impl Problem {
    /// Reads what rustls said out of the error it is wrapped in.
    pub(super) fn of_handshake(error: io::Error) -> Self {
        match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            Some(rustls::Error::InvalidCertificate(problem)) => Self::Certificate(problem.clone()),
            Some(rustls::Error::AlertReceived(alert)) => Self::Alert(*alert),
            Some(_) | None => Self::Tls(error),
        }
    }

    /// Whether nothing left this machine, so that the try cost nobody anything.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Connect(e) if matches!(
            e.kind(),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable
        ))
    }

    /// A stable word for metrics and audit events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ResolveTimeout => "resolve_timeout",
            Self::Resolve(_) => "resolve",
            Self::NoAddress => "no_address",
            Self::Rebound { .. } => "rebind",
            Self::Forbidden { .. } => "forbidden_address",
            Self::Dialer(error) => error.reason(),
            Self::Connect(_) => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Answer(_) => "closed_before_tls",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::TlsNotOffered => "tls_not_offered",
            Self::ErrorBeforeTls => "error_before_tls",
            Self::NotPostgres(_) => "not_postgres",
            Self::BytesBeforeTls => "pretls_data",
            Self::Certificate(problem) => certificate_reason(problem),
            Self::Alert(_) => "tls_alert",
            Self::Tls(_) => "tls",
            Self::Configuration(_) | Self::ServerName(_) => "tls_configuration",
        }
    }
}

fn certificate_reason(problem: &CertificateError) -> &'static str {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rustls adds variants in patch releases; whatever they are, the certificate was refused"
    )]
    match problem {
        CertificateError::UnknownIssuer => "certificate_authority",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "certificate_name"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "certificate_time",
        _ => "certificate",
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResolveTimeout => f.write_str("its name was not resolved in time"),
            Self::Resolve(error) => write!(f, "its name was not resolved: {error}"),
            Self::NoAddress => f.write_str("its name has no address"),
            Self::Rebound { address, why } => write!(
                f,
                "its name leads to {}, {why}; a name may not (write the address in the policy if \
                 it is meant and allowed)",
                address.ip()
            ),
            Self::Forbidden { address, why } => {
                write!(f, "{} is {why} and is never connected to", address.ip())
            }
            Self::Dialer(error) => error.fmt(f),
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::ConnectTimeout => f.write_str("no connection in time"),
            Self::Answer(error) => {
                write!(
                    f,
                    "it closed the connection instead of answering SSLRequest: {error}"
                )
            }
            Self::HandshakeTimeout => f.write_str("the TLS handshake was not finished in time"),
            Self::TlsNotOffered => f.write_str(
                "it does not offer TLS (set `ssl = on` in its postgresql.conf); nothing was sent",
            ),
            Self::ErrorBeforeTls => {
                f.write_str("it answered SSLRequest with an error (look into its log)")
            }
            Self::NotPostgres(byte) => write!(
                f,
                "it answered SSLRequest with byte 0x{byte:02x}; is it a PostgreSQL server?"
            ),
            Self::BytesBeforeTls => f.write_str(
                "it sent bytes in the clear between its answer to SSLRequest and the handshake; \
                 somebody may be on the line",
            ),
            Self::Certificate(problem) => write!(f, "its certificate is refused: {problem}"),
            Self::Alert(alert) => write!(f, "it refused the TLS handshake: {alert:?}"),
            Self::Tls(error) => write!(f, "the TLS handshake failed: {error}"),
            Self::Configuration(error) => {
                write!(f, "its authorities in the policy cannot be used: {error}")
            }
            Self::ServerName(name) => {
                write!(
                    f,
                    "its server name in the policy, {name:?}, is no host name or address"
                )
            }
        }
    }
}

/// Why an address is never connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// A metadata service or host agent of a cloud.
    Metadata,
    /// Link-local, where metadata services live (169.254.0.0/16, fe80::/10).
    LinkLocal,
    /// This machine itself.
    Loopback,
    /// No host: unspecified, multicast or broadcast.
    NotAHost,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Metadata => "a cloud's metadata service",
            Self::LinkLocal => "a link-local address",
            Self::Loopback => "this machine's own loopback",
            Self::NotAHost => "not the address of a host",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_hears_nothing_and_the_operator_everything() {
        let error = UpstreamError {
            tenant: "acme".parse().unwrap(),
            cluster: "orders".parse().unwrap(),
            tries: vec![
                Try {
                    backend: "db.acme.internal:5432".into(),
                    address: Some("10.0.0.10:5432".parse().unwrap()),
                    problem: Problem::TlsNotOffered,
                },
                Try {
                    backend: "10.0.0.11:5432".into(),
                    address: Some("10.0.0.11:5432".parse().unwrap()),
                    problem: Problem::BytesBeforeTls,
                },
            ],
        };
        assert_eq!(
            error.for_client(),
            "the database cannot be reached right now"
        );
        assert_eq!(error.reason(), "pretls_data");
        let told = error.for_operator();
        for part in [
            "acme/orders",
            "db.acme.internal:5432 (10.0.0.10:5432)",
            "ssl = on",
        ] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("10.0.0.11:5432 (10.0.0.11:5432)"), "{told}");
    }
}
