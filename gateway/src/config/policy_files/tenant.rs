//! One tenant's file: its attachments, clusters and limits. Endpoints are read next door.

use super::endpoint;
use super::fields::{Fields, Reader};
use super::yaml::{Key, Node, Value};
use crate::config::file_error::quoted;
use portcullis_policy::{
    Backend, Cluster, ClusterId, Engine, NetworkId, OnStale, PrivateLinkId, Service, Tenant,
    TenantId, TenantLimits, UpstreamTls, Via,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// What the document at `root` says; `None` when a mistake was recorded.
///
/// The policy crate's own rules are not checked here: that needs a whole document.
pub(super) fn read(reader: &mut Reader<'_>, root: &Node<'_>) -> Option<Tenant> {
    const KNOWN: &[&str] = &[
        "tenant",
        "suspended",
        "networks",
        "private-links",
        "clusters",
        "endpoints",
        "limits",
    ];
    let fields = reader.fields(root, "a tenant", KNOWN)?;
    for key in KNOWN {
        if let Some(pair) = fields.pair(key) {
            reader.place(*key, &pair.key.at);
        }
    }
    let id = tenant_id(reader, &fields, root);
    let suspended = match fields.get("suspended") {
        Some(node) => reader.flag(node, "suspended"),
        None => Some(false),
    };
    let networks: Option<BTreeSet<NetworkId>> = match fields.get("networks") {
        Some(node) => set(reader, node, "networks", "networks"),
        None => Some(BTreeSet::new()),
    };
    let private_links: Option<BTreeSet<PrivateLinkId>> = match fields.get("private-links") {
        Some(node) => set(reader, node, "private-links", "private-links"),
        None => Some(BTreeSet::new()),
    };
    let clusters = match fields.get("clusters") {
        Some(node) => clusters(reader, node),
        None => Some(BTreeMap::new()),
    };
    let endpoints = match fields.get("endpoints") {
        Some(node) => endpoint::read_all(reader, node),
        None => Some(BTreeMap::new()),
    };
    let limits = limits(reader, &fields);
    Some(Tenant {
        id: id?,
        suspended: suspended?,
        clusters: clusters?,
        networks: networks?,
        private_links: private_links?,
        endpoints: endpoints?,
        limits: limits?,
    })
}

/// A list in which nothing is written twice.
pub(super) fn set<T: FromStr<Err: fmt::Display> + Ord>(
    reader: &mut Reader<'_>,
    node: &Node<'_>,
    what: &str,
    path: &str,
) -> Option<BTreeSet<T>> {
    let items = reader.list(node, what, "`[]` for none")?;
    let mut set = BTreeMap::new();
    let mut complete = true;
    for item in items {
        match reader.parsed::<T>(item, what) {
            Some(value) => {
                if set.insert(value, item.at.clone()).is_some() {
                    complete = false;
                    reader.complain::<()>(&item.at, format!("{what}: this is written twice"));
                }
            }
            None => complete = false,
        }
    }
    // A document counts the items of a set in their order, whatever the order of the file.
    for (index, at) in set.values().enumerate() {
        reader.place(format!("{path}[{index}]"), at);
    }
    complete.then(|| set.into_keys().collect())
}

fn tenant_id(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    root: &Node<'_>,
) -> Option<TenantId> {
    let node = fields.need(
        reader,
        "tenant",
        &root.at,
        "no `tenant`: write the tenant's id, which is also the file's name",
    )?;
    let id: TenantId = reader.parsed(node, "tenant")?;
    reader.place("id", &node.at);
    let file = reader.source.name;
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    if stem != id.as_str() {
        return reader.complain(
            &node.at,
            format!("tenant {id} stands in a file named {file}; a tenant's file is named after it"),
        );
    }
    Some(id)
}

fn limits(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> Option<TenantLimits> {
    const KNOWN: &[&str] = &[
        "connections",
        "connections-per-endpoint",
        "new-connections-per-second",
        "on-stale",
    ];
    let mut limits = TenantLimits::none_said();
    let Some(pair) = fields.pair("limits") else {
        return Some(limits);
    };
    reader.place("limits", &pair.key.at);
    let fields = reader.fields(&pair.value, "limits", KNOWN)?;
    let slots = [
        (&mut limits.connections, "connections"),
        (
            &mut limits.connections_per_endpoint,
            "connections-per-endpoint",
        ),
        (
            &mut limits.new_connections_per_second,
            "new-connections-per-second",
        ),
    ];
    let mut complete = true;
    for (slot, key) in slots {
        if let Some(node) = fields.get(key) {
            reader.place(format!("limits.{key}"), &node.at);
            *slot = reader.number(node, key);
            complete &= slot.is_some();
        }
    }
    if let Some(node) = fields.get("on-stale") {
        reader.place("limits.on-stale", &node.at);
        match on_stale(reader, node) {
            Some(said) => limits.on_stale = said,
            None => complete = false,
        }
    }
    complete.then_some(limits)
}

fn on_stale(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<OnStale> {
    const ADVICE: &str = "write serve, refuse, or `{refuse-after: 60}` with the seconds";
    match &node.value {
        Value::Text { text, .. } if text == "serve" => Some(OnStale::Serve),
        Value::Text { text, .. } if text == "refuse" => Some(OnStale::REFUSE),
        Value::Text { text, .. } => {
            let message = format!("on-stale: {} is none of its words; {ADVICE}", quoted(text));
            reader.complain(&node.at, message)
        }
        Value::Null | Value::List(_) => reader.complain(&node.at, format!("on-stale: {ADVICE}")),
        Value::Map(_) => {
            let fields = reader.fields(node, "on-stale", &["refuse-after"])?;
            let advice = format!("on-stale: {ADVICE}");
            let seconds = fields.need(reader, "refuse-after", &node.at, &advice)?;
            reader
                .number(seconds, "refuse-after")
                .map(OnStale::RefuseAfter)
        }
    }
}

fn clusters(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<BTreeMap<ClusterId, Cluster>> {
    let pairs = reader.named(node, "clusters", "orders: {engine: postgresql, …}")?;
    let mut clusters = BTreeMap::new();
    let mut complete = true;
    for pair in pairs {
        let id: Option<ClusterId> = reader.parsed_key(&pair.key, "clusters");
        match (id, cluster(reader, &pair.key, &pair.value)) {
            (Some(id), Some(cluster)) => {
                clusters.insert(id, cluster);
            }
            _ => complete = false,
        }
    }
    complete.then_some(clusters)
}

fn cluster(reader: &mut Reader<'_>, key: &Key<'_>, node: &Node<'_>) -> Option<Cluster> {
    const KNOWN: &[&str] = &["engine", "backends", "via", "tls", "service"];
    let name = &*key.text;
    let path = format!("clusters.{name}");
    reader.place(path.as_str(), &key.at);
    let fields = reader.fields(node, &format!("cluster {name}"), KNOWN)?;

    let engine = fields
        .need(
            reader,
            "engine",
            &key.at,
            &format!(
                "cluster {name} has no `engine`: write `engine: postgresql` or `engine: yugabytedb`"
            ),
        )
        .and_then(|node| engine(reader, node));
    let backends = fields
        .need(
            reader,
            "backends",
            &key.at,
            &format!("cluster {name} has no `backends`: write its addresses, like `backends: [\"10.0.0.10:5432\"]`"),
        )
        .and_then(|node| backends(reader, node, &path));
    let via = match fields.get("via") {
        Some(node) => via(reader, node, &path).map(Some),
        None => Some(None),
    };
    let tls = fields
        .need(
            reader,
            "tls",
            &key.at,
            &format!(
                "cluster {name} has no `tls`: write `tls: {{server-name: …, authorities-file: …}}`"
            ),
        )
        .and_then(|node| upstream_tls(reader, node, &path));
    let service = match fields.get("service") {
        Some(node) => service(reader, node, &path).map(Some),
        None => Some(None),
    };
    Some(Cluster {
        engine: engine?,
        backends: backends?,
        tls: tls?,
        via: via?,
        service: service?,
    })
}

fn engine(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Engine> {
    match reader.text(node, "engine")? {
        "postgresql" => Some(Engine::Postgresql),
        "yugabytedb" => Some(Engine::Yugabytedb),
        other => reader.complain(
            &node.at,
            format!(
                "engine: {} is neither postgresql nor yugabytedb",
                quoted(other)
            ),
        ),
    }
}

fn backends(reader: &mut Reader<'_>, node: &Node<'_>, path: &str) -> Option<Vec<Backend>> {
    reader.place(format!("{path}.backends"), &node.at);
    let items = reader.list(node, "backends", "addresses, like `[\"10.0.0.10:5432\"]`")?;
    let mut backends = Vec::new();
    for (index, item) in items.iter().enumerate() {
        reader.place(format!("{path}.backends[{index}]"), &item.at);
        if let Some(text) = reader.text(item, "backends") {
            match backend(text) {
                Some(backend) => backends.push(backend),
                None => {
                    reader.complain::<()>(
                        &item.at,
                        format!(
                            "backends: {} is not a host and a port, like \"10.0.0.10:5432\", \"[2001:db8::1]:5432\" or \"db.internal:5432\"",
                            quoted(text)
                        ),
                    );
                }
            }
        }
    }
    (backends.len() == items.len()).then_some(backends)
}

/// `host:port`; an IPv6 address in brackets, as in a URL (RFC 3986 §3.2.2).
fn backend(text: &str) -> Option<Backend> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']')?;
            inner.parse::<std::net::Ipv6Addr>().ok()?;
            inner
        }
        None if host.is_empty() || host.contains([':', '[', ']']) => return None,
        None => host,
    };
    let digits = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| port.parse().ok())??;
    Some(Backend {
        host: host.to_owned(),
        port,
    })
}

fn via(reader: &mut Reader<'_>, node: &Node<'_>, path: &str) -> Option<Via> {
    const KNOWN: &[&str] = &["network-namespace", "interface"];
    reader.place(format!("{path}.via"), &node.at);
    let fields = reader.fields(node, "via", KNOWN)?;
    match (fields.get("network-namespace"), fields.get("interface")) {
        (Some(name), None) => {
            let text = reader.text(name, "network-namespace")?;
            Some(Via::NetworkNamespace(text.to_owned()))
        }
        (None, Some(name)) => {
            let text = reader.text(name, "interface")?;
            Some(Via::Interface(text.to_owned()))
        }
        _ => reader.complain(
            &node.at,
            "via: write either `network-namespace` or `interface`",
        ),
    }
}

fn upstream_tls(reader: &mut Reader<'_>, node: &Node<'_>, path: &str) -> Option<UpstreamTls> {
    const KNOWN: &[&str] = &["server-name", "authorities", "authorities-file"];
    const ADVICE: &str =
        "write `{server-name: …, authorities-file: …}`, or the words unencrypted-and-unverified";
    let path = format!("{path}.tls");
    reader.place(path.as_str(), &node.at);
    match &node.value {
        Value::Text { text, .. } if text == UNENCRYPTED => return Some(UpstreamTls::Unencrypted),
        Value::Text { text, .. } => {
            let message = format!("tls: {} is not enough; {ADVICE}", quoted(text));
            return reader.complain(&node.at, message);
        }
        Value::Null => return reader.complain(&node.at, format!("tls: {ADVICE}")),
        Value::List(_) | Value::Map(_) => {}
    }
    let fields = reader.fields(node, "tls", KNOWN)?;
    let server_name = fields
        .need(
            reader,
            "server-name",
            &node.at,
            "tls: no `server-name`: write the name that the database's certificate must carry",
        )
        .and_then(|node| {
            reader.place(format!("{path}.server-name"), &node.at);
            reader.text(node, "server-name")
        });
    let authorities = reader.authorities(&fields, &node.at, "tls", &path);
    Some(UpstreamTls::Verified {
        server_name: server_name?.to_owned(),
        authorities: authorities?,
    })
}

/// What must be written for a cluster to be reached without TLS.
pub(super) const UNENCRYPTED: &str = "unencrypted-and-unverified";

fn service(reader: &mut Reader<'_>, node: &Node<'_>, path: &str) -> Option<Service> {
    const KNOWN: &[&str] = &["role", "database"];
    reader.place(format!("{path}.service"), &node.at);
    let fields = reader.fields(node, "service", KNOWN)?;
    let mut field = |key: &'static str| {
        let advice = format!("service: no `{key}`; write `{{role: …, database: …}}`");
        let node = fields.need(reader, key, &node.at, &advice)?;
        reader.place(format!("{path}.service.{key}"), &node.at);
        reader.text(node, key).map(str::to_owned)
    };
    let (role, database) = (field("role"), field("database"));
    Some(Service {
        role: role?,
        database: database?,
    })
}
