//! From the first byte to the start-up packet: who is knocking, through which door, asking for
//! what.
//!
//! Nothing here decides who may enter. What cannot be understood is refused; every wait has its
//! limit.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_certs::hello::{self, Hearing, Hello, Unheard};
use portcullis_certs::{ALPN_POSTGRESQL, Identity, serial_number};
use portcullis_policy::{Address, Origin, Reference, Serial, ServerName};
use portcullis_wire::Complaint;
use portcullis_wire::cancel::CancelRequest;
use portcullis_wire::error::{ErrorResponse, SqlState};
use portcullis_wire::first::{FirstBytes, nothing_before_tls};
use portcullis_wire::negotiate::{ProtocolVersion, negotiate};
use portcullis_wire::proxy_protocol::{self, ProxyHeader};
use portcullis_wire::startup::StartupMessage;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::certificates::Shown;
use super::front::Front;
use super::io::{ReadError, read_exactly, read_unit, send};
use super::limits::{Bound, Deadlines};
use super::listener::{Door, private_link};
use super::live::Arrival;
use super::refuse::Refusal;
use super::throttle::{Limit, Ticket};
use crate::runtime::clock::Duration;
use crate::runtime::limits::{FAREWELL, NEGOTIATION_REQUESTS};

/// A client that said what it wants.
pub(super) struct Client {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) server_name: Option<ServerName>,
    pub(super) startup: StartupMessage,
    /// What the two of us speak.
    pub(super) version: ProtocolVersion,
    /// Bytes owed to the client before anything else: NegotiateProtocolVersion.
    pub(super) owed: Vec<u8>,
    /// The certificate that this very handshake served; its hash is the channel binding.
    pub(super) identity: Arc<Identity>,
    /// The authorities that a client certificate was verified against in this very handshake.
    pub(super) vouching: Option<Arc<str>>,
}

impl Client {
    /// The serial number of the certificate that it has shown; none where it showed none, or one with a number that no
    /// authority may give.
    pub(super) fn certificate(&self) -> Option<Serial> {
        let (_, session) = self.stream.get_ref();
        let leaf = session.peer_certificates()?.first()?;
        Serial::of(&serial_number(leaf)?)
    }
}

/// What the first packet asked for.
pub(super) enum Greeting {
    Client(Box<Client>),
    /// A request, the name it was sent to if it came inside TLS, and the connection it came by.
    Cancel(CancelRequest, Option<ServerName>, Asker),
}

/// Who sent a cancel request, and waits for the end of the connection.
pub(super) enum Asker {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Asker {
    /// Nothing is ever answered; the end says that it is over.
    pub(super) async fn close(self) {
        match self {
            Self::Plain(tcp) => drop(tcp),
            Self::Tls(mut tls) => drop(timeout(FAREWELL, tls.shutdown()).await),
        }
    }
}

/// Establishes the origin: the listener's, or what a trusted load balancer says in its PROXY
/// header. The header of anybody else is never parsed.
pub(super) async fn arrive(
    door: &Door,
    deadlines: &Deadlines,
    ticket: &Ticket,
    tcp: &mut TcpStream,
    peer: SocketAddr,
    reference: Reference,
) -> Result<Arrival, Refusal> {
    let socket = Address::from(peer.ip());
    let Some(balancer) = &door.balancer else {
        return match &door.origin {
            Some(origin) => Ok(Arrival {
                reference,
                origin: Origin::clone(origin),
                address: socket,
                port: peer.port(),
                balancer: None,
            }),
            None => Err(Refusal::violation(
                "proxy_missing",
                "a private-link listener has no load balancer",
            )),
        };
    };
    if !balancer.trusts(socket) {
        return Err(Refusal::violation(
            "proxy_untrusted_peer",
            format!(
                "{socket} is not one of this listener's load balancers; its PROXY header was not read"
            ),
        ));
    }
    let header = read_unit(tcp, |bytes| proxy_protocol::read(bytes, balancer.cloud));
    let (header, _) = within(&deadlines.proxy_header, Limit::ProxyHeader, header).await?;
    let ProxyHeader::Proxied { source, link, .. } = header else {
        return Err(Refusal::silent(
            "proxy_local",
            "a load balancer's own connection (PROXY LOCAL), a health check",
        ));
    };
    let origin = match (&door.origin, link) {
        (Some(origin), _) => Origin::clone(origin),
        (None, Some(link)) => Origin::PrivateLink(
            private_link(&link).map_err(|why| Refusal::violation("private_link_id", why))?,
        ),
        (None, None) => {
            return Err(Refusal::violation(
                "private_link_absent",
                "the PROXY header names no private link",
            ));
        }
    };
    let address = Address::from(source.ip());
    ticket.charge(&origin, address).map_err(Refusal::shed)?;
    Ok(Arrival {
        reference,
        origin,
        address,
        port: source.port(),
        balancer: Some(socket),
    })
}

/// Negotiates TLS and reads the start-up packet.
pub(super) async fn greet(
    front: &Front,
    arrival: &Arrival,
    mut tcp: TcpStream,
) -> Result<Greeting, Refusal> {
    let deadlines = &front.limits().deadlines;
    for _ in 0..=NEGOTIATION_REQUESTS {
        let first = read_unit(&mut tcp, FirstBytes::read);
        let (first, opening) = within(&deadlines.first_bytes, Limit::FirstBytes, first).await?;
        match first {
            // A PostgreSQL 17+ client. ALPN is mandatory here: without it a browser could be made to
            // speak to a database (ALPACA).
            FirstBytes::DirectTls => {
                return handshake(front, arrival, tcp, &opening, Alpn::Required).await;
            }
            FirstBytes::SslRequest => {
                nothing_buffered(&mut tcp).await?;
                send(&mut tcp, b"S").await.map_err(Refusal::client_gone)?;
                within(&deadlines.client_hello, Limit::ClientHello, something(&tcp)).await?;
                return handshake(front, arrival, tcp, &[], Alpn::Optional).await;
            }
            FirstBytes::GssEncRequest => {
                nothing_buffered(&mut tcp).await?;
                send(&mut tcp, b"N").await.map_err(Refusal::client_gone)?;
            }
            FirstBytes::CancelRequest { len } => {
                let body = read_exactly(&mut tcp, len);
                let body = within(&deadlines.first_bytes, Limit::FirstBytes, async {
                    Ok(body.await?)
                })
                .await?;
                let request = CancelRequest::decode(&body)?;
                return Ok(Greeting::Cancel(request, None, Asker::Plain(tcp)));
            }
            FirstBytes::Startup { .. } => return Err(plaintext(&mut tcp, &arrival.reference).await),
        }
    }
    Err(Refusal::violation(
        "negotiation_loop",
        "more negotiation requests than there are kinds of them",
    ))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alpn {
    Optional,
    Required,
}

async fn handshake(
    front: &Front,
    arrival: &Arrival,
    tcp: TcpStream,
    opening: &[u8],
    alpn: Alpn,
) -> Result<Greeting, Refusal> {
    let deadlines = &front.limits().deadlines;
    let shaken = within(&deadlines.tls, Limit::Tls, async {
        Ok(tls(front, arrival, tcp, opening, alpn).await)
    })
    .await??;
    within(&deadlines.startup, Limit::Startup, async {
        Ok(startup(shaken, &arrival.reference).await)
    })
    .await?
}

/// A client inside TLS, and what its handshake showed and asked.
struct Handshake {
    stream: TlsStream<TcpStream>,
    server_name: Option<ServerName>,
    shown: Shown,
}

async fn tls(
    front: &Front,
    arrival: &Arrival,
    mut tcp: TcpStream,
    opening: &[u8],
    alpn: Alpn,
) -> Result<Handshake, Refusal> {
    let hello = listen(&mut tcp, opening).await?;
    if alpn == Alpn::Required && !hello.offers_protocols() {
        drop(send(&mut tcp, &hello::alert(hello::NO_APPLICATION_PROTOCOL)).await);
        return Err(Refusal::violation(
            "alpn",
            "received direct SSL connection request without ALPN protocol negotiation extension",
        ));
    }
    // A name that is none of ours in form is an unknown endpoint; it is told so after its start-up
    // packet, like every other.
    let server_name = hello
        .server_name()
        .and_then(|name| ServerName::parse(name).ok());
    let shown = front
        .server_config(arrival, server_name.as_ref())
        .map_err(|error| {
            let story = format!("no TLS configuration could be made: {error}");
            Refusal::silent("tls_configuration", story)
        })?;
    let configuration = Arc::clone(&shown.configuration);
    let handshake =
        StartHandshake::from_parts(hello.into_accepted(), tcp).into_stream(configuration);
    match handshake.await {
        Ok(stream) => {
            let agreed = stream.get_ref().1.alpn_protocol();
            if alpn == Alpn::Required && agreed != Some(ALPN_POSTGRESQL) {
                return Err(Refusal::violation(
                    "alpn",
                    "direct TLS without the application protocol postgresql",
                ));
            }
            Ok(Handshake {
                stream,
                server_name,
                shown,
            })
        }
        Err(error) => Err(Refusal::handshake(&error)),
    }
}

/// Reads the ClientHello, of which `opening` has been read already.
async fn listen(tcp: &mut TcpStream, opening: &[u8]) -> Result<Hello, Refusal> {
    let mut hearing = Hearing::default();
    let mut heard = hearing.take(opening);
    loop {
        match heard {
            Ok(Some(hello)) => return Ok(hello),
            Ok(None) => {
                heard = hear_more(&mut hearing, tcp)
                    .await
                    .map_err(Refusal::client_gone)?;
            }
            Err(unheard) => {
                drop(send(tcp, unheard.farewell()).await);
                return Err(Refusal::tls(&unheard));
            }
        }
    }
}

/// Takes what has arrived. Nothing is buffered while there is nothing to read.
async fn hear_more(
    hearing: &mut Hearing,
    tcp: &mut TcpStream,
) -> io::Result<Result<Option<Hello>, Unheard>> {
    loop {
        tcp.readable().await?;
        let mut chunk = [0u8; 4096];
        let room = hearing.room().min(chunk.len());
        match tcp.try_read(chunk.get_mut(..room).unwrap_or_default()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => return Ok(hearing.take(chunk.get(..count).unwrap_or_default())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn startup(shaken: Handshake, reference: &Reference) -> Result<Greeting, Refusal> {
    let Handshake {
        mut stream,
        server_name,
        shown,
    } = shaken;
    for _ in 0..=NEGOTIATION_REQUESTS {
        let (first, _) = read_unit(&mut stream, FirstBytes::read).await?;
        match first {
            // Inside TLS both are answered No, as PostgreSQL does.
            FirstBytes::SslRequest | FirstBytes::GssEncRequest => {
                send(&mut stream, b"N")
                    .await
                    .map_err(Refusal::client_gone)?;
            }
            FirstBytes::CancelRequest { len } => {
                let body = read_exactly(&mut stream, len)
                    .await
                    .map_err(Refusal::client_gone)?;
                let request = CancelRequest::decode(&body)?;
                let asker = Asker::Tls(Box::new(stream));
                return Ok(Greeting::Cancel(request, server_name, asker));
            }
            FirstBytes::Startup { len, version } => {
                let body = read_exactly(&mut stream, len)
                    .await
                    .map_err(Refusal::client_gone)?;
                return match understand(&body, version) {
                    Ok((startup, version, owed)) => Ok(Greeting::Client(Box::new(Client {
                        stream,
                        server_name,
                        startup,
                        version,
                        owed,
                        identity: shown.identity,
                        vouching: shown.vouching,
                    }))),
                    Err(complaint) => {
                        // The client has TLS and sent a start-up packet: its driver will show this.
                        let mut told = complaint.response();
                        told.message.push_str(&format!(" (reference {reference})"));
                        drop(send(&mut stream, &told.encode()).await);
                        drop(stream.shutdown().await);
                        Err(complaint.into())
                    }
                };
            }
            FirstBytes::DirectTls => {
                return Err(Refusal::violation("tls_in_tls", "a ClientHello inside TLS"));
            }
        }
    }
    Err(Refusal::violation(
        "negotiation_loop",
        "more negotiation requests than there are kinds of them",
    ))
}

fn understand(
    body: &[u8],
    version: ProtocolVersion,
) -> Result<(StartupMessage, ProtocolVersion, Vec<u8>), Complaint> {
    let startup = StartupMessage::decode(body, version)?;
    let negotiation = negotiate(startup.version, &startup.protocol_options)?;
    Ok((
        startup,
        negotiation.version,
        negotiation.reply.unwrap_or_default(),
    ))
}

/// Whatever a client sent in clear behind its request would be taken for the inside of TLS
/// (CVE-2021-23214): refused before we answer.
async fn nothing_buffered(tcp: &mut TcpStream) -> Result<(), Refusal> {
    let mut byte = [0u8; 1];
    let mut buffer = tokio::io::ReadBuf::new(&mut byte);
    let buffered = std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match tcp.poll_peek(cx, &mut buffer) {
            std::task::Poll::Ready(Ok(count)) => count,
            std::task::Poll::Ready(Err(_)) | std::task::Poll::Pending => 0,
        })
    })
    .await;
    Ok(nothing_before_tls(
        byte.get(..buffered).unwrap_or_default(),
    )?)
}

/// Waits until the client has sent at least one byte, and leaves it where it is.
async fn something(tcp: &TcpStream) -> Result<(), ReadError> {
    match tcp.peek(&mut [0u8; 1]).await? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        _ => Ok(()),
    }
}

/// A start-up packet in clear. No password is ever asked for here.
async fn plaintext(tcp: &mut TcpStream, reference: &Reference) -> Refusal {
    let told = ErrorResponse::fatal(
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        format!("this server accepts encrypted connections only (reference {reference})"),
    )
    .with_hint("Set sslmode=verify-full (or at least require) in the client.");
    drop(send(tcp, &told.encode()).await);
    drop(tcp.shutdown().await);
    Refusal::violation("plaintext", "the client did not ask for TLS")
}

async fn within<T>(
    deadline: &Bound<Duration>,
    limit: Limit,
    work: impl Future<Output = Result<T, ReadError>>,
) -> Result<T, Refusal> {
    match timeout(deadline.value, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Refusal::late(
            limit,
            format!("nothing complete arrived within {:?}", deadline.value),
        )),
    }
}
