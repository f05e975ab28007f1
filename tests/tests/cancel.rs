//! A cancel request reaches the query that its key names, and no other; it is an attempt like any
//! other, from wherever it comes.

mod scene;

use portcullis_tests::client::{V3_0, V3_2};
use portcullis_tests::drivers::{Start, connect};
use portcullis_tests::{Dial, Ending, Gateway, TenantText, Version, wait};
use scene::session::{Session, packet};
use scene::{BOTH, NAME, SOON, acme, clients, event, gateway, here, orders, server};

#[test]
fn a_drivers_cancel_stops_its_own_query_and_no_other() {
    for version in BOTH {
        let gateway = gateway(&acme(server(version), orders()));
        let mut bystander = Session::open(&gateway, V3_0);
        bystander.sleep(server(version));
        // In clear (the old way of libpq), and inside TLS.
        for way in ["c.cancel()", "c.cancel_safe()"] {
            let psycopg = gateway.psycopg(NAME).user("app", "secret", "postgres");
            let told = psycopg.run(&format!(
                "{CANCELLED}\nstop = lambda c: {way}\ntry_it(stop)"
            ));
            assert_eq!(told.ok(), "57014, and still there", "{version:?}, {way}");
        }
        let psycopg = gateway.psycopg(NAME).user("app", "secret", "postgres");
        assert_eq!(
            psycopg.run(INTERRUPTED).ok(),
            "canceling statement due to user request"
        );
        assert!(
            bystander.is_running(server(version)),
            "another's query goes on"
        );
        bystander.stop(&gateway);
    }
}

#[test]
fn psycopg_cancels_by_the_long_key_inside_direct_tls() {
    let gateway = gateway(&acme(server(Version::V18), orders()));
    let psycopg = gateway
        .psycopg(NAME)
        .user("app", "secret", "postgres")
        .parameter("sslnegotiation", "direct")
        .parameter("min_protocol_version", "3.2")
        .parameter("max_protocol_version", "3.2");
    let told = psycopg.run(&format!(
        "{CANCELLED}\ntry_it(lambda c: (print(c.pgconn.full_protocol_version, end=' '), c.cancel_safe()))"
    ));
    assert_eq!(told.ok(), "30002 57014, and still there");
}

const CANCELLED: &str = "
import threading, time
def stop_it(stop, c, pid):
    with psycopg.connect(conninfo, autocommit=True) as other:
        while not other.execute(\"select from pg_stat_activity where pid = %s and state = 'active' and query like '%%sleep%%'\", [pid]).fetchall(): time.sleep(0.02)
    stop(c)
def try_it(stop):
    with psycopg.connect(conninfo, autocommit=True) as c:
        pid = c.execute('select pg_backend_pid()').fetchone()[0]
        threading.Thread(target=stop_it, args=(stop, c, pid)).start()
        try: c.execute('select pg_sleep(60)')
        except psycopg.errors.QueryCanceled as e: print(e.sqlstate, end='')
        assert c.execute('select 1').fetchone() == (1,)
        print(', and still there')
";

/// psql, told by Ctrl-C.
const INTERRUPTED: &str = "
import signal, subprocess, time
with psycopg.connect(conninfo, autocommit=True) as c:
    p = subprocess.Popen(['psql', '--no-psqlrc', '-c', '/* interrupted */ select pg_sleep(60)', conninfo], stderr=subprocess.PIPE, text=True)
    while not c.execute(\"select from pg_stat_activity where state = 'active' and query like '/* interrupted%'\").fetchall(): time.sleep(0.02)
    p.send_signal(signal.SIGINT)
    print(p.communicate()[1].strip().removeprefix('Cancel request sent').strip().removeprefix('ERROR:').strip())
";

#[test]
fn tokio_postgres_cancels_over_both_kinds_of_tls() {
    let gateway = gateway(&acme(server(Version::V18), orders()));
    let trusted = gateway.authorities_pem();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for start in [Start::SslRequest, Start::Direct] {
        runtime.block_on(async {
            let who = ("app", "secret", "postgres");
            let connected = connect(gateway.address(), (NAME, &trusted), who, start)
                .await
                .unwrap();
            let cancel = connected.client.cancel_token();
            let sql = format!("/* by {start:?} */ select pg_sleep(60)");
            let running = format!(
                "select count(*) from pg_stat_activity where state = 'active' and query = '{sql}'"
            );
            let arrived = move || {
                let database = server(Version::V18);
                wait::wait_for("the query runs", SOON, || database.sql(&running) == "1")
            };
            let cancelling = async {
                tokio::task::spawn_blocking(arrived).await.unwrap();
                cancel.cancel_query(connected.tls.clone()).await.unwrap();
            };
            let sleeping = connected.client.batch_execute(&sql);
            let (told, ()) = tokio::join!(sleeping, cancelling);
            assert_eq!(
                told.unwrap_err().code().unwrap().code(),
                "57014",
                "{start:?}"
            );
        });
    }
}

#[test]
fn a_bare_request_is_carried_out_and_never_answered_by_either_protocol() {
    for version in BOTH {
        let gateway = gateway(&acme(server(version), orders()));
        // From another address than the session's: whoever is listed may (clients share addresses).
        let plain = Dial::plain(gateway.address()).from(here(3, 3));
        let dials = [plain, gateway.dial(NAME), gateway.dial(NAME).direct()];
        for (dial, protocol) in dials.iter().zip([V3_0, V3_2, V3_2]) {
            let mut session = Session::open(&gateway, protocol);
            session.sleep(server(version));
            let answer = session.request(dial);
            assert_eq!(answer, (vec![], Ending::Closed), "{version:?}");
            assert_eq!(session.outcome(), "57014", "{version:?}");
        }
    }
}

#[test]
fn a_key_that_names_nothing_does_nothing_and_is_told_nothing() {
    let gateway = gateway(&acme(server(Version::V18), orders()));
    let (mut short, mut long) = (Session::open(&gateway, V3_0), Session::open(&gateway, V3_2));
    let gone = Session::open(&gateway, V3_0).key;
    wait::wait_for("the third session is gone", SOON, || {
        sessions(&gateway) == 2
    });
    short.sleep(server(Version::V18));
    long.sleep(server(Version::V18));
    let changed = |key: &[u8], at: usize| {
        let mut key = key.to_vec();
        key[at] ^= 1;
        key
    };
    for key in [
        changed(&short.key, 0),
        changed(&short.key, 7),
        changed(&long.key, 35),
        long.key[..8].to_vec(),
        long.key[..35].to_vec(),
        [&short.key[..], &[0; 28]].concat(),
        vec![0; 8],
        [&short.key[..4], &[0; 256]].concat(),
        gone,
    ] {
        let mut client = Dial::plain(gateway.address()).connect().unwrap();
        let from = client.local_address();
        client.send(&packet(&key)).unwrap();
        assert_eq!(client.read_to_end(), (vec![], Ending::Closed), "{key:?}");
        event(&gateway, "cancel.denied", "unknown_key", from);
    }
    assert!(short.is_running(server(Version::V18)) && long.is_running(server(Version::V18)));
    short.stop(&gateway);
    long.stop(&gateway);
}

#[test]
fn a_request_from_an_address_that_is_not_listed_or_from_a_client_that_names_another_endpoint_does_nothing()
 {
    let server = server(Version::V15);
    let listed =
        portcullis_tests::EndpointText::new("orders", NAME).allow("127.0.0.0/24", "public");
    let other = portcullis_tests::EndpointText::new("orders", "globex.db.test")
        .allow("127.0.0.0/8", "public");
    let globex = TenantText::new("globex")
        .cluster("orders", server)
        .endpoint(other);
    let gateway = Gateway::builder()
        .listener(portcullis_tests::Listener::public())
        .listener(portcullis_tests::Listener::network("globex-vpc"))
        .tenant(&acme(server, listed))
        .tenant(&globex.network("globex-vpc"))
        .signs_in_at("acme", clients())
        .signs_in_at("globex", clients())
        .start();
    scene::assert_in_force(&gateway, 2);
    let mut session = Session::open(&gateway, V3_0);
    session.sleep(server);
    let trusted = gateway.authorities_pem();
    let elsewhere = Dial::plain(gateway.listener(1));
    for (dial, code) in [
        (
            Dial::plain(gateway.address()).from(here(2, 1)),
            "address_not_listed",
        ),
        (gateway.dial(NAME).from(here(2, 1)), "address_not_listed"),
        (elsewhere, "network_mismatch"),
        (
            Dial::tls(gateway.address(), "globex.db.test", &trusted),
            "other_endpoint",
        ),
        (
            Dial::tls(gateway.address(), "nobodys.db.test", &trusted),
            "unknown_endpoint",
        ),
    ] {
        let mut client = dial.connect().unwrap();
        let from = client.local_address();
        client.send(&packet(&session.key)).unwrap();
        assert_eq!(client.read_to_end(), (vec![], Ending::Closed), "{code}");
        event(&gateway, "cancel.denied", code, from);
        assert!(session.is_running(server), "{code}");
    }
    session.stop(&gateway);
}

#[test]
fn a_withdrawn_address_can_no_longer_cancel_what_another_address_runs() {
    let server = server(Version::V15);
    let both = portcullis_tests::EndpointText::new("orders", NAME)
        .allow("127.0.0.0/24", "public")
        .allow("127.0.5.0/24", "public");
    let one = portcullis_tests::EndpointText::new("orders", NAME).allow("127.0.0.0/24", "public");
    let gateway = gateway(&acme(server, both));
    let mut session = Session::open(&gateway, V3_0);
    let dial = Dial::plain(gateway.address()).from(here(5, 1));
    session.sleep(server);
    let _ = session.request(&dial);
    assert_eq!(session.outcome(), "57014");
    gateway.apply(&[acme(server, one)]);
    session.sleep(server);
    let _ = session.request(&dial);
    gateway.event("the second request", |event| {
        event["kind"] == "cancel.denied" && event["code"] == "address_not_listed"
    });
    assert!(session.is_running(server));
    session.stop(&gateway);
}

fn sessions(gateway: &Gateway) -> usize {
    gateway.ask(&["connections"])["connections"]
        .as_array()
        .unwrap()
        .len()
}
