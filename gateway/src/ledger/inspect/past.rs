//! Who could reach an endpoint at a moment in the past, and under which change, from a tenant's log alone.
//!
//! The whole log is checked on the way: every entry is hashed, and the root compared. Only what the answer rests on is read as JSON, once it
//! is known to be as it was signed. The document that was in force is put into a state of its own, and asked by the very functions that decide
//! connections; an entry's own expiry counts.

use std::fmt;

use portcullis_audit::tlog::{
    Checkpoint, Hash, Level, NotBelieved, Note, TILE_WIDTH, Tile, TrustPolicy, entries, verify_from,
};
use portcullis_audit::{kinds, moment, personal, sha256_hex};
use portcullis_policy::{
    Address, Attempt, Command, Decision, EndpointId, Origin, Prefix, Proposal, Purpose, Reach,
    State, Tenant, TenantId, Timestamp, View, explain, reach,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::log::said_kept;
use super::report::LogReport;
use super::sight::{Known, Seems};
use super::source::Source;
use super::{InspectError, What, get, what};
use crate::ledger::tiles::{CHECKPOINT, KEPT_FROM, LogFile, LogId, limit};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Then {
    /// Whose endpoint.
    pub tenant: TenantId,
    /// Which.
    pub endpoint: EndpointId,
    /// When.
    pub at: Timestamp,
    /// One address at one door, that is asked about besides.
    pub from: Option<(Address, Origin)>,
}

/// What the log says.
#[derive(Clone, Debug)]
pub struct Past {
    /// The checkpoint's size: entries beyond it are not known.
    pub size: u64,
    /// The change whose document was in force; none: the tenant had none yet.
    pub in_force: Option<ChangeThen>,
    /// Who could come in, door by door; none: there was no such endpoint.
    pub reach: Option<Reach>,
    /// The change that last altered who can reach it.
    pub changed_by: Option<ChangeThen>,
    /// Entries before this one may have been let go of, and are not in the answer.
    pub kept_from: Option<u64>,
    /// What became of the address that was asked about.
    pub attempt: Option<AttemptThen>,
}

/// A change, by its entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangeThen {
    /// The entry's index in the tenant's log.
    pub entry: u64,
    /// When it was decided.
    pub at: String,
    /// The policy's revision.
    pub revision: u64,
    /// Who made it; the first digits of the commitment, where it is withheld.
    pub by: String,
}

/// What would have become of an attempt.
#[derive(Clone, Debug)]
pub struct AttemptThen {
    /// Whether it would have been let in, before it proves who it is.
    pub permitted: bool,
    /// Why, as `explain` says it.
    pub verdict: String,
    /// The change that admitted the address, if it was admitted.
    pub admitted_by: Option<ChangeThen>,
}

/// Answers from the log of a tenant, alone or among all logs.
///
/// # Errors
/// [`PastError`]
pub fn past(source: &mut dyn Source, trust: &TrustPolicy, then: &Then) -> Result<Past, PastError> {
    let log = match what(source)? {
        What::Log => String::new(),
        What::Logs => LogId::Tenant(then.tenant.clone()).to_string(),
    };
    let of_log = LogReport::new(&log);
    let path = of_log.path(CHECKPOINT);
    let bytes = get(source, &path)?.ok_or_else(|| PastError::Missing(path.clone()))?;
    let checkpoint = believed(&bytes, trust, &then.tenant)?;
    let mut read = Read {
        source,
        of_log: &of_log,
        size: checkpoint.size,
        bundle: None,
    };
    let mut before = Vec::new();
    let kept = said_kept(read.source, &of_log.path(KEPT_FROM))?;
    let mut declared = false;
    let findings = verify_from(
        &checkpoint,
        kept.map_or(0, |kept| kept.kept_from),
        |tile| read.file(tile),
        |index, leaf| {
            let Some(line) = leaf.entry else { return };
            declared |= kept.is_some_and(|kept| kept.is_declared(index, line));
            let entry = Known::of(index, leaf.hash, line, then);
            before.extend(entry.filter(|known| known.at_ms <= then.at.as_millis()));
        },
    )?;
    let gone = kept.filter(|_| findings.gone > 0);
    if !findings.is_clean() || gone.is_some() && !declared {
        return Err(PastError::NotGood {
            tampered: findings.is_tampered(),
        });
    }
    let mut history = History {
        read,
        before,
        size: checkpoint.size,
        gone: gone.map(|gone| gone.kept_from),
    };
    history.answer(then)
}

/// The checkpoint, if it is of this tenant's log and to be believed.
fn believed(bytes: &[u8], trust: &TrustPolicy, tenant: &TenantId) -> Result<Checkpoint, PastError> {
    let note = Note::parse(bytes).map_err(|error| PastError::Unfit(error.to_string()))?;
    let said =
        Checkpoint::parse(&note.text).map_err(|error| PastError::Unfit(error.to_string()))?;
    let own = format!("/{}", LogId::Tenant(tenant.clone()));
    if !said.origin.ends_with(&own) {
        return Err(PastError::OtherLog(said.origin));
    }
    let trust = trust
        .for_log(&said.origin)
        .ok_or_else(|| PastError::OtherLog(said.origin.clone()))?;
    let believed = trust.check(&note).map_err(PastError::NotBelieved)?;
    Ok(believed.checkpoint)
}

/// An entry about policy, as all nodes write it.
#[derive(Deserialize)]
struct Entry {
    kind: String,
    node: String,
    at: String,
    by: Value,
    position: u64,
    revision: u64,
    #[serde(default)]
    endpoints: Value,
    #[serde(default)]
    document: Value,
    #[serde(default)]
    text: String,
}

/// The node that stands in what all nodes write.
const ALL_NODES: &str = "fleet";

impl Entry {
    /// What it says of an endpoint; nothing where it says nothing. Too large to be in the entry: it may have changed.
    fn about(&self, endpoint: &EndpointId) -> Option<&Value> {
        match self.endpoints.as_array() {
            Some(all) => said_of(all, endpoint),
            None => Some(&self.endpoints),
        }
    }

    fn change(&self, entry: u64) -> ChangeThen {
        ChangeThen {
            entry,
            at: self.at.clone(),
            revision: self.revision,
            by: personal::shown(&self.by),
        }
    }
}

/// The difference that is this endpoint's.
pub(super) fn said_of<'a>(all: &'a [Value], endpoint: &EndpointId) -> Option<&'a Value> {
    let name = endpoint.to_string();
    all.iter().find(|one| one["endpoint"] == name.as_str())
}

struct History<'a> {
    read: Read<'a>,
    before: Vec<Known>,
    size: u64,
    /// Entries before this one may have been let go of.
    gone: Option<u64>,
}

impl History<'_> {
    fn answer(&mut self, then: &Then) -> Result<Past, PastError> {
        let mut past = Past {
            size: self.size,
            in_force: None,
            reach: None,
            changed_by: None,
            kept_from: self.gone,
            attempt: None,
        };
        let mut place = self.before.len();
        let Some((index, entry)) = self.previous(&mut place, Seems::Elsewhere)? else {
            return match self.gone {
                Some(kept_from) => Err(PastError::Gone(kept_from)),
                None => Ok(past),
            };
        };
        past.in_force = Some(entry.change(index));
        let document = self.document(&entry, place)?;
        let view = match document {
            None => View::empty(),
            Some(document) => view_of(document, &entry)?,
        };
        past.reach = reach(&view, &then.tenant, &then.endpoint, then.at);
        past.attempt = then
            .from
            .as_ref()
            .and_then(|from| attempt(&view, then, from));
        past.changed_by = self.last(place, Seems::About, |entry| {
            entry.about(&then.endpoint).is_some()
        })?;
        if let (Some(attempt), Some(from)) = (&mut past.attempt, &then.from)
            && attempt.permitted
        {
            attempt.admitted_by = self.last(place, Seems::Opens, |entry| {
                let said = entry.about(&then.endpoint);
                said.is_some_and(|said| opens(said, from))
            })?;
        }
        Ok(past)
    }

    /// The last change up to this place, itself included, that did so.
    fn last(
        &mut self,
        place: usize,
        seems: Seems,
        did: impl Fn(&Entry) -> bool,
    ) -> Result<Option<ChangeThen>, PastError> {
        let mut place = place.saturating_add(1);
        while let Some((index, entry)) = self.previous(&mut place, seems)? {
            if did(&entry) {
                return Ok(Some(entry.change(index)));
            }
        }
        Ok(None)
    }

    /// The last change before this place that seems to do at least this, and its place.
    fn previous(
        &mut self,
        place: &mut usize,
        seems: Seems,
    ) -> Result<Option<(u64, Entry)>, PastError> {
        while let Some(before) = place.checked_sub(1) {
            *place = before;
            if self.before.get(before).is_some_and(|it| it.seems >= seems)
                && let Some((index, entry)) = self.entry(before)?
                && entry.kind == kinds::POLICY_APPLIED
            {
                return Ok(Some((index, entry)));
            }
        }
        Ok(None)
    }

    fn entry(&mut self, place: usize) -> Result<Option<(u64, Entry)>, PastError> {
        let Some(known) = self.before.get(place) else {
            return Ok(None);
        };
        let line = self.read.entry(known)?;
        let entry = serde_json::from_slice::<Entry>(&line).ok();
        let entry = entry.filter(|entry| entry.node == ALL_NODES);
        Ok(entry.map(|entry| (known.index, entry)))
    }

    /// The document that a change left, from the entry itself or from those before it.
    fn document(&mut self, entry: &Entry, place: usize) -> Result<Option<Value>, PastError> {
        if entry.document.is_null() {
            return Ok(None);
        }
        let parts = entry.document.get("parts").and_then(Value::as_u64);
        let digest = entry.document.get("sha256").and_then(Value::as_str);
        let (Some(parts), Some(digest)) = (parts, digest) else {
            return Ok(Some(entry.document.clone()));
        };
        let unfit = || PastError::Unfit(format!("the document of revision {}", entry.revision));
        let count = usize::try_from(parts).map_err(|_| unfit())?;
        let first = place.checked_sub(count);
        let first = first.ok_or_else(|| self.gone.map_or_else(unfit, PastError::Gone))?;
        let mut text = String::new();
        for place in first..place {
            let part = self.entry(place)?.filter(|(_, part)| {
                part.kind == kinds::POLICY_DOCUMENT && part.position == entry.position
            });
            text.push_str(&part.ok_or_else(unfit)?.1.text);
        }
        if sha256_hex(&text) != digest {
            return Err(unfit());
        }
        serde_json::from_str(&text).map(Some).map_err(|_| unfit())
    }
}

/// A view with one tenant, as it was.
fn view_of(document: Value, entry: &Entry) -> Result<View, PastError> {
    let unfit = |why: &dyn fmt::Display| {
        PastError::Unfit(format!(
            "the document of revision {}: {why}",
            entry.revision
        ))
    };
    let tenant: Tenant = serde_json::from_value(document).map_err(|error| unfit(&error))?;
    let at = moment::from_text(&entry.at).unwrap_or_default();
    let command = Command::Apply {
        base: None,
        expected: std::collections::BTreeMap::new(),
        put: vec![tenant],
        remove: vec![],
    };
    let mut state = State::default();
    let proposal = Proposal::local("the past", Timestamp::from_millis(at), command);
    state.apply(&proposal).map_err(|error| unfit(&error))?;
    Ok(state.view())
}

fn attempt(view: &View, then: &Then, (address, origin): &(Address, Origin)) -> Option<AttemptThen> {
    let place = view.endpoint(&then.tenant, &then.endpoint)?;
    let attempt = Attempt {
        origin,
        address: *address,
        server_name: place.endpoint().names.first(),
        user: "anybody",
        database: "anybody",
        replication: false,
        certificate: None,
        purpose: Purpose::Connect,
        unconfirmed: 0,
    };
    let explained = explain(view, &attempt, then.at);
    Some(AttemptThen {
        permitted: matches!(explained.decision, Decision::Permitted(_)),
        verdict: explained.verdict,
        admitted_by: None,
    })
}

/// Whether a change opened this door to this address, or may have: it was too large to say.
pub(super) fn opens(said: &Value, (address, origin): &(Address, Origin)) -> bool {
    let Some(opened) = said.get("opened") else {
        return true;
    };
    let prefixes = opened.get(origin.to_string()).and_then(Value::as_array);
    prefixes.into_iter().flatten().any(|prefix| {
        let prefix = prefix.as_str().and_then(|text| Prefix::parse(text).ok());
        prefix.is_some_and(|prefix| prefix.contains(*address))
    })
}

/// The files of one log.
struct Read<'a> {
    source: &'a mut dyn Source,
    of_log: &'a LogReport,
    size: u64,
    /// The bundle that was read last.
    bundle: Option<(u64, Vec<Vec<u8>>)>,
}

impl Read<'_> {
    fn file(&mut self, tile: Tile) -> Result<Option<Vec<u8>>, InspectError> {
        let path = self.of_log.path(&tile.path());
        let read = self.source.read(&path, limit(LogFile::Tile(tile)));
        read.map_err(|problem| InspectError::Read { path, problem })
    }

    /// An entry that was checked before; one that is another by now is refused.
    fn entry(&mut self, known: &Known) -> Result<Vec<u8>, PastError> {
        let changed = PastError::NotGood { tampered: true };
        let wanted = known.index / u64::from(TILE_WIDTH);
        if self
            .bundle
            .as_ref()
            .is_none_or(|(index, _)| *index != wanted)
        {
            let tile = Tile::at(Level::Entries, wanted, self.size);
            let tile = tile.ok_or_else(|| changed.clone())?;
            let mut bytes = self.file(tile)?;
            let mut width = tile.width;
            if bytes.is_none() && tile.is_partial() {
                bytes = self.file(tile.full())?;
                width = tile.full().width;
            }
            let bytes = bytes.ok_or_else(|| changed.clone())?;
            let read = entries(&bytes, width).map_err(|_| changed.clone())?;
            let read = read.into_iter().map(<[u8]>::to_vec).collect();
            self.bundle = Some((wanted, read));
        }
        let place = usize::try_from(known.index % u64::from(TILE_WIDTH)).unwrap_or(usize::MAX);
        let entry = self.bundle.as_ref().and_then(|(_, read)| read.get(place));
        let entry = entry.filter(|entry| Hash::of_leaf(entry) == known.hash);
        entry.cloned().ok_or(changed)
    }
}

/// Why the past is not told.
#[derive(Clone, Debug, PartialEq)]
pub enum PastError {
    /// The log cannot be read.
    Inspect(InspectError),
    /// This file is not there.
    Missing(String),
    /// The log lies there is another one, or not one that the trust policy names; its origin.
    OtherLog(String),
    /// Its checkpoint is not to be believed.
    NotBelieved(NotBelieved),
    /// It is not as it was signed, or something is missing.
    NotGood {
        /// Something is changed, not only missing.
        tampered: bool,
    },
    /// What was in force then was said before this entry, and was let go of.
    Gone(u64),
    /// What was signed is not of this version; what.
    Unfit(String),
}

impl From<InspectError> for PastError {
    fn from(error: InspectError) -> Self {
        Self::Inspect(error)
    }
}

impl fmt::Display for PastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inspect(error) => error.fmt(f),
            Self::Missing(path) => write!(f, "{path} is missing"),
            Self::OtherLog(origin) => {
                write!(f, "{origin} is not the log of that tenant, or the trust policy does not name it")
            }
            Self::NotBelieved(error) => write!(f, "the checkpoint is not to be believed: {error}"),
            Self::NotGood { tampered: true } => f.write_str(
                "the log is not as it was signed: nothing is told from it; `portcullis audit verify` says where",
            ),
            Self::NotGood { tampered: false } => f.write_str(
                "the log is not complete: nothing is told from it; `portcullis audit verify` says what is missing",
            ),
            Self::Gone(kept_from) => write!(
                f,
                "what was in force then was said before entry {kept_from}, and was let go of since: ask a copy of the log that still has it"
            ),
            Self::Unfit(what) => write!(f, "not understood: {what}"),
        }
    }
}

impl std::error::Error for PastError {}
