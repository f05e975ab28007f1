//! The tables of the index, and how they came to be as they are.

use tokio_postgres::types::Type;

use super::limits::INDEX_ANSWER_BYTES;
use super::{Index, IndexError};

/// What made the tables what they are, in order. One that was released is never edited; `{}` is the schema.
///
/// No partitions by time: what tells that a row is another than the log's is the primary key, which a partition's would not be without the
/// time. B-trees and no BRIN: answers come in the order of time and go on from a place in it, which a BRIN cannot give. `"C"`: the
/// order of logs' names is ours, not that of the database's language.
const MIGRATIONS: &[&str] = &[r#"
create table {}.cursors (
    log text collate "C" primary key,
    origin text not null,
    next bigint not null check (next >= 0),
    root bytea not null,
    changed timestamptz not null default now()
);
create table {}.entries (
    log text collate "C" not null,
    index bigint not null check (index >= 0),
    at timestamptz not null,
    kind text not null,
    tenant text,
    actor text,
    position bigint,
    revision bigint,
    event jsonb not null,
    leaf_hash bytea not null,
    primary key (log, index)
);
create index entries_at on {}.entries (at, log, index);
create index entries_kind on {}.entries (kind, at, log, index);
create index entries_tenant on {}.entries (tenant, at, log, index);
create index entries_actor on {}.entries (actor, at, log, index);
create index entries_event on {}.entries using gin (event jsonb_path_ops);
create table {}.gaps (
    log text collate "C" not null,
    first bigint not null,
    last bigint not null check (last >= first),
    primary key (log, first)
);
create table {}.readers (
    role name not null,
    log text collate "C" not null,
    primary key (role, log)
);
alter table {}.cursors enable row level security;
alter table {}.entries enable row level security;
alter table {}.gaps enable row level security;
alter table {}.readers enable row level security;
create policy own on {}.readers for select using (role = current_user);
create policy readers on {}.entries for select using (
    log = any (array(select r.log from {}.readers r where r.role = current_user))
    or exists (select from {}.readers r where r.role = current_user and r.log = '*')
);
"#];

/// Keeps our advisory locks apart from those of others in the same database.
const LOCK: i64 = 7302;

impl Index {
    /// Makes the tables, or brings them up to the last version. Of several that do so at once, one does.
    pub(super) async fn migrate(&mut self) -> Result<(), IndexError> {
        let ours = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
        if self.version().await? == Some(ours) {
            return Ok(());
        }
        let schema = self.quoted();
        self.run("begin").await?;
        let lock = format!(
            "select pg_advisory_xact_lock(hashtextextended('{}', {LOCK}))",
            self.schema
        );
        self.run(&lock).await?;
        // Another may have done it while we waited.
        let theirs = match self.version().await? {
            Some(version) => version,
            None => {
                let there = "select exists (select from pg_namespace where nspname = $1)";
                if !self.exists(there).await? {
                    self.run(&format!("create schema {schema}")).await?;
                }
                self.run(&format!(
                    "create table {schema}.versions (version int primary key, since timestamptz not null default now())"
                ))
                .await?;
                0
            }
        };
        let known = usize::try_from(theirs).ok();
        let Some(rest) = known.and_then(|known| MIGRATIONS.get(known..)) else {
            return Err(IndexError::Later { theirs, ours });
        };
        for (version, migration) in (theirs..).zip(rest) {
            self.run(&migration.replace("{}", &schema)).await?;
            self.run(&format!(
                "insert into {schema}.versions (version) values ({version} + 1)"
            ))
            .await?;
        }
        self.run("commit").await
    }

    /// Which version the tables are of; none if there are none.
    async fn version(&self) -> Result<Option<i32>, IndexError> {
        let there = "select exists (select from pg_tables where schemaname = $1 and tablename = 'versions')";
        if !self.exists(there).await? {
            return Ok(None);
        }
        let asked = format!(
            "select coalesce(max(version), 0) from {}.versions",
            self.quoted()
        );
        let asked = self.client.query_typed(&asked, &[]);
        let rows = self.within(INDEX_ANSWER_BYTES, asked).await?;
        let row = rows.first().ok_or(IndexError::Nonsense("no version"))?;
        row.try_get(0).map(Some).map_err(IndexError::Database)
    }

    async fn exists(&self, question: &str) -> Result<bool, IndexError> {
        let schema = self.schema.as_str();
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 1] =
            [(&schema, Type::TEXT)];
        let asked = self.client.query_typed(question, &parameters);
        let rows = self.within(INDEX_ANSWER_BYTES, asked).await?;
        let row = rows.first().ok_or(IndexError::Nonsense("no answer"))?;
        row.try_get(0).map_err(IndexError::Database)
    }

    /// Runs a text of ours.
    pub(super) async fn run(&self, text: &str) -> Result<(), IndexError> {
        self.within(INDEX_ANSWER_BYTES, self.client.batch_execute(text))
            .await
    }
}
