//! Signatures under what nodes are told.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_certs::fleet::{
    LogKey, RecoveryKey, ViewKey, verified_signers, verify_recovery, verify_view,
};

use crate::authority::openssl;

#[test]
fn the_key_is_that_of_the_standard() {
    // RFC 8032 §7.1, test 1.
    let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    assert_eq!(ViewKey::from_seed(seed).unwrap().public(), public);
    assert_eq!(RecoveryKey::from_seed(seed).unwrap().public(), public);
}

#[test]
fn a_signature_holds_for_its_message_its_key_and_its_kind() {
    let (view, recovery) = (view(1), RecoveryKey::from_seed([1; 32]).unwrap());
    assert_eq!(view.public(), recovery.public());
    let key = view.public();
    let (told, recovered) = (view.sign(b"m"), recovery.sign(b"m"));
    assert!(verify_view(&key, b"m", &told));
    assert!(verify_recovery(&key, b"m", &recovered));
    assert!(!verify_view(&key, b"n", &told));
    assert!(!verify_view(&key, b"", &told));
    assert!(!verify_view(&self::view(2).public(), b"m", &told));
    // The same key and message under the other kind's prefix.
    assert!(!verify_recovery(&key, b"m", &told));
    assert!(!verify_view(&key, b"m", &recovered));
    for at in 0..told.len() {
        let mut changed = told;
        changed[at] ^= 1;
        assert!(!verify_view(&key, b"m", &changed), "{at}");
    }
}

#[test]
fn a_checkpoint_is_signed_as_it_is_and_a_cosignature_signs_nothing_else() {
    // RFC 8032 §7.1, test 1: a message without bytes.
    let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let signature = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
    let log = LogKey::from_seed(seed).unwrap();
    assert_eq!(log.sign(b""), hex(signature));
    let view = ViewKey::from_seed(seed).unwrap();
    let message = b"cosignature/v1\ntime 1\nlog\n";
    assert_eq!(view.cosign(message), Some(log.sign(message)));
    assert_eq!(view.cosign(b"portcullis view v1\0..."), None);
    assert_eq!(view.cosign(b""), None);
    let cosigned = view.cosign(message).unwrap();
    assert!(!verify_view(&view.public(), message, &cosigned));
}

#[test]
fn a_key_is_read_as_it_was_written_and_nothing_else_is() {
    let key = view(7);
    let text = key.to_pem();
    assert_eq!(ViewKey::from_pem(&text).unwrap().public(), key.public());
    let recovery = RecoveryKey::from_seed([7; 32]).unwrap();
    assert_eq!(*recovery.to_pem(), *text);
    RecoveryKey::from_pem(&text).unwrap();
    let seen = openssl(&["pkey", "-noout", "-text"], &text);
    assert!(seen.contains("ED25519 Private-Key"), "{seen}");
    let p256 = portcullis_certs::generate_key().unwrap().to_pem();
    for wrong in [
        String::new(),
        p256,
        text.repeat(2),
        text.replace("PRIVATE", "PUBLIC"),
    ] {
        ViewKey::from_pem(&wrong).unwrap_err();
        RecoveryKey::from_pem(&wrong).unwrap_err();
    }
    assert_eq!(
        format!("{key:?} {recovery:?}"),
        "ViewKey(..) RecoveryKey(..)"
    );
}

#[test]
fn only_those_with_a_key_count_and_each_key_once() {
    let message = b"revision 812";
    let keys: BTreeMap<u64, _> = (1..=3).map(|id| (id, view(id).public())).collect();
    let mut signatures: BTreeMap<u64, _> = (1..=5).map(|id| (id, view(id).sign(message))).collect();
    assert_eq!(
        verified_signers(message, &signatures, &keys),
        BTreeSet::from([1, 2, 3])
    );
    assert!(verified_signers(b"revision 811", &signatures, &keys).is_empty());
    // Node 1's signature under node 2's number.
    signatures.insert(2, signatures[&1]);
    signatures.remove(&3);
    assert_eq!(
        verified_signers(message, &signatures, &keys),
        BTreeSet::from([1])
    );
    // One key in two nodes' names is one voice.
    let twins = BTreeMap::from([(1, keys[&1]), (2, keys[&1])]);
    assert_eq!(
        verified_signers(message, &signatures, &twins),
        BTreeSet::from([1])
    );
    assert!(verified_signers(message, &signatures, &BTreeMap::new()).is_empty());
}

fn view(seed: u64) -> ViewKey {
    ViewKey::from_seed([u8::try_from(seed).unwrap(); 32]).unwrap()
}

fn hex<const BYTES: usize>(text: &str) -> [u8; BYTES] {
    let digit = |at: usize| u8::from_str_radix(text.get(at * 2..at * 2 + 2).unwrap(), 16).unwrap();
    std::array::from_fn(digit)
}
