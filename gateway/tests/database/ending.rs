//! Stopped connections are seen to be gone: the query, not only the socket.

use std::time::Duration;

use portcullis::database::backend::{self, Backend, CANCEL_PATIENCE, CancelOutcome, Ending};
use portcullis::database::service::Services;
use portcullis::database::{Upstream, UpstreamStream, departures};
use portcullis_wire::Step;
use portcullis_wire::message::Backend as Message;
use portcullis_wire::startup::encode_startup;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::postgres::{Functions, Postgres, target};

#[tokio::test]
async fn a_query_that_outlives_its_connection_is_cancelled_and_seen_to_be_gone() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    let services = postgres.services();
    let mut session = Session::begin(&postgres).await;
    session.query("SELECT pg_sleep(600)").await;
    assert_eq!(sleeping(&postgres), "1");
    let backend = session.close();
    assert_eq!(sleeping(&postgres), "1");
    let seen = backend::see_gone(&services, &backend).await;
    assert_eq!(seen.ending, Ending::Gone, "{seen:?}");
    assert!(seen.took < CANCEL_PATIENCE, "{seen:?}");
    assert_eq!(sleeping(&postgres), "0");
    // And again: there is nothing left to see.
    assert_eq!(
        backend::see_gone(&services, &backend).await.ending,
        Ending::Gone
    );
}

#[tokio::test]
async fn a_query_that_does_not_heed_the_cancel_request_is_terminated() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    let services = postgres.services();
    let mut session = Session::begin(&postgres).await;
    session
        .query(
            "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(600); \
             EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$",
        )
        .await;
    let backend = session.close();
    let seen = backend::see_gone(&services, &backend).await;
    assert_eq!(seen.ending, Ending::Terminated, "{seen:?}");
    assert!(seen.took >= CANCEL_PATIENCE, "{seen:?}");
}

#[tokio::test]
async fn a_cancel_request_stops_the_query_and_leaves_the_session() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    let upstreams = postgres.upstreams();
    let mut session = Session::begin(&postgres).await;
    session.query("SELECT pg_sleep(600)").await;
    backend::cancel(&upstreams, &session.backend).await.unwrap();
    let said = session.until_ready().await;
    assert!(said.contains("57014"), "{said}");
}

#[tokio::test]
async fn only_the_process_that_was_meant_is_terminated() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    let services = postgres.services();
    let session = Session::begin(&postgres).await;
    let began = started(&services, &session.backend).await.unwrap();
    // The same id, another life.
    assert!(
        !backend::terminate(&services, &session.backend, began - 1)
            .await
            .unwrap()
    );
    assert_eq!(started(&services, &session.backend).await, Some(began));
    assert!(
        backend::terminate(&services, &session.backend, began)
            .await
            .unwrap()
    );
}

async fn started(services: &Services, backend: &Backend) -> Option<i64> {
    let pids = [backend.pid()];
    let found = departures::started(services, &backend.target, backend.server, &pids).await;
    found
        .unwrap()
        .get(&backend.pid())
        .map(|process| process.started)
}

#[tokio::test]
async fn a_superusers_session_and_one_from_elsewhere_are_not_terminated() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    postgres.sql("CREATE ROLE app LOGIN; CREATE ROLE guest LOGIN");
    postgres.configure("pg_hba.conf", |rules| {
        format!("host all postgres,app 127.0.0.1/32 trust\n{rules}")
    });
    let services = postgres.services();
    let session = Session::begin(&postgres).await;
    let socket = postgres.directory();
    for (role, host, is_ended) in [
        ("postgres", "127.0.0.1", false),
        ("guest", socket, false),
        // Neither a superuser's nor from elsewhere: nothing else keeps the others.
        ("app", "127.0.0.1", true),
    ] {
        let held = postgres.hold(role, host);
        let pid = held.pid;
        let other = Backend::new(
            session.backend.target.clone(),
            session.backend.server,
            pid,
            &[0; 4],
        )
        .unwrap();
        let began = started(&services, &other).await.unwrap();
        let ended = backend::terminate(&services, &other, began).await.unwrap();
        assert_eq!(ended, is_ended, "{role} through {host}");
    }
}

#[tokio::test]
async fn without_a_service_role_the_query_is_cancelled_and_its_end_unseen() {
    let Some(postgres) = Postgres::start(Functions::Installed) else {
        return;
    };
    let mut session = Session::begin(&postgres).await;
    session.query("SELECT pg_sleep(600)").await;
    let mut backend = session.close();
    let mut cluster = postgres.cluster();
    cluster.service = None;
    backend.target = target(cluster);
    let seen = backend::see_gone(&postgres.services(), &backend).await;
    let Ending::Unseen {
        cancel: CancelOutcome::Delivered,
        why,
    } = &seen.ending
    else {
        panic!("{seen:?}")
    };
    assert!(why.contains("service role"), "{why}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(sleeping(&postgres), "0");
}

fn sleeping(postgres: &Postgres) -> String {
    postgres
        .sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'reports' AND state = 'active'")
}

/// A session of role `reports`, signed in by our certificate as for a certificate endpoint.
struct Session {
    stream: UpstreamStream,
    backend: Backend,
    received: Vec<u8>,
}

impl Session {
    async fn begin(postgres: &Postgres) -> Self {
        postgres.sql(
            "DO $$ BEGIN CREATE ROLE reports LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        );
        let target = postgres.target();
        let Upstream {
            mut stream,
            backend: server,
            ..
        } = postgres
            .upstreams()
            .connect(&target.tenant, &target.id, &target.cluster)
            .await
            .unwrap();
        stream
            .write_all(&encode_startup("reports", "postgres", []).unwrap())
            .await
            .unwrap();
        let mut received = Vec::new();
        let mut key = None;
        loop {
            match Message::read(&received).unwrap() {
                Step::Need(_) => {
                    assert_ne!(stream.read_buf(&mut received).await.unwrap(), 0);
                }
                Step::Done(message, consumed) => {
                    received.drain(..consumed);
                    if let Message::BackendKeyData { pid, secret } = message {
                        key = Some((pid, secret));
                    } else if let Message::Error(fields) = message {
                        panic!("{fields:?}");
                    } else if matches!(message, Message::ReadyForQuery(_)) {
                        break;
                    }
                }
            }
        }
        let (pid, secret) = key.unwrap();
        let backend = Backend::new(target, server, pid, &secret).unwrap();
        Self {
            stream,
            backend,
            received,
        }
    }

    /// Sends a query and waits until the server works on it.
    async fn query(&mut self, sql: &str) {
        let mut message = vec![b'Q'];
        message.extend_from_slice(&u32::try_from(sql.len() + 5).unwrap().to_be_bytes());
        message.extend_from_slice(sql.as_bytes());
        message.push(0);
        self.stream.write_all(&message).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    /// All that comes until the server is ready again, as text.
    async fn until_ready(&mut self) -> String {
        let mut said = String::new();
        while !self.received.ends_with(b"Z\0\0\0\x05I") {
            assert_ne!(self.stream.read_buf(&mut self.received).await.unwrap(), 0);
            said = String::from_utf8_lossy(&self.received).into_owned();
        }
        said
    }

    /// Closes the socket in the middle, as a lapse does.
    fn close(self) -> Backend {
        self.backend
    }
}
