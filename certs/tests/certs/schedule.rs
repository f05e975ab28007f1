//! When certificates are due, over years of made-up time.

use portcullis_certs::Validity;
use portcullis_certs::schedule::{Action, BACKDATED, Pace, Terms, next_action};
use proptest::prelude::*;

const NOW: i64 = 1_900_000_000;

#[test]
fn a_nodes_certificate_is_due_after_a_third_and_lives_for_days_after_that() {
    let terms = Terms::NODE;
    let validity = terms.from(NOW);
    let life = validity.not_after - validity.not_before;
    for (fingerprint, early) in [([0; 32], 0), ([0xff; 32], life / 20)] {
        let Action::WaitUntil(due) = next_action(terms, validity, &fingerprint, NOW) else {
            panic!("it is due at once");
        };
        let expected = validity.not_before + life / 3 - early;
        assert!(
            (expected..=expected + 10).contains(&due),
            "{due} {expected}"
        );
        assert_eq!(
            next_action(terms, validity, &fingerprint, due),
            Action::Renew
        );
        // The stale limit, four times.
        assert!(validity.not_after - due > 4 * 86_400);
    }
    // Nobody believes one that begins later, either: its issuer's clock was ahead.
    for outside in [validity.not_before - 1, validity.not_after + 1] {
        let action = next_action(terms, validity, &[0; 32], outside);
        assert_eq!(action, Action::Recover);
    }
    let over = validity.not_after + 1;
    assert_eq!(
        next_action(terms, validity, &[0; 32], over),
        Action::Recover
    );
}

#[test]
fn one_that_lives_longer_than_they_do_now_is_due_at_once() {
    let validity = Validity {
        not_before: NOW - 60,
        not_after: NOW + 2 * 365 * 86_400,
    };
    assert_eq!(
        next_action(Terms::NODE, validity, &[7; 32], NOW),
        Action::Renew
    );
}

proptest! {
    /// Ten years of a node whose process sleeps, whose attempts fail and whose clock is set: while those who issue answer at least once in
    /// three days, it is never without a certificate.
    #[test]
    fn no_node_is_ever_late_for_whom_somebody_answers(
        steps in prop::collection::vec((1_i64..43_200, any::<bool>(), any::<[u8; 32]>()), 1..400)
    ) {
        let (mut now, mut validity, mut fingerprint) = (NOW, Terms::NODE.from(NOW), [0; 32]);
        let mut refused_since = None;
        for (passes, answers, drawn) in steps.into_iter().cycle().take(2_000) {
            now += passes;
            prop_assert!(validity.contains(now), "late");
            match next_action(Terms::NODE, validity, &fingerprint, now) {
                Action::WaitUntil(due) => {
                    prop_assert!(due > now);
                    prop_assert!(due < validity.not_after);
                    refused_since = None;
                }
                Action::Renew => {
                    let since = *refused_since.get_or_insert(now);
                    if answers || now - since > 3 * 86_400 {
                        (validity, fingerprint, refused_since) = (Terms::NODE.from(now), drawn, None);
                        prop_assert!(!Terms::NODE.are_exceeded_by(validity));
                    }
                }
                Action::Recover => prop_assert!(false, "it was let go over"),
            }
        }
    }

    /// Whatever the certificate and the clock say, there is an answer, and it does not change while nothing does.
    #[test]
    fn every_moment_has_one_answer(
        not_before in any::<i64>(), life in any::<i64>(), now in any::<i64>(), fingerprint in any::<[u8; 32]>()
    ) {
        let validity = Validity { not_before, not_after: not_before.saturating_add(life) };
        let action = next_action(Terms::NODE, validity, &fingerprint, now);
        prop_assert_eq!(action, next_action(Terms::NODE, validity, &fingerprint, now));
        if let Action::WaitUntil(due) = action {
            prop_assert!(due > now);
        }
        prop_assert_eq!(action == Action::Recover, !validity.contains(now));
    }

    /// Pauses grow, and end.
    #[test]
    fn pauses_are_bounded(failures in any::<u32>(), random in any::<u64>()) {
        let pause = Pace::of(Action::Renew).pause_ms(failures, random);
        prop_assert!((5_000..=3_600_000).contains(&pause));
        let pause = Pace::of(Action::Recover).pause_ms(failures, random);
        prop_assert!((500..=60_000).contains(&pause));
    }
}

#[test]
fn what_is_issued_begins_before_now_for_those_whose_clocks_are_behind() {
    let validity = Terms::NODE.from(NOW);
    assert_eq!(validity.not_before, NOW - BACKDATED);
    assert!(validity.contains(NOW - BACKDATED) && validity.contains(NOW + 7 * 86_400));
}
