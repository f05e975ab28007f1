//! Policy as files: a directory of YAML, one tenant to a file, and the certificates they refer to.
//!
//! [`collect()`] reads the directory into [`PolicyFiles`], plain text that can also travel to the
//! admin API; [`parse`] turns it into documents, all of them or none; [`render()`] writes a document
//! back. The tenant's id is the file's name. `authorities-file` and `keys-file` are relative to
//! the directory and never lead out of it.
//!
//! Every value is read as the text that was typed and checked by the type it is meant to be:
//! nothing is guessed from its looks, so that `no` can be a name and `1e3` is not a number.
//!
//! Deliberately absent: anchors, aliases, merge keys, tags, several documents in a file (see
//! `yaml.rs`); a default for anything that could let somebody in; private keys, which are refused
//! wherever they turn up and never quoted.

mod authentication;
mod collect;
mod endpoint;
mod fields;
mod render;
mod tenant;
mod yaml;

pub use collect::collect;
pub use render::render;

use super::file_error::{FileError, Source, quoted};
use fields::Reader;
use portcullis_policy::Tenant;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The largest single file, in bytes.
pub const MAX_POLICY_FILE_BYTES: u64 = 4 << 20;
/// The most files, tenants and what they refer to.
pub const MAX_POLICY_FILES: usize = 20_000;
/// The most text in all files together, in bytes.
pub const MAX_POLICY_BYTES: u64 = 128 << 20;
/// The most mistakes told at once.
pub const MAX_POLICY_ERRORS: usize = 1_000;

/// The policy directory as text: path relative to it, with `/` between names, and content.
///
/// Tenant files are those at the top level whose name ends in `.yaml` or `.yml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicyFiles {
    /// Path → text.
    pub files: BTreeMap<String, String>,
}

/// All tenants of `files`, in the order of their ids; what a file refers to is taken in.
///
/// Each document satisfies `Tenant::validate`. That two tenants do not claim the same network,
/// private link or server name is checked among these files; against the tenants that are running
/// it is the state's to refuse.
///
/// Errors: every mistake in every file, up to [`MAX_POLICY_ERRORS`]; one mistake refuses all.
pub fn parse(files: &PolicyFiles) -> Result<Vec<Tenant>, Vec<FileError>> {
    check_limits(files)?;
    let mut tenants: BTreeMap<_, Tenant> = BTreeMap::new();
    let mut claims = Claims::default();
    let mut used = BTreeSet::new();
    let mut errors = Vec::new();
    for (name, text) in files.files.iter().filter(|(name, _)| is_tenant_file(name)) {
        let source = Source { name, text };
        let mut reader = Reader::new(source, files);
        let tenant = match yaml::read(&source) {
            Ok(root) => document(&mut reader, &root),
            Err(mistakes) => {
                errors.extend(mistakes);
                None
            }
        };
        if let Some(tenant) = &tenant {
            claims.add(&mut reader, tenant);
        }
        used.extend(reader.used());
        errors.extend(reader.into_errors());
        match tenant {
            // `acme.yaml` beside `acme.yml`.
            Some(tenant) if tenants.contains_key(&tenant.id) => {
                let message = format!("tenant {} is already written in another file", tenant.id);
                errors.push(FileError::whole(name, message));
            }
            Some(tenant) => {
                tenants.insert(tenant.id.clone(), tenant);
            }
            None => {}
        }
        if errors.len() >= MAX_POLICY_ERRORS {
            errors.truncate(MAX_POLICY_ERRORS);
            return Err(errors);
        }
    }
    for name in files.files.keys() {
        if !is_tenant_file(name) && !used.contains(name.as_str()) {
            let message = "no tenant's file refers to this file";
            errors.push(FileError::whole(name, message));
        }
    }
    if errors.is_empty() {
        Ok(tenants.into_values().collect())
    } else {
        errors.truncate(MAX_POLICY_ERRORS);
        Err(errors)
    }
}

/// One tenant's document, with the policy crate's own rules checked and their places found.
fn document(reader: &mut Reader<'_>, root: &yaml::Node<'_>) -> Option<Tenant> {
    let tenant = tenant::read(reader, root)?;
    if reader.has_complained() {
        return None;
    }
    match tenant.validate() {
        Ok(()) => Some(tenant),
        Err(error) => {
            let at = reader.find(&error.at.to_string());
            reader.complain(&at, error.to_string())
        }
    }
}

fn check_limits(files: &PolicyFiles) -> Result<(), Vec<FileError>> {
    if files.files.len() > MAX_POLICY_FILES {
        let message = format!(
            "{} files; at most {MAX_POLICY_FILES} are read",
            files.files.len()
        );
        return Err(vec![FileError::whole("policy", message)]);
    }
    let mut total = 0;
    for (name, text) in &files.files {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        total += length;
        if length > MAX_POLICY_FILE_BYTES {
            let message = format!("is larger than {MAX_POLICY_FILE_BYTES} bytes");
            return Err(vec![FileError::whole(name, message)]);
        }
        if total > MAX_POLICY_BYTES {
            let message = format!("all files together are larger than {MAX_POLICY_BYTES} bytes");
            return Err(vec![FileError::whole("policy", message)]);
        }
    }
    Ok(())
}

/// Whether a path (relative to the policy directory) is a tenant's file.
fn is_tenant_file(path: &str) -> bool {
    !path.contains('/') && (path.ends_with(".yaml") || path.ends_with(".yml"))
}

/// What may belong to one tenant only, and where it was claimed first.
#[derive(Default)]
struct Claims<'s> {
    first: BTreeMap<String, (Source<'s>, usize)>,
}

impl<'s> Claims<'s> {
    /// Records what `tenant` claims; complains about what another file has claimed before.
    fn add(&mut self, reader: &mut Reader<'s>, tenant: &Tenant) {
        let mut claimed: Vec<(String, Range<usize>)> = Vec::new();
        for (index, network) in tenant.networks.iter().enumerate() {
            let at = reader.find(&format!("networks[{index}]"));
            claimed.push((format!("network {network}"), at));
        }
        for (index, link) in tenant.private_links.iter().enumerate() {
            let at = reader.find(&format!("private-links[{index}]"));
            claimed.push((format!("private link {link}"), at));
        }
        let mut places = BTreeSet::new();
        for (id, cluster) in &tenant.clusters {
            // Clusters of one tenant may share its VPC.
            if let Some(place) = cluster.via.as_ref().filter(|place| places.insert(*place)) {
                let at = reader.find(&format!("clusters.{id}.via"));
                claimed.push((place.to_string(), at));
            }
        }
        for (id, endpoint) in &tenant.endpoints {
            for (index, name) in endpoint.names.iter().enumerate() {
                let at = reader.find(&format!("endpoints.{id}.names[{index}]"));
                claimed.push((format!("server name {name}"), at));
            }
        }
        for (what, at) in claimed {
            if let Some((source, offset)) = self.first.get(&what) {
                let (line, _) = source.position(*offset);
                let message = format!(
                    "{what} is already claimed at {}:{line}; it belongs to one tenant",
                    source.name
                );
                reader.complain::<()>(&at, message);
            } else {
                self.first.insert(what, (reader.source, at.start));
            }
        }
    }
}

/// A path that a tenant's file refers to, if it stays in the policy directory.
fn reference(text: &str) -> Result<&str, String> {
    let stays = text.len() <= MAX_REFERENCE
        && !text.contains('\\')
        && text
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'));
    if stays {
        return Ok(text);
    }
    Err(format!(
        "{}: write a path relative to the policy directory, without . and ..",
        quoted(text)
    ))
}

/// The longest path of a file that a tenant's file refers to, in bytes.
const MAX_REFERENCE: usize = 1024;

#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod tests;
