//! The ways to the server that are compared, and how each is called.

use std::fmt;

/// One of the ways to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Way {
    /// Nothing in between: the reference.
    Direct,
    /// The product.
    Gateway(Behind),
    /// The bare relay.
    Floor(Behind),
    /// pgbouncer in session mode, with a server connection for each client as everybody else here has.
    Pgbouncer(Behind),
    /// pgbouncer in session mode as it comes, handing server connections from client to client.
    PgbouncerPool(Behind),
    /// stunnel, which ends TLS with the client.
    Stunnel,
    /// HAProxy passing bytes on: TLS is between the client and the server.
    Haproxy,
    /// HAProxy ending TLS of clients that begin with it.
    HaproxyDirect,
}

/// How what is in between reaches the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Behind {
    /// Over TLS.
    Tls,
    /// Without.
    Plain,
}

/// The ways that every driver can go, with TLS on both sides or from end to end.
pub(crate) const BOTH_SIDES: [Way; 5] = [
    Way::Direct,
    Way::Gateway(Behind::Tls),
    Way::Floor(Behind::Tls),
    Way::Pgbouncer(Behind::Tls),
    Way::Haproxy,
];

/// The ways that every driver can go, with TLS to the client only.
pub(crate) const CLIENT_ONLY: [Way; 4] = [
    Way::Gateway(Behind::Plain),
    Way::Floor(Behind::Plain),
    Way::Pgbouncer(Behind::Plain),
    Way::Stunnel,
];

impl Way {
    /// For tables.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Gateway(_) => "gateway",
            Self::Floor(_) => "floor",
            Self::Pgbouncer(_) => "pgbouncer",
            Self::PgbouncerPool(_) => "pgbouncer pooling",
            Self::Stunnel => "stunnel",
            Self::Haproxy => "HAProxy, TLS passed through",
            Self::HaproxyDirect => "HAProxy direct TLS",
        }
    }

    /// Where there is TLS.
    pub(crate) fn behind(self) -> Behind {
        match self {
            Self::Direct | Self::Haproxy => Behind::Tls,
            Self::Stunnel | Self::HaproxyDirect => Behind::Plain,
            Self::Gateway(behind)
            | Self::Floor(behind)
            | Self::Pgbouncer(behind)
            | Self::PgbouncerPool(behind) => behind,
        }
    }

    /// What it is measured against besides the direct way.
    pub(crate) fn floor(self) -> Self {
        Self::Floor(self.behind())
    }

    /// Whether the client sees another certificate than the database signs SCRAM for: just what
    /// binding to a channel prevents.
    pub(crate) fn breaks_binding(self) -> bool {
        match self {
            Self::Floor(_) | Self::Stunnel | Self::HaproxyDirect => true,
            Self::Direct
            | Self::Gateway(_)
            | Self::Pgbouncer(_)
            | Self::PgbouncerPool(_)
            | Self::Haproxy => false,
        }
    }
}

/// With the side or sides of it that have TLS: `gateway (TLS to the client)`.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct | Self::Haproxy => f.write_str(self.word()),
            _ => write!(f, "{} ({})", self.word(), self.behind().words()),
        }
    }
}

impl Behind {
    /// For tables.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Tls => "TLS on both sides",
            Self::Plain => "TLS to the client",
        }
    }
}
