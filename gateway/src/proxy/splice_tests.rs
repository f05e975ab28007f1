//! The splice between real sockets, in the clear: TLS on both legs is shown end to end elsewhere.

use std::sync::Arc;

use portcullis_policy::{Command, State, Tenant, Timestamp};
use portcullis_wire::error::SqlState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::proxy::live::{Arrival, Facts, Live, LiveGuard};
use crate::runtime::clock;

/// A whole DataRow without columns.
const ROW: &[u8] = &[b'D', 0, 0, 0, 6, 0, 0];

struct Scene {
    client: TcpStream,
    database: TcpStream,
    guard: LiveGuard,
    vigil: Arc<Vigil>,
    splice: tokio::task::JoinHandle<(End, Option<Leg>)>,
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    (near, listener.accept().await.unwrap().0)
}

/// A guard of a connection that policy permits: there is no other way to one.
fn guard() -> LiveGuard {
    let document = r#"{
        "id": "acme", "suspended": false, "networks": [], "private-links": [], "limits": {},
        "clusters": {"orders": {"engine": "postgresql", "backends": [{"host": "127.0.0.1", "port": 5432}],
                     "tls": "unencrypted-and-unverified"}},
        "endpoints": {"orders": {"cluster": "orders", "names": ["orders.db.test"], "suspended": false,
                      "replication": "refused", "authentication": "scram", "doors": ["public"],
                      "allow": [{"prefix": "127.0.0.1/32", "origin": "public", "except": [], "note": "", "owner": ""}]}}
    }"#;
    let tenant: Tenant = serde_json::from_str(document).unwrap();
    let mut state = State::default();
    let command = Command::Apply {
        base: None,
        put: vec![tenant],
        remove: vec![],
        expected: std::collections::BTreeMap::new(),
    };
    let proposal = portcullis_policy::Proposal::local("test", Timestamp::from_millis(0), command);
    state.apply(&proposal).unwrap();
    let facts = Facts {
        arrival: Arrival {
            reference: portcullis_policy::Reference::from_bits(7),
            origin: portcullis_policy::Origin::Public,
            address: "127.0.0.1".parse().unwrap(),
            port: 1,
            balancer: None,
        },
        server_name: portcullis_policy::ServerName::parse("orders.db.test").ok(),
        user: "app".to_owned(),
        database: "orders".to_owned(),
        replication: false,
        certificate: None,
    };
    let view = state.view();
    let attempt = facts.attempt(portcullis_policy::Purpose::Connect);
    let decided = portcullis_policy::decide(
        &view,
        &attempt,
        clock::now(),
        &mut portcullis_policy::Silent,
    );
    let portcullis_policy::Decision::Permitted(permit) = decided else {
        panic!("{decided:?}")
    };
    Arc::new(Live::default()).register(facts.clone(), &permit, clock::now())
}

async fn scene() -> Scene {
    let (client, ours) = pair().await;
    let (database, theirs) = pair().await;
    let guard = guard();
    let vigil = Arc::<Vigil>::default();
    let splice = Splice::new(
        Leg::new(ours, None, &vigil),
        Leg::new(theirs, None, &vigil),
        Arc::clone(guard.handle()),
        Arc::clone(&vigil),
    );
    let splice = tokio::spawn(async move {
        let mut splice = splice;
        let end = (&mut splice).await;
        let client = match end {
            End::Lapsed { told } => splice.cut(told),
            End::ClientClosed | End::UpstreamClosed | End::Broken { .. } => None,
        };
        (end, client)
    });
    Scene {
        client,
        database,
        guard,
        vigil,
        splice,
    }
}

fn lapse() -> Lapse {
    Lapse {
        code: "address_not_listed",
        sqlstate: SqlState::ADMIN_SHUTDOWN,
        text: "no longer permitted".to_owned(),
        hint: "ask",
        story: String::new(),
        since: clock::instant(),
        receipts: None,
    }
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let mut scene = scene().await;
    scene.client.write_all(b"to the database").await.unwrap();
    let mut read = [0; 15];
    scene.database.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"to the database");
    scene.database.write_all(ROW).await.unwrap();
    let mut read = [0; ROW.len()];
    scene.client.read_exact(&mut read).await.unwrap();
    assert_eq!(read, ROW);
    drop(scene.client);
    // A server closes when its client has.
    assert_eq!(scene.database.read(&mut [0; 1]).await.unwrap(), 0);
    drop(scene.database);
    let (end, _) = scene.splice.await.unwrap();
    assert!(matches!(end, End::ClientClosed), "{end:?}");
    assert_eq!(scene.guard.handle().counted(), (15, ROW.len() as u64));
}

#[tokio::test]
async fn a_lapse_between_messages_is_told_and_nothing_follows_it() {
    let mut scene = scene().await;
    scene.database.write_all(ROW).await.unwrap();
    let mut read = [0; ROW.len()];
    scene.client.read_exact(&mut read).await.unwrap();
    scene.guard.handle().lapse(lapse());
    let (end, client) = scene.splice.await.unwrap();
    assert!(matches!(end, End::Lapsed { told: true }), "{end:?}");
    // The database's socket is closed already; what it still sends goes nowhere.
    drop(scene.database.write_all(ROW).await);
    drop(client);
    let mut rest = Vec::new();
    scene.client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest.first(), Some(&b'E'));
    assert!(rest.windows(5).any(|code| code == b"57P01"));
    assert!(
        rest.ends_with(&[0, 0]),
        "the farewell is the last thing the client hears"
    );
}

#[tokio::test]
async fn after_a_sleep_nothing_passes_until_it_was_seen_to() {
    let mut scene = scene().await;
    scene.client.write_all(b"before").await.unwrap();
    scene.database.read_exact(&mut [0; 6]).await.unwrap();
    scene.vigil.fall_asleep();
    scene.client.write_all(b"asleep").await.unwrap();
    scene.database.write_all(ROW).await.unwrap();
    let (mut up, mut down) = ([0; 6], [0; ROW.len()]);
    tokio::select! {
        read = scene.database.read(&mut up) => panic!("to the database: {read:?}"),
        read = scene.client.read(&mut down) => panic!("to the client: {read:?}"),
        () = tokio::time::sleep(clock::Duration::from_millis(100)) => {}
    }
    scene.vigil.saw_to(*scene.vigil.sleeps().borrow());
    scene.guard.handle().rouse();
    scene.database.read_exact(&mut up).await.unwrap();
    scene.client.read_exact(&mut down).await.unwrap();
    assert_eq!((&up[..], &down[..]), (&b"asleep"[..], ROW));
}

#[tokio::test]
async fn who_lapsed_in_a_sleep_is_told_before_anything_that_waited() {
    let mut scene = scene().await;
    scene.vigil.fall_asleep();
    scene.client.write_all(b"asleep").await.unwrap();
    scene.database.write_all(ROW).await.unwrap();
    scene.guard.handle().lapse(lapse());
    scene.vigil.saw_to(*scene.vigil.sleeps().borrow());
    scene.guard.handle().rouse();
    let (end, client) = scene.splice.await.unwrap();
    assert!(matches!(end, End::Lapsed { told: true }), "{end:?}");
    drop(client);
    let mut said = Vec::new();
    drop(scene.client.read_to_end(&mut said).await);
    assert_eq!(said.first(), Some(&b'E'), "{said:?}");
    let mut heard = Vec::new();
    drop(scene.database.read_to_end(&mut heard).await);
    assert!(heard.is_empty(), "{heard:?}");
}

#[tokio::test]
async fn a_write_that_was_about_to_happen_before_a_sleep_does_not_happen_after_it() {
    let (mut far, ours) = pair().await;
    let vigil = Arc::<Vigil>::default();
    let mut leg = Leg::new(ours, None, &vigil);
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert_eq!(leg.offer(&mut cx, b"no clearance").unwrap(), 0);
    leg.clear(vigil.clearance().unwrap());
    vigil.fall_asleep();
    assert_eq!(leg.offer(&mut cx, b"asleep").unwrap(), 0);
    // Seen to meanwhile, perhaps by closing this very connection: it is looked at again first.
    vigil.saw_to(*vigil.sleeps().borrow());
    assert_eq!(leg.offer(&mut cx, b"stale").unwrap(), 0);
    leg.clear(vigil.clearance().unwrap());
    assert_eq!(leg.offer(&mut cx, b"now").unwrap(), 3);
    let mut read = [0; 3];
    far.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"now");
}

#[tokio::test]
async fn a_lapse_inside_a_message_closes_without_a_word() {
    let mut scene = scene().await;
    scene.database.write_all(&ROW[..5]).await.unwrap();
    let mut read = [0; 5];
    scene.client.read_exact(&mut read).await.unwrap();
    scene.guard.handle().lapse(lapse());
    let (end, client) = scene.splice.await.unwrap();
    assert!(matches!(end, End::Lapsed { told: false }), "{end:?}");
    drop(client);
    let mut rest = Vec::new();
    drop(scene.client.read_to_end(&mut rest).await);
    assert!(rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn a_client_that_closed_its_half_still_hears_the_answer() {
    let mut scene = scene().await;
    scene.client.write_all(b"question").await.unwrap();
    scene.client.shutdown().await.unwrap();
    let mut question = Vec::new();
    scene.database.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question");
    scene.database.write_all(ROW).await.unwrap();
    drop(scene.database);
    let mut answer = Vec::new();
    scene.client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, ROW);
    let (end, _) = scene.splice.await.unwrap();
    assert!(matches!(end, End::ClientClosed), "{end:?}");
}

#[tokio::test]
async fn what_the_client_sent_before_leaving_is_delivered() {
    let mut scene = scene().await;
    let bulk = vec![7u8; 1 << 20];
    let sent = bulk.clone();
    let writer = tokio::spawn(async move {
        scene.client.write_all(&sent).await.unwrap();
        drop(scene.client);
    });
    let mut received = Vec::new();
    scene.database.read_to_end(&mut received).await.unwrap();
    writer.await.unwrap();
    assert!(received == bulk);
    drop(scene.database);
    let (end, _) = scene.splice.await.unwrap();
    assert!(matches!(end, End::ClientClosed), "{end:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_the_database_and_is_bounded() {
    let mut scene = scene().await;
    let row = [&[b'D', 0, 1, 0, 4][..], &[0; 65_536]].concat();
    let mut sent = 0usize;
    let stuck = async {
        loop {
            sent += scene.database.write(&row).await.unwrap();
        }
    };
    let outcome = tokio::time::timeout(clock::Duration::from_millis(300), stuck).await;
    assert!(outcome.is_err(), "the database was never held up");
    let (_, passed) = scene.guard.handle().counted();
    assert!(
        sent as u64 - passed < 16 << 20,
        "{sent} bytes sent, {passed} passed on"
    );
    drop(scene.client);
    let (end, _) = scene.splice.await.unwrap();
    assert!(!matches!(end, End::Lapsed { .. }), "{end:?}");
}

#[tokio::test]
async fn a_database_that_breaks_the_protocol_is_cut_off() {
    let mut scene = scene().await;
    scene.database.write_all(&[b'D', 0, 0, 0, 1]).await.unwrap();
    let (end, _) = scene.splice.await.unwrap();
    assert!(
        matches!(
            end,
            End::Broken {
                side: Side::Upstream,
                ..
            }
        ),
        "{end:?}"
    );
}
