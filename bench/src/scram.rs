//! The client's side of SCRAM-SHA-256 (RFC 5802) without channel binding, with the slow part of it,
//! the salting of the password, done once for many connections.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What a password and a salt make.
pub(crate) struct Keys {
    client: [u8; 32],
    stored: [u8; 32],
}

/// One exchange.
pub(crate) struct Exchange {
    first_bare: String,
    first: Vec<u8>,
    challenge: String,
}

impl Exchange {
    /// Begins: [`Exchange::first`] is to be sent.
    pub(crate) fn begin(user: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Nobody here need be unable to guess it.
        let nonce = STANDARD.encode(format!(
            "{user} {:08}",
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        let first_bare = format!("n=,r={nonce}");
        let first = format!("n,,{first_bare}");
        let mut body = b"SCRAM-SHA-256\0".to_vec();
        body.extend_from_slice(&u32::try_from(first.len()).expect("short").to_be_bytes());
        body.extend_from_slice(first.as_bytes());
        Self {
            first_bare,
            first: body,
            challenge: String::new(),
        }
    }

    /// The body of SASLInitialResponse.
    pub(crate) fn first(&self) -> &[u8] {
        &self.first
    }

    /// Takes note of the server's answer.
    pub(crate) fn challenged(mut self, challenge: &[u8]) -> Self {
        self.challenge = String::from_utf8_lossy(challenge).into_owned();
        self
    }

    /// The body of SASLResponse, with the keys that there are or else are made now.
    pub(crate) fn proof(&self, keys: &OnceLock<Keys>, password: &str) -> Vec<u8> {
        let part = |letter: &str| {
            let found = self
                .challenge
                .split(',')
                .find_map(|it| it.strip_prefix(letter));
            found.unwrap_or_else(|| panic!("no {letter} in {:?}", self.challenge))
        };
        let keys = keys.get_or_init(|| {
            let salt = STANDARD.decode(part("s=")).expect("base64");
            Keys::new(password, &salt, part("i=").parse().expect("a number"))
        });
        let without_proof = format!("c=biws,r={}", part("r="));
        let signed = format!("{},{},{without_proof}", self.first_bare, self.challenge);
        let signature = hmac(&keys.stored, signed.as_bytes());
        let mut proof = keys.client;
        proof
            .iter_mut()
            .zip(signature)
            .for_each(|(it, mask)| *it ^= mask);
        format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes()
    }
}

impl Keys {
    /// RFC 5802 section 3.
    fn new(password: &str, salt: &[u8], iterations: u32) -> Self {
        let keyed =
            Hmac::<Sha256>::new_from_slice(password.as_bytes()).expect("any length will do");
        let hash = |message: &[u8]| -> [u8; 32] {
            let mut mac = keyed.clone();
            mac.update(message);
            mac.finalize().into_bytes().into()
        };
        let mut block = hash(&[salt, &[0, 0, 0, 1]].concat());
        let mut salted = block;
        for _ in 1..iterations {
            block = hash(&block);
            salted
                .iter_mut()
                .zip(block)
                .for_each(|(sum, it)| *sum ^= it);
        }
        let client = hmac(&salted, b"Client Key");
        Self {
            client,
            stored: Sha256::digest(client).into(),
        }
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length will do");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677 section 3.
    #[test]
    fn the_example_of_the_rfc_comes_out() {
        let exchange = Exchange {
            first_bare: "n=user,r=rOprNGfwEbeRWgbNEkqO".to_owned(),
            first: Vec::new(),
            challenge: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
                .to_owned(),
        };
        let proof = exchange.proof(&OnceLock::new(), "pencil");
        assert_eq!(
            String::from_utf8(proof).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
    }
}
