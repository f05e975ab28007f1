//! The schedule of failed sign-ins, second by second.

use std::net::{IpAddr, Ipv4Addr};

use portcullis_policy::{Address, Origin};

use super::*;
use crate::runtime::clock::instant;
use crate::runtime::limits::FAILED_SIGN_INS_LINE;

const NO_WAIT: Duration = Duration::ZERO;

fn who(source: u32, user: &str) -> Who {
    let address = IpAddr::V4(Ipv4Addr::from_bits(source));
    Who {
        source: Source::customer(&Origin::Public, Address::from(address)),
        role: Arc::new(Role {
            tenant: "acme".parse().unwrap(),
            cluster: "orders".parse().unwrap(),
            user: user.to_owned(),
        }),
    }
}

/// A tally and the time that it is told.
struct Scene {
    tally: Tally,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        Self {
            tally: Tally::new(),
            now: instant(),
        }
    }

    fn turn(&mut self, who: &Who) -> Answer {
        self.tally.turn(who, FAILED_SIGN_INS_LINE, self.now)
    }

    /// How long `who` waits; then its time has come, and so it goes.
    fn attempt(&mut self, who: &Who, outcome: Outcome) -> Duration {
        match self.turn(who) {
            Answer::At(slowed) => {
                self.now += slowed.wait;
                self.tally.settle(who, slowed, outcome, self.now);
                slowed.wait
            }
            told @ (Answer::Busy | Answer::Full) => panic!("{told:?}"),
        }
    }

    fn fail(&mut self, who: &Who, times: u32) {
        for _ in 0..times {
            self.attempt(who, Outcome::Wrong);
        }
    }

    /// One of many that fail at the same time; how long it waited.
    fn fail_at_once(&mut self, who: &Who) -> Duration {
        let began = self.now;
        let wait = self.attempt(who, Outcome::Wrong);
        self.now = began;
        wait
    }

    /// How long one more would wait; nothing changes by that.
    fn would_wait(&mut self, who: &Who) -> Duration {
        let Answer::At(slowed) = self.turn(who) else {
            panic!("no turn");
        };
        self.tally.settle(who, slowed, Outcome::Unknown, self.now);
        self.tally.lines.change(who, |line| line.last = self.now);
        slowed.wait
    }

    fn seconds(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

#[test]
fn five_failures_are_free_then_each_attempt_waits_twice_as_long_up_to_eight_seconds() {
    let mut scene = Scene::new();
    let victim = who(1, "app");
    let waits: Vec<u64> = (0..10)
        .map(|_| scene.attempt(&victim, Outcome::Wrong).as_secs())
        .collect();
    assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 4, 8, 8]);
}

#[test]
fn a_right_proof_waits_like_a_wrong_one_and_clears_the_slate() {
    let mut scene = Scene::new();
    let victim = who(1, "app");
    scene.fail(&victim, 7);
    assert_eq!(scene.attempt(&victim, Outcome::Right).as_secs(), 4);
    for _ in 0..5 {
        assert_eq!(scene.attempt(&victim, Outcome::Wrong), NO_WAIT);
    }
}

#[test]
fn those_who_come_at_once_stand_in_a_line_that_has_an_end() {
    let mut scene = Scene::new();
    let guesser = who(1, "app");
    scene.fail(&guesser, 5);
    let at = |answer| match answer {
        Answer::At(slowed) => Some(slowed.wait.as_secs()),
        Answer::Busy | Answer::Full => None,
    };
    let turns: Vec<_> = (0..6).map(|_| at(scene.turn(&guesser))).collect();
    assert_eq!(turns, [Some(1), Some(3), Some(7), None, None, None]);
    // One who cannot wait so long takes nobody's place.
    let mut scene = Scene::new();
    scene.fail(&guesser, 7);
    let short = Duration::from_millis(3_999);
    assert_eq!(scene.tally.turn(&guesser, short, scene.now), Answer::Full);
    let long = Duration::from_secs(4);
    assert!(matches!(
        scene.tally.turn(&guesser, long, scene.now),
        Answer::At(Slowed { wait, .. }) if wait == long
    ));
}

#[test]
fn an_application_that_opens_all_its_connections_at_once_does_not_wait() {
    let mut scene = Scene::new();
    let pool = who(1, "app");
    for _ in 0..PROOFS_UNDER_WAY {
        assert!(matches!(scene.turn(&pool), Answer::At(slowed) if slowed.wait == NO_WAIT));
    }
    assert_eq!(scene.turn(&pool), Answer::Busy);
    let one = Slowed {
        wait: NO_WAIT,
        by: None,
        in_line: false,
    };
    scene.tally.settle(&pool, one, Outcome::Right, scene.now);
    assert!(matches!(scene.turn(&pool), Answer::At(_)));
}

#[test]
fn another_user_of_the_source_and_another_source_of_the_user_do_not_wait() {
    let mut scene = Scene::new();
    scene.fail(&who(1, "app"), 9);
    assert_eq!(scene.would_wait(&who(1, "other")), NO_WAIT);
    assert_eq!(scene.would_wait(&who(2, "app")), NO_WAIT);
    assert!(scene.would_wait(&who(1, "app")) > NO_WAIT);
}

#[test]
fn failures_are_forgotten_in_two_minutes() {
    let mut scene = Scene::new();
    scene.fail(&who(1, "app"), 6);
    scene.seconds(59);
    assert!(scene.would_wait(&who(1, "app")) > NO_WAIT);
    scene.seconds(60);
    assert_eq!(scene.would_wait(&who(1, "app")), NO_WAIT);
}

#[test]
fn a_source_that_fails_as_many_users_waits_one_to_five_seconds_as_every_user() {
    let mut scene = Scene::new();
    let waits: Vec<u64> = (0..400)
        .map(|number| {
            let wait = scene.fail_at_once(&who(1, &format!("user-{number}")));
            wait.as_secs()
        })
        .collect();
    for (number, wait) in [
        (0, 0),
        (49, 0),
        (50, 1),
        (99, 1),
        (100, 2),
        (249, 4),
        (250, 5),
        (399, 5),
    ] {
        assert_eq!(waits[number], wait, "{number}");
    }
    assert_eq!(scene.would_wait(&who(2, "user-1")), NO_WAIT);
    scene.seconds(600);
    assert_eq!(scene.would_wait(&who(1, "user-1")), NO_WAIT);
}

#[test]
fn a_user_whom_a_botnet_guesses_waits_two_seconds_from_a_strange_place_and_not_from_a_known_one() {
    let mut scene = Scene::new();
    let home = who(1, "app");
    scene.attempt(&home, Outcome::Right);
    for bot in 0..100 {
        assert_eq!(
            scene.attempt(&who(1_000 + bot, "app"), Outcome::Wrong),
            NO_WAIT
        );
    }
    assert_eq!(scene.would_wait(&who(2, "app")).as_secs(), 1);
    for bot in 0..10_000 {
        scene.fail_at_once(&who(10_000 + bot, "app"));
    }
    assert_eq!(scene.would_wait(&who(2, "app")).as_secs(), 2);
    assert_eq!(scene.would_wait(&home), NO_WAIT);
    assert_eq!(scene.would_wait(&who(2, "other")), NO_WAIT);
    // Its own mistakes it answers for itself.
    scene.fail(&home, 5);
    assert_eq!(scene.would_wait(&home).as_secs(), 1);
    scene.seconds(24 * 3600);
    for bot in 0..200 {
        scene.fail_at_once(&who(1_000 + bot, "app"));
    }
    assert!(
        scene.would_wait(&home) > NO_WAIT,
        "known for a day and no longer"
    );
}

#[test]
fn the_tables_are_bounded_and_failures_push_out_no_known_place() {
    let mut scene = Scene::new();
    let home = who(1, "app");
    scene.attempt(&home, Outcome::Right);
    let most = u32::try_from(FAILURES_REMEMBERED).unwrap();
    for bot in 0..=most {
        let bot = who(10 + bot, "app");
        let slowed = Slowed {
            wait: NO_WAIT,
            by: None,
            in_line: false,
        };
        scene.tally.settle(&bot, slowed, Outcome::Wrong, scene.now);
    }
    assert!(scene.tally.lines.get(&who(10, "app")).is_none());
    assert!(scene.tally.lines.get(&who(11, "app")).is_some());
    assert!(scene.tally.sources.get(&who(10, "app").source).is_none());
    assert_eq!(scene.would_wait(&home), NO_WAIT);
}
