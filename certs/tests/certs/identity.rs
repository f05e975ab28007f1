//! A chain and a key that belong together, or not at all.

use portcullis_certs::{
    ClientCertificates, Identity, IdentityError, MAX_CHAIN, PemError, Resumption, client_config,
    generate_key, server_config,
};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256};

use crate::support::{Handshake, LONG, authority, identity, server_leaf};

#[test]
fn keys_of_the_usual_kinds_serve() {
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_RSA_SHA256] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let leaf = CertificateParams::new(vec!["db.example".into()]).unwrap();
        let leaf = leaf.self_signed(&key).unwrap();
        let identity = Identity::from_pem(&leaf.pem(), &key.serialize_pem()).unwrap();
        let server = server_config(&identity, ClientCertificates::NotAsked, Resumption::Off);
        let client = client_config(&leaf.pem(), None).unwrap();
        Handshake::run(client, server.unwrap(), "db.example").must_succeed();
    }
}

#[test]
fn a_whole_chain_is_served_to_clients_that_know_only_its_root() {
    use rcgen::{BasicConstraints, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer};
    let authority = |name: &str| {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters
    };
    let root_key = KeyPair::generate().unwrap();
    let root = authority("root");
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let root = Issuer::new(root, root_key);
    let middle_key = KeyPair::generate().unwrap();
    let middle = authority("middle");
    let middle_pem = middle.signed_by(&middle_key, &root).unwrap().pem();
    let middle = Issuer::new(middle, middle_key);
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec!["db.example".into()]).unwrap();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf_pem = leaf.signed_by(&key, &middle).unwrap().pem();

    let chain = format!("{leaf_pem}{middle_pem}");
    let whole = Identity::from_pem(&chain, &key.serialize_pem()).unwrap();
    let server = server_config(&whole, ClientCertificates::NotAsked, Resumption::Off).unwrap();
    let client = client_config(&root_pem, None).unwrap();
    let done = Handshake::run(client, server, "db.example").must_succeed();
    assert_eq!(done.client.peer_certificates().unwrap().len(), 2);

    // In the wrong order the key belongs to another certificate, and that is said.
    let chain = format!("{middle_pem}{leaf_pem}");
    assert_eq!(
        Identity::from_pem(&chain, &key.serialize_pem()).unwrap_err(),
        IdentityError::KeyMismatch
    );
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let ca = authority("ca");
    let key = generate_key().unwrap();
    let issued = ca.issue(&server_leaf(&["a.example"]), &key).unwrap();
    let (chain, key) = (issued.chain_pem.as_str(), issued.key_pem.as_str());
    let other = generate_key().unwrap().to_pem();
    let no_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let no_leaf = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let long = chain.repeat(MAX_CHAIN + 1);
    let limit = MAX_CHAIN;
    for (chain, key, problem) in [
        (chain, other.as_str(), IdentityError::KeyMismatch),
        (chain, no_key, IdentityError::UnusableKey),
        (chain, "", IdentityError::Key(PemError::NothingFound)),
        (chain, chain, IdentityError::Key(PemError::Unexpected)),
        (key, key, IdentityError::Chain(PemError::Unexpected)),
        ("", key, IdentityError::Chain(PemError::NothingFound)),
        (
            long.as_str(),
            key,
            IdentityError::Chain(PemError::TooMany { limit }),
        ),
    ] {
        assert_eq!(Identity::from_pem(chain, key).unwrap_err(), problem);
    }
    assert!(matches!(
        Identity::from_pem(no_leaf, key),
        Err(IdentityError::Names(_))
    ));
    assert!(Identity::from_pem(&chain.repeat(MAX_CHAIN), key).is_ok());
}

#[test]
fn its_facts_are_those_of_the_leaf() {
    let key = generate_key().unwrap();
    let issued = authority("ca").issue(&server_leaf(&["a.example"]), &key);
    let identity = identity(&issued.unwrap());
    assert_eq!(identity.names().dns, ["a.example"]);
    assert_eq!(identity.validity(), LONG);
    assert!(identity.validity().contains(LONG.not_before));
    assert!(identity.validity().contains(LONG.not_after));
    assert!(!identity.validity().contains(LONG.not_before - 1));
    assert!(!identity.validity().contains(LONG.not_after + 1));
}

#[test]
fn keys_are_not_printed() {
    let key = generate_key().unwrap();
    let pem = key.to_pem();
    let secret = pem.lines().nth(1).unwrap();
    let issued = authority("ca").issue(&server_leaf(&["a.example"]), &key);
    let issued = issued.unwrap();
    for text in [
        format!("{key:?}"),
        format!("{issued:?}"),
        format!("{:?}", identity(&issued)),
    ] {
        assert!(
            !text.contains(secret) && !text.contains("PRIVATE"),
            "{text}"
        );
    }
}
