//! Join tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_certs::fleet::{
    FleetId, JoinToken, JoinTokenError, MAX_JOIN_ADDRESS, MAX_JOIN_ADDRESSES, MAX_JOIN_TOKEN_TEXT,
    hash_of_secret,
};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::FLEET;

#[test]
fn a_token_comes_back_as_it_was() {
    let addresses = vec!["n1.example:7400".to_owned(), "[::1]:7400".to_owned()];
    let token = JoinToken::new(FLEET, [3; 32], addresses.clone(), [9; 32]).unwrap();
    let text = token.to_text();
    assert!(text.starts_with("pcj1."), "{}", *text);
    let read = JoinToken::parse(&format!("  {}\n", *text)).unwrap();
    assert_eq!(
        (
            read.fleet(),
            read.fingerprint(),
            read.addresses(),
            read.secret()
        ),
        (FLEET, [3; 32], addresses.as_slice(), &[9; 32])
    );
    assert_eq!(read.hash(), <[u8; 32]>::from(Sha256::digest([9; 32])));
    assert_eq!(read.hash(), hash_of_secret(&[9; 32]));
}

#[test]
fn debug_hides_the_secret() {
    let token = JoinToken::new(FLEET, [3; 32], vec!["a:1".into()], [0x5a; 32]).unwrap();
    let told = format!("{token:?}");
    assert!(told.contains("a:1"), "{told}");
    for secret in ["secret", "90, 90", "5a5a", "Wlpa"] {
        assert!(!told.contains(secret), "{told}");
    }
}

#[test]
fn addresses_are_limited_at_the_edge() {
    let new = |addresses: Vec<String>| JoinToken::new(FLEET, [0; 32], addresses, [0; 32]);
    let longest = "a".repeat(MAX_JOIN_ADDRESS);
    let full = new(vec![longest.clone(); MAX_JOIN_ADDRESSES]).unwrap();
    let text = full.to_text();
    assert!(text.len() <= MAX_JOIN_TOKEN_TEXT, "{}", text.len());
    assert_eq!(
        JoinToken::parse(&text).unwrap().addresses(),
        full.addresses()
    );
    for wrong in [
        vec![],
        vec![String::new()],
        vec![longest.clone() + "a"],
        vec!["a:1".into(); MAX_JOIN_ADDRESSES + 1],
        vec!["a b".into()],
        vec!["a\n".into()],
        vec!["ä:1".into()],
    ] {
        assert_eq!(new(wrong).unwrap_err(), JoinTokenError::Addresses);
    }
}

#[test]
fn a_token_that_is_cut_or_changed_is_said_to_be_damaged() {
    let token = JoinToken::new(FLEET, [3; 32], vec!["n1.example:7400".into()], [9; 32]).unwrap();
    let text = token.to_text();
    for end in "pcj1.".len()..text.len() {
        let cut = JoinToken::parse(text.get(..end).unwrap()).unwrap_err();
        assert_eq!(cut, JoinTokenError::Damaged);
    }
    for at in "pcj1.".len()..text.len() {
        let mut changed = text.to_string();
        let other = if changed.as_bytes()[at] == b'A' {
            "B"
        } else {
            "A"
        };
        changed.replace_range(at..=at, other);
        JoinToken::parse(&changed).unwrap_err();
    }
    let refusal = |text: &str| JoinToken::parse(text).unwrap_err();
    assert_eq!(refusal(&format!("{}=", *text)), JoinTokenError::Damaged);
    assert_eq!(refusal(""), JoinTokenError::NotAToken);
    assert_eq!(
        refusal(&text.replace("pcj1", "pcj2")),
        JoinTokenError::NotAToken
    );
    let long = "a".repeat(MAX_JOIN_TOKEN_TEXT + 1);
    assert_eq!(refusal(&long), JoinTokenError::TooLarge);
}

#[test]
fn what_was_written_before_is_read() {
    let text = "pcj1.AAECAwQFBgcICQoLDA0ODwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkDYToxS7AInw";
    let fleet = FleetId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    let token = JoinToken::new(fleet, [3; 32], vec!["a:1".into()], [9; 32]).unwrap();
    assert_eq!(*token.to_text(), text);
    assert_eq!(JoinToken::parse(text).unwrap().addresses(), ["a:1"]);
}

proptest! {
    #[test]
    fn every_token_comes_back(
        fleet: [u8; 16],
        fingerprint: [u8; 32],
        secret: [u8; 32],
        addresses in prop::collection::vec("[!-~]{1,255}", 1..=MAX_JOIN_ADDRESSES),
    ) {
        let token = JoinToken::new(FleetId(fleet), fingerprint, addresses.clone(), secret).unwrap();
        let read = JoinToken::parse(&token.to_text()).unwrap();
        prop_assert_eq!((read.fleet(), read.fingerprint(), read.secret()), (FleetId(fleet), fingerprint, &secret));
        prop_assert_eq!(read.addresses(), addresses);
    }

    #[test]
    fn garbage_is_refused(text: String) {
        prop_assert!(JoinToken::parse(&text).is_err());
        let prefixed = format!("pcj1.{text}");
        prop_assert!(JoinToken::parse(&prefixed).is_err());
    }

    /// Past the checksum, too, nothing panics, and what is read is written the same.
    #[test]
    fn any_body_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = body;
        let sum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&sum[..4]);
        let text = format!("pcj1.{}", URL_SAFE_NO_PAD.encode(&bytes));
        if let Ok(token) = JoinToken::parse(&text) {
            prop_assert_eq!(&*token.to_text(), &text);
        }
    }
}
