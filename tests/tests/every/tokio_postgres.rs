//! tokio-postgres, which needs no program: these tests are in its language.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt, future};
use portcullis_tests::drivers::program::{Outcome, Place, Report};
use portcullis_tests::drivers::{Rustls, Start};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use tokio_postgres::{AsyncMessage, Client, Config};

type Told = Result<String, Box<dyn Error>>;

const SETTINGS: &str = "select string_agg(name || '=' || setting, '; ' order by name) from pg_settings where source = 'client'";
const OPTIONS: &str = r#"-c geqo=off --work-mem=1234kB -c search_path="a\ b",c -c DateStyle=German -c TimeZone=Asia/Tokyo"#;
const SOON: Duration = Duration::from_secs(10);

/// Does what the programs do.
pub(super) fn run(place: &Place) -> Report {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let mut checks = Checks(BTreeMap::new());
    runtime.block_on(async {
        checks.connecting(place).await;
        checks.working(place).await;
    });
    Report {
        version: "0.7, rustls 0.23".to_owned(),
        checks: checks.0,
    }
}

struct Checks(BTreeMap<String, Outcome>);

impl Checks {
    fn is(&mut self, name: &str, told: Told) {
        let outcome = match told {
            Ok(seen) => Outcome::Works(seen),
            Err(error) => Outcome::Fails(format!("{error:?}")),
        };
        self.0.insert(name.to_owned(), outcome);
    }

    fn cannot(&mut self, name: &str, why: &str) {
        let outcome = Outcome::Cannot(why.to_owned());
        self.0.insert(name.to_owned(), outcome);
    }

    async fn connecting(&mut self, place: &Place) {
        let trusted = &place.authority;
        self.cannot("require", "rustls checks certificate and name");
        self.cannot("verify-ca", "rustls checks certificate and name");
        let usual = config(place, &place.host);
        self.is("verify-full", ask(&usual, trusted, "select ''").await);
        let misnamed = ask(&config(place, "127.0.0.1"), trusted, "select ''").await;
        self.is("wrong-name", fails(misnamed, "NotValidForName"));
        let distrusted = ask(&usual, &place.other_authority, "select ''").await;
        self.is("wrong-authority", fails(distrusted, "UnknownIssuer"));
        let bound = usual
            .clone()
            .channel_binding(ChannelBinding::Require)
            .clone();
        self.is("binding", ask(&bound, trusted, "select ''").await);
        let unbound = usual
            .clone()
            .channel_binding(ChannelBinding::Disable)
            .clone();
        self.is("no-binding", ask(&unbound, trusted, "select ''").await);
        let direct = usual
            .clone()
            .ssl_negotiation(SslNegotiation::Direct)
            .clone();
        self.is("direct", ask(&direct, trusted, "select ''").await);
        let mut set = usual.clone();
        set.application_name("tests 'and' more").options(OPTIONS);
        self.is("settings", ask(&set, trusted, SETTINGS).await);
        let wrong = usual.clone().password("wrong").clone();
        let told = ask(&wrong, trusted, "select ''").await;
        self.is("wrong-password", fails(told, "28P01"));
        let Some(closed) = place.closed else { return };
        let mut denied = place.clone();
        denied.address.set_port(closed.denied);
        let told = ask(&config(&denied, &place.host), trusted, "select ''").await;
        let reference = told.err().and_then(|error| {
            let text = format!("{error:?}");
            text.get(text.find("PC-")?..)?.get(..17).map(str::to_owned)
        });
        self.is("denied", reference.ok_or_else(|| "no reference".into()));
        self.cannot(
            "connect-timeout",
            "`connect_timeout` ends with TCP: put a time-out around the whole",
        );
    }

    async fn working(&mut self, place: &Place) {
        let connected = connect(&config(place, &place.host), &place.authority).await;
        let (client, mut heard, tls) = connected.expect("it connected before");
        self.is("prepared", prepared(&client).await);
        self.is("pipeline", pipeline(&client).await);
        self.is("copy", copy(&client).await);
        self.is("notify", notify(&client, &mut heard).await);
        self.is("large-object", large_object(&client).await);
        let token = client.cancel_token();
        let stop = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            token.cancel_query(tls).await
        };
        let (told, _) = future::join(client.simple_query("select pg_sleep(30)"), stop).await;
        let told = told.map(|_| String::new()).map_err(Into::into);
        let alive = client.simple_query("select 1").await;
        self.is(
            "cancel",
            alive.map_err(Into::into).and_then(|_| fails(told, "57014")),
        );
        let mut limited = config(place, &place.host);
        limited.options("-c statement_timeout=200");
        let told = ask(&limited, &place.authority, "select pg_sleep(30)::text").await;
        self.is("statement-timeout", fails(told, "57014"));
        self.is("binary", binary(&client).await);
        let told = client.simple_query("select * from nowhere").await;
        let error = told.err().and_then(|error| error.as_db_error().cloned());
        let error = error.map(|error| format!("{} {}", error.code().code(), error.message()));
        self.is("error", error.ok_or_else(|| "no error".into()));
        let large = "portcullis".repeat(2_000_000);
        let told = client.query_one("select $1::text", &[&large]).await;
        let told = told.map(|row| row.get::<_, String>(0));
        self.is(
            "large-value",
            told.map_err(Into::into)
                .and_then(|told| same(&told, &large)),
        );
    }
}

fn config(place: &Place, host: &str) -> Config {
    let mut config = Config::new();
    config
        .host(host)
        .hostaddr(place.address.ip())
        .port(place.address.port());
    config
        .user(&place.user)
        .password(&place.password)
        .dbname("postgres");
    config.ssl_mode(SslMode::Require);
    config
}

async fn connect(
    config: &Config,
    trusted: &str,
) -> Result<(Client, UnboundedReceiver<String>, Rustls), tokio_postgres::Error> {
    let start = match config.get_ssl_negotiation() {
        SslNegotiation::Direct => Start::Direct,
        _ => Start::SslRequest,
    };
    let tls = Rustls::new(trusted, start);
    let (client, mut connection) = config.connect(tls.clone()).await?;
    let (tell, heard) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) =
            future::poll_fn(|context| connection.poll_message(context)).await
        {
            if let AsyncMessage::Notification(notification) = message {
                let _ = tell.send(notification.payload().to_owned());
            }
        }
    });
    Ok((client, heard, tls))
}

async fn ask(config: &Config, trusted: &str, sql: &str) -> Told {
    let (client, ..) = connect(config, trusted).await?;
    Ok(client.query_one(sql, &[]).await?.get(0))
}

async fn prepared(client: &Client) -> Told {
    let statement = client.prepare("select $1::int4 + 1").await?;
    for n in 0..1000 {
        let told: i32 = client.query_one(&statement, &[&n]).await?.get(0);
        same(&told.to_string(), &(n + 1).to_string())?;
    }
    Ok(String::new())
}

async fn pipeline(client: &Client) -> Told {
    let statement = client.prepare("select $1::int4 + 1").await?;
    let all = (0..500).map(|n: i32| {
        let statement = statement.clone();
        async move {
            Ok::<i32, tokio_postgres::Error>(client.query_one(&statement, &[&n]).await?.get(0))
        }
    });
    let sum: i32 = future::try_join_all(all).await?.into_iter().sum();
    same(&sum.to_string(), "125250")
}

async fn copy(client: &Client) -> Told {
    let mut rows = String::new();
    for n in 0..50_000 {
        writeln!(rows, "{n}\t{:x>64}", n * 7)?;
    }
    client
        .batch_execute("create temp table t (n int, b text)")
        .await?;
    let mut to = Box::pin(client.copy_in("copy t from stdin").await?);
    to.send(Bytes::from(rows.clone())).await?;
    to.close().await?;
    let out = client
        .copy_out("copy (select * from t order by n) to stdout")
        .await?;
    let blocks: Vec<Bytes> = out.try_collect().await?;
    same(&String::from_utf8(blocks.concat())?, &rows)
}

async fn notify(client: &Client, heard: &mut UnboundedReceiver<String>) -> Told {
    client
        .batch_execute("listen tokio; select pg_notify('tokio', repeat('x', 7000))")
        .await?;
    let told = tokio::time::timeout(SOON, heard.recv()).await?;
    same(&told.unwrap_or_default(), &"x".repeat(7000))
}

async fn large_object(client: &Client) -> Told {
    let blob = vec![7_u8; 3_000_000];
    let oid: u32 = client
        .query_one("select lo_from_bytea(0, $1)", &[&blob])
        .await?
        .get(0);
    let told: Vec<u8> = client.query_one("select lo_get($1)", &[&oid]).await?.get(0);
    client.query_one("select lo_unlink($1)", &[&oid]).await?;
    (told == blob)
        .then(String::new)
        .ok_or_else(|| "another object".into())
}

async fn binary(client: &Client) -> Told {
    let bytes = [0_u8, 255].repeat(1000);
    let row = client
        .query_one(
            "select $1::int8, $2::bytea, array[1.5, 2.5]::float8[]",
            &[&(1_i64 << 40), &bytes],
        )
        .await?;
    let told: (i64, Vec<u8>, Vec<f64>) = (row.get(0), row.get(1), row.get(2));
    (told == (1 << 40, bytes, vec![1.5, 2.5]))
        .then(String::new)
        .ok_or_else(|| "other values".into())
}

fn fails(told: Told, word: &str) -> Told {
    match told {
        Ok(seen) => Err(format!("it did not fail: {seen}").into()),
        Err(error) if format!("{error:?}").contains(word) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn same(told: &str, expected: &str) -> Told {
    (told == expected)
        .then(String::new)
        .ok_or_else(|| format!("{told:.200} instead of {expected:.200}").into())
}
