//! The end of a cancel request's connection is a promise: what comes after it is not hit.

mod scene;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis_tests::client::{Binding, V3_0, startup};
use portcullis_tests::pipe::both_ways;
use portcullis_tests::{Dial, Ending, TenantText, Version};
use scene::{NAME, gateway, orders, server};

/// How long the database is out of the gateway's reach, and how long the next statement takes:
/// long enough to be hit by a request that arrives only then.
const HELD: Duration = Duration::from_secs(1);
const STATEMENT: &str = "select pg_sleep(2)";

#[test]
fn a_statement_sent_after_the_end_of_a_cancel_request_is_not_cancelled() {
    let server = server(Version::V15);
    let road = Road::to(server.address());
    let tenant = TenantText::new("acme")
        .cluster_at("orders", road.address, server, "")
        .endpoint(orders());
    let gateway = gateway(&tenant);
    let mut client = gateway.dial(NAME).connect().unwrap();
    let parameters = [("user", "app"), ("database", "postgres")];
    client.send(&startup(V3_0, &parameters)).unwrap();
    let messages = client.authenticate("app", "secret", Binding::None).unwrap();
    let key = messages
        .iter()
        .find(|message| message.kind == b'K')
        .unwrap();
    let length = u32::try_from(key.body.len() + 8).unwrap();
    let request = [
        &length.to_be_bytes()[..],
        &80_877_102_u32.to_be_bytes(),
        &key.body,
    ]
    .concat();
    road.held.store(true, Ordering::SeqCst);
    for dial in [Dial::plain(gateway.address()), gateway.dial(NAME)] {
        let mut asker = dial.connect().unwrap();
        asker.send(&request).unwrap();
        assert_eq!(asker.read_to_end(), (vec![], Ending::Closed));
        let told = client.query(STATEMENT);
        assert!(told.is_ok(), "hit by a request that was over: {told:?}");
    }
}

/// A way to a database that can be slow to open.
struct Road {
    address: SocketAddr,
    held: Arc<AtomicBool>,
}

impl Road {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let road = Self {
            address: listener.local_addr().unwrap(),
            held: Arc::default(),
        };
        let held = Arc::clone(&road.held);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let held = Arc::clone(&held);
                std::thread::spawn(move || {
                    if held.load(Ordering::SeqCst) {
                        std::thread::sleep(HELD);
                    }
                    let server = TcpStream::connect(server).unwrap();
                    both_ways(&client, &server);
                });
            }
        });
        road
    }
}
