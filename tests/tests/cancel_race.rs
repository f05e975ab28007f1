//! A cancel request that comes when its session is over hits nobody else.

mod scene;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis_tests::client::{V3_0, V3_2};
use portcullis_tests::{Dial, Gateway, Version};
use scene::session::{Session, packet};
use scene::{acme, gateway, here, new_server, orders};

#[test]
fn sessions_that_end_while_cancel_requests_arrive_take_no_other_with_them() {
    race(&mut (0..300).map(|_| ()));
}

#[test]
#[ignore = "SOAK_SECONDS long: `make soak`"]
fn sessions_that_end_while_cancel_requests_arrive_take_no_other_with_them_for_long() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(600, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    race(&mut std::iter::from_fn(|| {
        (Instant::now() < end).then_some(())
    }));
}

/// Three sessions work all the time while others come, are cancelled from two sides and go, as
/// often as `rounds` says.
fn race(rounds: &mut dyn Iterator<Item = ()>) {
    let database = new_server(Version::V15);
    let gateway = gateway(&acme(&database, orders()));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = [V3_0, V3_2, V3_0]
            .map(|protocol| {
                let mut session = Session::open(&gateway, protocol);
                let over = &over;
                scope.spawn(move || {
                    let mut queries = 0_u64;
                    while !over.load(Ordering::Relaxed) {
                        let told = session.client.query("select pg_sleep(0.005)");
                        assert!(told.is_ok(), "after {queries} queries: {told:?}");
                        queries += 1;
                    }
                    queries
                })
            })
            .into();
        let mut last: Vec<u8> = Vec::new();
        for (round, ()) in (0_u32..).zip(rounds) {
            let protocol = if round % 2 == 0 { V3_0 } else { V3_2 };
            let mut passing = Session::open(&gateway, protocol);
            let key = passing.key.clone();
            passing.client.send_query("select pg_sleep(0.002)").unwrap();
            std::thread::scope(|ends| {
                // The session's own key, as it ends, and that of the one before, which has ended.
                ends.spawn(|| cancel(&gateway, 2 * round, &key));
                ends.spawn(|| cancel(&gateway, 2 * round + 1, &last));
                drop(passing);
            });
            last = key;
        }
        over.store(true, Ordering::Relaxed);
        for worker in workers {
            let queries = worker.join().expect("nobody's query was cancelled");
            assert!(queries > 10, "only {queries} queries ran meanwhile");
        }
    });
}

/// Each from a network of its own, or it would not be heard.
fn cancel(gateway: &Gateway, number: u32, key: &[u8]) {
    if key.is_empty() {
        return;
    }
    let [_, _, network, _] = (number << 8).to_be_bytes();
    let mut client = Dial::plain(gateway.address())
        .from(here(network, 1 + u8::try_from(number / 256 % 250).unwrap()))
        .connect()
        .unwrap();
    client.send(&packet(key)).unwrap();
    let _ = client.read_to_end();
}
