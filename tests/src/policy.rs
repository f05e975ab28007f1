//! Policy files as a person would write them, for tests that need an ordinary one.
//!
//! What is odd on purpose is better written out as text in the test itself.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::postgres::{Postgres, SERVICE_ROLE};

/// One tenant's file.
#[derive(Debug, Clone, Default)]
pub struct TenantText {
    id: String,
    networks: Vec<String>,
    private_links: Vec<String>,
    clusters: String,
    endpoints: Vec<EndpointText>,
    limits: String,
}

/// One endpoint of it. Without doors and entries nobody gets in.
#[derive(Debug, Clone)]
pub struct EndpointText {
    id: String,
    cluster: String,
    names: Vec<String>,
    authentication: String,
    doors: Vec<String>,
    allow: Vec<String>,
    more: String,
}

impl TenantText {
    /// A tenant with nothing.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            ..Self::default()
        }
    }

    /// The tenant's id, which is also the file's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Claims a network.
    #[must_use]
    pub fn network(mut self, id: &str) -> Self {
        self.networks.push(id.to_owned());
        self
    }

    /// Claims a private link: `aws:vpce-…`.
    #[must_use]
    pub fn private_link(mut self, id: &str) -> Self {
        self.private_links.push(id.to_owned());
        self
    }

    /// A cluster that is this server, reached over verified TLS, with a service role.
    #[must_use]
    pub fn cluster(self, id: &str, server: &Postgres) -> Self {
        self.cluster_at(id, server.address(), server, "")
    }

    /// A cluster whose server is reached in a network namespace.
    #[must_use]
    pub fn cluster_inside(self, id: &str, server: &Postgres, namespace: &crate::Namespace) -> Self {
        let via = format!("    via: {{network-namespace: {}}}\n", namespace.name());
        self.cluster_at(id, server.address(), server, &via)
    }

    /// A cluster said to be elsewhere than where the server listens: behind a forwarder, say.
    /// `more` is further lines of the cluster, indented by four.
    #[must_use]
    pub fn cluster_at(
        mut self,
        id: &str,
        address: SocketAddr,
        server: &Postgres,
        more: &str,
    ) -> Self {
        let lines = cluster_lines(
            &address.to_string(),
            server.server_name(),
            &server.authorities_pem(),
            &format!("{more}{}", service_line()),
        );
        let _ = write!(self.clusters, "  {id}:\n{lines}");
        self
    }

    /// A cluster written out: lines indented by four.
    #[must_use]
    pub fn cluster_text(mut self, id: &str, lines: &str) -> Self {
        let _ = write!(self.clusters, "  {id}:\n{lines}");
        self
    }

    /// An endpoint.
    #[must_use]
    pub fn endpoint(mut self, endpoint: EndpointText) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// What stands behind `limits:`, as `{connections: 2}`.
    #[must_use]
    pub fn limits(mut self, limits: &str) -> Self {
        limits.clone_into(&mut self.limits);
        self
    }

    /// The file's text.
    #[must_use]
    pub fn yaml(&self) -> String {
        let mut text = format!("tenant: {}\n", self.id);
        let _ = writeln!(text, "networks: {}", quoted(&self.networks));
        let _ = writeln!(text, "private-links: {}", quoted(&self.private_links));
        let empty = |lines: &str| {
            if lines.is_empty() {
                " {}\n".to_owned()
            } else {
                format!("\n{lines}")
            }
        };
        let _ = write!(text, "clusters:{}", empty(&self.clusters));
        let endpoints: String = self.endpoints.iter().map(EndpointText::yaml).collect();
        let _ = write!(text, "endpoints:{}", empty(&endpoints));
        if !self.limits.is_empty() {
            let _ = writeln!(text, "limits: {}", self.limits);
        }
        text
    }
}

impl EndpointText {
    /// An endpoint of that name for the cluster of the same name, by `scram`, with one host name.
    #[must_use]
    pub fn new(id: &str, server_name: &str) -> Self {
        Self {
            id: id.to_owned(),
            cluster: id.to_owned(),
            names: vec![server_name.to_owned()],
            authentication: "scram".to_owned(),
            doors: Vec::new(),
            allow: Vec::new(),
            more: String::new(),
        }
    }

    /// Leads to another cluster than the one of its own name.
    #[must_use]
    pub fn cluster(mut self, id: &str) -> Self {
        id.clone_into(&mut self.cluster);
        self
    }

    /// A further host name.
    #[must_use]
    pub fn name(mut self, server_name: &str) -> Self {
        self.names.push(server_name.to_owned());
        self
    }

    /// What stands behind `authentication:`, as `relay` or `{certificate: {…}}`.
    #[must_use]
    pub fn authentication(mut self, text: &str) -> Self {
        text.clone_into(&mut self.authentication);
        self
    }

    /// A door without an entry: `public`, `network:ID` or `private-link:aws:ID`.
    #[must_use]
    pub fn door(mut self, origin: &str) -> Self {
        if !self.doors.iter().any(|door| door == origin) {
            self.doors.push(origin.to_owned());
        }
        self
    }

    /// An entry with this prefix (or `anywhere`), and its door with it.
    #[must_use]
    pub fn allow(self, prefix: &str, origin: &str) -> Self {
        self.allow_with(prefix, origin, "")
    }

    /// An entry with more to it: `, except: [203.0.113.9], expires: 2027-01-01T00:00:00Z`.
    #[must_use]
    pub fn allow_with(self, prefix: &str, origin: &str, more: &str) -> Self {
        let mut endpoint = self.door(origin);
        endpoint.allow.push(format!(
            "{{prefix: \"{prefix}\", origin: \"{origin}\", note: a test, owner: tests{more}}}"
        ));
        endpoint
    }

    /// Further lines of the endpoint, indented by four.
    #[must_use]
    pub fn more(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self
    }

    fn yaml(&self) -> String {
        let mut text = format!(
            "  {}:\n    cluster: {}\n    names: {}\n",
            self.id,
            self.cluster,
            quoted(&self.names)
        );
        let _ = write!(
            text,
            "    authentication: {}\n    doors: {}\n",
            self.authentication,
            quoted(&self.doors)
        );
        text.push_str(&self.more);
        if self.allow.is_empty() {
            text.push_str("    allow: []\n");
        } else {
            text.push_str("    allow:\n");
            for entry in &self.allow {
                let _ = writeln!(text, "      - {entry}");
            }
        }
        text
    }
}

/// What a cluster's policy says of the PostgreSQL at `backend` (`host:port`), reached over verified
/// TLS: lines for [`TenantText::cluster_text`]. `more` is further ones, indented by four.
#[must_use]
pub fn cluster_lines(
    backend: &str,
    server_name: &str,
    authorities_pem: &str,
    more: &str,
) -> String {
    let authorities: String = authorities_pem
        .lines()
        .map(|line| format!("        {line}\n"))
        .collect();
    format!(
        "    engine: postgresql\n    backends: [\"{backend}\"]\n{more}    tls:\n      server-name: {server_name}\n      authorities: |\n{authorities}"
    )
}

/// The line of a cluster that has a service role.
#[must_use]
pub fn service_line() -> String {
    format!("    service: {{role: {SERVICE_ROLE}, database: postgres}}\n")
}

fn quoted(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_as_a_person_would_write_it() {
        let endpoint = EndpointText::new("orders", "orders.db.test").allow("127.0.0.0/8", "public");
        let text = TenantText::new("acme")
            .network("acme-vpc")
            .cluster_text("orders", "    engine: postgresql\n")
            .endpoint(endpoint);
        assert_eq!(
            text.yaml(),
            "tenant: acme\nnetworks: [\"acme-vpc\"]\nprivate-links: []\n\
             clusters:\n  orders:\n    engine: postgresql\n\
             endpoints:\n  orders:\n    cluster: orders\n    names: [\"orders.db.test\"]\n    authentication: scram\n    doors: [\"public\"]\n    allow:\n      \
             - {prefix: \"127.0.0.0/8\", origin: \"public\", note: a test, owner: tests}\n"
        );
    }
}
