//! A change of policy in the middle of a large COPY towards the database: after the receipt not a
//! byte of it arrives there, neither at a database that takes all there is nor at one that is full.
//! The other direction is in `many`.

mod scene;

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::sync::mpsc::{self, Receiver};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use portcullis_tests::client::{tagged, verifier};
use portcullis_tests::evil::EvilDatabase;
use portcullis_tests::postgres::SERVER_NAME;
use portcullis_tests::{EndpointText, Gateway, RawClient, TenantText, TestAuthority, wait};
use scene::{NAME, SOON, certificate_mode, gateway, here};

/// Who vouches for the database.
static DATABASES: LazyLock<TestAuthority> = LazyLock::new(|| TestAuthority::new("Databases"));
/// Who vouches for clients.
static PEOPLE: LazyLock<TestAuthority> = LazyLock::new(|| TestAuthority::new("Acme clients"));
/// So much of the COPY arrives before anything else is done.
const UNDER_WAY: usize = 4 << 20;
/// How long a byte that should not come is waited for.
const AFTERWARDS: Duration = Duration::from_millis(700);

#[test]
fn after_the_receipt_not_a_byte_of_a_copy_reaches_a_database_that_takes_all_there_is() {
    let (evil, sockets) = takes_a_copy(Appetite::Endless);
    let gateway = gateway(&acme(&evil, &["127.0.1.0/24", "127.0.2.0/24"]));
    let client = copying(&gateway);
    let socket = sockets.recv_timeout(SOON).unwrap();
    let before = evil.heard().len();
    wait::wait_for("it goes on", SOON, || {
        evil.heard().len() > before + UNDER_WAY
    });
    shut(&gateway, &evil);
    // A socket that was reset: whatever is still on its way to it is lost.
    assert_eq!(
        socket.peer_addr().unwrap_err().kind(),
        ErrorKind::NotConnected
    );
    // What had arrived is read, and then nothing.
    wait::wait_for("it has read what had arrived", SOON, || {
        arrived(&socket) == 0
    });
    std::thread::sleep(AFTERWARDS);
    let heard = evil.heard().len();
    std::thread::sleep(AFTERWARDS);
    assert_eq!(evil.heard().len(), heard);
    assert_cut(&gateway, client);
}

#[test]
fn after_the_receipt_not_a_byte_of_a_copy_reaches_a_database_that_was_full() {
    let (evil, sockets) = takes_a_copy(Appetite::Sated);
    let gateway = gateway(&acme(&evil, &["127.0.1.0/24", "127.0.2.0/24"]));
    let client = copying(&gateway);
    let mut socket = sockets.recv_timeout(SOON).unwrap();
    let mut before = 0;
    wait::wait_for("the sockets are full", SOON, || {
        std::thread::sleep(Duration::from_millis(300));
        let now = arrived(&socket);
        let full = now == before && now > 32_768;
        before = now;
        full
    });
    shut(&gateway, &evil);
    let by_now = arrived(&socket);
    // Now there is room for whatever the gateway or its machine might have kept.
    let mut rest = 0;
    let mut buffer = vec![0; 1 << 16];
    let ending = loop {
        match socket.read(&mut buffer) {
            Ok(0) => break None,
            Ok(more) => rest += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break Some(error.kind()),
        }
    };
    assert!(rest <= by_now, "{} bytes after the receipt", rest - by_now);
    assert_ne!(ending, Some(ErrorKind::WouldBlock), "it is still open");
    assert_cut(&gateway, client);
}

/// How much of a COPY a database takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Appetite {
    Endless,
    /// What shows that it began, and no more.
    Sated,
}

/// A database that accepts a COPY, and its ends of the connections that sent it that much.
fn takes_a_copy(appetite: Appetite) -> (EvilDatabase, Receiver<TcpStream>) {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let credential = DATABASES.server(&[SERVER_NAME]);
    let evil = EvilDatabase::with_clients(&credential, &verifier("secret"), move |caller| {
        caller.let_in()?;
        caller.message()?;
        caller.say(&tagged(b'G', &[0, 0, 0]))?;
        let mut taken = 0;
        while taken < UNDER_WAY {
            taken += caller.message()?.body.len();
        }
        let socket = caller.socket()?.try_clone()?;
        tell.lock().unwrap().send(socket).unwrap();
        match appetite {
            Appetite::Endless => caller.stall(),
            Appetite::Sated => caller.sleep(Duration::from_secs(60)),
        }
    });
    (evil, told)
}

/// A client from the network that will be shut out, which sends a COPY as fast as it can in a
/// thread of its own until it is cut; then it is given back.
fn copying(gateway: &Gateway) -> std::thread::JoinHandle<RawClient> {
    let mut client = gateway
        .dial(NAME)
        .credential(&PEOPLE.client("app", &[]))
        .from(here(2, 1))
        .limit(Duration::from_secs(60))
        .start(&[("user", "app"), ("database", "postgres")])
        .unwrap();
    client.read_until(b'Z').unwrap();
    client.send_query("copy t from stdin").unwrap();
    client.read_until(b'G').unwrap();
    let line = tagged(b'd', &[b'x'; 16 << 10]);
    std::thread::spawn(move || {
        while client.send(&line).is_ok() {}
        client
    })
}

/// Takes the client's network off the list, and waits for the receipt.
fn shut(gateway: &Gateway, evil: &EvilDatabase) {
    let receipt = gateway.apply(&[acme(evil, &["127.0.1.0/24"])]);
    let enforcement = &receipt["enforcement"];
    assert_eq!(enforcement["unfinished"], 0, "{receipt}");
    assert_eq!(enforcement["closed"].as_array().unwrap().len(), 1);
}

/// The client noticed, and it is written down.
fn assert_cut(gateway: &Gateway, client: std::thread::JoinHandle<RawClient>) {
    let from = client.join().unwrap().local_address();
    gateway.event("the end of the COPY", |event| {
        event["kind"] == "connection.lapsed" && event["port"] == from.port()
    });
}

fn arrived(socket: &TcpStream) -> usize {
    usize::try_from(rustix::io::ioctl_fionread(socket).unwrap()).unwrap()
}

fn acme(evil: &EvilDatabase, entries: &[&str]) -> TenantText {
    let mode = certificate_mode(&PEOPLE.pem(), &[("cn:app", "app")]);
    let orders = EndpointText::new("orders", NAME).authentication(&mode);
    let orders = entries
        .iter()
        .fold(orders, |orders, entry| orders.allow(entry, "public"));
    TenantText::new("acme")
        .cluster_text("orders", &evil.cluster(&DATABASES.pem()))
        .endpoint(orders)
}
