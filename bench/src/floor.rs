//! The bare relay: what moving bytes between two TLS sessions costs by itself.
//!
//! It answers an SSLRequest, opens TLS to the server or not, as it is told, and from then on knows
//! nothing: no protocol, no policy, no sign-in. TLS is configured by the
//! product's own builders, memory comes from the product's allocator, and there is one thread with a
//! runtime for each processor, as in the product, so that the difference between the two is what the
//! product adds.

use std::cell::RefCell;
use std::fs;
use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use portcullis_certs::{ClientCertificates, Identity, Resumption, client_config, server_config};
use rustls::pki_types::ServerName;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::machine::cores;
use crate::options::Relay;

/// Serves until it is killed.
///
/// # Panics
/// When it cannot begin.
pub(crate) fn serve(relay: &Relay) {
    let route = Route::new(relay);
    let workers: Vec<_> = (0..cores())
        .map(|_| {
            let (route, listener) = (route.clone(), listener(relay.listen).expect("a free port"));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(work(route, listener));
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("a worker goes on for ever");
    }
}

/// Where connections lead, and how both sides of them are protected.
#[derive(Clone)]
struct Route {
    acceptor: TlsAcceptor,
    server: SocketAddr,
    /// Without it, the server is spoken to plainly.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Route {
    fn new(relay: &Relay) -> Self {
        let read = |path| fs::read_to_string(path).expect("a file that we were given");
        let identity = Identity::from_pem(&read(&relay.chain), &read(&relay.key)).expect("PEM");
        let accepting = server_config(&identity, ClientCertificates::NotAsked, Resumption::Off);
        let tls = relay.tls.as_ref().map(|tls| {
            let connecting = client_config(&read(&tls.authorities), None).expect("authorities");
            let name = ServerName::try_from(tls.server_name.clone()).expect("a host name");
            (TlsConnector::from(connecting), name)
        });
        Self {
            acceptor: TlsAcceptor::from(accepting.expect("TLS")),
            server: relay.server,
            tls,
        }
    }
}

/// Connections waiting to be accepted.
const BACKLOG: i32 = 1_024;

/// A listener of one thread among others of the same address.
pub(crate) fn listener(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

async fn work(route: Route, listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).expect("a runtime with sockets");
    loop {
        if let Ok((client, _)) = listener.accept().await {
            // An end is an end, whoever brought it about.
            let route = route.clone();
            tokio::spawn(async move { drop(connection(route, client).await) });
        }
    }
}

/// `SSLRequest`: a length of 8 and the number 80877103.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];

async fn connection(route: Route, mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut first = [0; 8];
    client.read_exact(&mut first).await?;
    if first != SSL_REQUEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    client.write_all(b"S").await?;
    let (tcp, tls) = route.acceptor.accept(client).await?.into_inner();
    let client = Leg::new(tcp, Some(tls.into()));

    let mut server = TcpStream::connect(route.server).await?;
    server.set_nodelay(true)?;
    let server = match route.tls {
        None => Leg::new(server, None),
        Some((connector, name)) => {
            server.write_all(&SSL_REQUEST).await?;
            let mut answer = [0];
            server.read_exact(&mut answer).await?;
            if answer != *b"S" {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let (tcp, tls) = connector.connect(name, server).await?.into_inner();
            Leg::new(tcp, Some(tls.into()))
        }
    };
    // In a task of its own, so that what the handshakes needed does not stay.
    tokio::spawn(relay(client, server));
    Ok(())
}

async fn relay(mut client: Leg, mut server: Leg) {
    let relayed = poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.resize(SCRATCH_BYTES, 0);
            let up = pump(cx, &mut client, &mut server, scratch)?;
            let down = pump(cx, &mut server, &mut client, scratch)?;
            match (up, down) {
                (Poll::Pending, Poll::Pending) => Poll::Pending,
                (Poll::Ready(()), _) | (_, Poll::Ready(())) => Poll::Ready(io::Result::Ok(())),
            }
        })
    });
    drop(relayed.await);
}

const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One side of a connection.
struct Leg {
    tcp: TcpStream,
    protection: Protection,
}

enum Protection {
    Tls(Box<rustls::Connection>),
    /// Bytes that the socket had no room for.
    None {
        unsent: Vec<u8>,
    },
}

/// What a side had to say.
enum Heard {
    Bytes(usize),
    Nothing,
    TheEnd,
}

impl Leg {
    fn new(tcp: TcpStream, tls: Option<rustls::Connection>) -> Self {
        let protection = match tls {
            None => Protection::None { unsent: Vec::new() },
            Some(mut tls) => {
                // One read of the other side always finds room, and the next waits until it has left.
                tls.set_buffer_limit(None);
                Protection::Tls(Box::new(tls))
            }
        };
        Self { tcp, protection }
    }

    fn read(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> io::Result<Heard> {
        let mut socket = Ready(&mut self.tcp, cx);
        loop {
            let read = match &mut self.protection {
                Protection::None { .. } => socket.read(scratch),
                // What came with the handshake first, then what is read below.
                Protection::Tls(tls) => tls.reader().read(scratch),
            };
            match (read, &mut self.protection) {
                (Ok(0), _) => return Ok(Heard::TheEnd),
                (Ok(count), _) => return Ok(Heard::Bytes(count)),
                (Err(error), _) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                (Err(_), Protection::None { .. }) => return Ok(Heard::Nothing),
                (Err(_), Protection::Tls(tls)) => match tls.read_tls(&mut socket) {
                    Ok(0) => return Ok(Heard::TheEnd),
                    Ok(_) => {
                        tls.process_new_packets().map_err(io::Error::other)?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        return Ok(Heard::Nothing);
                    }
                    Err(error) => return Err(error),
                },
            }
        }
    }

    /// Takes bytes to send. Only when everything before them has left.
    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        match &mut self.protection {
            Protection::Tls(tls) => tls.writer().write_all(bytes),
            Protection::None { unsent } => {
                let sent = match Ready(&mut self.tcp, cx).write(bytes) {
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(error) => return Err(error),
                };
                unsent.extend_from_slice(&bytes[sent..]);
                Ok(())
            }
        }
    }

    /// Ready when everything has left.
    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        let mut socket = Ready(&mut self.tcp, cx);
        loop {
            let written = match &mut self.protection {
                Protection::Tls(tls) if tls.wants_write() => tls.write_tls(&mut socket),
                Protection::None { unsent } if !unsent.is_empty() => {
                    socket.write(unsent).inspect(|count| {
                        unsent.drain(..*count);
                    })
                }
                Protection::Tls(_) => return Ok(Poll::Ready(())),
                Protection::None { unsent } => {
                    // An idle connection keeps nothing.
                    *unsent = Vec::new();
                    return Ok(Poll::Ready(()));
                }
            };
            match written {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Poll::Pending);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn close(&mut self) {
        if let Protection::Tls(tls) = &mut self.protection {
            tls.send_close_notify();
        }
    }
}

/// Moves what is there, one way. Ready at the end of it.
fn pump(
    cx: &mut Context<'_>,
    from: &mut Leg,
    to: &mut Leg,
    scratch: &mut [u8],
) -> io::Result<Poll<()>> {
    loop {
        if to.flush(cx)?.is_pending() {
            return Ok(Poll::Pending);
        }
        match from.read(cx, scratch)? {
            Heard::Nothing => return Ok(Poll::Pending),
            Heard::Bytes(count) => to.write(cx, &scratch[..count])?,
            Heard::TheEnd => {
                to.close();
                let _ = to.flush(cx)?;
                return Ok(Poll::Ready(()));
            }
        }
    }
}

/// A socket as rustls wants to see it: one that answers `WouldBlock`, and then wakes the task.
struct Ready<'a, 'b, 'c>(&'a mut TcpStream, &'b mut Context<'c>);

impl Read for Ready<'_, '_, '_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut *self.0).poll_read(self.1, &mut buffer) {
            Poll::Ready(Ok(())) => Ok(buffer.filled().len()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Ready<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        match Pin::new(&mut *self.0).poll_write_vectored(self.1, bytes) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
