//! Which messages a follower believes.

use portcullis_consensus::view::{
    Assembler, Frame, Kept, MAX_PIECE, Output, Recovery, Signature, Statement, Succession, pieces,
};
use portcullis_policy::ViewUpdate;

use crate::world::{
    FLEET, History, NOW, feeds, fleet, follower, key, node, published, recovery_key, refused,
    signed, tenant, voters, whole,
};

/// Three voters: acme and globex, then globex is suspended, then acme is gone.
fn history() -> History {
    let mut history = History::new([1, 2, 3]);
    history.add(&[("acme", false), ("globex", false)], &[], false);
    history.add(&[("globex", true)], &[], false);
    history.add(&[], &["acme"], false);
    history
}

#[test]
fn a_whole_view_signed_by_a_majority_is_published_and_an_older_one_never_again() {
    let history = history();
    let mut follower = follower([1, 2, 3]);
    let publish = published(follower.take(whole(&history.views[2].0, &[1, 3]), NOW));
    assert_eq!(publish.view.root(), history.views[2].0.root());
    for at in 0..=2 {
        let output = follower.take(whole(&history.views[at].0, &[1, 2, 3]), NOW);
        assert_eq!(refused(&output), "older", "revision {at}");
    }
    assert_eq!(follower.view().root(), history.views[2].0.root());
}

#[test]
fn a_minority_or_a_stranger_or_one_voter_twice_is_no_majority() {
    let history = history();
    let view = history.last();
    let mut follower = follower([1, 2, 3]);
    assert_eq!(
        refused(&follower.take(whole(view, &[]), NOW)),
        "too_few_signatures"
    );
    assert_eq!(
        refused(&follower.take(whole(view, &[2]), NOW)),
        "too_few_signatures"
    );
    assert_eq!(
        refused(&follower.take(whole(view, &[2, 8, 9]), NOW)),
        "too_few_signatures"
    );
    let mut twice = signed(view, &[2]);
    let own = twice.statement.sign(&key(2));
    twice.signatures.insert(node(3), own);
    let update = view.as_update();
    let frame = Frame::Whole {
        update,
        signed: twice,
    };
    assert_eq!(refused(&follower.take(frame, NOW)), "too_few_signatures");
    assert_eq!(follower.view().revision().get(), 0);
    // Nobody is no majority of nobody.
    let mut of_nobody = crate::world::follower([]);
    assert_eq!(
        refused(&of_nobody.take(whole(view, &[1, 2, 3]), NOW)),
        "too_few_signatures"
    );
}

#[test]
fn what_was_truncated_or_changed_on_the_way_is_not_what_was_signed() {
    let history = history();
    let view = &history.views[2].0;
    let mut follower = follower([1, 2, 3]);
    type Tamper = fn(&mut ViewUpdate);
    let tampered: [(&str, Tamper); 4] = [
        ("a tenant is missing", |update| drop(update.put.pop())),
        ("nobody is left", |update| update.put.clear()),
        ("a tenant is let in again", |update| {
            update
                .put
                .iter_mut()
                .for_each(|one| one.document.suspended = false);
        }),
        ("another revision", |update| {
            update.revision = update.revision.next()
        }),
    ];
    for (what, tamper) in tampered {
        let mut update = view.as_update();
        tamper(&mut update);
        let frame = Frame::Whole {
            update,
            signed: signed(view, &[1, 2]),
        };
        assert_eq!(
            refused(&follower.take(frame, NOW)),
            "another_root",
            "{what}"
        );
    }
    let mut update = view.as_update();
    update.fleet = Some(fleet(1, &[1, 2, 9].into()));
    let frame = Frame::Whole {
        update,
        signed: signed(view, &[1, 2]),
    };
    assert_eq!(refused(&follower.take(frame, NOW)), "other_voters");
    assert_eq!(follower.view().revision().get(), 0);
    published(follower.take(whole(view, &[1, 2]), NOW));
}

#[test]
fn another_fleet_or_an_epoch_that_nobody_declared_is_refused() {
    let mut history = history();
    let mut follower = follower([1, 2, 3]);
    let mut foreign = signed(history.last(), &[]);
    foreign.statement.fleet = portcullis_policy::FleetId::new([8; 16]);
    for id in [1, 2, 3] {
        let signature = foreign.statement.sign(&key(id));
        foreign.signatures.insert(node(id), signature);
    }
    let update = history.last().as_update();
    let frame = Frame::Whole {
        update,
        signed: foreign,
    };
    assert_eq!(refused(&follower.take(frame, NOW)), "another_fleet");

    history.epoch = 2;
    history.add(&[], &[], true);
    let frame = whole(history.last(), &[1, 2, 3]);
    assert_eq!(refused(&follower.take(frame.clone(), NOW)), "another_epoch");

    let recovery = |by: &dyn Fn(&[u8]) -> [u8; 64]| Recovery {
        fleet: FLEET,
        epoch: 2,
        voters: voters([3]),
        signature: Signature::new(by(&Recovery::message(FLEET, 2, &voters([3])))),
    };
    let forged = recovery(&|message| key(3).sign(message));
    assert_eq!(
        refused(&follower.take(Frame::Recovered(forged), NOW)),
        "too_few_signatures"
    );
    let declared = Frame::Recovered(recovery(&|message| recovery_key().sign(message)));
    assert!(matches!(
        follower.take(declared.clone(), NOW),
        Output::Taken
    ));
    assert_eq!(refused(&follower.take(declared, NOW)), "older");
    assert_eq!(
        refused(&follower.take(whole(history.last(), &[1, 2]), NOW)),
        "too_few_signatures"
    );
    published(follower.take(frame, NOW));
    assert_eq!(follower.epoch(), 2);
}

#[test]
fn what_a_whole_view_omits_is_gone_and_changes_name_it() {
    let history = history();
    let mut follower = follower([1, 2, 3]);
    published(follower.take(whole(&history.views[1].0, &[1, 2]), NOW));
    let publish = published(follower.take(whole(history.last(), &[1, 2]), NOW));
    assert!(publish.view.tenant(&tenant("acme")).is_none());
    assert_eq!(publish.applied.tenants, [tenant("acme"), tenant("globex")]);
}

#[test]
fn what_a_whole_view_leaves_as_it_was_keeps_its_identity() {
    let mut history = history();
    let mut follower = follower([1, 2, 3]);
    published(follower.take(whole(history.last(), &[1, 2]), NOW));
    let before = std::sync::Arc::clone(follower.view().tenant(&tenant("globex")).unwrap());
    history.add(&[("new", false)], &[], false);
    let publish = published(follower.take(whole(history.last(), &[1, 2]), NOW));
    let after = publish.view.tenant(&tenant("globex")).unwrap();
    assert!(std::sync::Arc::ptr_eq(&before, after));
    assert_eq!(publish.applied.tenants, [tenant("new")]);
}

#[test]
fn changes_that_start_elsewhere_ask_for_everything() {
    let history = history();
    let feeds = feeds(&history);
    let step = |revision| feeds[&1].since(1, revision).unwrap().frame();
    let mut follower = follower([1, 2, 3]);
    assert!(matches!(follower.take(step(2), NOW), Output::Resync));
    published(follower.take(whole(&history.views[0].0, &[1, 2]), NOW));
    assert!(matches!(follower.take(step(2), NOW), Output::Resync));
    assert!(matches!(step(1), Frame::Changes { from: 1, .. }));
    let publish = published(follower.take(step(1), NOW));
    assert_eq!(publish.view.root(), history.last().root());
    assert_eq!(refused(&follower.take(step(1), NOW)), "older");
    // What nobody remembers is told whole; who is there already is told nothing.
    assert!(matches!(step(0), Frame::Whole { .. }));
    assert!(feeds[&1].since(1, 4).is_none());
}

#[test]
fn a_feed_tells_nothing_before_a_majority_has_signed() {
    let mut history = history();
    let mut feeds = feeds(&history);
    history.add(&[("new", false)], &[], false);
    let (view, touched) = history.views.last().unwrap();
    for id in [1, 2] {
        let feed = feeds.get_mut(&id).unwrap();
        feed.show(std::sync::Arc::clone(view), Some(touched.clone()));
        assert_eq!(feed.ready(), Some((1, 4)));
    }
    let mut word = feeds[&2].own(5).unwrap();
    let first = feeds.get_mut(&1).unwrap();
    // Somebody else's signature is not voter 3's.
    assert!(!first.vouched(node(3), word.clone()));
    // Nor is one under another statement.
    word.statement.revision = 4;
    assert!(!first.vouched(node(2), word.clone()));
    assert_eq!(first.ready(), Some((1, 4)));
    let word = feeds[&2].own(5).unwrap();
    let first = feeds.get_mut(&1).unwrap();
    assert!(first.vouched(node(2), word.clone()));
    assert!(!first.vouched(node(2), word));
    assert_eq!(first.ready(), Some((1, 5)));
}

#[test]
fn voters_follow_each_other_only_by_the_word_of_those_before() {
    let mut history = history();
    history.voters = [2, 3].into();
    history.add(&[], &[], true);
    let shrunk = std::sync::Arc::clone(history.last());
    history.voters = [2, 3, 4].into();
    history.add(&[], &[], true);
    history.voters = [3, 4].into();
    history.add(&[], &[], true);
    history.voters = [3, 4, 5].into();
    history.add(&[("late", false)], &[], true);

    // One that missed it all does not believe the new ones, even though they are a majority there.
    let mut away = follower([1, 2, 3]);
    let latest = whole(history.last(), &[4, 5]);
    assert_eq!(
        refused(&away.take(latest.clone(), NOW)),
        "too_few_signatures"
    );
    // Step by step it does: by views or by successions.
    let succession = |at: usize, by: &[u64], next: &[u64]| {
        Frame::Succeeded(Succession {
            signed: signed(&history.views[at].0, by),
            voters: voters(next.iter().copied()),
        })
    };
    published(away.take(whole(&shrunk, &[2, 3]), NOW));
    assert_eq!(
        refused(&away.take(succession(5, &[2], &[2, 3, 4]), NOW)),
        "too_few_signatures"
    );
    assert_eq!(
        refused(&away.take(succession(5, &[2, 3], &[2, 3, 9]), NOW)),
        "other_voters"
    );
    assert!(matches!(
        away.take(succession(5, &[2, 3], &[2, 3, 4]), NOW),
        Output::Taken
    ));
    assert!(matches!(
        away.take(succession(6, &[3, 4], &[3, 4]), NOW),
        Output::Taken
    ));
    assert!(matches!(
        away.take(succession(7, &[3, 4], &[3, 4, 5]), NOW),
        Output::Taken
    ));
    // Those before a succession count no more, not for what lies before it either.
    assert_eq!(
        refused(&away.take(whole(&history.views[6].0, &[3, 4]), NOW)),
        "older"
    );
    assert_eq!(
        refused(&away.take(whole(history.last(), &[2, 3]), NOW)),
        "too_few_signatures"
    );
    published(away.take(latest, NOW));
}

#[test]
fn what_was_kept_is_verified_again_and_nothing_older_is_believed_after() {
    let history = history();
    let mut follower = follower([1, 2, 3]);
    let publish = published(follower.take(whole(&history.views[2].0, &[1, 2]), NOW));
    let bytes = Kept::of(&publish).to_bytes().unwrap();
    let follow = |bytes: &[u8], id| {
        Kept::from_bytes(bytes).and_then(|kept| kept.follow(id, recovery_key().public(), NOW))
    };
    let mut again = follow(&bytes, FLEET).unwrap();
    assert_eq!(again.view().root(), history.views[2].0.root());
    assert_eq!(
        refused(&again.take(whole(&history.views[1].0, &[1, 2, 3]), NOW)),
        "older"
    );
    published(again.take(whole(history.last(), &[2, 3]), NOW));
    assert!(follow(&bytes, portcullis_policy::FleetId::new([8; 16])).is_err());
    for end in 0..bytes.len() {
        assert!(Kept::from_bytes(&bytes[..end]).is_err(), "{end}");
    }
    for at in (0..bytes.len()).step_by(7) {
        let mut spoiled = bytes.clone();
        spoiled[at] ^= 1;
        assert!(Kept::from_bytes(&spoiled).is_err(), "{at}");
    }
}

#[test]
fn alive_confirms_only_the_revision_that_is_in_force() {
    let history = history();
    let mut follower = follower([1, 2, 3]);
    published(follower.take(whole(history.last(), &[1, 2]), NOW));
    let mut alive = |revision, confirmed| {
        let frame = Frame::Alive {
            revision,
            confirmed,
        };
        matches!(follower.take(frame, NOW), Output::Alive { confirmed: true })
    };
    assert!(alive(4, true));
    assert!(!alive(4, false));
    assert!(!alive(5, true));
}

#[test]
fn a_message_is_put_together_of_its_pieces_and_no_more() {
    for length in [1, MAX_PIECE - 1, MAX_PIECE, MAX_PIECE + 1, 3 * MAX_PIECE] {
        let message = vec![7; length];
        let mut assembler = Assembler::default();
        let taken = pieces(&message).map(|piece| assembler.take(&piece).unwrap());
        let taken: Vec<_> = taken.collect();
        let (last, before) = taken.split_last().unwrap();
        assert!(before.iter().all(Option::is_none));
        assert_eq!(last.as_ref(), Some(&message));
    }
    assert!(Assembler::default().take(&[]).is_err());
    assert!(Assembler::default().take(&[2, 0]).is_err());
}

#[test]
fn a_statement_says_what_it_always_said() {
    let statement = Statement {
        fleet: FLEET,
        epoch: 0x0102,
        revision: 0x0304,
        root: portcullis_policy::Digest::new([0xaa; 32]),
        voters: portcullis_policy::Digest::new([0xbb; 32]),
    };
    let mut bytes = b"statement\0\0\0\0\0\0\x01".to_vec();
    bytes.extend([7; 16]);
    bytes.extend([0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4]);
    bytes.extend([0xaa; 32]);
    bytes.extend([0xbb; 32]);
    assert_eq!(statement.bytes(), bytes);
}
