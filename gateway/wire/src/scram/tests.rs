//! What the public API does not let anyone choose: the nonces and user name of the vector in RFC 7677 section 3, and a
//! mock whose keys somebody knows.

use super::{Binding, Client, Failure, NONCE, SCRAM_SHA_256, Server, Verifier};
use crate::fuzzing::VERIFIER;

const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &[u8] =
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

#[test]
fn both_sides_speak_the_vector_of_rfc_7677() {
    let verifier = Verifier::parse(VERIFIER).unwrap();
    let mut server = Server::new(verifier.clone(), Binding::Unsupported, [0; NONCE]);
    server.nonce = SERVER_NONCE.to_owned();
    let (challenged, server_first) = server.first(SCRAM_SHA_256, CLIENT_FIRST).ok().unwrap();
    assert_eq!(server_first, SERVER_FIRST);
    let (server_final, key) = challenged.finish(CLIENT_FINAL).ok().unwrap();
    assert_eq!(server_final, SERVER_FINAL);

    let offered = Binding::Unsupported.mechanisms();
    let mut client = Client::new(&key, &verifier, offered, &Binding::Unsupported, [0; NONCE])
        .ok()
        .unwrap();
    client.nonce = CLIENT_NONCE.to_owned();
    client.first_bare = format!("n=user,r={CLIENT_NONCE}");
    assert_eq!(client.first(), CLIENT_FIRST);
    let (answered, client_final) = client.challenge(SERVER_FIRST).ok().unwrap();
    assert_eq!(client_final, CLIENT_FINAL);
    assert_eq!(answered.verify(SERVER_FINAL), Ok(()));
}

#[test]
fn even_the_right_proof_is_wrong_for_a_mock() {
    let mut verifier = Verifier::parse(VERIFIER).unwrap();
    verifier.mock = true;
    let mut server = Server::new(verifier, Binding::Unsupported, [0; NONCE]);
    server.nonce = SERVER_NONCE.to_owned();
    let (challenged, _) = server.first(SCRAM_SHA_256, CLIENT_FIRST).ok().unwrap();
    assert_eq!(challenged.finish(CLIENT_FINAL).err(), Some(Failure::Proof));
}
