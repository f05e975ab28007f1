//! What a tenant may use at once, and how old the policy may be that it is served from; in the bytes of the log as well.

use crate::limits::{
    DEFAULT_ENDPOINT_CONNECTIONS, DEFAULT_NEW_CONNECTIONS_PER_SECOND, DEFAULT_REFUSED_AFTER,
    DEFAULT_TENANT_CONNECTIONS,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a tenant may use at once; `None` means the default in [`limits`](crate::limits). And what happens to it where nobody
/// confirms the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// Live connections to all its endpoints on one node.
    pub connections: Option<u32>,
    /// Live connections to one endpoint on one node.
    pub connections_per_endpoint: Option<u32>,
    /// New connections per second on one node.
    pub new_connections_per_second: Option<u32>,
    /// What a node does with its new clients while nobody confirms the policy to that node.
    pub on_stale: OnStale,
}

/// What a node does with a tenant's new clients while nobody confirms the policy to that node. Whoever is in stays in: only
/// the node's own stale limit ends that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnStale {
    /// They are served from the last good policy, up to the node's stale limit.
    Serve,
    /// They are refused once nobody has confirmed it for so many seconds.
    RefuseAfter(u32),
}

impl OnStale {
    /// Refused after [`DEFAULT_REFUSED_AFTER`].
    pub const REFUSE: Self = Self::RefuseAfter(DEFAULT_REFUSED_AFTER);

    fn is_serve(&self) -> bool {
        matches!(self, Self::Serve)
    }
}

impl TenantLimits {
    /// Nothing said: the defaults.
    #[must_use]
    pub const fn none_said() -> Self {
        Self {
            connections: None,
            connections_per_endpoint: None,
            new_connections_per_second: None,
            on_stale: OnStale::Serve,
        }
    }

    /// Live connections of the tenant, said or default.
    #[must_use]
    pub fn connections_or_default(&self) -> u32 {
        self.connections.unwrap_or(DEFAULT_TENANT_CONNECTIONS)
    }

    /// Live connections of one endpoint, said or default.
    #[must_use]
    pub fn connections_per_endpoint_or_default(&self) -> u32 {
        self.connections_per_endpoint
            .unwrap_or(DEFAULT_ENDPOINT_CONNECTIONS)
    }

    /// New connections per second, said or default.
    #[must_use]
    pub fn new_connections_per_second_or_default(&self) -> u32 {
        self.new_connections_per_second
            .unwrap_or(DEFAULT_NEW_CONNECTIONS_PER_SECOND)
    }
}

/// As people and tools see it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    connections: Option<u32>,
    connections_per_endpoint: Option<u32>,
    new_connections_per_second: Option<u32>,
    #[serde(default = "serve", skip_serializing_if = "OnStale::is_serve")]
    on_stale: OnStale,
}

/// As the log has it. `on_stale` came later: whoever does not use it is written in the bytes that were always written, in
/// which `Unsaid` and `Said` are what `None` and `Some` of an option were. A version that does not know the third of them
/// refuses the bytes; [`Command::required_level`](crate::Command::required_level) keeps them from it.
#[derive(Serialize, Deserialize)]
struct Stored {
    connections: Connections,
    connections_per_endpoint: Option<u32>,
    new_connections_per_second: Option<u32>,
}

#[derive(Serialize, Deserialize)]
enum Connections {
    Unsaid,
    Said(u32),
    /// Refused after so many seconds, and what the first two would say.
    Refusing(u32, Option<u32>),
}

impl Serialize for TenantLimits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            connections,
            connections_per_endpoint,
            new_connections_per_second,
            on_stale,
        } = *self;
        if serializer.is_human_readable() {
            let written = Written {
                connections,
                connections_per_endpoint,
                new_connections_per_second,
                on_stale,
            };
            return written.serialize(serializer);
        }
        let connections = match (on_stale, connections) {
            (OnStale::RefuseAfter(seconds), said) => Connections::Refusing(seconds, said),
            (OnStale::Serve, Some(said)) => Connections::Said(said),
            (OnStale::Serve, None) => Connections::Unsaid,
        };
        let stored = Stored {
            connections,
            connections_per_endpoint,
            new_connections_per_second,
        };
        stored.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TenantLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let Written {
                connections,
                connections_per_endpoint,
                new_connections_per_second,
                on_stale,
            } = Written::deserialize(deserializer)?;
            return Ok(Self {
                connections,
                connections_per_endpoint,
                new_connections_per_second,
                on_stale,
            });
        }
        let stored = Stored::deserialize(deserializer)?;
        let (connections, on_stale) = match stored.connections {
            Connections::Unsaid => (None, OnStale::Serve),
            Connections::Said(said) => (Some(said), OnStale::Serve),
            Connections::Refusing(seconds, said) => (said, OnStale::RefuseAfter(seconds)),
        };
        Ok(Self {
            connections,
            connections_per_endpoint: stored.connections_per_endpoint,
            new_connections_per_second: stored.new_connections_per_second,
            on_stale,
        })
    }
}

const fn serve() -> OnStale {
    OnStale::Serve
}
