//! Real drivers, unchanged, through the gateway: everything that an application does goes through
//! whole, in both directions.

mod scene;

use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_tests::drivers::{Connected, Start, connect};
use portcullis_tests::postgres::SERVER_NAME;
use portcullis_tests::{Gateway, NodePg, Postgres, Psql, Psycopg, Version};
use scene::{BOTH, NAME, acme, backends, gateway, orders, server};
use tokio::task::JoinSet;

/// 50 MB that no compression shortens, and their SHA-256 as the database sees it.
const LARGE: &str = "select encode(sha256(n::text::bytea), 'hex') || repeat('x', 936) from generate_series(1, 50000) n";

#[test]
fn psql_copies_in_both_directions_and_runs_scripts() {
    for version in BOTH {
        let gateway = open(version);
        let psql = || gateway.psql(NAME).user("app", "secret", "postgres");
        let told =
            psql().run("copy (select n, 'row ' || n from generate_series(1, 3) n) to stdout");
        assert_eq!(told.ok(), "1\trow 1\n2\trow 2\n3\trow 3", "{version:?}");
        let told = psql().run("begin; select 1; select 2; commit");
        assert!(told.ok().ends_with('2'), "{told}");
        let told = psql().run("select 1/0");
        assert!(told.refused().contains("division by zero"), "{told}");
    }
}

#[test]
fn psycopg_prepares_copies_listens_and_pipelines() {
    for version in BOTH {
        let gateway = open(version);
        for negotiation in negotiations(version) {
            let psycopg = gateway.psycopg(NAME).user("app", "secret", "postgres");
            let told = psycopg
                .parameter("sslnegotiation", negotiation)
                .run(EVERYTHING);
            assert_eq!(told.ok(), "all is well", "{version:?}, {negotiation}");
        }
    }
}

const EVERYTHING: &str = "
import hashlib
with psycopg.connect(conninfo, autocommit=True) as c:
    for n in range(3):
        assert c.execute('select %s::int + 1', (n,), prepare=True).fetchone() == (n + 1,)
    c.execute('create temp table t (n int, b bytea)')
    with c.cursor().copy('copy t from stdin') as copy:
        for n in range(1000): copy.write_row((n, bytes([n % 256]) * 100))
    out = []
    with c.cursor().copy('copy (select n, b from t order by n) to stdout') as copy:
        copy.set_types(['int4', 'bytea'])
        for row in copy.rows(): out.append(row)
    assert out == [(n, bytes([n % 256]) * 100) for n in range(1000)]
    with c.pipeline():
        cursors = [c.execute('select %s::text', (str(n),)) for n in range(200)]
        assert [cursor.fetchone()[0] for cursor in cursors] == [str(n) for n in range(200)]
    c.execute('listen news')
    with psycopg.connect(conninfo, autocommit=True) as other:
        other.execute(\"notify news, 'extra, extra'\")
        other.execute(\"select pg_notify('news', repeat('x', 7000))\")
    heard = [n.payload for n in c.notifies(timeout=10, stop_after=2)]
    assert heard == ['extra, extra', 'x' * 7000], heard
    told = []
    c.add_notice_handler(lambda d: told.append((d.severity, d.message_primary)))
    c.execute(\"do $$ begin raise notice 'mind the gap'; end $$\")
    assert told == [('NOTICE', 'mind the gap')], told
    try: c.execute('select * from nowhere')
    except psycopg.errors.UndefinedTable as e: assert e.sqlstate == '42P01'
    else: raise AssertionError('no error')
    with c.cursor(binary=True) as cursor:
        assert cursor.execute('select 1::int8, array[1.5, 2.5]::float8[]').fetchone() == (1, [1.5, 2.5])
with psycopg.connect(conninfo) as c:
    with c.cursor('on the server') as cursor:
        cursor.execute('select n from generate_series(1, 10000) n')
        assert sum(row[0] for row in cursor) == 50005000
print('all is well')
";

#[test]
fn node_postgres_prepares_listens_and_is_told_errors() {
    for version in BOTH {
        let gateway = open(version);
        let mut ways = vec![
            ("enableChannelBinding", "false"),
            ("enableChannelBinding", "true"),
        ];
        ways.push(("sslnegotiation", "'direct'"));
        for (name, value) in ways {
            let node = gateway.node_pg(NAME).user("app", "secret", "postgres");
            let told = node.parameter(name, value).run(NODE);
            assert_eq!(told.ok(), "all is well", "{version:?}, {name}: {value}");
        }
    }
}

const NODE: &str = "
const assert = require('assert');
const c = new Client(config); await c.connect();
for (let n = 0; n < 3; n++) {
    const r = await c.query({ name: 'plus', text: 'select $1::int + 1 as n', values: [n] });
    assert.strictEqual(r.rows[0].n, n + 1);
}
const many = await Promise.all([...Array(100).keys()].map(n => c.query('select $1::text as t', [n])));
assert.deepStrictEqual(many.map(r => r.rows[0].t), [...Array(100).keys()].map(String));
const heard = new Promise(done => c.on('notification', n => done(n.payload)));
await c.query('listen news');
const other = new Client(config); await other.connect();
await other.query(\"notify news, 'extra'\"); await other.end();
assert.strictEqual(await heard, 'extra');
const notice = new Promise(done => c.on('notice', n => done(n.message)));
await c.query(\"do $$ begin raise notice 'mind the gap'; end $$\");
assert.strictEqual(await notice, 'mind the gap');
await assert.rejects(c.query('select 1/0'), { code: '22012' });
await c.end(); console.log('all is well');
";

#[test]
fn tokio_postgres_prepares_and_pipelines() {
    for version in BOTH {
        let gateway = open(version);
        for start in [Start::SslRequest, Start::Direct] {
            block_on(async {
                let client = Arc::new(rust(&gateway, start).await.client);
                let statement = client.prepare("select $1::int4 + 1").await.unwrap();
                let mut answers = JoinSet::new();
                for n in 0..100 {
                    let (client, statement) = (Arc::clone(&client), statement.clone());
                    answers.spawn(async move { client.query_one(&statement, &[&n]).await });
                }
                let answers = answers.join_all().await.into_iter().map(Result::unwrap);
                let sum: i32 = answers.map(|row| row.get::<_, i32>(0)).sum();
                assert_eq!(sum, 5050, "{version:?}, {start:?}");
                let several = "create temp table t (n int); insert into t values (7)";
                client.batch_execute(several).await.unwrap();
                let error = client
                    .query("select * from nowhere", &[])
                    .await
                    .unwrap_err();
                assert_eq!(error.code().unwrap().code(), "42P01");
                let row = client.query_one("select n from t", &[]).await.unwrap();
                assert_eq!(row.get::<_, i32>(0), 7);
            });
        }
    }
}

#[test]
fn fifty_megabytes_come_out_and_go_in_unharmed() {
    let gateway = open(Version::V18);
    let script = format!("import hashlib\nLARGE = {LARGE:?}\n{THERE_AND_BACK}");
    let psycopg = gateway.psycopg(NAME).user("app", "secret", "postgres");
    assert_eq!(psycopg.run(&script).ok(), "50000000");
}

const THERE_AND_BACK: &str = "
with psycopg.connect(conninfo, autocommit=True) as c:
    c.execute('create temp table there as select n, t from (' + LARGE.replace('select', 'select n,', 1) + ') q(n, t)')
    ours, rows = hashlib.sha256(), c.execute('select t from there order by n').fetchall()
    for (t,) in rows: ours.update(t.encode())
    c.execute('create temp table back (n int, t text)')
    with c.cursor().copy('copy back from stdin') as copy:
        for n, (t,) in enumerate(rows): copy.write(f'{n}\\t{t}\\n')
    again = hashlib.sha256()
    with c.cursor().copy('copy (select t from back order by n) to stdout') as copy:
        for block in copy: again.update(bytes(block).replace(b'\\n', b''))
    theirs = c.execute(\"select encode(sha256(string_agg(t, '' order by n)::bytea), 'hex') from back\").fetchone()[0]
    assert ours.hexdigest() == theirs == again.hexdigest(), (ours.hexdigest(), theirs, again.hexdigest())
    big = c.execute(\"select repeat('y', 40000000)\").fetchone()[0]
    assert big == 'y' * 40000000
    assert c.execute('select length(%s::text)', (big,)).fetchone()[0] == 40000000
    print(sum(len(t) for (t,) in rows))
";

#[test]
fn node_postgres_reads_a_large_result_whole() {
    let gateway = open(Version::V18);
    let script = format!(
        "const c = new Client(config); await c.connect(); const h = require('crypto').createHash('sha256'); \
         const r = await c.query({{ text: {LARGE:?}, rowMode: 'array' }}); for (const [t] of r.rows) h.update(t); \
         console.log(h.digest('hex')); await c.end()"
    );
    let node = gateway.node_pg(NAME).user("app", "secret", "postgres");
    let ours = node.run(&script);
    let theirs =
        format!("select encode(sha256(string_agg(t, '')::bytea), 'hex') from ({LARGE}) q(t)");
    assert_eq!(ours.ok(), server(Version::V18).sql(&theirs));
}

/// Asked directly and through the gateway, a session has the same settings from its client.
#[test]
fn settings_of_the_start_up_packet_reach_the_database_untouched() {
    const SETTINGS: &str =
        "select name, setting from pg_settings where source = 'client' order by 1";
    const OPTIONS: &str =
        r#"-c statement_timeout=12345 --work-mem=1234kB -c search_path="a\ b",c -c geqo=off"#;
    for version in BOTH {
        let (gateway, server) = (open(version), server(version));
        let direct = (server.address(), SERVER_NAME, server.authorities_pem());
        let through = (gateway.address(), NAME, gateway.authorities_pem());
        let psql = |(to, name, trusted): &(SocketAddr, &str, String)| {
            let psql = Psql::new(*to, name, trusted).user("app", "secret", "postgres");
            psql.parameter("application_name", "tésts 'and' more")
                .parameter("client_encoding", "LATIN1")
                .parameter("options", OPTIONS)
                .run(SETTINGS)
        };
        let (here, there) = (psql(&through), psql(&direct));
        assert_eq!(here.ok(), there.ok(), "{version:?}");
        assert!(here.ok().contains("statement_timeout|12345"), "{here}");
        assert!(here.ok().contains("search_path|\"a b\",c"), "{here}");
        let node = |(to, name, trusted): &(SocketAddr, &str, String)| {
            let node = NodePg::new(*to, name, trusted).user("app", "secret", "postgres");
            node.parameter("application_name", "'node'")
                .parameter("statement_timeout", "54321")
                .parameter("options", "'-c geqo=off'")
                .query(SETTINGS)
        };
        assert_eq!(node(&through).ok(), node(&direct).ok(), "{version:?}");
        let psycopg = |(to, name, trusted): &(SocketAddr, &str, String)| {
            let psycopg = Psycopg::new(*to, name, trusted).user("app", "secret", "postgres");
            psycopg
                .parameter("fallback_application_name", "psycopg")
                .query(SETTINGS)
        };
        assert_eq!(psycopg(&through).ok(), psycopg(&direct).ok(), "{version:?}");
    }
}

#[test]
fn what_the_database_says_no_to_is_told_in_its_own_words() {
    let server = server(Version::V18);
    server.sql("create role single login password 'secret' connection limit 1");
    server.sql("create database closed allow_connections false");
    let gateway = open(Version::V18);
    let direct = Psql::new(server.address(), SERVER_NAME, &server.authorities_pem());
    let direct = direct.user("app", "secret", "nowhere").run("select 1");
    let psql = |user: &str, database: &str| {
        gateway
            .psql(NAME)
            .user(user, "secret", database)
            .run("select 1")
    };
    // The first line is the database's; the hint behind it is ours, with the reference.
    let words = |told: &str| {
        told.split("FATAL:")
            .nth(1)?
            .lines()
            .next()
            .map(str::to_owned)
    };
    assert_eq!(
        words(psql("app", "nowhere").refused()),
        words(direct.refused())
    );
    let refusal = |user: &str, parameters: &[(&str, &str)]| {
        let all = [&[("user", user)], parameters].concat();
        let mut client = gateway.dial(NAME).start(&all).unwrap();
        let told = client.authenticate(user, "secret", portcullis_tests::client::Binding::None);
        match told {
            Err(portcullis_tests::Ending::Refused(told)) => told,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        refusal("app", &[("database", "nowhere")]).sqlstate(),
        "3D000"
    );
    assert_eq!(
        refusal("app", &[("database", "closed")]).sqlstate(),
        "55000"
    );
    let unknown = [("database", "postgres"), ("no_such_setting", "1")];
    assert_eq!(refusal("app", &unknown).sqlstate(), "42704");
    let _only = gateway.dial(NAME).sign_in("single", "secret", "postgres");
    backends(server, "single", 1);
    assert_eq!(
        refusal("single", &[("database", "postgres")]).sqlstate(),
        "53300"
    );
}

/// PostgreSQL 15 knows no direct TLS; the gateway does before either.
fn negotiations(version: Version) -> &'static [&'static str] {
    match version {
        Version::V15 => &["postgres"],
        Version::V18 => &["postgres", "direct"],
    }
}

fn open(version: Version) -> Gateway {
    let server: &Postgres = server(version);
    gateway(&acme(server, orders()))
}

async fn rust(gateway: &Gateway, start: Start) -> Connected {
    let trusted = gateway.authorities_pem();
    let connected = connect(
        gateway.address(),
        (NAME, &trusted),
        ("app", "secret", "postgres"),
        start,
    );
    connected.await.unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(work)
}
