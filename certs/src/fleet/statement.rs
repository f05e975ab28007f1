//! What a node says with the key of its certificate, so that others can show it to those whom the node does not reach: ECDSA on P-256 with
//! SHA-256, over a prefix of its kind.
//!
//! A statement carries the public key: whoever reads it knows the node by that key's hash ([`super::Peer::key`]) and needs no certificate.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rustls::SignatureScheme;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::NodeIdentity;
use super::request::{POINT_BYTES, PublicKey};

/// What a statement is about. Each kind signs a prefix of its own, so that none passes for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// Which start of its process the node is.
    Start,
    /// What the node enforces.
    Report,
}

impl Statement {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Start => b"portcullis start v1\0",
            Self::Report => b"portcullis report v1\0",
        }
    }

    /// Whether the holder of the key with this hash has said `message`, as `signed` ([`NodeIdentity::sign`]) shows.
    #[must_use]
    pub fn verify(self, key: &[u8; 32], message: &[u8], signed: &[u8]) -> bool {
        let Some((point, signature)) = signed.split_first_chunk::<POINT_BYTES>() else {
            return false;
        };
        let public = PublicKey::from_point(*point);
        public.is_some_and(|public| public.hash() == *key)
            && UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
                .verify(&[self.prefix(), message].concat(), signature)
                .is_ok()
    }
}

/// The most bytes of a signature with its key.
pub const MAX_SIGNED_BYTES: usize = POINT_BYTES + 72;

impl NodeIdentity {
    /// Signs a statement: the public key, and the signature behind it. `None` if the key is not one of a node's.
    #[must_use]
    pub fn sign(&self, statement: Statement, message: &[u8]) -> Option<Vec<u8>> {
        let identity = self.identity();
        let leaf = identity.chain().first()?;
        let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
        let public = PublicKey::from_spki(leaf.public_key().raw).ok()?;
        let certified = identity.certified();
        let signer = certified
            .key
            .choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])?;
        let signature = signer.sign(&[statement.prefix(), message].concat()).ok()?;
        Some([public.point(), signature.as_slice()].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Validity;
    use crate::authority::generate_key;
    use crate::fleet::{FleetAuthority, FleetId, PublicKey as Public};
    use crate::schedule::Terms;

    const ALWAYS: Validity = Validity {
        not_before: 1_700_000_000,
        not_after: 2_000_000_000,
    };

    fn node(number: u64) -> NodeIdentity {
        let authority =
            FleetAuthority::new(FleetId([1; 16]), generate_key().unwrap(), ALWAYS).unwrap();
        let key = generate_key().unwrap();
        let week = Terms::NODE.from(1_800_000_000);
        let chain = authority
            .issue_node(number, &Public::of(&key).unwrap(), week)
            .unwrap();
        NodeIdentity::from_pem(&chain, &key.to_pem()).unwrap()
    }

    #[test]
    fn a_statement_holds_for_its_kind_its_key_and_its_words() {
        let (one, other) = (node(1), node(2));
        let signed = one.sign(Statement::Start, b"words").unwrap();
        assert!(signed.len() <= MAX_SIGNED_BYTES);
        let key = one.key();
        assert!(Statement::Start.verify(&key, b"words", &signed));
        assert!(!Statement::Report.verify(&key, b"words", &signed));
        assert!(!Statement::Start.verify(&other.key(), b"words", &signed));
        assert!(!Statement::Start.verify(&key, b"other words", &signed));
        let theirs = other.sign(Statement::Start, b"words").unwrap();
        assert!(!Statement::Start.verify(&key, b"words", &theirs));
        let mixed = [&signed[..POINT_BYTES], &theirs[POINT_BYTES..]].concat();
        assert!(!Statement::Start.verify(&key, b"words", &mixed));
        for end in 0..signed.len() {
            assert!(!Statement::Start.verify(&key, b"words", &signed[..end]));
        }
        for position in 0..signed.len() {
            let mut bytes = signed.clone();
            bytes[position] ^= 1;
            assert!(
                !Statement::Start.verify(&key, b"words", &bytes),
                "{position}"
            );
        }
        assert!(!Statement::Start.verify(&key, b"words", &[signed, vec![0]].concat()));
    }
}
