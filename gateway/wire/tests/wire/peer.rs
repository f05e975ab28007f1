//! SCRAM as a stranger would write it from the RFCs: knows the password, shares no code with the crate.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The password of the vector in RFC 7677 section 3.
pub(crate) const PASSWORD: &str = "pencil";
/// Its salt.
pub(crate) const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
/// Its iterations.
pub(crate) const ITERATIONS: u32 = 4096;

/// What a server stores for [`PASSWORD`].
pub(crate) fn verifier() -> String {
    verifier_of(PASSWORD, SALT, ITERATIONS)
}

/// What PostgreSQL stores for a password with this salt (base64).
pub(crate) fn verifier_of(password: &str, salt: &str, iterations: u32) -> String {
    let (client_key, server_key) = keys(password, salt, iterations);
    let (stored, server) = (encode(&Sha256::digest(client_key)), encode(&server_key));
    format!("SCRAM-SHA-256${iterations}:{salt}${stored}:{server}")
}

/// client-final-message of a client that knows `password`. `bound` is the gs2 header and what it binds to.
pub(crate) fn client_final(
    password: &str,
    first_bare: &str,
    server_first: &str,
    bound: &[u8],
) -> String {
    let without_proof = format!("c={},r={}", encode(bound), attribute(server_first, "r="));
    proof_for(password, first_bare, server_first, &without_proof)
}

/// The same for a client-final-message-without-proof of the caller's making.
pub(crate) fn proof_for(
    password: &str,
    first_bare: &str,
    server_first: &str,
    without_proof: &str,
) -> String {
    let iterations = attribute(server_first, "i=").parse().unwrap();
    let (client_key, _) = keys(password, attribute(server_first, "s="), iterations);
    let auth_message = format!("{first_bare},{server_first},{without_proof}");
    let signature = mac(&Sha256::digest(&client_key), auth_message.as_bytes());
    let proof: Vec<u8> = client_key
        .iter()
        .zip(&signature)
        .map(|(a, b)| a ^ b)
        .collect();
    format!("{without_proof},p={}", encode(&proof))
}

/// server-final-message of a server that knows `password`, or else `None` when the proof is not right.
pub(crate) fn server_final(
    password: &str,
    first_bare: &str,
    server_first: &str,
    client_final: &str,
) -> Option<String> {
    let (without_proof, _) = client_final.rsplit_once(",p=").unwrap();
    if proof_for(password, first_bare, server_first, without_proof) != client_final {
        return None;
    }
    let iterations = attribute(server_first, "i=").parse().unwrap();
    let (_, server_key) = keys(password, attribute(server_first, "s="), iterations);
    let auth_message = format!("{first_bare},{server_first},{without_proof}");
    Some(format!(
        "v={}",
        encode(&mac(&server_key, auth_message.as_bytes()))
    ))
}

/// Base64 with padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of base64 with padding.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

/// The value of the first attribute that begins with `name`.
pub(crate) fn attribute<'a>(message: &'a str, name: &str) -> &'a str {
    message
        .split(',')
        .find_map(|attribute| attribute.strip_prefix(name))
        .unwrap()
}

/// ClientKey and ServerKey. Those of the vector are computed once: 4096 rounds add up.
fn keys(password: &str, salt: &str, iterations: u32) -> (Vec<u8>, Vec<u8>) {
    static VECTOR: LazyLock<(Vec<u8>, Vec<u8>)> =
        LazyLock::new(|| derive(PASSWORD, SALT, ITERATIONS));
    if (password, salt, iterations) == (PASSWORD, SALT, ITERATIONS) {
        VECTOR.clone()
    } else {
        derive(password, salt, iterations)
    }
}

fn derive(password: &str, salt: &str, iterations: u32) -> (Vec<u8>, Vec<u8>) {
    let mut salted = STANDARD.decode(salt).unwrap();
    salted.extend([0, 0, 0, 1]);
    let mut round = mac(password.as_bytes(), &salted);
    let mut salted_password = round.clone();
    for _ in 1..iterations {
        round = mac(password.as_bytes(), &round);
        for (sum, byte) in salted_password.iter_mut().zip(&round) {
            *sum ^= byte;
        }
    }
    (
        mac(&salted_password, b"Client Key"),
        mac(&salted_password, b"Server Key"),
    )
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}
