//! The bodies of the fuzz targets `certificates`, `join_requests` and `join_tokens`: what a stranger shows in a handshake, what an operator
//! puts into a file, and what a node sends to be given a certificate.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_certs::fleet::{
    FleetId, FleetName, FleetTrust, JoinRequest, JoinToken, MAX_JOIN_ADDRESS, MAX_JOIN_ADDRESSES,
    MAX_JOIN_TOKEN_TEXT, MAX_REQUEST_BYTES, peer_of,
};
use portcullis_certs::names::MAX_ALTERNATIVE_NAMES;
use portcullis_certs::{CertificateNames, Identity, Validity, check_client_authorities};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

/// The first byte says what the rest is.
pub(crate) fn certificates(data: &[u8]) {
    match data.split_first() {
        Some((b'd', der)) => shown(der),
        Some((b'p', pem)) => pem_text(&String::from_utf8_lossy(pem)),
        Some((b'n', name)) => member(&String::from_utf8_lossy(name)),
        Some(_) | None => {}
    }
}

/// What a peer shows, before anybody has verified it.
fn shown(der: &[u8]) {
    let names = CertificateNames::of(der);
    if let Ok(names) = &names {
        let all = [&names.uris, &names.dns, &names.emails]
            .map(Vec::as_slice)
            .concat();
        assert!(all.len() <= MAX_ALTERNATIVE_NAMES);
        assert!(all.iter().all(|name| !name.is_empty() && name.is_ascii()));
        let every = all.iter().chain(&names.common_name);
        assert!(
            every
                .clone()
                .all(|name| !name.chars().any(char::is_control))
        );
        assert!(
            names
                .dns
                .iter()
                .all(|name| *name == name.to_ascii_lowercase())
        );
        for uri in &names.uris {
            assert!(names.matches(&format!("uri:{uri}")));
        }
        assert!(!names.matches("uri:") && !names.matches("dns:") && !names.matches("cn:"));
    }
    if let Ok(name) = FleetName::of(der) {
        // Whoever the fleet takes the holder for, a rule about names takes them for the same, or for nobody: it looks at the subject, too.
        if let Ok(names) = &names {
            assert_eq!(names.uris, [name.to_string()]);
        }
        let chain = [CertificateDer::from(der)];
        let peer = peer_of(&chain, name.fleet()).expect("it was a member's");
        assert_eq!(
            (&peer.name, Some(peer.validity)),
            (&name, Validity::of(der))
        );
        let FleetId(mut other) = name.fleet();
        other[0] ^= 1;
        assert!(peer_of(&chain, FleetId(other)).is_err());
    }
    if let Ok(trust) = FleetTrust::from_der(der) {
        assert_eq!(trust.der(), der);
        let chain = [CertificateDer::from(der)];
        assert!(FleetTrust::pinned(&chain, trust.fleet(), trust.fingerprint()).is_ok());
        assert!(FleetTrust::pinned(&chain, trust.fleet(), [0; 32]).is_err());
    }
}

/// What somebody put into a file: a chain, a key, authorities, a request.
fn pem_text(text: &str) {
    // Never any part of what was read: it may be a key.
    let told = |problem: String| assert!(problem.len() < 200 && !problem.contains("BEGIN"));
    match Identity::from_pem(text, text) {
        Ok(_) => panic!("one text is no chain and key at once"),
        Err(problem) => told(problem.to_string()),
    }
    if let Err(problem) = FleetTrust::from_pem(text) {
        told(problem.to_string());
    }
    // It may name the subject of what is no authority.
    let _ = check_client_authorities(text);
    if let Err(problem) = JoinRequest::from_pem(text) {
        told(problem.to_string());
    }
}

/// One spelling for one member.
fn member(text: &str) {
    if let Ok(name) = text.parse::<FleetName>() {
        assert_eq!(name.to_string(), text);
    }
    if let Ok(fleet) = text.parse::<FleetId>() {
        assert_eq!(fleet.to_string(), text);
    }
}

pub(crate) fn join_requests(data: &[u8]) {
    match JoinRequest::from_der(data) {
        Ok(request) => {
            assert!(data.len() <= MAX_REQUEST_BYTES);
            assert_eq!(request.der(), data);
            let again = JoinRequest::from_der(request.der()).expect("it was one");
            assert_eq!(again.key().hash(), request.key().hash());
            // One key, one request of these bytes: nothing can stand behind or before it.
            assert!(JoinRequest::from_der(&[data, &[0]].concat()).is_err());
        }
        Err(problem) => assert!(!problem.to_string().is_empty()),
    }
}

/// As it stands; and as the body of a token that was copied whole, which a fuzzer cannot guess.
pub(crate) fn join_tokens(data: &[u8]) {
    token(&String::from_utf8_lossy(data));
    let sum = Sha256::digest(data);
    let encoded = URL_SAFE_NO_PAD.encode([data, &sum[..4]].concat());
    token(&format!("pcj1.{encoded}"));
}

fn token(text: &str) {
    match JoinToken::parse(text) {
        Ok(token) => {
            assert!(text.trim().len() <= MAX_JOIN_TOKEN_TEXT);
            assert_eq!(token.to_text().as_str(), text.trim());
            assert!((1..=MAX_JOIN_ADDRESSES).contains(&token.addresses().len()));
            let fits = |it: &String| (1..=MAX_JOIN_ADDRESS).contains(&it.len());
            assert!(token.addresses().iter().all(fits));
            assert!(!format!("{token:?}").contains(text.trim()));
        }
        Err(problem) => assert!(problem.to_string().len() < 100),
    }
}
