//! Server and client against each other, over real Unix sockets.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::client::{AnswerLimits, ClientError, Question, ask_unix};
use super::limits::{MAX_CONNECTIONS, MAX_HEADER_BYTES};
use super::*;
use crate::runtime::clock::Duration;

#[tokio::test]
async fn a_question_reaches_its_action_with_capture_query_and_caller() {
    let server = Served::start("ask", Admit::Everybody);
    let answer = server.get("/v1/echo/PC-1?at=2027-01-01T00:00:00Z").await;
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(
        answer,
        (
            200,
            format!(
                "\"[\\\"PC-1\\\"] {{\\\"at\\\": \\\"2027-01-01T00:00:00Z\\\"}} 0 uid {uid}\"\n"
            )
        )
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_as_json_with_a_code() {
    let server = Served::start("miss", Admit::Everybody);
    for (target, status, code) in [
        ("/v1/other", 404, "no_such_path"),
        ("/v1/%65cho/a", 400, "path_malformed"),
        ("/v1/body", 405, "wrong_method"),
    ] {
        let (got, body) = server.get(target).await;
        assert_eq!(got, status, "{target}");
        assert!(body.contains(&format!("\"code\":\"{code}\"")), "{body}");
    }
    let raw = server
        .raw(b"DELETE /v1/body HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    assert!(
        raw.starts_with("HTTP/1.1 405") && raw.contains("allow: POST\r\n"),
        "{raw}"
    );
}

#[tokio::test]
async fn a_body_at_its_limit_is_read_and_one_byte_more_is_refused() {
    let server = Served::start("body", Admit::Everybody);
    assert_eq!(server.post("/v1/body", vec![b'1'; BODY_LIMIT]).await.0, 200);
    assert_eq!(
        server.post("/v1/body", vec![b'1'; BODY_LIMIT + 1]).await.0,
        413
    );
    let chunked = b"POST /v1/body HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n";
    let raw = server.raw(chunked).await;
    assert!(
        raw.starts_with("HTTP/1.1 413"),
        "a length that is not announced is counted: {raw}"
    );
    let raw = server.raw(b"GET /v1/echo/a HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx").await;
    assert!(raw.starts_with("HTTP/1.1 413"), "a GET has no body: {raw}");
}

#[tokio::test]
async fn headers_beyond_their_limit_are_refused() {
    let server = Served::start("header", Admit::Everybody);
    let question = |bytes: usize| {
        format!(
            "GET /v1/echo/a HTTP/1.1\r\nhost: x\r\nconnection: close\r\npad: {}\r\n\r\n",
            "p".repeat(bytes)
        )
    };
    let raw = server.raw(question(MAX_HEADER_BYTES / 2).as_bytes()).await;
    assert!(raw.starts_with("HTTP/1.1 200"), "{raw}");
    let raw = server.raw(question(MAX_HEADER_BYTES).as_bytes()).await;
    assert!(raw.starts_with("HTTP/1.1 431"), "{raw}");
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_cut_off() {
    let server = Served::start("slow", Admit::Everybody);
    let (status, body) = server.get("/v1/slow").await;
    assert_eq!(status, 504);
    assert!(body.contains("time_over"), "{body}");
}

#[tokio::test]
async fn a_stranger_gets_the_refusal_whatever_is_asked_and_the_connection_ends() {
    let server = Served::start("stranger", Admit::Nobody);
    assert_eq!(server.get("/v1/echo/a").await.0, 403);
    assert_eq!(server.get("/nowhere").await.0, 403);
    let raw = server
        .raw(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(raw.matches("HTTP/1.1 403").count(), 1, "{raw}");
}

#[tokio::test]
async fn connections_beyond_their_limit_are_closed_and_the_others_served() {
    let server = Served::start("places", Admit::Everybody);
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = UnixStream::connect(&server.path).await.unwrap();
        // Answered once, so that the server is known to have taken it.
        stream
            .write_all(b"GET /v1/echo/a HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        held.push(stream);
    }
    let mut one_more = UnixStream::connect(&server.path).await.unwrap();
    assert_eq!(
        one_more.read(&mut [0; 1]).await.unwrap_or(0),
        0,
        "closed unanswered"
    );
    drop(held);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.get("/v1/echo/a").await.0, 200);
}

#[tokio::test]
async fn an_answer_larger_than_the_client_allows_is_not_swallowed() {
    let server = Served::start("large", Admit::Everybody);
    let question = Question {
        method: Method::Get,
        target: "/v1/echo/a",
        body: Vec::new(),
    };
    let limits = AnswerLimits {
        bytes: 3,
        time: Duration::from_secs(5),
    };
    let error = ask_unix(&server.path, question, limits).await.unwrap_err();
    assert!(matches!(error, ClientError::TooLarge(3)), "{error}");
}

#[tokio::test]
async fn a_server_that_stops_answers_what_is_open_and_takes_nothing_new() {
    let server = Served::start("stop", Admit::Everybody);
    let slow = tokio::spawn({
        let path = server.path.clone();
        async move { ask(&path, Method::Get, "/v1/slow", Vec::new()).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.stop.cancel();
    assert_eq!(
        slow.await.unwrap().0,
        504,
        "its own end, not a broken connection"
    );
    server.task.await.unwrap();
    assert!(UnixStream::connect(&server.path).await.is_err());
}

const BODY_LIMIT: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Admit {
    Everybody,
    Nobody,
}

struct Echo {
    router: Router<Action>,
    admit: Admit,
}

#[derive(Clone, Copy)]
enum Action {
    Echo,
    Body,
    Slow,
}

impl Service for Echo {
    type Action = Action;

    fn router(&self) -> &Router<Action> {
        &self.router
    }

    fn admit(&self, _peer: &Peer) -> Result<(), Response> {
        match self.admit {
            Admit::Everybody => Ok(()),
            Admit::Nobody => Err(Response::refusal(403, "not_permitted", "no")),
        }
    }

    async fn answer(&self, action: Action, request: Request) -> Response {
        if let Action::Slow = action {
            std::future::pending::<()>().await;
        }
        let Peer::Local(caller) = request.peer else {
            panic!("not local")
        };
        let (captured, query, bytes) = (request.captured, request.query, request.body.len());
        Response::json(&format!(
            "{captured:?} {query:?} {bytes} uid {}",
            caller.uid
        ))
    }
}

struct Served {
    path: PathBuf,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    fn start(name: &str, admit: Admit) -> Self {
        let path = std::env::temp_dir().join(format!(
            "portcullis-http-{name}-{}/admin.sock",
            std::process::id()
        ));
        let listener = bind_unix(&path).unwrap();
        let router = Router::new(vec![
            Route::get("/v1/echo/{}", Action::Echo),
            Route::post("/v1/body", Action::Body).within(BODY_LIMIT, Duration::from_secs(5)),
            Route::get("/v1/slow", Action::Slow).within(0, Duration::from_millis(300)),
        ]);
        let stop = CancellationToken::new();
        let task = tokio::spawn(server::serve_unix(
            listener,
            Arc::new(Echo { router, admit }),
            stop.clone(),
        ));
        Self { path, stop, task }
    }

    async fn get(&self, target: &str) -> (u16, String) {
        ask(&self.path, Method::Get, target, Vec::new()).await
    }

    async fn post(&self, target: &str, body: Vec<u8>) -> (u16, String) {
        ask(&self.path, Method::Post, target, body).await
    }

    /// Bytes as they are, and all that comes back until the server closes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.path).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut out = Vec::new();
        let reading = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut out));
        drop(reading.await.expect("the server closes"));
        String::from_utf8(out).unwrap()
    }
}

async fn ask(path: &std::path::Path, method: Method, target: &str, body: Vec<u8>) -> (u16, String) {
    let limits = AnswerLimits {
        bytes: 1024 * 1024,
        time: Duration::from_secs(10),
    };
    let answer = ask_unix(
        path,
        Question {
            method,
            target,
            body,
        },
        limits,
    )
    .await
    .unwrap();
    (answer.status, String::from_utf8(answer.body).unwrap())
}
