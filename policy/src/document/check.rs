//! The walk over a document, top to bottom.

use super::authentication::authentication;
use super::words::{fail, host, interface, line, network_namespace, pem, role};
use super::{DocumentError, DocumentPath, DocumentProblem};
use crate::id::EndpointId;
use crate::limits::{
    MAX_ATTACHMENTS, MAX_BACKENDS, MAX_CLUSTERS, MAX_DOORS, MAX_ENDPOINTS, MAX_NAMES,
    MAX_REFUSED_AFTER, MIN_REFUSED_AFTER,
};
use crate::network::{AddressSet, Family, entry_addresses};
use crate::origin::Origin;
use crate::server_name::ServerName;
use crate::tenant::{Addresses, Cluster, Endpoint, Entry, Tenant, UpstreamTls, Via};
use crate::tenant_limits::{OnStale, TenantLimits};
use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

type Checked = Result<(), DocumentError>;

pub(super) fn tenant(tenant: &Tenant, max_entries: usize) -> Checked {
    let root = DocumentPath::root();
    at_most(
        &root.key("clusters"),
        "clusters",
        tenant.clusters.len(),
        MAX_CLUSTERS,
    )?;
    at_most(
        &root.key("networks"),
        "networks",
        tenant.networks.len(),
        MAX_ATTACHMENTS,
    )?;
    let links = root.key("private-links");
    at_most(
        &links,
        "private links",
        tenant.private_links.len(),
        MAX_ATTACHMENTS,
    )?;
    let endpoints = root.key("endpoints");
    at_most(
        &endpoints,
        "endpoints",
        tenant.endpoints.len(),
        MAX_ENDPOINTS,
    )?;
    at_most(
        &endpoints,
        "entries and excepts",
        tenant.weight(),
        max_entries,
    )?;
    limits(&root.key("limits"), &tenant.limits)?;
    for (id, value) in &tenant.clusters {
        cluster(&root.key("clusters").key(id.as_str()), value)?;
    }
    let mut names = BTreeMap::new();
    for (id, value) in &tenant.endpoints {
        let at = endpoints.key(id.as_str());
        endpoint(&at, value, tenant)?;
        unique_names(&at.key("names"), id, &value.names, &mut names)?;
    }
    Ok(())
}

fn limits(at: &DocumentPath, limits: &TenantLimits) -> Checked {
    let said = [
        ("connections", limits.connections),
        ("connections-per-endpoint", limits.connections_per_endpoint),
        (
            "new-connections-per-second",
            limits.new_connections_per_second,
        ),
    ];
    // Nobody at all is said by suspending the tenant, so that the denial tells the truth.
    match said.into_iter().find(|(_, value)| *value == Some(0)) {
        Some((what, _)) => fail(at.key(what), DocumentProblem::Zero(what)),
        None => on_stale(at.key("on-stale"), limits.on_stale),
    }
}

fn on_stale(at: DocumentPath, said: OnStale) -> Checked {
    match said {
        OnStale::Serve | OnStale::RefuseAfter(MIN_REFUSED_AFTER..=MAX_REFUSED_AFTER) => Ok(()),
        OnStale::RefuseAfter(seconds) => fail(at, DocumentProblem::RefusedAfter(seconds)),
    }
}

fn cluster(at: &DocumentPath, cluster: &Cluster) -> Checked {
    let backends = at.key("backends");
    if cluster.backends.is_empty() {
        return fail(backends, DocumentProblem::None("backend"));
    }
    at_most(&backends, "backends", cluster.backends.len(), MAX_BACKENDS)?;
    let mut seen = BTreeSet::new();
    for (index, backend) in cluster.backends.iter().enumerate() {
        let at = backends.index(index);
        host(at.clone(), &backend.host)?;
        if backend.port == 0 {
            return fail(at, DocumentProblem::Zero("the port"));
        }
        if !seen.insert(backend) {
            return fail(at, DocumentProblem::Twice(backend.to_string()));
        }
    }
    match &cluster.tls {
        UpstreamTls::Verified {
            server_name,
            authorities,
        } => {
            host(at.key("tls").key("server-name"), server_name)?;
            pem(at.key("tls").key("authorities"), authorities)?;
        }
        UpstreamTls::Unencrypted => {}
    }
    let via = at.key("via");
    match &cluster.via {
        Some(Via::NetworkNamespace(name)) => network_namespace(via.key("network-namespace"), name)?,
        Some(Via::Interface(name)) => interface(via.key("interface"), name)?,
        None => {}
    }
    if let Some(service) = &cluster.service {
        role(at.key("service").key("role"), "the role", &service.role)?;
        role(
            at.key("service").key("database"),
            "the database",
            &service.database,
        )?;
    }
    Ok(())
}

fn endpoint(at: &DocumentPath, endpoint: &Endpoint, tenant: &Tenant) -> Checked {
    if !tenant.clusters.contains_key(&endpoint.cluster) {
        return fail(
            at.key("cluster"),
            DocumentProblem::NoSuchCluster(endpoint.cluster.clone()),
        );
    }
    let names = at.key("names");
    if endpoint.names.is_empty() {
        return fail(names, DocumentProblem::None("name"));
    }
    at_most(&names, "names", endpoint.names.len(), MAX_NAMES)?;
    authentication(&at.key("authentication"), &endpoint.authentication)?;
    let doors = at.key("doors");
    at_most(&doors, "doors", endpoint.doors.len(), MAX_DOORS)?;
    for door in &endpoint.doors {
        // A set has no order of its own, so no position is named.
        claimed(doors.clone(), door, tenant)?;
    }
    let allow = at.key("allow");
    for (index, value) in endpoint.allow.iter().enumerate() {
        entry(&allow.index(index), value, tenant)?;
    }
    everyone_is_said(&allow, &endpoint.allow)
}

fn entry(at: &DocumentPath, entry: &Entry, tenant: &Tenant) -> Checked {
    claimed(at.key("origin"), &entry.origin, tenant)?;
    for (index, except) in entry.except.iter().enumerate() {
        let inside = match entry.addresses {
            Addresses::Prefix(prefix) => prefix.covers(except),
            Addresses::Anywhere => true,
        };
        if !inside {
            return fail(
                at.key("except").index(index),
                DocumentProblem::ExceptOutside(*except, entry.addresses),
            );
        }
    }
    line(at.key("note"), "the note", &entry.note)?;
    line(at.key("owner"), "the owner", &entry.owner)?;
    let in_range =
        |moment: Timestamp| (Timestamp::from_millis(0)..=Timestamp::LAST).contains(&moment);
    match entry.expires.is_none_or(in_range) {
        true => Ok(()),
        false => fail(at.key("expires"), DocumentProblem::MomentOutOfRange),
    }
}

/// The guard on "everyone": what the entries of a door cover together, whatever the pieces look like and whenever they
/// expire, may be a whole family only when one of them says `anywhere`.
fn everyone_is_said(at: &DocumentPath, allow: &[Entry]) -> Checked {
    let mut doors: BTreeMap<&Origin, Vec<&Entry>> = BTreeMap::new();
    for entry in allow {
        doors.entry(&entry.origin).or_default().push(entry);
    }
    for (door, entries) in doors {
        if entries
            .iter()
            .any(|entry| entry.addresses == Addresses::Anywhere)
        {
            continue;
        }
        let covered = entries_together(&entries);
        for family in [Family::V4, Family::V6] {
            if covered.is_every(family) {
                return fail(
                    at.clone(),
                    DocumentProblem::EveryoneUnsaid(door.clone(), family),
                );
            }
        }
    }
    Ok(())
}

fn entries_together(entries: &[&Entry]) -> AddressSet {
    AddressSet::union_of(entries.iter().map(|entry| entry_addresses(entry)))
}

/// Each server name once in the tenant; that it is unique in the fleet is the state's business.
fn unique_names<'a>(
    at: &DocumentPath,
    endpoint: &'a EndpointId,
    names: &'a [ServerName],
    seen: &mut BTreeMap<&'a ServerName, &'a EndpointId>,
) -> Checked {
    for (index, name) in names.iter().enumerate() {
        if let Some(other) = seen.insert(name, endpoint) {
            return fail(
                at.index(index),
                DocumentProblem::NameTwice(name.clone(), other.clone()),
            );
        }
    }
    Ok(())
}

fn claimed(at: DocumentPath, origin: &Origin, tenant: &Tenant) -> Checked {
    let ours = match origin {
        Origin::Public => true,
        Origin::Network(id) => tenant.networks.contains(id),
        Origin::PrivateLink(id) => tenant.private_links.contains(id),
    };
    match ours {
        true => Ok(()),
        false => fail(at, DocumentProblem::NotClaimed(origin.clone())),
    }
}

fn at_most(at: &DocumentPath, what: &'static str, count: usize, maximum: usize) -> Checked {
    match count > maximum {
        true => fail(
            at.clone(),
            DocumentProblem::TooMany {
                what,
                count,
                maximum,
            },
        ),
        false => Ok(()),
    }
}
