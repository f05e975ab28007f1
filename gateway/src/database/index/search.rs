//! Asking the index.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use portcullis_audit::moment;
use portcullis_audit::tlog::Hash;
use serde_json::Value;
use tokio_postgres::types::{ToSql, Type};

use super::limits::{INDEX_ENTRY_BYTES, INDEX_SEARCH_ENTRIES};
use super::{Index, IndexError, Row};

/// What entries must be to be found; what is not said does not matter.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Of this log.
    pub log: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// About this tenant.
    pub tenant: Option<String>,
    /// Done by this one.
    pub actor: Option<String>,
    /// Then or later, Unix milliseconds.
    pub from_ms: Option<i64>,
    /// Earlier, Unix milliseconds.
    pub to_ms: Option<i64>,
    /// Containing this, as `@>` of the database's `jsonb` means it.
    pub contains: Option<Value>,
    /// Behind this one.
    pub after: Option<After>,
    /// So many, at most [`INDEX_SEARCH_ENTRIES`].
    pub limit: u32,
}

/// A place in the order of answers: `MOMENT,LOG,INDEX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    at_ms: i64,
    log: String,
    index: i64,
}

/// Entries in the order of their moments, then their logs, then their places there.
#[derive(Clone, Debug)]
pub struct Found {
    /// They.
    pub rows: Vec<Row>,
    /// Where to go on, if there are more.
    pub next: Option<After>,
}

impl Index {
    /// Finds entries.
    ///
    /// # Errors
    /// [`IndexError`]
    pub async fn search(&self, question: &Question) -> Result<Found, IndexError> {
        let limit = question.limit.clamp(1, INDEX_SEARCH_ENTRIES);
        // One more than is shown tells whether there are more.
        let most = i64::from(limit) + 1;
        let after = question.after.as_ref();
        let log = after.map(|it| it.log.as_str());
        let (at, index) = (after.map(|it| it.at_ms), after.map(|it| it.index));
        let contains = question.contains.as_ref().map(Value::to_string);
        let mut asked = Asked::new(format!("select {COLUMNS} from {}.entries e", self.quoted()));
        asked.only("e.log =", &question.log, "");
        asked.only("e.kind =", &question.kind, "");
        asked.only("e.tenant =", &question.tenant, "");
        asked.only("e.actor =", &question.actor, "");
        asked.since("e.at >=", &question.from_ms);
        asked.since("e.at <", &question.to_ms);
        asked.only("e.event @>", &contains, "::jsonb");
        if let (Some(at), Some(log), Some(index)) = (&at, &log, &index) {
            let (at, log, index) = (
                asked.parameter(at, Type::INT8),
                asked.parameter(log, Type::TEXT),
                asked.parameter(index, Type::INT8),
            );
            asked.also(&format!(
                "(e.at, e.log, e.index) > (to_timestamp({at} / 1000.0), {log}, {index})"
            ));
        }
        let limited = asked.parameter(&most, Type::INT8);
        let text = format!(
            "{} order by e.at, e.log, e.index limit {limited}",
            asked.text
        );
        let bytes = usize::try_from(most)
            .unwrap_or(usize::MAX)
            .saturating_mul(INDEX_ENTRY_BYTES);
        let answer = self.client.query_typed(&text, &asked.parameters);
        let answer = self.within(bytes, answer).await?;
        let mut rows: Vec<Row> = answer.iter().map(row).collect::<Result<_, _>>()?;
        let shown = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_more = rows.len() > shown;
        rows.truncate(shown);
        let next = rows.last().filter(|_| is_more).map(|last| After {
            at_ms: last.at_ms,
            log: last.log.clone(),
            index: last.index,
        });
        Ok(Found { rows, next })
    }
}

const COLUMNS: &str = "e.log, e.index, (extract(epoch from e.at) * 1000)::bigint, e.kind, e.tenant, e.actor, e.position, e.revision, e.event::text, e.leaf_hash";

/// A statement whose every value is a parameter.
struct Asked<'a> {
    text: String,
    parameters: Vec<(&'a (dyn ToSql + Sync), Type)>,
    conditions: usize,
}

impl<'a> Asked<'a> {
    fn new(text: String) -> Self {
        Self {
            text,
            parameters: Vec::new(),
            conditions: 0,
        }
    }

    /// The name of a value in the statement.
    fn parameter(&mut self, value: &'a (dyn ToSql + Sync), kind: Type) -> String {
        self.parameters.push((value, kind));
        format!("${}", self.parameters.len())
    }

    fn also(&mut self, condition: &str) {
        let joined = if self.conditions == 0 { "where" } else { "and" };
        self.conditions += 1;
        // A text takes whatever is written to it.
        let _ = write!(self.text, " {joined} {condition}");
    }

    fn only(&mut self, condition: &str, value: &'a Option<String>, cast: &str) {
        if let Some(value) = value {
            let name = self.parameter(value, Type::TEXT);
            self.also(&format!("{condition} {name}{cast}"));
        }
    }

    fn since(&mut self, condition: &str, moment: &'a Option<i64>) {
        if let Some(moment) = moment {
            let name = self.parameter(moment, Type::INT8);
            self.also(&format!("{condition} to_timestamp({name} / 1000.0)"));
        }
    }
}

fn row(row: &tokio_postgres::Row) -> Result<Row, IndexError> {
    let read = || {
        let event: String = row.try_get(8)?;
        let hash: Vec<u8> = row.try_get(9)?;
        let row = Row {
            log: row.try_get(0)?,
            index: row.try_get(1)?,
            at_ms: row.try_get(2)?,
            kind: row.try_get(3)?,
            tenant: row.try_get(4)?,
            actor: row.try_get(5)?,
            position: row.try_get(6)?,
            revision: row.try_get(7)?,
            event: Value::Null,
            leaf_hash: Hash([0; 32]),
        };
        Ok((row, event, hash))
    };
    let (mut row, event, hash) = read().map_err(IndexError::Database)?;
    let event = serde_json::from_str(&event);
    row.event = event.map_err(|_| IndexError::Nonsense("an entry that is no JSON"))?;
    // Somebody changed one of another length: it is no entry's hash.
    row.leaf_hash = hash.try_into().map_or(Hash([0; 32]), Hash);
    Ok(row)
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_ms, log, index } = self;
        write!(f, "{},{log},{index}", moment::to_text(*at_ms))
    }
}

impl FromStr for After {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let (at, rest) = text.split_once(',')?;
            let (log, index) = rest.split_once(',')?;
            let is_name = log.bytes().all(|byte| byte.is_ascii_graphic());
            Some(Self {
                at_ms: moment::from_text(at)?,
                log: Some(log).filter(|_| is_name)?.to_owned(),
                index: index.parse().ok().filter(|index| *index >= 0)?,
            })
        };
        parsed().ok_or_else(|| {
            "a place to go on is MOMENT,LOG,INDEX, as the search before said it".to_owned()
        })
    }
}
