//! Changing policy: what a directory would change (`plan`), and making it so (`apply`).
//!
//! An apply goes: read the files → the fleet decides → in one breath evidence and enforcement, on
//! this node and the others → receipt. It runs as a task of its own: a caller who leaves in the middle leaves
//! no policy that is decided and not enforced.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use portcullis_audit::kinds;
use portcullis_policy::{
    Author, Command, Rehearsed, RequestId, Revision, Tenant, TenantId, Timestamp, Told, warnings,
};

use super::changeset::Changeset;
pub use super::changeset::{Missing, Wanted};
use super::operator_types::PendingChange;
use super::policy_events::{applied_event, record_refusal};
use super::types::{ApplyReply, Difference, NodeReceipt, PlanReply, Warning};
use super::{Node, Refusal, Who, describe, fleet, operators};
use crate::config::FileError;
use crate::config::policy_files;
use crate::fleet::{Made, Step, Stepped, WriteError, Written};
use crate::proxy::Enforcement;
use crate::runtime::clock::{self, Duration, Instant};
use crate::runtime::limits::BACKENDS_GONE;

/// What is wanted, and by whom.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What.
    pub wanted: Wanted,
    /// By whom.
    pub who: Who,
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

impl Patience {
    fn deadline(self) -> Instant {
        clock::instant()
            + match self {
                Self::Receipt => RECEIPTS,
                Self::Moment => MOMENT,
            }
    }
}

/// What a directory would change, exactly; changes nothing.
///
/// # Errors
/// A refusal: mistakes in the files, or what `apply` would be refused for.
pub async fn plan(node: &Arc<Node>, who: Who, wanted: Wanted) -> Result<PlanReply, Refusal> {
    let _turn = Arc::clone(&node.turns.plans)
        .acquire_owned()
        .await
        .map_err(|_| stopping())?;
    let node = Arc::clone(node);
    in_background(move || {
        let at = clock::now();
        let before = node.fleet.view();
        let changeset = Changeset::read(&node, &who, &wanted)?;
        let Rehearsed {
            view: after,
            applied,
            second_person,
        } = node
            .fleet
            .rehearse_as(who.author(), changeset.command, at)
            .map_err(|error| fleet::not_written(&error))?;
        Ok(PlanReply {
            node: node.name.clone(),
            revision: before.revision().get(),
            changed: !applied.tenants.is_empty(),
            second_person,
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
            let missing = Missing::LeftAlone;
            apply(
                node,
                Proposal {
                    wanted: Wanted::Directory { files, missing },
                    who: Who::local(author),
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
    let author = proposal.who.author();
    let patience = proposal.patience;
    match decide(&node, proposal).await {
        Ok(decided) if decided.changed => Ok(enforce(&node, &author, patience, decided).await),
        Ok(decided) => Ok(unchanged(&node, &author, patience, decided).await),
        Err(refusal) => {
            record_refusal(&node, &author.name, &refusal).await;
            Err(refusal)
        }
    }
}

/// A change that is decided by the fleet, as far as this node has it in force.
pub(super) struct Decided {
    pub(super) revision: Revision,
    /// When it was executed.
    pub(super) at: Timestamp,
    /// Whether anything differed.
    changed: bool,
    pub(super) made: Made,
    /// From the view before to the view after; none if nothing differed, or it is not known by
    /// itself.
    pub(super) step: Option<Arc<Step>>,
    /// What else is to be said of it.
    pub(super) note: Option<String>,
    pub(super) difference: Difference,
    warnings: Vec<Warning>,
    /// What it is called in the evidence.
    pub(super) kind: &'static str,
    /// A second person must approve first.
    pending: Option<PendingChange>,
}

impl Decided {
    fn nothing(written: &Written, kept: &[TenantId]) -> Self {
        Self {
            revision: written.revision,
            at: written.at,
            changed: false,
            made: written.made,
            step: None,
            note: None,
            difference: Difference {
                left_alone: kept.iter().map(ToString::to_string).collect(),
                ..Difference::default()
            },
            warnings: Vec::new(),
            kind: kinds::POLICY_APPLIED,
            pending: PendingChange::of(&written.told),
        }
    }
}

/// From files to a change that a quorum has made durable.
async fn decide(node: &Arc<Node>, proposal: Proposal) -> Result<Decided, Refusal> {
    let Proposal {
        wanted,
        who,
        request,
        patience: _,
    } = proposal;
    let author = who.author();
    let changeset = in_background({
        let node = Arc::clone(node);
        move || Changeset::read(&node, &who, &wanted)
    })
    .await?;
    let Changeset { put, kept, command } = changeset;
    let kind = called(&command);
    let since = clock::instant();
    let written = match node
        .fleet
        .write(request, author.clone(), command.clone())
        .await
    {
        Ok(written) => written,
        Err(error) => return repeated(node, author, command, kept, &error),
    };
    // Of a request that was executed earlier only the step itself says whether it changed anything.
    let at_once = written.made == Made::Now;
    if PendingChange::of(&written.told).is_some() || (at_once && !written.changed) {
        return Ok(Decided::nothing(&written, &kept));
    }
    let deadline = since + ENFORCED_HERE;
    let mut decided = match node.fleet.step(&written, deadline).await {
        Stepped::Own(step) => {
            let touched: BTreeSet<&TenantId> = step.applied.tenants.iter().collect();
            let documents = put.iter().filter(|document| touched.contains(&document.id));
            Decided {
                changed: true,
                difference: describe::difference(&step.before, &step.after, &step.applied, &kept),
                warnings: warned(documents, step.applied.at),
                step: Some(step),
                ..Decided::nothing(&written, &kept)
            }
        }
        Stepped::Another if !at_once => Decided::nothing(&written, &kept),
        Stepped::Another | Stepped::Passed => Decided {
            changed: true,
            note: Some(format!(
                "this node came to revision {} and others in one step: what this change did by itself is not known here",
                written.revision
            )),
            ..Decided::nothing(&written, &kept)
        },
        Stepped::Late => {
            return Err(Refusal::new(
                504,
                NOT_IN_FORCE_HERE,
                format!(
                    "revision {} is decided, and this node does not have it in force yet",
                    written.revision
                ),
            )
            .next("`portcullis fleet status` shows which node enforces which revision"));
        }
    };
    decided.kind = kind;
    if written.made == Made::Before {
        decided.note = Some(format!(
            "the same request was executed before, at revision {}: nothing was done now",
            written.revision
        ));
    }
    Ok(decided)
}

fn called(command: &Command) -> &'static str {
    if matches!(command, Command::Revoke { .. }) {
        kinds::CERTIFICATE_REVOKED
    } else if matches!(command, Command::Unrevoke { .. }) {
        kinds::CERTIFICATE_RESTORED
    } else {
        kinds::POLICY_APPLIED
    }
}

/// Somebody who was not told what became of a request gives it again, and what it would change
/// against the policy in force is no longer the same. Where it would change nothing, it was done.
fn repeated(
    node: &Node,
    author: Author,
    command: Command,
    kept: Vec<TenantId>,
    error: &WriteError,
) -> Result<Decided, Refusal> {
    let refusal = fleet::not_written(error);
    if refusal.body().code != "request_reused" {
        return Err(refusal);
    }
    match node.fleet.rehearse_as(author, command, clock::now()) {
        Ok(rehearsed) if rehearsed.applied.tenants.is_empty() => Ok(Decided::nothing(
            &Written {
                revision: rehearsed.applied.revision,
                at: rehearsed.applied.at,
                told: Told::Done,
                changed: false,
                made: Made::Before,
            },
            &kept,
        )),
        Ok(_) | Err(_) => Err(refusal),
    }
}

/// How long this node may take to put into force what the fleet decided.
const ENFORCED_HERE: Duration = Duration::from_secs(10);

/// Evidence and enforcement at the same time: a slow disk keeps no lapsed connection alive.
async fn enforce(node: &Node, author: &Author, patience: Patience, decided: Decided) -> ApplyReply {
    let evidence = node
        .ledger
        .record_durable(applied_event(node, &author.name, &decided));
    let deadline = patience.deadline();
    let enforced = async {
        match &decided.step {
            Some(step) => step.enforcement().await,
            None => None,
        }
    };
    let (evidence, enforcement, receipts) = tokio::join!(
        evidence,
        enforced,
        node.fleet.receipts(decided.revision, deadline)
    );
    let outcome = match decided.made {
        Made::Now | Made::Unheard => "applied",
        Made::Before => "repeated",
    };
    metrics::counter!("portcullis_policy_applies_total", "outcome" => outcome).increment(1);
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

async fn unchanged(
    node: &Node,
    author: &Author,
    patience: Patience,
    decided: Decided,
) -> ApplyReply {
    let revision = decided.revision;
    let receipts = if let Some(pending) = &decided.pending {
        operators::record_waiting(node, &author.name, "policy", pending).await;
        node.fleet.receipts_now(revision)
    } else {
        tracing::info!(%revision, "a policy was applied that differs in nothing");
        node.fleet.receipts(revision, patience.deadline()).await
    };
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
        changed: decided.changed,
        note: decided.note,
        nodes_in_force: receipts.iter().filter(|node| node.in_force).count(),
        nodes: receipts.len(),
        slowest_ms: here.chain(elsewhere).reduce(f64::max),
        receipts,
        difference: decided.difference,
        warnings: decided.warnings,
        enforcement,
        pending: decided.pending,
        evidence: None,
    }
}

/// The code of a change that is decided and not in force on the node that was asked.
pub(super) const NOT_IN_FORCE_HERE: &str = "not_in_force_here";

fn warned<'a>(documents: impl IntoIterator<Item = &'a Tenant>, at: Timestamp) -> Vec<Warning> {
    let of_one = |document: &'a Tenant| {
        warnings(document, at)
            .into_iter()
            .map(|warning| describe::warning(&document.id, &warning))
    };
    documents.into_iter().flat_map(of_one).collect()
}

pub(super) fn mistaken(files: Vec<FileError>) -> Refusal {
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
pub(super) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| stopping())?
}
