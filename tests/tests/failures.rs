//! Failed sign-ins are slowed, by source and user, and never so that a stranger can lock a user
//! out.

mod scene;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portcullis_tests::client::{Binding, tagged};
use portcullis_tests::{Ending, Gateway, Message, RawClient, Version};
use scene::{NAME, acme, event_of, gateway, here, new_server, orders, server};

#[test]
fn a_source_that_fails_as_a_user_waits_and_gets_in_after_the_wait_with_the_right_password() {
    let gateway = gateway(&acme(server(Version::V15), orders()));
    let guess = |user: &str| {
        let (took, refusal) = guess(&gateway, user, here(1, 1));
        assert_eq!(refusal.sqlstate(), "28P01");
        let event = event_of(&gateway, "authentication.failed", &refusal);
        (took, event["delayed_ms"].as_u64().unwrap())
    };
    // An unknown role like a known one.
    for user in ["app", "nobody-by-this-name"] {
        for _ in 0..5 {
            let (_, delayed) = guess(user);
            assert_eq!(delayed, 0, "{user}");
        }
        for wait in [1, 2, 4] {
            let (took, delayed) = guess(user);
            assert_eq!(delayed, wait * 1000, "{user}");
            assert!(took >= Duration::from_secs(wait), "{user}: {took:?}");
        }
    }
    assert!(
        gateway
            .metrics("/metrics")
            .contains("portcullis_sign_ins_slowed_total{by=\"source_and_role\"} 6")
    );
    // Another user from there, and the user from elsewhere, are not slowed.
    let began = Instant::now();
    let (_, delayed) = guess("batch");
    assert_eq!(delayed, 0);
    sign_in(&gateway, "app", "secret", here(1, 2)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(4));
    // The right password waits as the next wrong one would, gets in, and the slate is clean.
    let began = Instant::now();
    sign_in(&gateway, "app", "secret", here(1, 1)).unwrap();
    assert!(
        began.elapsed() >= Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    let (_, delayed) = guess("app");
    assert_eq!(delayed, 0);
}

#[test]
fn guessing_in_parallel_is_no_faster_and_the_line_has_an_end() {
    let gateway = gateway(&acme(server(Version::V15), orders()));
    let began = Instant::now();
    let mut outcomes: Vec<(f64, Message)> = std::thread::scope(|scope| {
        let guesses: Vec<_> = (0..30)
            .map(|_| {
                scope.spawn(|| {
                    let (_, told) = guess(&gateway, "app", here(2, 1));
                    (began.elapsed().as_secs_f64(), told)
                })
            })
            .collect();
        let outcome = |guess: std::thread::ScopedJoinHandle<'_, _>| guess.join().unwrap();
        guesses.into_iter().map(outcome).collect()
    });
    outcomes.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (judged, shed): (Vec<_>, Vec<_>) = outcomes
        .into_iter()
        .partition(|(_, told)| told.sqlstate() == "28P01");
    // Five at once, and on a busy machine those that were on their way when the first was judged;
    // then after 1, 3 and 7 s; whoever comes too late for that line is told so.
    let judged: Vec<f64> = judged.iter().map(|(at, _)| at - judged[4].0).collect();
    let at_once = judged.iter().filter(|at| **at < 0.5).count();
    assert!((5..=8).contains(&at_once), "{judged:?}");
    let later: Vec<f64> = judged[at_once..].to_vec();
    assert!((1..=3).contains(&later.len()), "{judged:?}");
    assert!(
        later.windows(2).all(|two| two[1] - two[0] > 1.5),
        "{judged:?}"
    );
    assert!(later.last() > Some(&2.5), "{judged:?}");
    assert_eq!(judged.len() + shed.len(), 30);
    for (_, told) in &shed {
        assert_eq!(told.sqlstate(), "53300");
    }
    let event = event_of(&gateway, "limit.shed", &shed[0].1);
    assert_eq!(event["code"], "failed_sign_ins");
    assert!(
        gateway
            .command(&["why", &shed[0].1.reference()])
            .ok()
            .contains("failed_sign_ins")
    );
}

#[test]
fn a_botnet_that_guesses_a_users_password_does_not_lock_the_user_out() {
    let gateway = gateway(&acme(server(Version::V18), orders()));
    // Seen here today.
    sign_in(&gateway, "app", "secret", here(3, 1)).unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    let (bots, failed) = (AtomicU32::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..128 {
            scope.spawn(|| {
                while Instant::now() < end {
                    let [.., network, host] = bots.fetch_add(1, Ordering::Relaxed).to_be_bytes();
                    let bot = here(100 + network, host);
                    let (_, refusal) = guess(&gateway, "app", bot);
                    assert_eq!(refusal.sqlstate(), "28P01");
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while failed.load(Ordering::Relaxed) < 120 {
            assert!(Instant::now() < end, "only {failed:?} guesses");
            std::thread::sleep(Duration::from_millis(10));
        }
        // A place where the user signs in: as ever, and with the right password only.
        for _ in 0..5 {
            assert!(matches!(
                sign_in(&gateway, "app", "wrong", here(3, 1)),
                Err(Ending::Refused(told)) if event_of(&gateway, "authentication.failed", &told)["delayed_ms"] == 0
            ));
            sign_in(&gateway, "app", "secret", here(3, 1)).unwrap();
        }
        // A strange place: after a moment, at most 2 s of it imposed.
        let began = Instant::now();
        sign_in(&gateway, "app", "secret", here(3, 2)).unwrap();
        let took = began.elapsed();
        assert!((1..8).contains(&took.as_secs()), "{took:?}");
        // Another user: as ever.
        let (_, refusal) = guess(&gateway, "batch", here(3, 3));
        assert_eq!(
            event_of(&gateway, "authentication.failed", &refusal)["delayed_ms"],
            0
        );
    });
    println!("{failed:?} guesses of {bots:?} bots");
    assert!(
        gateway
            .metrics("/metrics")
            .contains("portcullis_sign_ins_slowed_total{by=\"role\"}")
    );
}

#[test]
fn a_source_that_tries_many_users_waits_as_every_one_of_them() {
    let gateway = gateway(&acme(server(Version::V15), orders()));
    for number in 0..50 {
        let (_, refusal) = guess(&gateway, &format!("user-{number}"), here(4, 1));
        assert_eq!(refusal.sqlstate(), "28P01");
    }
    let (took, refusal) = guess(&gateway, "user-50", here(4, 1));
    let event = event_of(&gateway, "authentication.failed", &refusal);
    assert_eq!(
        (&event["delayed_ms"], &event["delayed_by"]),
        (&1000.into(), &"source".into())
    );
    assert!(took >= Duration::from_secs(1));
    let began = Instant::now();
    sign_in(&gateway, "app", "secret", here(4, 1)).unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn what_the_database_refuses_counts_as_well_where_it_judges() {
    let database = new_server(Version::V15);
    let gateway = gateway(&acme(&database, orders().authentication("relay")));
    let attempt = |password: &str| {
        let began = Instant::now();
        (
            sign_in(&gateway, "app", password, here(5, 1)),
            began.elapsed(),
        )
    };
    for _ in 0..5 {
        let (told, _) = attempt("wrong");
        assert!(matches!(told, Err(Ending::Refused(told)) if told.sqlstate() == "28P01"));
    }
    let asked = database
        .log()
        .matches("password authentication failed")
        .count();
    assert_eq!(asked, 5);
    let (told, took) = attempt("wrong");
    let Err(Ending::Refused(told)) = told else {
        panic!("{told:?}");
    };
    assert!(took >= Duration::from_secs(1));
    let event = event_of(&gateway, "authentication.failed", &told);
    assert_eq!(event["delayed_ms"], 1000);
    let (told, took) = attempt("secret");
    assert!(
        told.is_ok() && took >= Duration::from_secs(2),
        "{told:?}, {took:?}"
    );
    assert!(attempt("secret").1 < Duration::from_secs(2));
}

fn start(gateway: &Gateway, user: &str, from: IpAddr) -> RawClient {
    let dial = gateway.dial(NAME).from(from).limit(Duration::from_secs(20));
    dial.start(&[("user", user), ("database", "postgres")])
        .unwrap()
}

fn sign_in(
    gateway: &Gateway,
    user: &str,
    password: &str,
    from: IpAddr,
) -> Result<Vec<Message>, Ending> {
    start(gateway, user, from).authenticate(user, password, Binding::None)
}

/// A guess at a password, without the work of hashing one; how long the answer took from the
/// moment at which the proof was sent.
fn guess(gateway: &Gateway, user: &str, from: IpAddr) -> (Duration, Message) {
    let mut client = start(gateway, user, from);
    client.read_message().unwrap();
    let first = b"n,,n=,r=abcdefghijklmnopqrstuvwx";
    let length = u32::try_from(first.len()).unwrap().to_be_bytes();
    let body = [&b"SCRAM-SHA-256\0"[..], &length, first].concat();
    client.send(&tagged(b'p', &body)).unwrap();
    let challenge = String::from_utf8(client.read_message().unwrap().body[4..].to_vec()).unwrap();
    let nonce = challenge.split(',').next().unwrap();
    let proof = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let last = format!("c=biws,{nonce},p={proof}");
    let sent = Instant::now();
    client.send(&tagged(b'p', last.as_bytes())).unwrap();
    let refusal = client.refusal();
    (sent.elapsed(), refusal)
}
