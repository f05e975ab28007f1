//! Changing policy: what a directory would change (`plan`), and making it so (`apply`).
//!
//! An apply goes: read the files → the fleet decides → in one breath evidence and enforcement, on
//! this node and the others → receipt. It runs as a task of its own: a caller who leaves in the middle leaves
//! no policy that is decided and not enforced.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use portcullis_audit::{Event, kinds};
use portcullis_policy::{
    Author, Command, Rehearsed, RequestId, Revision, Tenant, TenantId, Timestamp, View, warnings,
};
use serde_json::json;

use super::types::{ApplyReply, Difference, NodeReceipt, PlanReply, Warning};
use super::{Node, Refusal, describe, fleet};
use crate::config::FileError;
use crate::config::policy_files::{self, PolicyFiles};
use crate::fleet::Step;
use crate::proxy::Enforcement;
use crate::runtime::clock::{self, Duration};
use crate::runtime::limits::BACKENDS_GONE;

/// A policy directory, and who wants it in force.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The directory.
    pub files: PolicyFiles,
    /// What becomes of tenants without a file.
    pub missing: Missing,
    /// Who proposes it: `uid 0 (root)`, `SIGHUP`.
    pub author: Author,
    /// By which a repetition is known; none is a new one.
    pub request: Option<RequestId>,
    /// How long other nodes are waited for.
    pub patience: Patience,
}

/// How long an apply waits for other nodes once it is in force on this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Until all have confirmed, within their own limits.
    Receipt,
    /// A moment: those that are well have confirmed by then.
    Moment,
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
        let before = node.fleet.view();
        let changeset = Changeset::read(&before, &files, missing)?;
        let command = changeset.command(&before);
        let Rehearsed {
            view: after,
            applied,
            ..
        } = node
            .fleet
            .rehearse(command, at)
            .map_err(|error| fleet::not_written(&error))?;
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
                    author: Author::local(author),
                    request: None,
                    patience: Patience::Moment,
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
    let patience = proposal.patience;
    match decide(&node, proposal).await {
        Ok(decided) => match &decided.step {
            Some(step) => {
                let step = Arc::clone(step);
                Ok(enforce(&node, &author, patience, decided, &step).await)
            }
            None => Ok(unchanged(&node, decided)),
        },
        Err(refusal) => {
            record_refusal(&node, &author.name, &refusal).await;
            Err(refusal)
        }
    }
}

/// A change that is decided by the fleet, as far as this node has it in force.
struct Decided {
    revision: Revision,
    /// From the view before to the view after; none if nothing differed.
    step: Option<Arc<Step>>,
    difference: Difference,
    warnings: Vec<Warning>,
}

/// From files to a change that a quorum has made durable.
async fn decide(node: &Arc<Node>, proposal: Proposal) -> Result<Decided, Refusal> {
    let Proposal {
        files,
        missing,
        author,
        request,
        patience: _,
    } = proposal;
    let (changeset, command) = in_background({
        let node = Arc::clone(node);
        move || {
            let before = node.fleet.view();
            let changeset = Changeset::read(&before, &files, missing)?;
            let command = changeset.command(&before);
            Ok((changeset, command))
        }
    })
    .await?;
    let since = clock::instant();
    let written = node
        .fleet
        .write(request, author, command)
        .await
        .map_err(|error| fleet::not_written(&error))?;
    if !written.changed {
        return Ok(Decided {
            revision: written.revision,
            step: None,
            difference: Difference {
                left_alone: changeset.kept.iter().map(ToString::to_string).collect(),
                ..Difference::default()
            },
            warnings: Vec::new(),
        });
    }
    let step = node
        .fleet
        .step(written.revision, since + ENFORCED_HERE)
        .await;
    let Some(step) = step else {
        return Err(Refusal::new(
            504,
            "not_in_force_here",
            format!(
                "revision {} is decided, and this node does not have it in force yet",
                written.revision
            ),
        )
        .next("`portcullis fleet status` shows which node enforces which revision"));
    };
    let touched: BTreeSet<&TenantId> = step.applied.tenants.iter().collect();
    let documents = changeset
        .put
        .iter()
        .filter(|document| touched.contains(&document.id));
    Ok(Decided {
        revision: written.revision,
        difference: describe::difference(&step.before, &step.after, &step.applied, &changeset.kept),
        warnings: warned(documents, step.applied.at),
        step: Some(step),
    })
}

/// How long this node may take to put into force what the fleet decided.
const ENFORCED_HERE: Duration = Duration::from_secs(10);

/// Evidence and enforcement at the same time: a slow disk keeps no lapsed connection alive.
async fn enforce(
    node: &Node,
    author: &Author,
    patience: Patience,
    decided: Decided,
    step: &Step,
) -> ApplyReply {
    let evidence = node
        .ledger
        .record_durable(applied_event(node, &author.name, &decided, step));
    let deadline = clock::instant()
        + match patience {
            Patience::Receipt => RECEIPTS,
            Patience::Moment => MOMENT,
        };
    let (evidence, enforcement, receipts) = tokio::join!(
        evidence,
        step.enforcement(),
        node.fleet.receipts(decided.revision, deadline)
    );
    metrics::counter!("portcullis_policy_applies_total", "outcome" => "applied").increment(1);
    if let Err(error) = &evidence {
        tracing::error!(%error, "a policy change is in force and its audit event could not be made durable");
    }
    let enforcement = enforcement.map_or_else(
        || nothing_enforced(decided.revision),
        |enforcement| Enforcement::clone(&enforcement),
    );
    tracing::info!(
        revision = decided.revision.get(),
        author = author.name,
        closed = enforcement.closed.len(),
        unfinished = enforcement.unfinished,
        "policy applied"
    );
    ApplyReply {
        evidence: evidence.err().map(|error| error.to_string()),
        ..receipt(node, decided, enforcement, receipts)
    }
}

/// How long a node that is well takes to report a change, with room to spare.
const MOMENT: Duration = Duration::from_secs(1);
/// How long other nodes may take to report a change. Above what each allows itself for seeing
/// backends gone.
const RECEIPTS: Duration = BACKENDS_GONE.saturating_add(Duration::from_secs(2));

fn unchanged(node: &Node, decided: Decided) -> ApplyReply {
    let revision = decided.revision;
    tracing::info!(%revision, "a policy was applied that differs in nothing");
    let receipts = node.fleet.receipts_now(revision);
    receipt(node, decided, nothing_enforced(revision), receipts)
}

fn nothing_enforced(revision: Revision) -> Enforcement {
    Enforcement {
        revision: revision.get(),
        decided_again: 0,
        closed: Vec::new(),
        unfinished: 0,
    }
}

fn receipt(
    node: &Node,
    decided: Decided,
    enforcement: Enforcement,
    receipts: Vec<NodeReceipt>,
) -> ApplyReply {
    let here = enforcement.closed.iter().map(|closed| closed.after_ms);
    let elsewhere = receipts.iter().filter_map(|node| node.slowest_ms);
    ApplyReply {
        node: node.name.clone(),
        revision: decided.revision.get(),
        changed: decided.step.is_some(),
        nodes_in_force: receipts.iter().filter(|node| node.in_force).count(),
        nodes: receipts.len(),
        slowest_ms: here.chain(elsewhere).reduce(f64::max),
        receipts,
        difference: decided.difference,
        warnings: decided.warnings,
        enforcement,
        evidence: None,
    }
}

fn applied_event(node: &Node, author: &str, decided: &Decided, step: &Step) -> Event {
    let Difference {
        added,
        altered,
        removed,
        ..
    } = &decided.difference;
    let mut event = Event::new(
        step.applied.at.as_millis(),
        kinds::POLICY_APPLIED,
        &*node.name,
    )
    .with("by", author)
    .with("added", json!(added))
    .with("altered", json!(altered))
    .with("removed", json!(removed))
    .with(
        "reachability",
        describe::difference_for_event(&step.applied),
    );
    event.revision = Some(decided.revision.get());
    if let [only] = step.applied.tenants.as_slice() {
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
    event.revision = Some(node.fleet.view().revision().get());
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
            expected: BTreeMap::new(),
            put: self.put.clone(),
            remove: self.remove.clone(),
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
