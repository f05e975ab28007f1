//! Writing entries, exactly once in effect: rows and how far each log is are one transaction.

use std::collections::BTreeMap;

use portcullis_audit::tlog::Hash;
use tokio_postgres::types::{ToSql, Type};

use super::limits::{INDEX_ANSWER_BYTES, INDEX_NAMED};
use super::{Index, IndexError, Row};

/// How far a log goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The log.
    pub log: String,
    /// Its name in its checkpoints.
    pub origin: String,
    /// The next entry that the index lacks, before,
    pub from: u64,
    /// and after.
    pub to: u64,
    /// The root of the log's first `to` entries; nothing where it could not be reckoned.
    pub root: Option<Hash>,
    /// Entries among them that could not be read: the first and the last of each gap.
    pub gaps: Vec<(u64, u64)>,
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// All of it is in the index.
    All,
    /// Nothing was written: a log stands elsewhere there than we thought.
    Elsewhere,
    /// Nothing was written: of these logs the index has other entries, of which some are named.
    Contradicted(Vec<(String, i64)>),
}

/// Where a log stands in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name in its checkpoints.
    pub origin: String,
    /// The next entry that the index lacks.
    pub next: u64,
    /// The root of the entries before; nothing where it could not be reckoned.
    pub root: Option<Hash>,
    /// The row after all others.
    pub last: Option<i64>,
}

impl Index {
    /// Where every log stands.
    ///
    /// # Errors
    /// [`IndexError`]
    pub async fn standing(&self) -> Result<BTreeMap<String, Standing>, IndexError> {
        let schema = self.quoted();
        let question = format!(
            "select c.log, c.origin, c.next, c.root, (select max(e.index) from {schema}.entries e where e.log = c.log) from {schema}.cursors c"
        );
        let rows = self.ask(&question, &[]).await?;
        let mut standing = BTreeMap::new();
        for row in rows {
            let log: String = row.try_get(0).map_err(IndexError::Database)?;
            let next: i64 = row.try_get(2).map_err(IndexError::Database)?;
            let root: Vec<u8> = row.try_get(3).map_err(IndexError::Database)?;
            let stands = Standing {
                origin: row.try_get(1).map_err(IndexError::Database)?,
                next: next.try_into().unwrap_or_default(),
                root: root.try_into().ok().map(Hash),
                last: row.try_get(4).map_err(IndexError::Database)?,
            };
            standing.insert(log, stands);
        }
        Ok(standing)
    }

    /// How many of a log's first `next` entries are there, or known to be unreadable.
    ///
    /// # Errors
    /// [`IndexError`]
    pub async fn count(&self, log: &str, next: u64) -> Result<u64, IndexError> {
        let schema = self.quoted();
        let question = format!(
            "select (select count(*) from {schema}.entries where log = $1 and index < $2) + (select coalesce(sum(last - first + 1), 0)::bigint from {schema}.gaps where log = $1 and last < $2)"
        );
        let next = i64::try_from(next).unwrap_or(i64::MAX);
        let rows = self
            .ask(&question, &[(&log, Type::TEXT), (&next, Type::INT8)])
            .await?;
        let row = rows.first().ok_or(IndexError::Nonsense("no count"))?;
        let count: i64 = row.try_get(0).map_err(IndexError::Database)?;
        Ok(count.try_into().unwrap_or_default())
    }

    /// Has a log written again from its first entry: rows that are there stay, what is missing comes.
    ///
    /// # Errors
    /// [`IndexError`]
    pub async fn begin_again(&self, log: &str) -> Result<(), IndexError> {
        let schema = self.quoted();
        let question = format!(
            "with seen as (delete from {schema}.gaps where log = $1) update {schema}.cursors set next = 0, root = '', changed = now() where log = $1"
        );
        self.ask(&question, &[(&log, Type::TEXT)]).await?;
        Ok(())
    }

    /// Writes rows, and that their logs go on; all of it or nothing.
    ///
    /// # Errors
    /// [`IndexError`]: nothing was written, unless the connection broke while we waited to hear of it. The connection is
    /// then to be given up.
    pub async fn write(&self, rows: &[Row], moves: &[Move]) -> Result<Written, IndexError> {
        self.run("begin").await?;
        let written = self.within_transaction(rows, moves).await?;
        let end = match written {
            Written::All => "commit",
            Written::Elsewhere | Written::Contradicted(_) => "rollback",
        };
        self.run(end).await?;
        Ok(written)
    }

    async fn within_transaction(
        &self,
        rows: &[Row],
        moves: &[Move],
    ) -> Result<Written, IndexError> {
        let logs: Vec<&str> = moves.iter().map(|it| it.log.as_str()).collect();
        let origins: Vec<&str> = moves.iter().map(|it| it.origin.as_str()).collect();
        if let Some(elsewhere) = self.lock(&logs, &origins, moves).await? {
            return Ok(elsewhere);
        }
        let differing = self.differing(rows).await?;
        if !differing.is_empty() {
            return Ok(Written::Contradicted(differing));
        }
        self.insert(rows).await?;
        self.advance(&logs, moves).await?;
        Ok(Written::All)
    }

    /// Has the logs to ourselves until the transaction ends; says so if they are not where we thought.
    async fn lock(
        &self,
        logs: &[&str],
        origins: &[&str],
        moves: &[Move],
    ) -> Result<Option<Written>, IndexError> {
        let schema = self.quoted();
        let begun = format!(
            "insert into {schema}.cursors (log, origin, next, root) select n.log, n.origin, 0, '' from unnest($1::text[], $2::text[]) n(log, origin) on conflict do nothing"
        );
        let named = [
            (&logs as &(dyn ToSql + Sync), Type::TEXT_ARRAY),
            (&origins, Type::TEXT_ARRAY),
        ];
        self.ask(&begun, &named).await?;
        // In one order, so that two who write never wait for each other.
        let question = format!(
            "select log, next, origin from {schema}.cursors where log = any ($1) order by log for update"
        );
        let locked = self.ask(&question, &[(&logs, Type::TEXT_ARRAY)]).await?;
        let mut stand: BTreeMap<String, (i64, String)> = BTreeMap::new();
        for row in locked {
            let read = || Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)));
            let (log, next) = read().map_err(IndexError::Database)?;
            stand.insert(log, next);
        }
        let mut others = Vec::new();
        for it in moves {
            match stand.get(&it.log) {
                Some((_, origin)) if *origin != it.origin => others.push((it.log.clone(), 0)),
                Some((next, _)) if u64::try_from(*next) == Ok(it.from) => {}
                _ => return Ok(Some(Written::Elsewhere)),
            }
        }
        Ok((!others.is_empty()).then_some(Written::Contradicted(others)))
    }

    /// Rows that are there and say something else.
    async fn differing(&self, rows: &[Row]) -> Result<Vec<(String, i64)>, IndexError> {
        let schema = self.quoted();
        let question = format!(
            "select n.log, n.index from unnest($1::text[], $2::bigint[], $3::bytea[]) n(log, index, hash) join {schema}.entries e on e.log = n.log and e.index = n.index where e.leaf_hash <> n.hash order by n.log, n.index limit {INDEX_NAMED}"
        );
        let logs: Vec<&str> = rows.iter().map(|it| it.log.as_str()).collect();
        let indexes: Vec<i64> = rows.iter().map(|it| it.index).collect();
        let hashes: Vec<&[u8]> = rows.iter().map(|it| it.leaf_hash.0.as_slice()).collect();
        let parameters = [
            (&logs as &(dyn ToSql + Sync), Type::TEXT_ARRAY),
            (&indexes, Type::INT8_ARRAY),
            (&hashes, Type::BYTEA_ARRAY),
        ];
        let found = self.ask(&question, &parameters).await?;
        let pairs = found
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        pairs
            .collect::<Result<_, tokio_postgres::Error>>()
            .map_err(IndexError::Database)
    }

    async fn insert(&self, rows: &[Row]) -> Result<(), IndexError> {
        let schema = self.quoted();
        let statement = format!(
            "insert into {schema}.entries (log, index, at, kind, tenant, actor, position, revision, event, leaf_hash) \
             select n.log, n.index, to_timestamp(n.at / 1000.0), n.kind, n.tenant, n.actor, n.position, n.revision, n.event::jsonb, n.hash \
             from unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::text[], $10::bytea[]) \
             n(log, index, at, kind, tenant, actor, position, revision, event, hash) on conflict (log, index) do nothing"
        );
        let logs: Vec<&str> = rows.iter().map(|it| it.log.as_str()).collect();
        let indexes: Vec<i64> = rows.iter().map(|it| it.index).collect();
        let moments: Vec<i64> = rows.iter().map(|it| it.at_ms).collect();
        let kinds: Vec<&str> = rows.iter().map(|it| it.kind.as_str()).collect();
        let tenants: Vec<Option<&str>> = rows.iter().map(|it| it.tenant.as_deref()).collect();
        let actors: Vec<Option<&str>> = rows.iter().map(|it| it.actor.as_deref()).collect();
        let positions: Vec<Option<i64>> = rows.iter().map(|it| it.position).collect();
        let revisions: Vec<Option<i64>> = rows.iter().map(|it| it.revision).collect();
        let events: Vec<String> = rows.iter().map(|it| it.event.to_string()).collect();
        let hashes: Vec<&[u8]> = rows.iter().map(|it| it.leaf_hash.0.as_slice()).collect();
        let parameters = [
            (&logs as &(dyn ToSql + Sync), Type::TEXT_ARRAY),
            (&indexes, Type::INT8_ARRAY),
            (&moments, Type::INT8_ARRAY),
            (&kinds, Type::TEXT_ARRAY),
            (&tenants, Type::TEXT_ARRAY),
            (&actors, Type::TEXT_ARRAY),
            (&positions, Type::INT8_ARRAY),
            (&revisions, Type::INT8_ARRAY),
            (&events, Type::TEXT_ARRAY),
            (&hashes, Type::BYTEA_ARRAY),
        ];
        self.ask(&statement, &parameters).await?;
        Ok(())
    }

    async fn advance(&self, logs: &[&str], moves: &[Move]) -> Result<(), IndexError> {
        let schema = self.quoted();
        let number = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
        let gaps = moves
            .iter()
            .flat_map(|it| it.gaps.iter().map(move |gap| (it, gap)));
        let (mut of, mut firsts, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
        for (it, (first, last)) in gaps {
            of.push(it.log.as_str());
            firsts.push(number(*first));
            lasts.push(number(*last));
        }
        if !of.is_empty() {
            let statement = format!(
                "insert into {schema}.gaps (log, first, last) select * from unnest($1::text[], $2::bigint[], $3::bigint[]) on conflict do nothing"
            );
            let parameters = [
                (&of as &(dyn ToSql + Sync), Type::TEXT_ARRAY),
                (&firsts, Type::INT8_ARRAY),
                (&lasts, Type::INT8_ARRAY),
            ];
            self.ask(&statement, &parameters).await?;
        }
        let statement = format!(
            "update {schema}.cursors c set next = n.next, root = n.root, changed = now() from unnest($1::text[], $2::bigint[], $3::bytea[]) n(log, next, root) where c.log = n.log"
        );
        let next: Vec<i64> = moves.iter().map(|it| number(it.to)).collect();
        let roots: Vec<&[u8]> = moves
            .iter()
            .map(|it| it.root.as_ref().map_or(&[][..], |root| &root.0))
            .collect();
        let parameters = [
            (&logs as &(dyn ToSql + Sync), Type::TEXT_ARRAY),
            (&next, Type::INT8_ARRAY),
            (&roots, Type::BYTEA_ARRAY),
        ];
        self.ask(&statement, &parameters).await?;
        Ok(())
    }

    /// Asks one statement with typed parameters.
    pub(super) async fn ask(
        &self,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<tokio_postgres::Row>, IndexError> {
        let asked = self.client.query_typed(statement, parameters);
        self.within(INDEX_ANSWER_BYTES, asked).await
    }
}
