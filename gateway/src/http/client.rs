//! Asking: a node's admin socket, and an https server.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::limits::HTTPS_CONNECT_TIME;
use super::message::Method;
use super::url::{HTTP_PORT, HttpsUrl};
use crate::runtime::clock::Duration;

/// Asks the process behind a Unix socket, once.
///
/// # Errors
/// `ClientError`, which says how far it came.
pub async fn ask_unix(
    socket: &Path,
    question: Question<'_>,
    limits: AnswerLimits,
) -> Result<Answer, ClientError> {
    let work = async {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(ClientError::Connect)?;
        exchange(stream, "localhost", question, limits.bytes).await
    };
    timeout(limits.time, work)
        .await
        .map_err(|_| ClientError::TimeOver(limits.time))?
}

/// Asks the server at `address` (`host:port`) over TLS, once. Whom `tls` accepts is its business: the
/// name in the address is only dialled.
///
/// # Errors
/// `ClientError`, which says how far it came.
pub async fn ask_tls(
    address: &str,
    tls: Arc<ClientConfig>,
    server_name: &'static str,
    question: Question<'_>,
    limits: AnswerLimits,
) -> Result<Answer, ClientError> {
    let name = ServerName::try_from(server_name)
        .map_err(|_| ClientError::Url("its server name is not a name"))?;
    let work = async {
        let connect = async {
            let stream = TcpStream::connect(address)
                .await
                .map_err(ClientError::Connect)?;
            TlsConnector::from(tls)
                .connect(name, stream)
                .await
                .map_err(ClientError::Tls)
        };
        let stream = timeout(HTTPS_CONNECT_TIME, connect)
            .await
            .map_err(|_| ClientError::TimeOver(HTTPS_CONNECT_TIME))??;
        exchange(stream, address, question, limits.bytes).await
    };
    timeout(limits.time, work)
        .await
        .map_err(|_| ClientError::TimeOver(limits.time))?
}

/// Fetches an `https://` URL: verified by `tls`, at most `limits.bytes`, only a 200, no redirects.
///
/// # Errors
/// `ClientError`; also for a URL of any other form.
pub async fn get_https(
    url: &str,
    tls: Arc<ClientConfig>,
    limits: AnswerLimits,
) -> Result<Vec<u8>, ClientError> {
    let url = HttpsUrl::parse(url)?;
    let work = async {
        let stream = timeout(HTTPS_CONNECT_TIME, connect_tls(&url, tls))
            .await
            .map_err(|_| ClientError::TimeOver(HTTPS_CONNECT_TIME))??;
        let question = Question {
            method: Method::Get,
            target: url.target,
            body: Vec::new(),
        };
        exchange(stream, url.authority, question, limits.bytes).await
    };
    let answer = timeout(limits.time, work)
        .await
        .map_err(|_| ClientError::TimeOver(limits.time))??;
    if answer.status == 200 {
        Ok(answer.body)
    } else {
        Err(ClientError::Status(answer.status))
    }
}

/// Fetches an `http://` or, verified by `tls`, an `https://` URL: at most `limits.bytes`, whatever the status, no redirects.
///
/// # Errors
/// `ClientError`; also for a URL of any other form, and for an `https://` URL without `tls`.
pub async fn get_any(
    url: &str,
    tls: Option<Arc<ClientConfig>>,
    limits: AnswerLimits,
) -> Result<Answer, ClientError> {
    ask_any(url, tls, (Method::Get, Vec::new(), None), limits).await
}

/// Posts JSON to such a URL, with a bearer token where there is one: the answer is at most `limits.bytes`, whatever the status, no redirects.
///
/// # Errors
/// Those of [`get_any`].
pub async fn post_any(
    url: &str,
    tls: Option<Arc<ClientConfig>>,
    body: Vec<u8>,
    token: Option<&str>,
    limits: AnswerLimits,
) -> Result<Answer, ClientError> {
    ask_any(url, tls, (Method::Post, body, token), limits).await
}

async fn ask_any(
    url: &str,
    tls: Option<Arc<ClientConfig>>,
    (method, body, token): (Method, Vec<u8>, Option<&str>),
    limits: AnswerLimits,
) -> Result<Answer, ClientError> {
    let (url, tls) = match url.strip_prefix("http://") {
        Some(rest) => (HttpsUrl::after_scheme(url, rest, HTTP_PORT)?, None),
        None => {
            let tls = tls.ok_or(ClientError::Url("nothing says which authority is trusted"))?;
            (HttpsUrl::parse(url)?, Some(tls))
        }
    };
    let question = Question {
        method,
        target: url.target,
        body,
    };
    let request = to_hyper(url.authority, question, token)?;
    let late = |_| ClientError::TimeOver(HTTPS_CONNECT_TIME);
    let work = async {
        match tls {
            Some(tls) => {
                let stream = timeout(HTTPS_CONNECT_TIME, connect_tls(&url, tls));
                let stream = stream.await.map_err(late)??;
                given(stream, request, limits.bytes).await
            }
            None => {
                let stream = TcpStream::connect((url.host, url.port));
                let stream = timeout(HTTPS_CONNECT_TIME, stream).await.map_err(late)?;
                let stream = stream.map_err(ClientError::Connect)?;
                given(stream, request, limits.bytes).await
            }
        }
    };
    timeout(limits.time, work)
        .await
        .map_err(|_| ClientError::TimeOver(limits.time))?
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// GET, or POST with a JSON body.
    pub method: Method,
    /// Path and query, as they go on the wire.
    pub target: &'a str,
    /// The JSON body; empty for GET.
    pub body: Vec<u8>,
}

/// What an answer may cost.
#[derive(Clone, Copy, Debug)]
pub struct AnswerLimits {
    /// Bytes of its body.
    pub bytes: usize,
    /// From the first step to the last byte.
    pub time: Duration,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// For how long the server asks to be left alone (Retry-After, in seconds; as a date it is not understood).
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// The URL is not one that may be asked.
    Url(&'static str),
    /// No connection.
    Connect(std::io::Error),
    /// The TLS handshake failed; most often the certificate is not what was demanded.
    Tls(std::io::Error),
    /// The exchange broke, or was not HTTP.
    Exchange(String),
    /// The answer is larger than allowed (bytes).
    TooLarge(usize),
    /// An answer came, and was not 200.
    Status(u16),
    /// It took longer than allowed.
    TimeOver(Duration),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(problem) => write!(f, "unusable URL: {problem}"),
            Self::Connect(_) => f.write_str("could not connect"),
            Self::Tls(_) => f.write_str("the TLS handshake failed"),
            Self::Exchange(problem) => write!(f, "the exchange broke: {problem}"),
            Self::TooLarge(limit) => write!(f, "the answer is larger than {limit} bytes"),
            Self::Status(status) => write!(f, "answered with status {status}"),
            Self::TimeOver(limit) => write!(f, "no answer within {} s", limit.as_secs()),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect(error) | Self::Tls(error) => Some(error),
            Self::Url(_)
            | Self::Exchange(_)
            | Self::TooLarge(_)
            | Self::Status(_)
            | Self::TimeOver(_) => None,
        }
    }
}

pub(super) async fn connect_tls(
    url: &HttpsUrl<'_>,
    tls: Arc<ClientConfig>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ClientError> {
    let name = ServerName::try_from(url.host.to_owned())
        .map_err(|_| ClientError::Url("its host is not a name or address"))?;
    let stream = TcpStream::connect((url.host, url.port))
        .await
        .map_err(ClientError::Connect)?;
    TlsConnector::from(tls)
        .connect(name, stream)
        .await
        .map_err(ClientError::Tls)
}

async fn exchange<T>(
    stream: T,
    host: &str,
    question: Question<'_>,
    limit: usize,
) -> Result<Answer, ClientError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    given(stream, to_hyper(host, question, None)?, limit).await
}

async fn given<T>(
    stream: T,
    request: hyper::Request<Full<Bytes>>,
    limit: usize,
) -> Result<Answer, ClientError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broke = |error: hyper::Error| ClientError::Exchange(with_sources(&error));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broke)?;
    // Aborted when this function ends, however it ends.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.map_err(broke)?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|seconds| seconds.to_str().ok()?.trim().parse().ok());
    let body = read_body(response.into_body(), limit).await?;
    Ok(Answer {
        status,
        retry_after: retry_after.map(Duration::from_secs),
        body,
    })
}

fn to_hyper(
    host: &str,
    question: Question<'_>,
    token: Option<&str>,
) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
    let json = HeaderValue::from_static("application/json");
    let mut request = hyper::Request::builder()
        .method(question.method.name())
        .uri(question.target)
        .header(HOST, host)
        .header(ACCEPT, json.clone())
        .header(CONNECTION, "close");
    if question.method == Method::Post {
        request = request.header(CONTENT_TYPE, json);
    }
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| ClientError::Url("its token cannot be put in a header"))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request
        .body(Full::new(Bytes::from(question.body)))
        .map_err(|_| ClientError::Url("its path or host cannot be put in a request"))
}

pub(super) async fn read_body(body: Incoming, limit: usize) -> Result<Vec<u8>, ClientError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(ClientError::TooLarge(limit)),
        Err(error) => Err(ClientError::Exchange(with_sources(error.as_ref()))),
    }
}

/// hyper's own text stops before the cause; the cause is what helps.
pub(super) fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_url_of_another_kind_is_not_fetched_and_none_is_without_verification() {
        let limits = AnswerLimits {
            bytes: 10,
            time: Duration::from_secs(1),
        };
        for url in [
            "https://127.0.0.1:1/",
            "ftp://127.0.0.1:1/",
            "http://user@127.0.0.1:1/",
            "http://127.0.0.1:1/a b",
            "http://",
        ] {
            let error = get_any(url, None, limits).await.unwrap_err();
            assert!(matches!(error, ClientError::Url(_)), "{url}: {error}");
        }
        let error = get_any("http://127.0.0.1:1/", None, limits).await;
        assert!(matches!(error, Err(ClientError::Connect(_))));
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_says_that_there_is_no_connection() {
        let question = Question {
            method: Method::Get,
            target: "/",
            body: Vec::new(),
        };
        let limits = AnswerLimits {
            bytes: 10,
            time: Duration::from_secs(1),
        };
        let error = ask_unix(Path::new("/nonexistent/admin.sock"), question, limits)
            .await
            .unwrap_err();
        assert!(matches!(error, ClientError::Connect(_)));
    }
}
