//! What is sealed opens by its key and under its name, and not otherwise.

use portcullis_certs::vault::{
    MAX_WRAPPED, PassphraseCost, Recipient, SALT_BYTES, SealingKey, wrap,
};
use proptest::prelude::*;

const SALT: [u8; SALT_BYTES] = [7; SALT_BYTES];
const QUICK: PassphraseCost = PassphraseCost {
    memory_kib: 64,
    passes: 1,
    lanes: 1,
};

#[test]
fn what_is_sealed_opens_under_its_name_and_by_its_key_alone() {
    let key = SealingKey::new([1; 32]);
    let sealed = key.seal("fleet-1", b"a secret", SALT).unwrap();
    assert_eq!(
        key.open("fleet-1", &sealed).unwrap().as_slice(),
        b"a secret"
    );
    assert!(key.open("fleet-2", &sealed).is_err());
    assert!(SealingKey::new([2; 32]).open("fleet-1", &sealed).is_err());
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(key.open("fleet-1", &changed).is_err(), "byte {at}");
        assert!(key.open("fleet-1", &sealed[..at]).is_err(), "{at} bytes");
    }
    // The same under another salt shares nothing with it.
    let again = key.seal("fleet-1", b"a secret", [8; SALT_BYTES]).unwrap();
    assert!(sealed.iter().zip(&again).filter(|(a, b)| a == b).count() < sealed.len() / 2);
}

#[test]
fn a_passphrase_gives_the_same_key_with_the_same_salt_and_cost_alone() {
    let of = |passphrase, salt, cost| SealingKey::of_passphrase(passphrase, &salt, cost).unwrap();
    let sealed = of("correct horse", SALT, QUICK)
        .seal("v", b"s", SALT)
        .unwrap();
    assert!(of("correct horse", SALT, QUICK).open("v", &sealed).is_ok());
    assert!(of("correct hors", SALT, QUICK).open("v", &sealed).is_err());
    assert!(
        of("correct horse", [8; 32], QUICK)
            .open("v", &sealed)
            .is_err()
    );
    let dearer = PassphraseCost { passes: 2, ..QUICK };
    assert!(
        of("correct horse", SALT, dearer)
            .open("v", &sealed)
            .is_err()
    );
}

#[test]
fn a_cost_that_a_file_made_up_is_refused_before_it_is_paid() {
    for cost in [
        PassphraseCost {
            memory_kib: u32::MAX,
            ..QUICK
        },
        PassphraseCost {
            passes: u32::MAX,
            ..QUICK
        },
        PassphraseCost {
            lanes: u32::MAX,
            ..QUICK
        },
        PassphraseCost {
            memory_kib: 0,
            ..QUICK
        },
    ] {
        assert!(
            SealingKey::of_passphrase("p", &SALT, cost).is_err(),
            "{cost:?}"
        );
    }
}

#[test]
fn what_is_wrapped_for_one_exchange_opens_in_no_other() {
    let recipient = Recipient::new().unwrap();
    let wrapped = wrap(recipient.public(), "fleet-1", b"a secret").unwrap();
    assert_eq!(
        recipient.open("fleet-1", &wrapped).unwrap().as_slice(),
        b"a secret"
    );
    assert!(recipient.open("fleet-2", &wrapped).is_err());
    assert!(Recipient::new().unwrap().open("fleet-1", &wrapped).is_err());
    for at in 0..wrapped.len() {
        let mut changed = wrapped.clone();
        changed[at] ^= 1;
        // X25519 ignores the last bit of a public key, and the encapsulated one is part of what is derived from.
        assert!(recipient.open("fleet-1", &changed).is_err(), "byte {at}");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_opened_that_nobody_sealed(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(SealingKey::new([1; 32]).open("fleet-1", &bytes).is_err());
        prop_assert!(Recipient::new().unwrap().open("fleet-1", &bytes).is_err());
    }

    #[test]
    fn only_public_keys_are_wrapped_for(public in prop::collection::vec(any::<u8>(), 0..64)) {
        let wrapped = wrap(&public, "fleet-1", b"s");
        prop_assert_eq!(wrapped.is_ok() && public.len() != 32, false);
        prop_assert!(wrapped.map_or(0, |it| it.len()) <= MAX_WRAPPED);
    }
}
