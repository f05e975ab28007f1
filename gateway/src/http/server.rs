//! Serving requests: over a Unix socket, where the kernel says who calls, and over TCP. (Over TLS:
//! `super::tls`.)

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::{
    ACCEPT_PAUSE, HEADER_TIME, MAX_CONNECTIONS, MAX_HEADER_BYTES, MAX_HEADERS, MAX_STRANGERS,
    STOP_TIME,
};
use super::message::{Caller, Peer, Request, Response};
use super::router::{Found, Miss, Router};

/// What answers the requests of one listener.
pub trait Service: Send + Sync + 'static {
    /// What a route leads to.
    type Action: Copy + Send + Sync + 'static;

    /// The routes.
    fn router(&self) -> &Router<Self::Action>;

    /// Whether this peer may ask anything at all: asked once for each connection, before a byte of
    /// it is read. The refusal is the answer to whatever was asked.
    ///
    /// # Errors
    /// The answer to a peer that may not.
    fn admit(&self, peer: &Peer) -> Result<(), Response>;

    /// Answers. Dropped when its time is over or the caller has gone: what must run to its end
    /// needs a task of its own.
    fn answer(
        &self,
        action: Self::Action,
        request: Request,
    ) -> impl Future<Output = Response> + Send;
}

/// Serves a Unix socket until `stop`, then gives open requests `STOP_TIME`.
pub async fn serve_unix<S: Service>(
    listener: UnixListener,
    service: Arc<S>,
    stop: CancellationToken,
) {
    let server = Server::new(service, stop);
    loop {
        let accepted = tokio::select! {
            () = server.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| Ok((caller(&stream)?, stream))) {
            Ok((caller, stream)) => server.take(stream, Peer::Local(caller)),
            Err(error) => pause(&error).await,
        }
    }
    server.finish().await;
}

/// Serves a TCP listener until `stop`, then gives open requests `STOP_TIME`. In the clear: meant
/// for what anyone who reaches the address may read.
pub async fn serve_tcp<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    stop: CancellationToken,
) {
    let server = Server::new(service, stop);
    loop {
        let accepted = tokio::select! {
            () = server.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => server.take(stream, Peer::Remote(address)),
            Err(error) => pause(&error).await,
        }
    }
    server.finish().await;
}

/// Binds a TCP listener for `serve_tcp`.
///
/// # Errors
/// Whatever the system says.
pub async fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// An `accept` that failed is not the end of a listener.
pub(super) async fn pause(error: &io::Error) {
    tracing::warn!(%error, "could not accept an HTTP connection");
    sleep(ACCEPT_PAUSE).await;
}

fn caller(stream: &UnixStream) -> io::Result<Caller> {
    let credentials = stream.peer_cred()?;
    Ok(Caller {
        uid: credentials.uid(),
        gid: credentials.gid(),
        pid: credentials.pid(),
    })
}

pub(super) struct Server<S> {
    service: Arc<S>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    places: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl<S: Service> Server<S> {
    pub(super) fn new(service: Arc<S>, stop: CancellationToken) -> Self {
        Self {
            service,
            stop,
            tasks: TaskTracker::new(),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            strangers: Arc::new(Semaphore::new(MAX_STRANGERS)),
        }
    }

    /// Gives a connection a place and a task, or closes it when there is no place.
    pub(super) fn take<T>(&self, stream: T, peer: Peer)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (places, refused) = match self.service.admit(&peer) {
            Ok(()) => (&self.places, None),
            Err(refusal) => (&self.strangers, Some(refusal)),
        };
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            tracing::warn!(?peer, "an HTTP connection was closed: every place is taken");
            return;
        };
        let service = Arc::clone(&self.service);
        let stop = self.stop.clone();
        match refused {
            None => self
                .tasks
                .spawn(converse(stream, service, peer, stop, place)),
            Some(refusal) => self.tasks.spawn(turn_away(stream, refusal, stop, place)),
        };
    }

    pub(super) async fn finish(&self) {
        self.tasks.close();
        if timeout(STOP_TIME, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                open = self.tasks.len(),
                "HTTP connections were still open at the end of their time to stop"
            );
        }
    }
}

/// Serves the requests of one connection, one after the other.
async fn converse<T, S: Service>(
    stream: T,
    service: Arc<S>,
    peer: Peer,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handler = service_fn(move |request: hyper::Request<Incoming>| {
        let (service, peer) = (Arc::clone(&service), peer.clone());
        async move {
            let response = respond(&*service, peer, request)
                .await
                .unwrap_or_else(|refusal| refusal);
            Ok::<_, Infallible>(to_hyper(response))
        }
    });
    drive(
        hyper_server(KeepAlive::Yes).serve_connection(TokioIo::new(stream), handler),
        stop,
    )
    .await;
}

/// Answers one request of a stranger with the refusal, whatever it is, and closes.
async fn turn_away<T>(
    stream: T,
    refusal: Response,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let body = Bytes::from(refusal.body.clone());
    let handler = service_fn(move |_request: hyper::Request<Incoming>| {
        let refusal = Response {
            status: refusal.status,
            content_type: refusal.content_type,
            allow: None,
            body: body.to_vec(),
        };
        async move { Ok::<_, Infallible>(to_hyper(refusal)) }
    });
    drive(
        hyper_server(KeepAlive::No).serve_connection(TokioIo::new(stream), handler),
        stop,
    )
    .await;
}

enum KeepAlive {
    Yes,
    No,
}

fn hyper_server(keep_alive: KeepAlive) -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_header_size(MAX_HEADER_BYTES)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(matches!(keep_alive, KeepAlive::Yes));
    builder
}

async fn drive<I, S>(
    connection: hyper::server::conn::http1::Connection<I, S>,
    stop: CancellationToken,
) where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = Full<Bytes>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection broke");
    }
}

/// One request: route, body, answer, all within the route's time.
async fn respond<S: Service>(
    service: &S,
    peer: Peer,
    request: hyper::Request<Incoming>,
) -> Result<Response, Response> {
    let found = route(service, &request)?;
    let limit = found.time_limit;
    let work = async {
        let body = read_body(request.into_body(), found.body_limit).await?;
        let request = Request {
            peer,
            captured: found.captured,
            query: found.query,
            body,
        };
        Ok(service.answer(found.action, request).await)
    };
    timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!("the request was not answered within {} s", limit.as_secs());
        Err(Response::refusal(504, "time_over", &message))
    })
}

fn route<S: Service>(
    service: &S,
    request: &hyper::Request<Incoming>,
) -> Result<Found<S::Action>, Response> {
    let uri = request.uri();
    let found = match uri.authority() {
        // Only proxies are asked in absolute form (RFC 9112 section 3.2.2), and this is none.
        Some(_) => Err(Miss::NotNormal),
        None => service
            .router()
            .find(request.method().as_str(), uri.path(), uri.query()),
    };
    found.map_err(|miss| match miss {
        Miss::NotNormal => Response::refusal(400, "path_malformed", "the path or query is not in normal form: plain segments and plain name=value pairs, no percent-encoding"),
        Miss::NoSuchPath => Response::refusal(404, "no_such_path", "there is nothing at this path"),
        Miss::WrongMethod { allow } => {
            let allow: Vec<&str> = allow.into_iter().map(super::Method::name).collect();
            let allow = allow.join(", ");
            let mut refusal = Response::refusal(405, "wrong_method", &format!("this path is asked by {allow}"));
            refusal.allow = Some(allow);
            refusal
        }
    })
}

async fn read_body(body: Incoming, limit: usize) -> Result<Vec<u8>, Response> {
    let too_large = || {
        Response::refusal(
            413,
            "body_too_large",
            &format!("the body is larger than {limit} bytes"),
        )
    };
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes().into()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(Response::refusal(
            400,
            "body_unread",
            &format!("the body could not be read: {error}"),
        )),
    }
}

fn to_hyper(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut out = hyper::Response::new(Full::new(Bytes::from(response.body)));
    *out.status_mut() = hyper::StatusCode::from_u16(response.status)
        .unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = out.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(response.content_type),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(allow) = response
        .allow
        .and_then(|allow| HeaderValue::from_str(&allow).ok())
    {
        headers.insert(ALLOW, allow);
    }
    out
}
