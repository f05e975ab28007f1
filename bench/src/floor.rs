//! The bare relay: what moving bytes between two TLS sessions costs by itself.
//!
//! It answers an SSLRequest, opens TLS to the server, and from then on knows nothing: no protocol,
//! no policy, no sign-in. TLS is configured by the product's own builders and there is one thread
//! with a runtime for each processor, as in the product, so that the difference between the two is
//! what the product adds.

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
    connector: TlsConnector,
    server: SocketAddr,
    server_name: ServerName<'static>,
}

impl Route {
    fn new(relay: &Relay) -> Self {
        let read = |path| fs::read_to_string(path).expect("a file that we were given");
        let identity = Identity::from_pem(&read(&relay.chain), &read(&relay.key)).expect("PEM");
        let accepting = server_config(&identity, ClientCertificates::NotAsked, Resumption::Off);
        let connecting = client_config(&read(&relay.authorities), None);
        Self {
            acceptor: TlsAcceptor::from(accepting.expect("TLS")),
            connector: TlsConnector::from(connecting.expect("authorities")),
            server: relay.server,
            server_name: ServerName::try_from(relay.server_name.clone()).expect("a host name"),
        }
    }
}

/// Connections waiting to be accepted.
const BACKLOG: i32 = 1_024;

fn listener(address: SocketAddr) -> io::Result<std::net::TcpListener> {
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
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];

async fn connection(route: Route, mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut first = [0; 8];
    client.read_exact(&mut first).await?;
    if first != SSL_REQUEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    client.write_all(b"S").await?;
    let (tcp, tls) = route.acceptor.accept(client).await?.into_inner();
    let client = Leg::new(tcp, tls.into());

    let mut server = TcpStream::connect(route.server).await?;
    server.set_nodelay(true)?;
    server.write_all(&SSL_REQUEST).await?;
    let mut answer = [0];
    server.read_exact(&mut answer).await?;
    if answer != *b"S" {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let connecting = route.connector.connect(route.server_name, server).await?;
    let (tcp, tls) = connecting.into_inner();
    let server = Leg::new(tcp, tls.into());
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
    tls: Box<rustls::Connection>,
}

impl Leg {
    fn new(tcp: TcpStream, mut tls: rustls::Connection) -> Self {
        // One read of the other side always finds room, and the next waits until it has left.
        tls.set_buffer_limit(None);
        Self {
            tcp,
            tls: Box::new(tls),
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
        // What came with the handshake first, then what was read below.
        let ended = pass(from, to, scratch)?;
        while to.tls.wants_write() {
            match to.tls.write_tls(&mut Ready(&mut to.tcp, cx)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Poll::Pending);
                }
                Err(error) => return Err(error),
            }
        }
        if ended {
            return Ok(Poll::Ready(()));
        }
        match from.tls.read_tls(&mut Ready(&mut from.tcp, cx)) {
            Ok(0) => return Ok(Poll::Ready(())),
            Ok(_) => {
                from.tls.process_new_packets().map_err(io::Error::other)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Poll::Pending),
            Err(error) => return Err(error),
        }
    }
}

/// Passes on what is decrypted already; `true` at the end.
fn pass(from: &mut Leg, to: &mut Leg, scratch: &mut [u8]) -> io::Result<bool> {
    loop {
        match from.tls.reader().read(scratch) {
            Ok(0) => {
                to.tls.send_close_notify();
                return Ok(true);
            }
            Ok(count) => to.tls.writer().write_all(&scratch[..count])?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
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
