//! SCRAM-SHA-256 (RFC 5802, RFC 7677) from a password, and the wrong turns a test may want.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::messages::{Ending, tagged};
use super::{Message, RawClient};

/// What the client says about channel binding (the gs2 header).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// `n`: the client does not know of it.
    None,
    /// `y`: the client would, but believes that the server does not. A lie when PLUS was offered.
    Unsupported,
    /// `p=tls-server-end-point` with the hash of the certificate that it saw (SHA-256: right for
    /// the P-256 certificates of these tests).
    ServerEndPoint,
    /// `p=tls-server-end-point` with the hash of some other certificate, as in the middle of an attack.
    WrongEndPoint,
}

const SASL: u32 = 10;
const SASL_CONTINUE: u32 = 11;
const SASL_FINAL: u32 = 12;
const OK: u32 = 0;

/// Goes through the exchange up to `AuthenticationOk`, and checks that the server knew the verifier.
pub(super) fn authenticate(
    client: &mut RawClient,
    user: &str,
    password: &str,
    binding: Binding,
) -> Result<(), Ending> {
    expect(client, SASL)?;
    let (mechanism, header, data) = match binding {
        Binding::None => ("SCRAM-SHA-256", "n,,", Vec::new()),
        Binding::Unsupported => ("SCRAM-SHA-256", "y,,", Vec::new()),
        Binding::ServerEndPoint => {
            let leaf = client.server_certificate().expect("binding needs TLS");
            (
                "SCRAM-SHA-256-PLUS",
                "p=tls-server-end-point,,",
                Sha256::digest(leaf).to_vec(),
            )
        }
        Binding::WrongEndPoint => (
            "SCRAM-SHA-256-PLUS",
            "p=tls-server-end-point,,",
            vec![0x5A; 32],
        ),
    };
    // PostgreSQL takes the name from the startup packet; it is repeated in the nonce so that two
    // users' exchanges differ. A test needs no unguessable nonce.
    let nonce = STANDARD.encode(format!("{user} {:?}", std::time::Instant::now()));
    let first_bare = format!("n=,r={nonce}");
    let first = format!("{header}{first_bare}");
    let mut body = format!("{mechanism}\0").into_bytes();
    body.extend_from_slice(&u32::try_from(first.len()).expect("short").to_be_bytes());
    body.extend_from_slice(first.as_bytes());
    client.send(&tagged(b'p', &body))?;

    let server_first = text(&expect(client, SASL_CONTINUE)?);
    let part = |letter: &str| {
        let found = server_first
            .split(',')
            .find_map(|part| part.strip_prefix(letter));
        found
            .unwrap_or_else(|| panic!("no {letter} in {server_first:?}"))
            .to_owned()
    };
    let salt = STANDARD.decode(part("s=")).expect("base64");
    let iterations: u32 = part("i=").parse().expect("a number");
    let bound = STANDARD.encode([header.as_bytes(), &data].concat());
    let without_proof = format!("c={bound},r={}", part("r="));
    let signed = format!("{first_bare},{server_first},{without_proof}");
    let salted = salted_password(password, &salt, iterations);
    let client_key = hmac(&salted, b"Client Key");
    let signature = hmac(&Sha256::digest(client_key), signed.as_bytes());
    let proof: Vec<u8> = client_key
        .iter()
        .zip(signature)
        .map(|(key, mask)| key ^ mask)
        .collect();
    client.send(&tagged(
        b'p',
        format!("{without_proof},p={}", STANDARD.encode(proof)).as_bytes(),
    ))?;

    let server_final = text(&expect(client, SASL_FINAL)?);
    let expected = STANDARD.encode(hmac(&hmac(&salted, b"Server Key"), signed.as_bytes()));
    assert_eq!(
        server_final,
        format!("v={expected}"),
        "the server does not know the verifier"
    );
    expect(client, OK).map(|_| ())
}

/// What a database keeps of this password, as `pg_authid.rolpassword` has it.
#[must_use]
pub fn verifier(password: &str) -> String {
    const ITERATIONS: u32 = 4096;
    let salt = b"salt of sixteen!";
    let salted = salted_password(password, salt, ITERATIONS);
    let stored_key = Sha256::digest(hmac(&salted, b"Client Key"));
    format!(
        "SCRAM-SHA-256${ITERATIONS}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored_key),
        STANDARD.encode(hmac(&salted, b"Server Key"))
    )
}

fn expect(client: &mut RawClient, number: u32) -> Result<Message, Ending> {
    let message = client.read_message()?;
    if message.kind == b'E' {
        return Err(Ending::Refused(message));
    }
    assert_eq!(
        message.authentication(),
        Some(number),
        "out of turn: {message:?}"
    );
    Ok(message)
}

fn text(message: &Message) -> String {
    String::from_utf8(message.body[4..].to_vec()).expect("SCRAM is text")
}

/// PBKDF2 with one block (RFC 5802 section 2.2, `Hi`).
fn salted_password(password: &str, salt: &[u8], iterations: u32) -> [u8; 32] {
    let mut block = hmac(password.as_bytes(), &[salt, &[0, 0, 0, 1]].concat());
    let mut out = block;
    for _ in 1..iterations {
        block = hmac(password.as_bytes(), &block);
        out.iter_mut()
            .zip(block)
            .for_each(|(sum, byte)| *sum ^= byte);
    }
    out
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
        let salted = salted_password(
            "pencil",
            &STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap(),
            4096,
        );
        let signed = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                      s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let server = hmac(&hmac(&salted, b"Server Key"), signed.as_bytes());
        assert_eq!(
            STANDARD.encode(server),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }
}
