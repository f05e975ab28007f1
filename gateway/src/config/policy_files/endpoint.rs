//! The endpoints of a tenant's file and their allow lists.

use super::authentication;
use super::fields::Reader;
use super::tenant::set;
use super::yaml::{Key, Node, Value};
use crate::config::file_error::quoted;
use portcullis_policy::{
    Addresses, ClusterId, Endpoint, EndpointId, Entry, Origin, Prefix, Replication, ServerName,
    Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// All endpoints of a tenant; `None` when a mistake was recorded.
pub(super) fn read_all(
    reader: &mut Reader<'_>,
    node: &Node<'_>,
) -> Option<BTreeMap<EndpointId, Endpoint>> {
    let pairs = reader.named(node, "endpoints", "orders: {cluster: orders, …}")?;
    let mut endpoints = BTreeMap::new();
    let mut complete = true;
    for pair in pairs {
        let id: Option<EndpointId> = reader.parsed_key(&pair.key, "endpoints");
        match (id, endpoint(reader, &pair.key, &pair.value)) {
            (Some(id), Some(endpoint)) => {
                endpoints.insert(id, endpoint);
            }
            _ => complete = false,
        }
    }
    complete.then_some(endpoints)
}

fn endpoint(reader: &mut Reader<'_>, key: &Key<'_>, node: &Node<'_>) -> Option<Endpoint> {
    const KNOWN: &[&str] = &[
        "cluster",
        "names",
        "suspended",
        "replication",
        "authentication",
        "doors",
        "allow",
    ];
    let name = &*key.text;
    let path = format!("endpoints.{name}");
    reader.place(path.as_str(), &key.at);
    let fields = reader.fields(node, &format!("endpoint {name}"), KNOWN)?;
    let missing = |what: &str| format!("endpoint {name} has no {what}");

    let advice = missing("`cluster`: write the name of the cluster that it leads to");
    let cluster: Option<ClusterId> =
        fields
            .need(reader, "cluster", &key.at, &advice)
            .and_then(|node| {
                reader.place(format!("{path}.cluster"), &node.at);
                reader.parsed(node, "cluster")
            });
    let advice = missing(
        "`names`: write the host names that clients connect to, like `names: [acme-orders.db.example.net]`",
    );
    let names = fields
        .need(reader, "names", &key.at, &advice)
        .and_then(|node| names(reader, node, &path));
    let suspended = match fields.get("suspended") {
        Some(node) => reader.flag(node, "suspended"),
        None => Some(false),
    };
    let replication = match fields.get("replication") {
        Some(node) => replication(reader, node),
        None => Some(Replication::Refused),
    };
    let advice =
        missing("`authentication`: write `scram`, `relay`, `{certificate: …}` or `{token: …}`");
    let authentication = fields
        .need(reader, "authentication", &key.at, &advice)
        .and_then(|node| authentication::read(reader, node, &path));
    let advice = missing(
        "`doors`: write the origins from which it can be reached at all, or `doors: []` for none",
    );
    let doors: Option<BTreeSet<Origin>> =
        fields
            .need(reader, "doors", &key.at, &advice)
            .and_then(|node| {
                reader.place(format!("{path}.doors"), &node.at);
                set(reader, node, "doors", &format!("{path}.doors"))
            });
    let advice = missing("`allow`: write the entries, or `allow: []` for nobody");
    if let Some(pair) = fields.pair("allow") {
        reader.place(format!("{path}.allow"), &pair.key.at);
    }
    let allow = fields
        .need(reader, "allow", &key.at, &advice)
        .and_then(|node| allow(reader, node, &path));
    Some(Endpoint {
        cluster: cluster?,
        names: names?,
        suspended: suspended?,
        replication: replication?,
        authentication: authentication?,
        doors: doors?,
        allow: allow?,
    })
}

fn names(reader: &mut Reader<'_>, node: &Node<'_>, path: &str) -> Option<Vec<ServerName>> {
    reader.place(format!("{path}.names"), &node.at);
    let items = reader.list(node, "names", "host names")?;
    let mut names = Vec::new();
    for (index, item) in items.iter().enumerate() {
        reader.place(format!("{path}.names[{index}]"), &item.at);
        names.extend(reader.parsed::<ServerName>(item, "names"));
    }
    (names.len() == items.len()).then_some(names)
}

fn replication(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Replication> {
    match reader.text(node, "replication")? {
        "refused" => Some(Replication::Refused),
        "allowed" => Some(Replication::Allowed),
        other => reader.complain(
            &node.at,
            format!(
                "replication: {} is neither refused nor allowed",
                quoted(other)
            ),
        ),
    }
}

/// The allow list. Nothing written is not an empty list: an operator who deletes the last line must say what he means.
fn allow(reader: &mut Reader<'_>, node: &Node<'_>, path: &str) -> Option<Vec<Entry>> {
    let items = reader.list(node, "allow", "`[]` for nobody")?;
    let entries: Vec<Option<Entry>> = items
        .iter()
        .enumerate()
        .map(|(index, item)| entry(reader, item, &format!("{path}.allow[{index}]")))
        .collect();
    entries.into_iter().collect()
}

fn entry(reader: &mut Reader<'_>, node: &Node<'_>, path: &str) -> Option<Entry> {
    const KNOWN: &[&str] = &["prefix", "origin", "except", "note", "owner", "expires"];
    reader.place(path, &node.at);
    let fields = reader.fields(node, "an entry", KNOWN)?;
    let addresses: Option<Addresses> = fields
        .need(
            reader,
            "prefix",
            &node.at,
            "an entry without `prefix`: write the addresses that it allows",
        )
        .and_then(|node| {
            reader.place(format!("{path}.prefix"), &node.at);
            reader.parsed(node, "prefix")
        });
    let origin: Option<Origin> = fields
        .need(
            reader,
            "origin",
            &node.at,
            "an entry without `origin`: write public, network:ID or private-link:CLOUD:ID; the same addresses may come by several ways",
        )
        .and_then(|node| {
            reader.place(format!("{path}.origin"), &node.at);
            reader.parsed(node, "origin")
        });
    let except = match fields.get("except") {
        Some(node) => except(reader, node, path),
        None => Some(Vec::new()),
    };
    let mut words = |key: &'static str| match fields.get(key) {
        Some(node) => {
            reader.place(format!("{path}.{key}"), &node.at);
            words(reader, node, key)
        }
        None => Some(String::new()),
    };
    let (note, owner) = (words("note"), words("owner"));
    let expires = match fields.get("expires") {
        Some(node) => {
            reader.place(format!("{path}.expires"), &node.at);
            moment(reader, node).map(Some)
        }
        None => Some(None),
    };
    Some(Entry {
        addresses: addresses?,
        origin: origin?,
        except: except?,
        note: note?,
        owner: owner?,
        expires: expires?,
    })
}

fn except(reader: &mut Reader<'_>, node: &Node<'_>, path: &str) -> Option<Vec<Prefix>> {
    reader.place(format!("{path}.except"), &node.at);
    let items = reader.list(node, "except", "`[]` for no exception, or leave it out")?;
    let mut prefixes = Vec::new();
    for (index, item) in items.iter().enumerate() {
        reader.place(format!("{path}.except[{index}]"), &item.at);
        prefixes.extend(reader.parsed::<Prefix>(item, "except"));
    }
    (prefixes.len() == items.len()).then_some(prefixes)
}

/// A note or an owner; written empty, it is empty.
fn words(reader: &mut Reader<'_>, node: &Node<'_>, what: &str) -> Option<String> {
    match &node.value {
        Value::Text { text, .. } => Some(text.clone().into_owned()),
        Value::Null => reader.complain(
            &node.at,
            format!("{what}: nothing is written here; write words, or leave it out"),
        ),
        Value::List(_) | Value::Map(_) => {
            reader.complain(&node.at, format!("{what}: a single text is needed here"))
        }
    }
}

/// A moment in UTC; where another offset or a missing one is written, the message says which moment that is.
fn moment(reader: &mut Reader<'_>, node: &Node<'_>) -> Option<Timestamp> {
    let text = reader.text(node, "expires")?;
    let error = match text.parse::<Timestamp>() {
        Ok(moment) => return Some(moment),
        Err(error) => error,
    };
    let advice = match OffsetDateTime::parse(text, &Rfc3339) {
        Ok(elsewhere) => {
            let millis = elsewhere.unix_timestamp_nanos().div_euclid(1_000_000);
            let utc = Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
            format!("expires: {error}; write {utc}")
        }
        Err(_) => format!("expires: {error}"),
    };
    reader.complain(&node.at, advice)
}
