//! What a certificate calls its holder, and what a rule may ask for.

use portcullis_certs::CertificateNames;
use portcullis_certs::binding::tls_server_end_point;
use portcullis_certs::names::{MAX_ALTERNATIVE_NAMES, NamesError};
use proptest::prelude::*;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

#[test]
fn every_kind_of_name_is_read() {
    let names = names_of(
        Some("svc-orders"),
        vec![
            uri("spiffe://acme/orders"),
            dns("Orders.Acme.Example"),
            email("Ops@Acme.Example"),
            SanType::IpAddress([10, 0, 0, 1].into()),
        ],
    )
    .unwrap();
    assert_eq!(names.uris, ["spiffe://acme/orders"]);
    assert_eq!(names.dns, ["orders.acme.example"]);
    assert_eq!(names.emails, ["Ops@acme.example"]);
    assert_eq!(names.common_name.as_deref(), Some("svc-orders"));
}

#[test]
fn a_rule_matches_a_whole_name_of_its_kind() {
    let names = names_of(
        Some("svc-orders"),
        vec![
            uri("https://acme/orders"),
            uri("https://acme/second"),
            dns("orders.acme.example"),
            dns("*.wild.example"),
            email("Ops@acme.example"),
        ],
    )
    .unwrap();
    for (rule, matches) in [
        ("uri:https://acme/orders", true),
        ("uri:https://acme/second", true),
        ("uri:https://acme/order", false),
        ("uri:https://acme/orders/", false),
        ("uri:HTTPS://acme/orders", false),
        ("uri:https://other/orders", false),
        ("dns:orders.acme.example", true),
        ("dns:ORDERS.acme.example", true),
        ("dns:acme.example", false),
        ("dns:x.wild.example", false),
        ("dns:*.wild.example", false),
        ("email:Ops@ACME.example", true),
        ("email:ops@acme.example", false),
        ("email:Ops@acme.example.evil", false),
        ("cn:svc-orders", true),
        ("cn:SVC-orders", false),
        ("cn:spiffe://acme/orders", false),
        ("cn:orders.acme.example", false),
        ("dns:svc-orders", false),
        ("cn:", false),
        ("dns:", false),
        ("", false),
        ("svc-orders", false),
        ("CN:svc-orders", false),
        ("ip:10.0.0.1", false),
    ] {
        assert_eq!(names.matches(rule), matches, "{rule}");
    }
}

#[test]
fn a_common_name_alone_is_no_alternative_name() {
    let names = names_of(Some("orders.acme.example"), vec![]).unwrap();
    assert!(names.matches("cn:orders.acme.example"));
    assert!(!names.matches("dns:orders.acme.example"));
}

#[test]
fn two_common_names_are_none() {
    let pem = include_str!("../testdata/two-common-names.pem");
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let names = CertificateNames::of(&der).unwrap();
    assert_eq!(names.common_name, None);
    assert!(!names.matches("cn:alice") && !names.matches("cn:bob"));
}

#[test]
fn names_that_end_early_elsewhere_are_refused() {
    for (common_name, alternatives, problem) in [
        (
            "a",
            vec![dns("bank.example\0.evil.example")],
            NamesError::MalformedAlternativeNames,
        ),
        (
            "a",
            vec![uri("spiffe://acme/a\n")],
            NamesError::MalformedAlternativeNames,
        ),
        ("a", vec![email("")], NamesError::MalformedAlternativeNames),
        ("root\0x", vec![], NamesError::MalformedCommonName),
        ("", vec![], NamesError::MalformedCommonName),
    ] {
        assert_eq!(
            names_of(Some(common_name), alternatives.clone()),
            Err(problem),
            "{common_name:?} {alternatives:?}"
        );
    }
}

#[test]
fn the_number_of_names_is_limited_at_the_edge() {
    let many = |count: usize| (0..count).map(|n| dns(&format!("n{n}.example"))).collect();
    assert!(names_of(None, many(MAX_ALTERNATIVE_NAMES)).is_ok());
    assert_eq!(
        names_of(None, many(MAX_ALTERNATIVE_NAMES + 1)),
        Err(NamesError::TooMany)
    );
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    for bytes in [
        &b""[..],
        b"\x30",
        b"hello",
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(
            CertificateNames::of(bytes),
            Err(NamesError::NotACertificate)
        );
    }
}

proptest! {
    #[test]
    fn a_damaged_certificate_never_makes_it_panic(
        which in 0..18usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let all = include_str!("../testdata/binding.pem");
        let mut all = CertificateDer::pem_slice_iter(all.as_bytes());
        let mut der = all.nth(which).unwrap().unwrap().to_vec();
        for (place, byte) in damage {
            *place.get_mut(&mut der) = byte;
        }
        let _ = CertificateNames::of(&der);
        let _ = tls_server_end_point(&der);
    }
}

fn names_of(
    common_name: Option<&str>,
    alternatives: Vec<SanType>,
) -> Result<CertificateNames, NamesError> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    if let Some(name) = common_name {
        parameters.distinguished_name.push(DnType::CommonName, name);
    }
    parameters.subject_alt_names = alternatives;
    let key = KeyPair::generate().unwrap();
    CertificateNames::of(parameters.self_signed(&key).unwrap().der())
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

fn email(name: &str) -> SanType {
    SanType::Rfc822Name(name.try_into().unwrap())
}

#[test]
fn a_spiffe_identity_stands_alone() {
    let of = |uris: &[&str]| {
        let names = names_of(None, uris.iter().map(|it| uri(it)).collect());
        names.map(|names| names.uris.len())
    };
    assert_eq!(of(&["spiffe://acme/orders"]), Ok(1));
    assert_eq!(of(&["https://acme/a", "https://acme/b"]), Ok(2));
    for beside in ["spiffe://globex/orders", "https://acme/orders"] {
        let both = of(&["spiffe://acme/orders", beside]);
        assert_eq!(both, Err(NamesError::SeveralIdentities), "{beside}");
    }
}
