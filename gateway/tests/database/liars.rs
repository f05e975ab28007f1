//! Servers that lie on the way to TLS or in it. What counts is what they got out of us: nothing
//! but SSLRequest before they have proved who they are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis::database::Upstreams;
use portcullis::database::service::Services;
use portcullis::database::verifiers::Verifiers;
use portcullis::runtime::clock;
use portcullis::runtime::dialer::Dialer;
use portcullis_policy::{Backend, Cluster, Engine, Service, UpstreamTls};
use portcullis_wire::first::SSL_REQUEST;
use portcullis_wire::message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::postgres::{authority, target};

#[tokio::test]
async fn bytes_behind_the_answer_to_sslrequest_are_refused_by_name() {
    let rows = b"SZ\0\0\0\x05IC\0\0\0\x0dSELECT 1\0";
    let liar = Liar::answering(rows).await;
    assert_eq!(liar.reason().await, "pretls_data");
    assert_eq!(liar.heard(), SSL_REQUEST);
}

#[tokio::test]
async fn every_other_answer_than_s_is_refused_and_hears_nothing_more() {
    for (answer, reason) in [
        (&b"N"[..], "tls_not_offered"),
        (b"E\0\0\0\x0bSFATAL\0\0", "error_before_tls"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not_postgres"),
        (b"SSH-2.0-OpenSSH\r\n", "pretls_data"),
        (b"\x16\x03\x01", "not_postgres"),
        (b"", "closed_before_tls"),
    ] {
        let liar = Liar::answering(answer).await;
        assert_eq!(liar.reason().await, reason, "{answer:?}");
        assert_eq!(liar.heard(), SSL_REQUEST, "{answer:?}");
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_left_in_time() {
    let liar = Liar::silent().await;
    let began = clock::instant();
    assert_eq!(liar.reason().await, "handshake_timeout");
    // One address, and one backend: both tries may not be the same server twice.
    assert!(began.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn a_server_that_talks_without_end_while_we_sign_in_is_cut_off() {
    let mut flood = message::authentication_ok();
    while flood.len() < 1_000_000 {
        let name = format!("parameter{}", flood.len());
        flood.extend(message::parameter_status(&name, "x".repeat(900)).unwrap());
    }
    let liar = Liar::repeating(&flood).await;
    let services = Arc::new(Services::new(Arc::new(Upstreams::new(
        Dialer::local(),
        BTreeMap::new(),
    ))));
    let verifiers = Verifiers::new(services);
    let mut cluster = liar.cluster();
    cluster.tls = UpstreamTls::Unencrypted;
    let target = target(cluster);
    let began = clock::instant();
    let error = verifiers
        .lookup(&target.tenant, &target.id, &target.cluster, "app")
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "service_sign_in");
    assert!(
        error.to_string().contains("more than it was asked"),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    // And it is not asked again at once.
    let again = clock::instant();
    let error = verifiers
        .lookup(&target.tenant, &target.id, &target.cluster, "other")
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "service_sign_in");
    assert!(again.elapsed() < Duration::from_millis(50));
}

#[tokio::test]
async fn a_server_that_asks_for_a_password_gets_none() {
    let liar = Liar::repeating(&message::authentication_cleartext()).await;
    let services = Arc::new(Services::new(Arc::new(Upstreams::new(
        Dialer::local(),
        BTreeMap::new(),
    ))));
    let mut cluster = liar.cluster();
    cluster.tls = UpstreamTls::Unencrypted;
    let target = target(cluster);
    let error = Verifiers::new(services)
        .lookup(&target.tenant, &target.id, &target.cluster, "app")
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "service_sign_in");
    let heard = liar.heard();
    let startup = u32::from_be_bytes(heard[..4].try_into().unwrap());
    assert_eq!(
        heard.len(),
        startup as usize,
        "nothing but the startup packet"
    );
}

/// A server on loopback that answers the first bytes with something, and remembers what it heard.
struct Liar {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<u8>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Close,
    Repeat,
    Wait,
}

impl Liar {
    async fn answering(answer: &[u8]) -> Self {
        Self::start(answer, Then::Close).await
    }

    async fn repeating(answer: &[u8]) -> Self {
        Self::start(answer, Then::Repeat).await
    }

    async fn silent() -> Self {
        Self::start(b"", Then::Wait).await
    }

    async fn start(answer: &[u8], then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&heard), answer.to_vec());
        tokio::spawn(async move {
            // Once: a second connection would mix up what was heard.
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(listener);
            let mut bytes = vec![0; 4096];
            let count = stream.read(&mut bytes).await.unwrap();
            kept.lock().unwrap().extend_from_slice(&bytes[..count]);
            while stream.write_all(&answer).await.is_ok() && then == Then::Repeat {}
            if then == Then::Wait {
                std::future::pending::<()>().await;
            }
            let _ = stream.shutdown().await;
            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                kept.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { address, heard }
    }

    fn cluster(&self) -> Cluster {
        Cluster {
            engine: Engine::Postgresql,
            backends: vec![Backend {
                host: "127.0.0.1".into(),
                port: self.address.port(),
            }],
            tls: UpstreamTls::Verified {
                server_name: "db.acme.internal".into(),
                authorities: authority("acme").authority_pem().into(),
            },
            via: None,
            service: Some(Service {
                role: "portcullis_service".into(),
                database: "postgres".into(),
            }),
        }
    }

    async fn reason(&self) -> &'static str {
        let target = target(self.cluster());
        let upstreams = Upstreams::new(Dialer::local(), BTreeMap::new());
        let error = upstreams
            .connect(&target.tenant, &target.id, &target.cluster)
            .await
            .unwrap_err();
        error.tries[0].problem.reason()
    }

    fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}
