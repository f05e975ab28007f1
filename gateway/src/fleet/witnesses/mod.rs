//! Witnesses: strangers to the fleet who cosign its checkpoints, and so catch a log that was rolled back, or of which two histories are shown.
//!
//! Every control node asks for itself, about what it shows itself: so each has what proves it without believing another, nothing needs to be
//! handed over when another leads, and a node whose own files went back is caught, too. A witness answers the same question again. Nothing
//! waits for them: a checkpoint is shown as before, and what was witnessed lies beside it.

mod answer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_audit::kinds;
use portcullis_audit::tlog::{
    AddCheckpoint, Checkpoint, Hash, MAX_NOTE_BYTES, Note, NoteKey, NoteSignature, Said,
    TrustPolicy,
};
use portcullis_certs::https_client_config;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::rustls::ClientConfig;

use self::answer::{Answer, merged};
use super::Fleet;
use super::keeping::logs_folder;
use super::sealing::Sealing;
use crate::config::node::{NodeConfig, Witness};
use crate::http::SYSTEM_AUTHORITIES;
use crate::http::client::{AnswerLimits, post_any};
use crate::ledger::inspect::{Directory, growth};
use crate::ledger::tiles::{LogFile, LogId, Logs, read};
use crate::runtime::clock::{self, Duration, Instant};
use crate::runtime::limits::{
    WITNESS_AGAIN_FIRST, WITNESS_AGAIN_MOST, WITNESS_ANEW, WITNESS_ANSWER, WITNESS_ANSWER_BYTES,
    WITNESS_EVERY, WITNESS_LOGS_AT_ONCE, WITNESS_LONGER, WITNESS_REFUSED, WITNESS_SIZES,
    WITNESS_TOLD,
};

/// Those who are asked.
#[derive(Default)]
pub(super) struct Witnesses {
    all: Vec<Arc<Asked>>,
}

/// One of them, and how far it is.
struct Asked {
    witness: Witness,
    tls: Option<Arc<ClientConfig>>,
    folder: PathBuf,
    logs: Mutex<BTreeMap<LogId, Progress>>,
    /// One file is read, changed and written at a time, whichever witness it is for.
    writing: Arc<Mutex<()>>,
}

/// What a witness said of one log.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// The size that it cosigned last, as far as is known.
    size: u64,
    /// The moment of its last cosignature that was believed, Unix seconds; 0: none.
    at: u64,
    /// It is not asked before.
    not_before: Option<Instant>,
    /// When it was cosigned here last.
    cosigned: Option<Instant>,
    /// Since when it has said that it saw more than there is.
    longer: Option<Instant>,
    /// What it contradicts.
    contradicts: Option<String>,
    /// Causes of that which were told, each once.
    told: BTreeSet<&'static str>,
}

impl Witnesses {
    /// Those that the node's configuration names.
    ///
    /// # Errors
    /// In words: the authorities of one cannot be read.
    pub(super) fn load(config: &NodeConfig) -> Result<Self, String> {
        let folder = logs_folder(&config.data);
        let writing = Arc::<Mutex<()>>::default();
        let mut all = Vec::with_capacity(config.audit.witnesses.len());
        for witness in &config.audit.witnesses {
            all.push(Arc::new(Asked {
                tls: tls(witness).map_err(|error| format!("witness {}: {error}", witness.name))?,
                witness: witness.clone(),
                folder: folder.clone(),
                logs: Mutex::default(),
                writing: Arc::clone(&writing),
            }));
        }
        Ok(Self { all })
    }

    /// The trust policy with the witnesses named. What it asks for stays a majority of the control nodes, who sign each checkpoint that is
    /// shown: a witness comes later, or is away. Whoever wants more makes a group of both, for the checkpoints that were witnessed.
    pub(super) fn named_in(&self, policy: TrustPolicy) -> TrustPolicy {
        let text = policy.to_string();
        let Some((signers, quorum)) = text.rsplit_once("quorum ") else {
            return policy;
        };
        let mut text = signers.to_owned();
        for asked in &self.all {
            let Witness { name, key, .. } = &asked.witness;
            text.push_str(&format!("witness {name} {key}\n"));
        }
        text.push_str(&format!("quorum {quorum}"));
        // One that is a control node's key already is named.
        TrustPolicy::parse(&text).unwrap_or(policy)
    }

    /// What whoever looks after the fleet must know.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for asked in &self.all {
            let logs = asked.logs.lock();
            let told = logs.values().filter_map(|it| it.contradicts.clone());
            problems.extend(told.take(WITNESS_TOLD));
        }
        problems
    }
}

fn tls(witness: &Witness) -> Result<Option<Arc<ClientConfig>>, String> {
    if !witness.url.starts_with("https://") {
        return Ok(None);
    }
    let file = witness.ca.as_deref();
    let file = file.unwrap_or(Path::new(SYSTEM_AUTHORITIES));
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = std::fs::read_to_string(file).map_err(|error| told(&error))?;
    let config = https_client_config(&text).map_err(|error| told(&error))?;
    Ok(Some(config))
}

/// Asks each of them again and again, until the fleet ends.
pub(super) fn spawn(fleet: &Arc<Fleet>, sealing: &Arc<Sealing>) {
    for asked in &fleet.witnesses.all {
        let asking = ask(Arc::clone(fleet), Arc::clone(sealing), Arc::clone(asked));
        fleet.tasks.spawn(asking);
    }
}

async fn ask(fleet: Arc<Fleet>, sealing: Arc<Sealing>, asked: Arc<Asked>) {
    let logs = Arc::clone(sealing.keeping().logs());
    let mut ticks = interval(WITNESS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The log about which it was asked last: the others come first.
    let mut last = None;
    let mut pause = WITNESS_AGAIN_FIRST;
    let mut not_before = None;
    while fleet.stop.run_until_cancelled(ticks.tick()).await.is_some() {
        asked.measure();
        // What this node has may not be what the fleet decided.
        let silent = fleet.signing.as_ref().is_some_and(|it| it.is_silent());
        let now = clock::instant();
        if silent || not_before.is_some_and(|at| now < at) {
            continue;
        }
        for log in asked.due(&logs, last.as_ref()) {
            last = Some(log.clone());
            let one = fleet.ask_about(&asked, &logs, &log);
            let Some(outcome) = fleet.stop.run_until_cancelled(one).await else {
                return;
            };
            let name = asked.witness.name.clone();
            let Some(outcome) = outcome else { continue };
            metrics::counter!("portcullis_witness_asked_total", "witness" => name, "outcome" => outcome)
                .increment(1);
            if matches!(outcome, FAILED | UNBELIEVED) {
                not_before = Some(clock::instant() + pause);
                pause = WITNESS_AGAIN_MOST.min(pause * 2);
                break;
            }
            pause = WITNESS_AGAIN_FIRST;
        }
    }
}

/// What comes of asking: the values of a metric's label.
const COSIGNED: &str = "cosigned";
const BEHIND: &str = "behind";
const CONTRADICTED: &str = "contradicted";
const REFUSED: &str = "refused";
const FAILED: &str = "failed";
const UNBELIEVED: &str = "unbelieved";

impl Asked {
    /// How old what it saw is: of the fleet's log, which has the heads of all others.
    fn measure(&self) {
        let at = self.logs.lock().get(&LogId::Fleet).map_or(0, |it| it.at);
        if at > 0 {
            let age = u64::try_from(clock::now().as_millis() / 1_000).unwrap_or_default();
            let age = age.saturating_sub(at);
            let name = self.witness.name.clone();
            // Seconds of any age are exact in it.
            #[expect(clippy::cast_precision_loss, reason = "an age in seconds")]
            metrics::gauge!("portcullis_witness_age_seconds", "witness" => name).set(age as f64);
        }
    }

    /// The logs about which it is to be asked, a few, those after `last` first.
    fn due(&self, logs: &Logs, last: Option<&LogId>) -> Vec<LogId> {
        let now = clock::instant();
        let progress = self.logs.lock();
        let is_due = |log: &&LogId| {
            let Some(known) = progress.get(*log) else {
                return true;
            };
            let waits = known.not_before.is_some_and(|at| now < at);
            let fresh = known
                .cosigned
                .is_some_and(|at| now.saturating_duration_since(at) < WITNESS_ANEW);
            let grew = || logs.tree(log).is_some_and(|tree| tree.size() != known.size);
            !waits && (!fresh || grew())
        };
        let all = logs.logs();
        let from = last.map_or(0, |last| all.partition_point(|log| log <= last));
        let (before, after) = all.split_at(from);
        let turns = after.iter().chain(before).filter(is_due);
        turns.take(WITNESS_LOGS_AT_ONCE).cloned().collect()
    }

    fn change(&self, log: &LogId, change: impl FnOnce(&mut Progress)) {
        change(self.logs.lock().entry(log.clone()).or_default());
    }

    fn wait(&self, log: &LogId, time: Duration) {
        self.change(log, |it| it.not_before = Some(clock::instant() + time));
    }

    /// The checkpoint that is shown, and the proof that it begins with what the witness saw; none where there is none now.
    fn request(&self, log: &LogId) -> Option<(Note, Checkpoint)> {
        let folder = self.folder.join(log.to_string());
        // What was witnessed before this process began.
        if !self.logs.lock().contains_key(log) {
            let kept = note(&folder, LogFile::Witnessed);
            let at = kept.and_then(|(kept, checkpoint)| match self.witness.key.check(&kept) {
                Said::Yes { at } => Some((checkpoint.size, at?)),
                Said::Nothing | Said::Wrong => None,
            });
            let (size, at) = at.unwrap_or_default();
            self.change(log, |it| (it.size, it.at) = (size, at));
        }
        note(&folder, LogFile::Checkpoint)
    }

    fn proof(&self, log: &LogId, old: u64, new: &Checkpoint) -> Option<Vec<Hash>> {
        if old == 0 {
            return Some(Vec::new());
        }
        let mut files = Directory(self.folder.clone());
        let proof = growth(&mut files, &log.to_string(), old, new);
        // Partial tiles go when they are superseded.
        proof
            .inspect_err(|error| tracing::debug!(%log, %error, "no proof for a witness now"))
            .ok()
    }

    fn keep(
        &self,
        logs: &Logs,
        log: &LogId,
        (shown, checkpoint): &(Note, Checkpoint),
        lines: &[NoteSignature],
    ) {
        let _writing = self.writing.lock();
        let kept = note(&self.folder.join(log.to_string()), LogFile::Witnessed);
        let kept = kept.as_ref().map(|(note, it)| (note, it.size));
        let Some(note) = merged(shown, checkpoint.size, kept, lines) else {
            return;
        };
        if let Err(error) = logs.show_witnessed(log, &note) {
            tracing::error!(%log, %error, "the witnessed checkpoint of an audit log is not kept");
        }
    }
}

fn note(folder: &Path, file: LogFile) -> Option<(Note, Checkpoint)> {
    let bytes = read(&folder.join(file.to_string()), MAX_NOTE_BYTES).ok()??;
    let note = Note::parse(&bytes).ok()?;
    let checkpoint = Checkpoint::parse(&note.text).ok()?;
    Some((note, checkpoint))
}

impl Fleet {
    /// Asks a witness about one log; what came of it, if there was something to ask.
    async fn ask_about(
        &self,
        asked: &Arc<Asked>,
        logs: &Arc<Logs>,
        log: &LogId,
    ) -> Option<&'static str> {
        let (reader, of) = (Arc::clone(asked), log.clone());
        let shown = tokio::task::spawn_blocking(move || reader.request(&of)).await;
        let shown = shown.ok()??;
        let new = &shown.1;
        let known = asked.logs.lock().get(log).cloned().unwrap_or_default();
        let fresh = known
            .cosigned
            .is_some_and(|at| clock::instant().saturating_duration_since(at) < WITNESS_ANEW);
        if fresh && new.size == known.size {
            // It has grown, and that is not shown yet.
            return None;
        }
        let mut old = known.size.min(new.size);
        for _ in 0..WITNESS_SIZES {
            let (reader, of, to) = (Arc::clone(asked), log.clone(), new.clone());
            let proof = tokio::task::spawn_blocking(move || reader.proof(&of, old, &to)).await;
            let request = AddCheckpoint::new(old, proof.ok()??, shown.0.clone()).ok()?;
            let answer = match asked.post(&request, &shown.0).await {
                Ok(answer) => answer,
                Err(problem) => {
                    tracing::debug!(witness = asked.witness.name, %log, problem, "a witness did not answer");
                    return Some(FAILED);
                }
            };
            match answer {
                Answer::Cosigned { lines, at } => {
                    asked.change(log, |it| {
                        *it = Progress {
                            size: new.size,
                            at,
                            cosigned: Some(clock::instant()),
                            told: std::mem::take(&mut it.told),
                            ..Progress::default()
                        };
                    });
                    let (keeper, logs, of) = (Arc::clone(asked), Arc::clone(logs), log.clone());
                    let kept = move || keeper.keep(&logs, &of, &shown, &lines);
                    // It ends; a panic in it is told by itself.
                    drop(tokio::task::spawn_blocking(kept).await);
                    return Some(COSIGNED);
                }
                Answer::OtherSize(size) if size > new.size => {
                    return Some(self.saw_more(asked, logs, log, new, size));
                }
                Answer::OtherSize(size) if size == old && size == new.size => {
                    let told = Contradiction {
                        cause: "other_root",
                        size,
                    };
                    return Some(self.contradicted(asked, log, new, told));
                }
                Answer::OtherSize(size) if size == old => return Some(UNBELIEVED),
                Answer::OtherSize(size) => old = size,
                Answer::NotGrown if old > 0 => {
                    let told = Contradiction {
                        cause: "rewritten",
                        size: old,
                    };
                    return Some(self.contradicted(asked, log, new, told));
                }
                Answer::NotGrown => return Some(UNBELIEVED),
                Answer::Refused(status) => {
                    asked.wait(log, WITNESS_REFUSED);
                    tracing::warn!(
                        witness = asked.witness.name, %log, status,
                        "a witness does not cosign this audit log: it does not know the log (404) or its key (403); give whoever runs it what `portcullis audit trust` prints"
                    );
                    return Some(REFUSED);
                }
                Answer::NotNow(status) => {
                    tracing::debug!(witness = asked.witness.name, %log, status, "a witness cannot cosign now");
                    return Some(FAILED);
                }
                Answer::Garbage(problem) => {
                    tracing::warn!(witness = asked.witness.name, %log, problem, "a witness's answer is not believed");
                    return Some(UNBELIEVED);
                }
            }
        }
        // Others ask it at the same time, and were faster each time.
        Some(BEHIND)
    }

    /// A witness says that it saw more of a log than is shown here. Another node may be ahead of this one; of one that leads, and has
    /// what a quorum has, that is not so.
    fn saw_more(
        &self,
        asked: &Asked,
        logs: &Logs,
        log: &LogId,
        new: &Checkpoint,
        size: u64,
    ) -> &'static str {
        let now = clock::instant();
        let has = logs.tree(log).map_or(0, |tree| tree.size());
        if !self.leads() || self.lease.remaining().is_none() || has >= size {
            asked.change(log, |it| it.longer = None);
            return BEHIND;
        }
        let mut since = now;
        asked.change(log, |it| since = *it.longer.get_or_insert(now));
        if now.saturating_duration_since(since) < WITNESS_LONGER {
            return BEHIND;
        }
        let told = Contradiction {
            cause: "longer",
            size,
        };
        self.contradicted(asked, log, new, told)
    }

    /// Tells once that a witness saw another history, and goes on.
    fn contradicted(
        &self,
        asked: &Asked,
        log: &LogId,
        new: &Checkpoint,
        told: Contradiction,
    ) -> &'static str {
        let Contradiction { cause, size } = told;
        let witness = &asked.witness.name;
        let how = match cause {
            "longer" => format!(
                "it says that it cosigned {size} entries, and there are {}",
                new.size
            ),
            "other_root" => format!("it says that it cosigned another root for {size} entries"),
            _ => format!(
                "it says that the {} entries do not begin with the {size} that it cosigned",
                new.size
            ),
        };
        let says = format!(
            "AUDIT LOG CONTRADICTED: the witness {witness} does not cosign {log}: {how}. The log was rolled back (a backup, an older disk) or rewritten, or the witness lies: compare the checkpoints that its holder kept with `portcullis audit verify --since`"
        );
        let mut first = false;
        asked.change(log, |it| {
            first = it.told.insert(cause);
            it.contradicts = Some(says.clone());
            it.not_before = Some(clock::instant() + WITNESS_REFUSED);
        });
        if first {
            tracing::error!(witness, %log, cause, size = new.size, root = %new.root, witnessed = size, "{says}");
            self.record(kinds::LOG_CONTRADICTED, |event| {
                let event = event.with("witness", witness.as_str());
                let event = event.with("log", log.to_string()).with("cause", cause);
                let event = event
                    .with("size", new.size)
                    .with("root", new.root.to_string());
                event.with("witnessed", size)
            });
        }
        CONTRADICTED
    }
}

/// How a witness's answer contradicts a log.
struct Contradiction {
    /// In a word.
    cause: &'static str,
    /// The size that it cosigned last, as it says.
    size: u64,
}

impl Asked {
    async fn post(&self, request: &AddCheckpoint, note: &Note) -> Result<Answer, String> {
        let url = format!("{}/add-checkpoint", self.witness.url);
        let limits = AnswerLimits {
            bytes: WITNESS_ANSWER_BYTES,
            time: WITNESS_ANSWER,
        };
        let body = request.to_string().into_bytes();
        let answer = post_any(&url, self.tls.clone(), body, None, limits).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let key: &NoteKey = &self.witness.key;
        Ok(answer::read(key, &note.text, answer.status, &answer.body))
    }
}
