//! The limits that turn connections away, by name.

/// A limit of the front door that a connection can run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// Connections of the node.
    NodeConnections,
    /// Connections of a tenant.
    TenantConnections,
    /// Connections of an endpoint.
    EndpointConnections,
    /// Unauthenticated connections of the node.
    Unauthenticated,
    /// Those of one address.
    UnauthenticatedPerAddress,
    /// Those of one block of addresses.
    UnauthenticatedPerBlock,
    /// Those at one tenant's endpoints.
    UnauthenticatedPerTenant,
    /// Arrivals from one block of addresses in a second.
    ArrivalPace,
    /// New connections of a tenant in a second.
    TenantPace,
    /// New connections of a tenant in a second, from one block of addresses.
    SourcePace,
    /// How far ahead the line of failed sign-ins goes.
    FailedSignIns,
    /// The deadline of the PROXY header.
    ProxyHeader,
    /// The deadline of the first bytes.
    FirstBytes,
    /// The deadline of the ClientHello that follows an SSLRequest.
    ClientHello,
    /// The deadline of the TLS handshake.
    Tls,
    /// The deadline of the start-up packet.
    Startup,
    /// The deadline of the authentication exchange.
    Authentication,
    /// The deadline of everything before authentication.
    PreAuthentication,
}

impl Limit {
    /// Every one.
    pub const ALL: [Self; 18] = [
        Self::NodeConnections,
        Self::TenantConnections,
        Self::EndpointConnections,
        Self::Unauthenticated,
        Self::UnauthenticatedPerAddress,
        Self::UnauthenticatedPerBlock,
        Self::UnauthenticatedPerTenant,
        Self::ArrivalPace,
        Self::TenantPace,
        Self::SourcePace,
        Self::FailedSignIns,
        Self::ProxyHeader,
        Self::FirstBytes,
        Self::ClientHello,
        Self::Tls,
        Self::Startup,
        Self::Authentication,
        Self::PreAuthentication,
    ];

    /// Its name in `portcullis limits`, in metrics and in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NodeConnections => "node_connections",
            Self::TenantConnections => "tenant_connections",
            Self::EndpointConnections => "endpoint_connections",
            Self::Unauthenticated => "unauthenticated",
            Self::UnauthenticatedPerAddress => "unauthenticated_per_address",
            Self::UnauthenticatedPerBlock => "unauthenticated_per_block",
            Self::UnauthenticatedPerTenant => "unauthenticated_per_tenant",
            Self::ArrivalPace => "arrival_pace",
            Self::TenantPace => "tenant_pace",
            Self::SourcePace => "source_pace",
            Self::FailedSignIns => "failed_sign_ins",
            Self::ProxyHeader => "proxy_header",
            Self::FirstBytes => "first_bytes",
            Self::ClientHello => "client_hello",
            Self::Tls => "tls",
            Self::Startup => "startup",
            Self::Authentication => "authentication",
            Self::PreAuthentication => "pre_authentication",
        }
    }

    /// The code of a refusal by it.
    pub(in crate::proxy) const fn code(self) -> &'static str {
        match self {
            Self::TenantConnections | Self::EndpointConnections => "connection_limit",
            Self::TenantPace | Self::SourcePace => "connection_rate",
            Self::ProxyHeader => "proxy_timeout",
            Self::FirstBytes => "first_bytes_timeout",
            Self::ClientHello => "client_hello_timeout",
            Self::Tls => "tls_timeout",
            Self::Startup => "startup_timeout",
            Self::Authentication => "authentication_timeout",
            Self::PreAuthentication => "pre_authentication_timeout",
            Self::NodeConnections
            | Self::ArrivalPace
            | Self::FailedSignIns
            | Self::Unauthenticated
            | Self::UnauthenticatedPerAddress
            | Self::UnauthenticatedPerBlock
            | Self::UnauthenticatedPerTenant => self.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_listed_in_their_own_order() {
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place, "{limit:?}");
        }
    }
}
