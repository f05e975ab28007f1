//! Asking the node: the client of the admin API, and errors that name the next step.

use std::fmt;
use std::io;
use std::path::PathBuf;

use portcullis_certs::fleet::SERVER_NAME;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::NodeArgs;
use super::exit::Exit;
use super::operator::identity;
use super::output::{complain, printable, say};
use crate::api::types::{ErrorBody, ErrorReply};
use crate::http::Method;
use crate::http::client::{Answer, AnswerLimits, ClientError, Question, ask_tls, ask_unix};
use crate::http::limits::MAX_ADMIN_REPLY;
use crate::runtime::clock::Duration;

/// The node that a command talks to.
#[derive(Debug)]
pub(super) struct Node {
    way: Way,
    json: bool,
}

/// How it is reached.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// Over its admin socket.
    Socket(PathBuf),
    /// Over the network: `host:port`, and the directory of whoever asks.
    Network { address: String, identity: PathBuf },
}

impl Node {
    pub(super) fn of(args: &NodeArgs) -> Self {
        let way = match (&args.address, &args.identity) {
            (Some(address), Some(identity)) => Way::Network {
                address: address.clone(),
                identity: identity.clone(),
            },
            // The parser knows that neither comes alone.
            (Some(_) | None, _) => {
                let socket = args.socket.clone().or_else(socket_from_environment);
                Way::Socket(socket.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)))
            }
        };
        Self {
            way,
            json: args.json,
        }
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, target: &str) -> Result<Said<T>, Failure> {
        self.ask(Question {
            method: Method::Get,
            target,
            body: Vec::new(),
        })
        .await
    }

    pub(super) async fn post<B, T>(&self, target: &str, body: &B) -> Result<Said<T>, Failure>
    where
        B: Serialize + Sync,
        T: DeserializeOwned,
    {
        let body = serde_json::to_vec(body).map_err(|error| Failure::Local(error.to_string()))?;
        self.ask(Question {
            method: Method::Post,
            target,
            body,
        })
        .await
    }

    /// The same for a request that bears a number of its own: a connection that broke is tried once
    /// more, since what was done already is not done twice.
    pub(super) async fn post_once<B, T>(&self, target: &str, body: &B) -> Result<Said<T>, Failure>
    where
        B: Serialize + Sync,
        T: DeserializeOwned,
    {
        match self.post(target, body).await {
            Err(Failure::NotReached {
                error: ClientError::Connect(_) | ClientError::Tls(_) | ClientError::Exchange(_),
                ..
            }) => {
                tokio::time::sleep(BEFORE_AGAIN).await;
                self.post(target, body).await
            }
            said => said,
        }
    }

    /// Bytes that are no JSON.
    pub(super) async fn get_octets(&self, target: &str) -> Result<Vec<u8>, Failure> {
        let question = Question {
            method: Method::Get,
            target,
            body: Vec::new(),
        };
        let answer = self.answer(question).await?;
        if answer.status == 200 {
            return Ok(answer.body);
        }
        match understand::<serde_json::Value>(answer) {
            Ok(_) => Err(Failure::Foreign("it is not what was asked for".to_owned())),
            Err(failure) => Err(failure),
        }
    }

    /// Prints what the node said: its JSON as it is, or the text made of it.
    pub(super) fn print<T>(&self, said: &Said<T>, human: impl FnOnce(&T) -> String) {
        if self.json {
            say(&said.raw);
        } else {
            say(&printable(&human(&said.value)));
        }
    }

    /// Prints what was made of what the node said, and of it as JSON where that is asked for.
    pub(super) fn tell(&self, json: &serde_json::Value, human: &str) {
        if self.json {
            say(&json.to_string());
        } else {
            say(&printable(human));
        }
    }

    /// Prints why there is no answer, to stderr; with `--json`, as JSON to stdout. The exit it is.
    pub(super) fn fail(&self, failure: &Failure) -> Exit {
        if self.json {
            let error = ErrorReply {
                error: failure.body(),
            };
            say(&serde_json::to_string(&error).unwrap_or_default());
        } else {
            complain(&printable(&format!("error: {failure}")));
        }
        failure.exit()
    }

    async fn ask<T: DeserializeOwned>(&self, question: Question<'_>) -> Result<Said<T>, Failure> {
        understand(self.answer(question).await?)
    }

    async fn answer(&self, question: Question<'_>) -> Result<Answer, Failure> {
        let limits = AnswerLimits {
            bytes: MAX_ADMIN_REPLY,
            time: ANSWER_TIME,
        };
        let answer = match &self.way {
            Way::Socket(socket) => ask_unix(socket, question, limits).await,
            Way::Network { address, identity } => {
                let tls = identity::client(identity).map_err(Failure::Local)?;
                ask_tls(address, tls, SERVER_NAME, question, limits).await
            }
        };
        answer.map_err(|error| Failure::NotReached {
            way: self.way.clone(),
            error,
        })
    }
}

/// Longer than the node itself allows any request to take: it then says so, and says why.
const ANSWER_TIME: Duration = Duration::from_secs(180);

/// A node that is being started again may be there by then.
const BEFORE_AGAIN: Duration = Duration::from_millis(500);

/// Where the node listens unless its configuration says otherwise.
const DEFAULT_SOCKET: &str = "/run/portcullis/admin.sock";

/// The one environment variable that is read.
fn socket_from_environment() -> Option<PathBuf> {
    std::env::var_os("PORTCULLIS_SOCKET")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

fn understand<T: DeserializeOwned>(answer: Answer) -> Result<Said<T>, Failure> {
    let raw = String::from_utf8(answer.body)
        .map_err(|_| Failure::Foreign("it is not UTF-8 text".to_owned()))?;
    let foreign = |error: serde_json::Error| Failure::Foreign(error.to_string());
    if answer.status == 200 {
        let value = serde_json::from_str(&raw).map_err(foreign)?;
        return Ok(Said { value, raw });
    }
    let reply: ErrorReply = serde_json::from_str(&raw).map_err(foreign)?;
    Err(Failure::Refused {
        status: answer.status,
        error: reply.error,
    })
}

/// An answer, understood and as it came.
#[derive(Debug)]
pub(super) struct Said<T> {
    pub(super) value: T,
    pub(super) raw: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The way did not lead to an answer.
    NotReached { way: Way, error: ClientError },
    /// The node answered no.
    Refused { status: u16, error: ErrorBody },
    /// The answer is not one that this program knows.
    Foreign(String),
    /// It failed before anything was asked.
    Local(String),
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            // 403: not this caller. 412: somebody was faster. 409, 422: policy or a guard rail says no.
            Self::Refused {
                status: 403 | 409 | 412 | 422,
                ..
            } => Exit::Refused,
            Self::Refused { .. } | Self::NotReached { .. } | Self::Foreign(_) | Self::Local(_) => {
                Exit::Error
            }
        }
    }

    fn body(&self) -> ErrorBody {
        let (code, message, next) = match self {
            Self::Refused { error, .. } => return error.clone(),
            Self::NotReached { way, error } => (
                "not_reached",
                not_reached(way, error),
                Some(next_step(way, error)),
            ),
            Self::Foreign(problem) => (
                "answer_not_understood",
                format!("the node's answer is not understood: {problem}"),
                Some(
                    "are this program and the node of the same version? See `portcullis status` and `portcullis --version`",
                ),
            ),
            Self::Local(problem) => ("failed", problem.clone(), None),
        };
        ErrorBody {
            code: code.to_owned(),
            message,
            next: next.map(str::to_owned),
            files: Vec::new(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.body().fmt(f)
    }
}

fn not_reached(way: &Way, error: &ClientError) -> String {
    let cause = std::error::Error::source(error)
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    match way {
        Way::Socket(socket) => format!(
            "cannot reach the node's admin socket at {}: {error}{cause}",
            socket.display()
        ),
        Way::Network { address, .. } => {
            format!("cannot reach the node's API at {address}: {error}{cause}")
        }
    }
}

fn next_step(way: &Way, error: &ClientError) -> &'static str {
    match (error, way) {
        (ClientError::Tls(_), Way::Network { .. }) => {
            "is this a control node of the same fleet, and is the certificate in --identity still good? `portcullis operator add` issues another one"
        }
        (ClientError::Connect(_) | ClientError::Url(_), Way::Network { .. }) => {
            "does this node's node.toml say [api] listen, and is `portcullis serve` running? Any other control node will do"
        }
        (ClientError::Connect(error), Way::Socket(_))
            if error.kind() == io::ErrorKind::PermissionDenied =>
        {
            "run this as root or as the node's own user; an administrator may also add your uid to [admin] allowed-uids in node.toml"
        }
        (
            ClientError::Connect(_)
            | ClientError::Url(_)
            | ClientError::Tls(_)
            | ClientError::Status(_),
            _,
        ) => {
            "is `portcullis serve` running? Name another socket with --socket or PORTCULLIS_SOCKET"
        }
        (ClientError::Exchange(_), _) => {
            "look into the node's log: it ended the exchange; it may be stopping, or serve too many admin connections"
        }
        (ClientError::TimeOver(_), _) => {
            "look at `portcullis status` and the node's log: what was asked may have been done all the same"
        }
        (ClientError::TooLarge(_), _) => "ask for less: name a tenant",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_does_not_run_is_named_with_the_next_step() {
        let error = ClientError::Connect(io::Error::from(io::ErrorKind::NotFound));
        let failure = Failure::NotReached {
            way: Way::Socket(PathBuf::from("/run/portcullis/admin.sock")),
            error,
        };
        let text = failure.to_string();
        assert!(text.contains("/run/portcullis/admin.sock"), "{text}");
        assert!(
            text.contains("next: is `portcullis serve` running?"),
            "{text}"
        );
        assert_eq!(failure.exit(), Exit::Error);
    }

    #[test]
    fn a_no_by_policy_exits_with_three_and_a_breakdown_with_one() {
        let answer = |status| {
            let body = br#"{"error":{"code":"c","message":"m"}}"#.to_vec();
            let retry_after = None;
            understand::<u8>(Answer {
                status,
                retry_after,
                body,
            })
            .unwrap_err()
            .exit()
        };
        assert_eq!(answer(422), Exit::Refused);
        assert_eq!(answer(409), Exit::Refused);
        assert_eq!(answer(403), Exit::Refused);
        assert_eq!(answer(404), Exit::Error);
        assert_eq!(answer(500), Exit::Error);
    }

    #[tokio::test]
    async fn a_request_with_a_number_is_given_once_more_when_the_connection_breaks() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let path = std::env::temp_dir().join(format!("portcullis-again-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let node = Node {
            way: Way::Socket(path.clone()),
            json: true,
        };
        let served = async {
            let mut heard = Vec::new();
            for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n7"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await.unwrap();
                request.truncate(length);
                heard.push(request);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            heard
        };
        let (heard, said) = tokio::join!(served, node.post_once::<_, u8>("/v1/apply", &"once"));
        assert_eq!(said.unwrap().value, 7);
        assert_eq!(heard[0], heard[1], "the same request, number and all");
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn an_answer_of_another_kind_is_not_taken_for_one() {
        let answer = Answer {
            status: 200,
            retry_after: None,
            body: b"{}".to_vec(),
        };
        assert!(matches!(understand::<u8>(answer), Err(Failure::Foreign(_))));
    }
}
