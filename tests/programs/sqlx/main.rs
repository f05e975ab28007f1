//! SQLx, without its pool. See checks.py for what a program prints.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, Row};

type Told = Result<String, Box<dyn Error>>;

const SETTINGS: &str = "select string_agg(name || '=' || setting, '; ' order by name) from pg_settings where source = 'client'";

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    println!("version 0.8.6");
    runtime.block_on(async {
        connecting().await;
        working().await;
    });
}

fn check(name: &str, told: Told) {
    match told {
        Ok(seen) if seen.is_empty() => println!("ok {name}"),
        Ok(seen) => println!("ok {name}: {seen}"),
        Err(error) => println!("FAIL {name}: {}", format!("{error:?}").replace('\n', " ")),
    }
}

fn cannot(name: &str, why: &str) {
    println!("no {name}: {why}");
}

fn at(name: &str) -> String {
    std::env::var(format!("AT_{name}")).unwrap_or_default()
}

fn usual() -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host(&at("HOST"))
        .port(at("PORT").parse().expect("a port"))
        .username(&at("USER"))
        .password(&at("PASSWORD"))
        .database(&at("DATABASE"))
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(at("CA"))
        .log_statements("off".parse().expect("a level"))
}

async fn ask(options: PgConnectOptions, sql: &str) -> Told {
    let mut c = PgConnection::connect_with(&options).await?;
    let told = sqlx::query_scalar(sql).fetch_one(&mut c).await?;
    c.close().await?;
    Ok(told)
}

async fn works(options: PgConnectOptions) -> Told {
    ask(options, "select ''").await
}

/// Turns what must fail, with this in the error, into success.
fn fails(told: Told, word: &str) -> Told {
    match told {
        Ok(seen) => Err(format!("it did not fail: {seen}").into()),
        Err(error) if format!("{error:?}").contains(word) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn same(told: &str, expected: &str) -> Told {
    if told == expected {
        return Ok(String::new());
    }
    Err(format!("{told:.200} instead of {expected:.200}").into())
}

async fn connecting() {
    check("require", works(usual().ssl_mode(PgSslMode::Require)).await);
    check("verify-ca", works(usual().ssl_mode(PgSslMode::VerifyCa)).await);
    check("verify-full", works(usual()).await);
    check("wrong-name", fails(works(usual().host("127.0.0.1")).await, "NotValidForName"));
    let distrusted = works(usual().ssl_root_cert(at("OTHER_CA"))).await;
    check("wrong-authority", fails(distrusted, "UnknownIssuer"));
    cannot("binding", "it has only SCRAM-SHA-256");
    check("no-binding", works(usual()).await);
    cannot("direct", "it has only SSLRequest");
    let settings = [("geqo", "off"), ("work_mem", "1234kB"), ("search_path", "a,c"), ("DateStyle", "German")];
    check("settings", ask(usual().application_name("tests 'and' more").options(settings), SETTINGS).await);
    check("wrong-password", fails(works(usual().password("wrong")).await, "28P01"));
    if at("DENIED_PORT").is_empty() {
        return;
    }
    let denied = works(usual().port(at("DENIED_PORT").parse().expect("a port"))).await;
    let text = denied.err().map(|error| format!("{error:?}")).unwrap_or_default();
    let reference = text.find("PC-").and_then(|at| text.get(at..at + 17)).filter(|_| text.contains("28000"));
    check("denied", reference.map(str::to_owned).ok_or(text.into()));
    let silent = usual().port(at("SILENT_PORT").parse().expect("a port"));
    let pool = PgPoolOptions::new().acquire_timeout(Duration::from_secs(1)).connect_with(silent).await;
    check("connect-timeout", fails(pool.map(|_| String::new()).map_err(Into::into), "PoolTimedOut"));
}

async fn working() {
    let mut c = PgConnection::connect_with(&usual()).await.expect("it connected before");
    check("prepared", prepared(&mut c).await);
    cannot("pipeline", "one statement at a time");
    check("copy", copy(&mut c).await);
    check("notify", notify(&mut c).await);
    check("large-object", large_object(&mut c).await);
    cannot("cancel", "it has no cancel request");
    let limited = ask(usual().options([("statement_timeout", "200")]), "select pg_sleep(30)::text").await;
    check("statement-timeout", fails(limited, "57014"));
    check("binary", binary(&mut c).await);
    let error = c.execute("select * from nowhere").await.err();
    let error = error.as_ref().and_then(|error| error.as_database_error());
    let told = error.map(|error| format!("{} {}", error.code().unwrap_or_default(), error.message()));
    check("error", told.ok_or("no error".into()));
    let large = "portcullis".repeat(2_000_000);
    let told = sqlx::query_scalar::<_, String>("select $1::text").bind(&large).fetch_one(&mut c).await;
    check("large-value", told.map_err(Into::into).and_then(|told| same(&told, &large)));
}

async fn prepared(c: &mut PgConnection) -> Told {
    for n in 0..1000 {
        let told: i32 = sqlx::query_scalar("select $1::int4 + 1").bind(n).fetch_one(&mut *c).await?;
        same(&told.to_string(), &(n + 1).to_string())?;
    }
    let held = "select count(*)::text from pg_prepared_statements where statement like 'select $1::int4%'";
    let told: String = sqlx::query_scalar(held).fetch_one(&mut *c).await?;
    same(&told, "1")
}

async fn copy(c: &mut PgConnection) -> Told {
    let mut rows = String::new();
    for n in 0..50_000 {
        writeln!(rows, "{n}\t{:x>64}", n * 7)?;
    }
    c.execute("create temp table t (n int, b text)").await?;
    let mut to = c.copy_in_raw("copy t from stdin").await?;
    to.send(rows.as_bytes()).await?;
    to.finish().await?;
    let mut out = c.copy_out_raw("copy (select * from t order by n) to stdout").await?;
    let mut told = Vec::new();
    while let Some(block) = out.try_next().await? {
        told.extend_from_slice(&block);
    }
    same(&String::from_utf8(told)?, &rows)
}

async fn notify(c: &mut PgConnection) -> Told {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(usual()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen("sqlx").await?;
    c.execute("select pg_notify('sqlx', repeat('x', 7000))").await?;
    let heard = tokio::time::timeout(Duration::from_secs(10), listener.recv()).await??;
    same(heard.payload(), &"x".repeat(7000))
}

async fn large_object(c: &mut PgConnection) -> Told {
    let blob = vec![7_u8; 3_000_000];
    let oid: String = sqlx::query_scalar("select lo_from_bytea(0, $1)::text").bind(&blob).fetch_one(&mut *c).await?;
    let told: Vec<u8> = sqlx::query_scalar("select lo_get($1::text::oid)").bind(&oid).fetch_one(&mut *c).await?;
    sqlx::query("select lo_unlink($1::text::oid)").bind(&oid).execute(&mut *c).await?;
    if told == blob { Ok(String::new()) } else { Err("another object".into()) }
}

async fn binary(c: &mut PgConnection) -> Told {
    let bytes = [0_u8, 255].repeat(1000);
    let row = sqlx::query("select $1::int8, $2::bytea, array[1.5, 2.5]::float8[]")
        .bind(1_i64 << 40)
        .bind(&bytes)
        .fetch_one(c)
        .await?;
    let told: (i64, Vec<u8>, Vec<f64>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if told == (1 << 40, bytes, vec![1.5, 2.5]) { Ok(String::new()) } else { Err("other values".into()) }
}
