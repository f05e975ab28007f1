//! A document written back as the text of a policy file.

use super::tenant::UNENCRYPTED;
use crate::config::file_error::is_deceptive;
use portcullis_policy::{
    Authentication, Cluster, Endpoint, Engine, Entry, OnStale, Replication, Tenant, TokenKeys,
    UpstreamTls, Via,
};
use std::fmt::{self, Display, Write};

/// The YAML text of a tenant's file: reading it back gives the same document.
///
/// Certificates and keys are written into the text itself, so that it stands alone; comments and
/// the order in which things were once written are not remembered.
pub fn render(tenant: &Tenant) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_tenant(&mut text, tenant);
    text
}

fn write_tenant(out: &mut String, tenant: &Tenant) -> fmt::Result {
    writeln!(out, "tenant: {}", Word(tenant.id.as_str()))?;
    if tenant.suspended {
        writeln!(out, "suspended: true")?;
    }
    if !tenant.networks.is_empty() {
        writeln!(out, "networks: {}", Words(&tenant.networks))?;
    }
    if !tenant.private_links.is_empty() {
        writeln!(out, "private-links: {}", Words(&tenant.private_links))?;
    }
    if !tenant.clusters.is_empty() {
        writeln!(out, "clusters:")?;
        for (id, cluster) in &tenant.clusters {
            writeln!(out, "  {}:", Word(id.as_str()))?;
            write_cluster(out, cluster)?;
        }
    }
    if !tenant.endpoints.is_empty() {
        writeln!(out, "endpoints:")?;
        for (id, endpoint) in &tenant.endpoints {
            writeln!(out, "  {}:", Word(id.as_str()))?;
            write_endpoint(out, endpoint)?;
        }
    }
    let limits = &tenant.limits;
    let written = [
        ("connections", limits.connections),
        ("connections-per-endpoint", limits.connections_per_endpoint),
        (
            "new-connections-per-second",
            limits.new_connections_per_second,
        ),
    ];
    if written.iter().any(|(_, limit)| limit.is_some()) || limits.on_stale != OnStale::Serve {
        writeln!(out, "limits:")?;
        for (key, limit) in written {
            if let Some(limit) = limit {
                writeln!(out, "  {key}: {limit}")?;
            }
        }
        match limits.on_stale {
            OnStale::Serve => {}
            OnStale::REFUSE => writeln!(out, "  on-stale: refuse")?,
            OnStale::RefuseAfter(seconds) => {
                writeln!(out, "  on-stale: {{refuse-after: {seconds}}}")?;
            }
        }
    }
    Ok(())
}

fn write_cluster(out: &mut String, cluster: &Cluster) -> fmt::Result {
    let engine = match cluster.engine {
        Engine::Postgresql => "postgresql",
        Engine::Yugabytedb => "yugabytedb",
    };
    writeln!(out, "    engine: {engine}")?;
    writeln!(out, "    backends: {}", Words(&cluster.backends))?;
    match &cluster.via {
        Some(Via::NetworkNamespace(name)) => {
            writeln!(out, "    via: {{network-namespace: {}}}", Word(name))?;
        }
        Some(Via::Interface(name)) => writeln!(out, "    via: {{interface: {}}}", Word(name))?,
        None => {}
    }
    match &cluster.tls {
        UpstreamTls::Unencrypted => writeln!(out, "    tls: {UNENCRYPTED}")?,
        UpstreamTls::Verified {
            server_name,
            authorities,
        } => {
            writeln!(out, "    tls:")?;
            writeln!(out, "      server-name: {}", Word(server_name))?;
            writeln!(out, "      authorities: {}", Block(authorities, 8))?;
        }
    }
    if let Some(service) = &cluster.service {
        writeln!(
            out,
            "    service: {{role: {}, database: {}}}",
            Word(&service.role),
            Word(&service.database)
        )?;
    }
    Ok(())
}

fn write_endpoint(out: &mut String, endpoint: &Endpoint) -> fmt::Result {
    writeln!(out, "    cluster: {}", Word(endpoint.cluster.as_str()))?;
    writeln!(out, "    names: {}", Words(&endpoint.names))?;
    if endpoint.suspended {
        writeln!(out, "    suspended: true")?;
    }
    match endpoint.replication {
        Replication::Refused => {}
        Replication::Allowed => writeln!(out, "    replication: allowed")?,
    }
    write_authentication(out, &endpoint.authentication)?;
    writeln!(out, "    doors: {}", Words(&endpoint.doors))?;
    if endpoint.allow.is_empty() {
        return writeln!(out, "    allow: []");
    }
    writeln!(out, "    allow:")?;
    for entry in &endpoint.allow {
        write_entry(out, entry)?;
    }
    Ok(())
}

fn write_authentication(out: &mut String, authentication: &Authentication) -> fmt::Result {
    match authentication {
        Authentication::Scram => writeln!(out, "    authentication: scram"),
        Authentication::Relay => writeln!(out, "    authentication: relay"),
        Authentication::Certificate { authorities, map } => {
            writeln!(out, "    authentication:")?;
            writeln!(out, "      certificate:")?;
            writeln!(out, "        authorities: {}", Block(authorities, 10))?;
            let rules = map.iter().map(|rule| (&*rule.name, &*rule.role));
            write_rules(out, "name", rules)
        }
        Authentication::Token {
            issuer,
            audience,
            keys,
            claim,
            map,
        } => {
            writeln!(out, "    authentication:")?;
            writeln!(out, "      token:")?;
            writeln!(out, "        issuer: {}", Word(issuer))?;
            writeln!(out, "        audience: {}", Word(audience))?;
            match keys {
                TokenKeys::Inline(keys) => writeln!(out, "        keys: {}", Block(keys, 10))?,
                TokenKeys::Url(url) => writeln!(out, "        keys-url: {}", Word(url))?,
            }
            writeln!(out, "        claim: {}", Word(claim))?;
            let rules = map.iter().map(|rule| (&*rule.value, &*rule.role));
            write_rules(out, "value", rules)
        }
    }
}

fn write_rules<'a>(
    out: &mut String,
    key: &str,
    rules: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
) -> fmt::Result {
    if rules.len() == 0 {
        return writeln!(out, "        map: []");
    }
    writeln!(out, "        map:")?;
    for (subject, role) in rules {
        writeln!(
            out,
            "          - {{{key}: {}, role: {}}}",
            Word(subject),
            Word(role)
        )?;
    }
    Ok(())
}

fn write_entry(out: &mut String, entry: &Entry) -> fmt::Result {
    write!(
        out,
        "      - {{prefix: {}, origin: {}",
        Word(&entry.addresses.to_string()),
        Word(&entry.origin.to_string())
    )?;
    if !entry.except.is_empty() {
        write!(out, ", except: {}", Words(&entry.except))?;
    }
    if !entry.note.is_empty() {
        write!(out, ", note: {}", Word(&entry.note))?;
    }
    if !entry.owner.is_empty() {
        write!(out, ", owner: {}", Word(&entry.owner))?;
    }
    if let Some(expires) = entry.expires {
        write!(out, ", expires: {expires}")?;
    }
    writeln!(out, "}}")
}

/// A scalar: plain where every reader of YAML takes it for the same text, else in double quotes.
struct Word<'a>(&'a str);

impl Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_plain(self.0) {
            return f.write_str(self.0);
        }
        f.write_char('"')?;
        for character in self.0.chars() {
            match character {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                _ if is_deceptive(character) => {
                    write!(f, "\\U{:08X}", u32::from(character))?;
                }
                _ => f.write_char(character)?,
            }
        }
        f.write_char('"')
    }
}

/// A text of letters, digits and harmless marks that no reader of YAML takes for a number, a flag,
/// a date or nothing.
fn is_plain(text: &str) -> bool {
    const ELSEWHERE: [&str; 10] = [
        "null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf",
    ];
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '@'))
        && !ELSEWHERE.contains(&text.to_ascii_lowercase().as_str())
}

/// A list on one line.
struct Words<T>(T);

impl<T> Display for Words<&T>
where
    for<'a> &'a T: IntoIterator<Item: Display>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('[')?;
        for (index, item) in self.0.into_iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", Word(&item.to_string()))?;
        }
        f.write_char(']')
    }
}

/// A text of several lines, indented by so many spaces; in quotes if a block could not keep it.
struct Block<'a>(&'a str, usize);

impl Display for Block<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(text, indent) = self;
        let keeps = text.ends_with('\n')
            && !text.ends_with("\n\n")
            && !text.starts_with([' ', '\n'])
            && text
                .chars()
                .all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic());
        if !keeps {
            return Word(text).fmt(f);
        }
        f.write_char('|')?;
        for line in text.lines() {
            f.write_char('\n')?;
            if !line.is_empty() {
                write!(f, "{:indent$}{line}", "")?;
            }
        }
        Ok(())
    }
}
