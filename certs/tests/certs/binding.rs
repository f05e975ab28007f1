//! The channel binding's hash, against openssl's (testdata/binding.sh).

use crate::support::{authority, issue, server_leaf};
use portcullis_certs::Identity;
use portcullis_certs::binding::{BindingError, tls_server_end_point};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA512};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

const CERTIFICATES: &str = include_str!("../testdata/binding.pem");

#[test]
fn the_hash_is_that_of_the_signature_and_sha_256_for_broken_ones() {
    let mut seen = 0;
    for part in CERTIFICATES.split("binding ").skip(1) {
        let (title, pem) = part.split_once('\n').unwrap();
        let (name, expected) = title.split_once(' ').unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        match tls_server_end_point(&der) {
            Ok(hash) => assert_eq!(hex(&hash), expected, "{name}"),
            Err(BindingError::Undefined { .. }) => assert_eq!(expected, "undefined", "{name}"),
            Err(error) => panic!("{name}: {error}"),
        }
        seen += 1;
    }
    assert_eq!(seen, 18);
}

#[test]
fn an_identity_offers_a_binding_only_where_one_is_defined() {
    for (algorithm, bytes) in [
        (&PKCS_ECDSA_P384_SHA384, Some(48)),
        (&PKCS_RSA_SHA512, Some(64)),
        (&PKCS_ED25519, None),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let leaf = CertificateParams::new(vec!["db.example".into()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let identity = Identity::from_pem(&leaf.pem(), &key.serialize_pem()).unwrap();
        assert_eq!(identity.end_point_hash().map(<[u8]>::len), bytes);
    }
}

#[test]
fn the_hash_covers_the_whole_certificate_and_nothing_else() {
    let leaf = issue(&authority("ca"), &server_leaf(&["a.example"]));
    let mut der = leaf.chain()[0].to_vec();
    assert_eq!(
        tls_server_end_point(&der).ok().as_deref(),
        leaf.end_point_hash()
    );
    der.push(0);
    assert_eq!(
        tls_server_end_point(&der),
        Err(BindingError::NotACertificate)
    );
    assert_eq!(
        tls_server_end_point(&der[..99]),
        Err(BindingError::NotACertificate)
    );
    assert_eq!(
        tls_server_end_point(b""),
        Err(BindingError::NotACertificate)
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
