//! Changing policy: what a directory would change (`plan`), and making it so (`apply`).
//!
//! An apply goes: read the files → propose the command → durable → in one breath evidence and
//! enforcement → receipt. It runs as a task of its own: a caller who leaves in the middle leaves
//! no policy that is decided and not enforced.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use portcullis_audit::{Event, kinds};
use portcullis_consensus::ProposeError;
use portcullis_policy::{Applied, Command, Rejection, Tenant, TenantId, Timestamp, View, warnings};
use serde_json::json;

use super::describe;
use super::types::{ApplyReply, Difference, PlanReply, Warning};
use super::{Node, Refusal};
use crate::config::FileError;
use crate::config::policy_files::{self, PolicyFiles};
use crate::proxy::Enforcement;
use crate::runtime::clock;

/// A policy directory, and who wants it in force.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The directory.
    pub files: PolicyFiles,
    /// What becomes of tenants without a file.
    pub missing: Missing,
    /// Who proposes it, for the record: `uid 0 (root)`, `SIGHUP`.
    pub author: String,
}

/// What becomes of tenants in force whose file is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// They stay as they are.
    LeftAlone,
    /// They are removed (`--prune`).
    Removed,
}

/// What a directory would change, exactly; changes nothing.
///
/// # Errors
/// A refusal: mistakes in the files, or what `apply` would be refused for.
pub async fn plan(
    node: &Arc<Node>,
    files: PolicyFiles,
    missing: Missing,
) -> Result<PlanReply, Refusal> {
    let _turn = Arc::clone(&node.turns.plans)
        .acquire_owned()
        .await
        .map_err(|_| stopping())?;
    let node = Arc::clone(node);
    in_background(move || {
        let at = clock::now();
        let before = node.consensus.view();
        let changeset = Changeset::read(&before, &files, missing)?;
        let command = changeset.command(&before);
        let (after, applied) = node
            .consensus
            .rehearse(&command, at)
            .map_err(|rejection| rejected(&rejection))?;
        Ok(PlanReply {
            node: node.name.clone(),
            revision: before.revision().get(),
            changed: !applied.tenants.is_empty(),
            difference: describe::difference(&before, &after, &applied, &changeset.kept),
            warnings: warned(&changeset.put, at),
            closes: node.front.would_lapse(&after, &applied.changes, at),
        })
    })
    .await
}

/// Puts a directory into force and waits, within the proxy's own limits, until what lapses is
/// closed. Goes on to its end when the caller stops waiting.
///
/// # Errors
/// A refusal, which is also an audit event; nothing was changed then.
pub async fn apply(node: &Arc<Node>, proposal: Proposal) -> Result<ApplyReply, Refusal> {
    let work = node
        .tasks
        .spawn(apply_to_the_end(Arc::clone(node), proposal));
    work.await.map_err(|_| stopping())?
}

/// `apply` of a directory on this machine, for a start or a signal. Tenants without a file are
/// left alone.
///
/// # Errors
/// A refusal, which is also an audit event; nothing was changed then.
pub async fn apply_directory(
    node: &Arc<Node>,
    directory: &Path,
    author: &str,
) -> Result<ApplyReply, Refusal> {
    let path = directory.to_owned();
    match in_background(move || policy_files::collect(&path).map_err(mistaken)).await {
        Ok(files) => {
            apply(
                node,
                Proposal {
                    files,
                    missing: Missing::LeftAlone,
                    author: author.to_owned(),
                },
            )
            .await
        }
        Err(refusal) => {
            record_refusal(node, author, &refusal).await;
            Err(refusal)
        }
    }
}

async fn apply_to_the_end(node: Arc<Node>, proposal: Proposal) -> Result<ApplyReply, Refusal> {
    let _turn = Arc::clone(&node.turns.applies)
        .acquire_owned()
        .await
        .map_err(|_| stopping())?;
    let author = proposal.author.clone();
    let decided = in_background({
        let node = Arc::clone(&node);
        move || propose(&node, proposal)
    })
    .await;
    match decided {
        Ok(decided) if decided.applied.tenants.is_empty() => Ok(unchanged(&node, decided)),
        Ok(decided) => Ok(enforce(&node, &author, decided).await),
        Err(refusal) => {
            record_refusal(&node, &author, &refusal).await;
            Err(refusal)
        }
    }
}

/// A change that is durable.
struct Decided {
    applied: Applied,
    after: Arc<View>,
    difference: Difference,
    warnings: Vec<Warning>,
}

/// From files to a durable change. Waits for the disk.
fn propose(node: &Node, proposal: Proposal) -> Result<Decided, Refusal> {
    let at = clock::now();
    let before = node.consensus.view();
    let changeset = Changeset::read(&before, &proposal.files, proposal.missing)?;
    let command = changeset.command(&before);
    let applied = node
        .consensus
        .propose(&command, at)
        .map_err(|error| not_proposed(&error))?;
    // Applies take turns and nobody else proposes, so this is the state that `applied` speaks of.
    let after = node.consensus.view();
    let touched: BTreeSet<&TenantId> = applied.tenants.iter().collect();
    let documents = changeset
        .put
        .iter()
        .filter(|document| touched.contains(&document.id));
    Ok(Decided {
        difference: describe::difference(&before, &after, &applied, &changeset.kept),
        warnings: warned(documents, at),
        applied,
        after,
    })
}

/// Evidence and enforcement at the same time: a slow disk keeps no lapsed connection alive.
async fn enforce(node: &Node, author: &str, decided: Decided) -> ApplyReply {
    let evidence = node
        .ledger
        .record_durable(applied_event(node, author, &decided));
    let enforcement = node
        .front
        .enforce(View::clone(&decided.after), &decided.applied);
    let (evidence, enforcement) = tokio::join!(evidence, enforcement);
    metrics::counter!("portcullis_policy_applies_total", "outcome" => "applied").increment(1);
    if let Err(error) = &evidence {
        tracing::error!(%error, "a policy change is in force and its audit event could not be made durable");
    }
    tracing::info!(
        revision = decided.applied.revision.get(),
        author,
        closed = enforcement.closed.len(),
        unfinished = enforcement.unfinished,
        "policy applied"
    );
    ApplyReply {
        evidence: evidence.err().map(|error| error.to_string()),
        ..receipt(node, decided, enforcement)
    }
}

fn unchanged(node: &Node, decided: Decided) -> ApplyReply {
    let revision = decided.applied.revision.get();
    tracing::info!(revision, "a policy was applied that differs in nothing");
    receipt(
        node,
        decided,
        Enforcement {
            revision,
            decided_again: 0,
            closed: Vec::new(),
            unfinished: 0,
        },
    )
}

fn receipt(node: &Node, decided: Decided, enforcement: Enforcement) -> ApplyReply {
    ApplyReply {
        node: node.name.clone(),
        revision: decided.applied.revision.get(),
        changed: !decided.applied.tenants.is_empty(),
        nodes_in_force: 1,
        nodes: 1,
        difference: decided.difference,
        warnings: decided.warnings,
        slowest_ms: enforcement
            .closed
            .iter()
            .map(|closed| closed.after_ms)
            .reduce(f64::max),
        enforcement,
        evidence: None,
    }
}

fn applied_event(node: &Node, author: &str, decided: &Decided) -> Event {
    let Difference {
        added,
        altered,
        removed,
        ..
    } = &decided.difference;
    let mut event = Event::new(
        decided.applied.at.as_millis(),
        kinds::POLICY_APPLIED,
        &*node.name,
    )
    .with("by", author)
    .with("added", json!(added))
    .with("altered", json!(altered))
    .with("removed", json!(removed))
    .with(
        "reachability",
        describe::difference_for_event(&decided.applied),
    );
    event.revision = Some(decided.applied.revision.get());
    if let [only] = decided.applied.tenants.as_slice() {
        event.tenant = Some(only.to_string());
    }
    event
}

async fn record_refusal(node: &Node, author: &str, refusal: &Refusal) {
    metrics::counter!("portcullis_policy_applies_total", "outcome" => "rejected").increment(1);
    let body = refusal.body();
    tracing::warn!(author, code = body.code, "policy refused: {}", body.message);
    let mistakes: Vec<String> = body
        .files
        .iter()
        .take(MAX_EVENT_MISTAKES)
        .map(ToString::to_string)
        .collect();
    let mut event = Event::new(
        clock::now().as_millis(),
        kinds::POLICY_REJECTED,
        &*node.name,
    )
    .with("by", author)
    .with("code", body.code.as_str())
    .with("story", body.message.as_str())
    .with("mistakes", json!(mistakes))
    .with("mistakes_in_all", body.files.len());
    event.revision = Some(node.consensus.view().revision().get());
    if let Err(error) = node.ledger.record_durable(event).await {
        tracing::error!(%error, "the audit event of a refused policy could not be made durable");
    }
}

/// Mistakes that the event of a refused apply carries; the rest is counted.
const MAX_EVENT_MISTAKES: usize = 16;

/// What a directory means against the policy in force.
struct Changeset {
    put: Vec<Tenant>,
    remove: Vec<TenantId>,
    /// In force, without a file, and left alone.
    kept: Vec<TenantId>,
}

impl Changeset {
    fn read(before: &View, files: &PolicyFiles, missing: Missing) -> Result<Self, Refusal> {
        let put = policy_files::parse(files).map_err(mistaken)?;
        let named: BTreeSet<&TenantId> = put.iter().map(|document| &document.id).collect();
        let without_file = before
            .tenants()
            .map(|tenant| tenant.id())
            .filter(|id| !named.contains(id));
        let without_file: Vec<TenantId> = without_file.cloned().collect();
        let (remove, kept) = match missing {
            Missing::LeftAlone => (Vec::new(), without_file),
            Missing::Removed => (without_file, Vec::new()),
        };
        if put.is_empty() && !remove.is_empty() {
            return Err(Refusal::new(
                422,
                "would_remove_everything",
                "the directory has no tenant's file, and pruning would remove every tenant in force",
            )
            .next("is it the right directory? At least one tenant's file must remain; `suspended: true` in it shuts a tenant out"));
        }
        Ok(Self { put, remove, kept })
    }

    fn command(&self, before: &View) -> Command {
        Command::Apply {
            base: Some(before.revision()),
            put: self.put.clone(),
            remove: self.remove.clone(),
            expected: BTreeMap::new(),
        }
    }
}

fn warned<'a>(documents: impl IntoIterator<Item = &'a Tenant>, at: Timestamp) -> Vec<Warning> {
    let of_one = |document: &'a Tenant| {
        warnings(document, at)
            .into_iter()
            .map(|warning| describe::warning(&document.id, &warning))
    };
    documents.into_iter().flat_map(of_one).collect()
}

fn mistaken(files: Vec<FileError>) -> Refusal {
    let message = match files.len() {
        1 => "the policy files are refused: 1 mistake".to_owned(),
        count => format!("the policy files are refused: {count} mistakes"),
    };
    Refusal::new(422, "policy_invalid", message)
        .next("correct the places named above; nothing was changed")
        .files(files)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the refusal's own words say what to do about all the others"
)]
fn rejected(rejection: &Rejection) -> Refusal {
    let cause = std::error::Error::source(rejection)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    let status = match rejection {
        Rejection::StaleBase { .. } => 409,
        Rejection::Conflict { .. } => 412,
        _ => 422,
    };
    Refusal::new(status, rejection.code(), format!("{rejection}{cause}")).next(match rejection {
        Rejection::StaleBase { .. } | Rejection::Conflict { .. } => "plan again: somebody else applied in between",
        Rejection::NetworkClaimed { .. } | Rejection::PrivateLinkClaimed { .. } | Rejection::PlaceClaimed { .. } | Rejection::ServerNameClaimed { .. } => {
            "it belongs to one tenant: take it out of the other's file, and apply both files together"
        }
        Rejection::FleetLimit { .. } => "aggregate prefixes, or remove entries that `plan` calls shadowed or unused",
        _ => "correct it; nothing was changed",
    })
}

fn not_proposed(error: &ProposeError) -> Refusal {
    match error {
        ProposeError::Rejected(rejection) => rejected(rejection),
        ProposeError::Storage(storage) => Refusal::new(500, "not_durable", format!("{error}: {storage}"))
            .next("nothing of it is in force; look at the disk under `data` in node.toml, then restart this node"),
    }
}

fn stopping() -> Refusal {
    Refusal::new(503, "stopping", "this node is stopping")
        .next("ask again when it runs; `portcullis status` shows the revision in force")
}

/// Work that fills a core or waits for the disk, off the threads that carry traffic.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| stopping())?
}
