//! Secrets that a test gave away or knows of, and finding them where they must not be.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use memchr::memmem;

/// What nobody may find, and by which way it came.
#[derive(Debug, Default)]
pub struct Planted(Vec<(String, Vec<u8>)>);

impl Planted {
    /// A secret of its own for this way.
    #[must_use]
    pub fn plant(&mut self, way: &str) -> String {
        let secret = format!("Zq{:02}kFw9TgXs{}", self.0.len(), way.len());
        self.0.push((way.to_owned(), secret.clone().into_bytes()));
        secret
    }

    /// One that is there already.
    ///
    /// # Panics
    /// When it is so short that it may be anywhere by chance.
    pub fn add(&mut self, way: &str, secret: &[u8]) {
        assert!(secret.len() >= 16, "{way}: too short to be told apart");
        self.0.push((way.to_owned(), secret.to_vec()));
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Those that are in these bytes: as they are, in hex, or in base64 of any alignment, also over several lines.
    #[must_use]
    pub fn found_in(&self, bytes: &[u8]) -> Vec<&str> {
        let joined: Vec<u8> = bytes
            .iter()
            .copied()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        let has = |form: &Vec<u8>| {
            memmem::find(bytes, form).is_some() || memmem::find(&joined, form).is_some()
        };
        let found = self
            .0
            .iter()
            .filter(|(_, secret)| forms(secret).iter().any(has));
        found.map(|(way, _)| way.as_str()).collect()
    }
}

/// The secret of a private key of PKCS#8 in PEM: the first octet string of 32 bytes in it.
///
/// # Panics
/// When it has none.
#[must_use]
pub fn secret_of_key(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(body).expect("PEM");
    let at = der.windows(2).position(|pair| pair == [4, 32]);
    let rest = &der[at.expect("a key of 32 bytes") + 2..];
    rest[..32].to_vec()
}

fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.to_vec()];
    let hex = secret.iter().map(|it| format!("{it:02x}"));
    let hex: String = hex.collect();
    forms.push(hex.to_uppercase().into_bytes());
    forms.push(hex.into_bytes());
    for shift in 0..3 {
        let shifted = [&vec![0; shift][..], secret].concat();
        for engine in [&STANDARD, &URL_SAFE_NO_PAD] {
            let text = engine.encode(&shifted).into_bytes();
            let end = shifted.len() / 3 * 4;
            forms.push(text[if shift == 0 { 0 } else { 4 }..end].to_vec());
        }
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_form_and_nowhere_else() {
        let mut planted = Planted::default();
        let secret: Vec<u8> = (100..132).collect();
        planted.add("a way", &secret);
        let hex = |upper| {
            let text: String = secret.iter().map(|it| format!("{it:02x}")).collect();
            if upper { text.to_uppercase() } else { text }
        };
        for text in [hex(true), hex(false)] {
            assert_eq!(planted.found_in(text.as_bytes()), ["a way"]);
        }
        for before in 0..4 {
            let whole = [&vec![7; before][..], &secret, b"more"].concat();
            assert_eq!(planted.found_in(&whole), ["a way"]);
            let text = STANDARD.encode(&whole);
            let (first, second) = text.split_at(24);
            let lines = format!("{first}\n{second}\n");
            assert_eq!(planted.found_in(lines.as_bytes()), ["a way"], "{before}");
        }
        let other: Vec<u8> = (101..132).collect();
        assert_eq!(planted.found_in(&other), Vec::<&str>::new());
    }
}
