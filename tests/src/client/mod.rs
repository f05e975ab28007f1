//! A client that sends exactly the bytes it is told to, with a TLS of its own.
//!
//! Drivers show that good clients get in; this one shows what happens to every other kind. It
//! blocks, and every read has a limit.

mod messages;
mod scram;
mod tls;

pub(crate) use tls::roots;

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

pub use messages::{Ending, Message, startup, tagged};
pub use scram::{Binding, verifier};

use crate::identities::Credential;
use crate::namespace::Namespace;

/// How long a read or a connect may take before the test has its answer: none.
const LIMIT: Duration = Duration::from_secs(10);

/// `SSLRequest`: a length of 8 and the number 80877103.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];
/// `GSSENCRequest`: a length of 8 and the number 80877104.
pub const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x30];
/// Protocol 3.0, as it stands in a startup packet.
pub const V3_0: u32 = 0x0003_0000;
/// Protocol 3.2.
pub const V3_2: u32 = 0x0003_0002;

/// Whom to call, from where, and how to begin.
#[derive(Debug, Clone)]
pub struct Dial {
    to: SocketAddr,
    from: Option<SocketAddr>,
    namespace: Option<String>,
    beginning: Beginning,
    pause: Duration,
    first: Vec<u8>,
    tls: tls::Settings,
    limit: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    Plain,
    SslRequest,
    DirectTls,
}

impl Dial {
    /// An SSLRequest and then TLS, trusting `authorities_pem` and asking for `server_name` by SNI.
    #[must_use]
    pub fn tls(to: SocketAddr, server_name: &str, authorities_pem: &str) -> Self {
        let tls = tls::Settings::new(server_name, authorities_pem);
        Self {
            to,
            from: None,
            namespace: None,
            beginning: Beginning::SslRequest,
            pause: Duration::ZERO,
            first: Vec::new(),
            tls,
            limit: LIMIT,
        }
    }

    /// No TLS at all: a bare connection.
    #[must_use]
    pub fn plain(to: SocketAddr) -> Self {
        Self {
            beginning: Beginning::Plain,
            ..Self::tls(to, "", "")
        }
    }

    /// TLS from the first byte, with ALPN `postgresql` unless [`Dial::alpn`] says otherwise.
    #[must_use]
    pub fn direct(mut self) -> Self {
        self.beginning = Beginning::DirectTls;
        self.alpn(&["postgresql"])
    }

    /// The protocols to offer by ALPN, instead of none.
    #[must_use]
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.tls.alpn = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self
    }

    /// Sends no SNI. The certificate is still checked against the name.
    #[must_use]
    pub fn without_server_name(mut self) -> Self {
        self.tls.send_server_name = false;
        self
    }

    /// Offers TLS 1.2 only.
    #[must_use]
    pub fn tls12_only(mut self) -> Self {
        self.tls.tls12_only = true;
        self
    }

    /// The certificate to show when asked.
    #[must_use]
    pub fn credential(mut self, credential: &Credential) -> Self {
        self.tls.credential = Some(credential.clone());
        self
    }

    /// The address to call from: any of 127.0.0.0/8 on this machine.
    #[must_use]
    pub fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(SocketAddr::new(address, 0));
        self
    }

    /// The address and the very port to call from.
    #[must_use]
    pub fn from_port(mut self, address: SocketAddr) -> Self {
        self.from = Some(address);
        self
    }

    /// The network namespace to call from (needs root).
    #[must_use]
    pub fn inside(mut self, namespace: &Namespace) -> Self {
        self.namespace = Some(namespace.name().to_owned());
        self
    }

    /// Bytes to send before anything else: a PROXY header, say.
    #[must_use]
    pub fn first(mut self, bytes: &[u8]) -> Self {
        self.first = bytes.to_vec();
        self
    }

    /// How long to wait between the connection and the first byte.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// How long each read may take, instead of 10 s.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Connects, up to and including the TLS handshake.
    ///
    /// # Errors
    /// What the socket or the handshake says; `ConnectionRefused` with a text of our own where the
    /// SSLRequest is answered by anything but `S`.
    pub fn connect(&self) -> io::Result<RawClient> {
        let socket = self.knock()?;
        let stream = match self.beginning {
            Beginning::Plain => Stream::Plain(socket),
            Beginning::SslRequest | Beginning::DirectTls => {
                Stream::Tls(Box::new(self.tls.handshake(socket)?))
            }
        };
        Ok(RawClient { stream })
    }

    /// Connects and hears the server's whole flight of the TLS handshake, but answers nothing to
    /// it; the socket, and whether a certificate was asked for.
    ///
    /// # Errors
    /// As [`Dial::connect`].
    pub fn half_a_handshake(&self) -> io::Result<(TcpStream, bool)> {
        let (stream, asked) = self.tls.half_a_handshake(self.knock()?)?;
        Ok((stream.sock, asked))
    }

    /// Connects and sends a startup packet of protocol 3.0 with these parameters.
    ///
    /// # Errors
    /// As [`Dial::connect`].
    pub fn start(&self, parameters: &[(&str, &str)]) -> io::Result<RawClient> {
        let mut client = self.connect()?;
        client.send(&startup(V3_0, parameters))?;
        Ok(client)
    }

    /// Connects, signs in by SCRAM and reads up to the first `ReadyForQuery`.
    ///
    /// # Panics
    /// When it is not let in, with everything the server said.
    #[must_use]
    pub fn sign_in(&self, user: &str, password: &str, database: &str) -> RawClient {
        let mut client = self
            .start(&[("user", user), ("database", database)])
            .expect("a connection");
        client
            .authenticate(user, password, Binding::None)
            .unwrap_or_else(|told| panic!("not let in: {told:?}"));
        client
    }

    /// Connects, up to where TLS begins.
    fn knock(&self) -> io::Result<TcpStream> {
        let mut socket = self.socket()?;
        std::thread::sleep(self.pause);
        socket.write_all(&self.first)?;
        if self.beginning == Beginning::SslRequest {
            socket.write_all(&SSL_REQUEST)?;
            let mut answer = [0];
            socket.read_exact(&mut answer)?;
            if answer != *b"S" {
                let told = format!("SSLRequest answered by {:?}", char::from(answer[0]));
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, told));
            }
        }
        Ok(socket)
    }

    fn socket(&self) -> io::Result<TcpStream> {
        let dial = self.clone();
        let stream = match &self.namespace {
            Some(name) => crate::namespace::within(name, move || dial.socket_here()),
            None => dial.socket_here(),
        }?;
        stream.set_read_timeout(Some(self.limit))?;
        stream.set_write_timeout(Some(self.limit))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn socket_here(&self) -> io::Result<TcpStream> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(self.to),
            socket2::Type::STREAM,
            None,
        )?;
        if let Some(from) = self.from {
            socket.set_reuse_address(true)?;
            socket.bind(&from.into())?;
        }
        socket.connect_timeout(&self.to.into(), self.limit)?;
        Ok(socket.into())
    }
}

/// An open connection.
#[derive(Debug)]
pub struct RawClient {
    stream: Stream,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<tls::TlsStream>),
}

impl RawClient {
    /// Sends these bytes, whatever they are.
    ///
    /// # Errors
    /// The socket's.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends a simple query and does not wait for anything.
    ///
    /// # Errors
    /// The socket's.
    pub fn send_query(&mut self, sql: &str) -> io::Result<()> {
        self.send(&messages::tagged(b'Q', format!("{sql}\0").as_bytes()))
    }

    /// Reads exactly so many bytes.
    ///
    /// # Errors
    /// The socket's; `WouldBlock` when nothing came in time.
    pub fn read_exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads one message of the server's.
    ///
    /// # Errors
    /// How the connection ended, or that nothing came in time.
    pub fn read_message(&mut self) -> Result<Message, Ending> {
        Message::read(&mut self.stream)
    }

    /// Reads messages up to and including the first of this type.
    ///
    /// # Errors
    /// How the connection ended instead.
    pub fn read_until(&mut self, kind: u8) -> Result<Vec<Message>, Ending> {
        let mut all = Vec::new();
        loop {
            let message = self.read_message()?;
            let last = message.kind == kind;
            all.push(message);
            if last {
                return Ok(all);
            }
        }
    }

    /// Reads everything until the connection ends, and how it ended.
    pub fn read_to_end(&mut self) -> (Vec<Message>, Ending) {
        let mut all = Vec::new();
        loop {
            match self.read_message() {
                Ok(message) => all.push(message),
                Err(ending) => return (all, ending),
            }
        }
    }

    /// The one thing that a refused client should hear: an error, and then the end.
    ///
    /// # Panics
    /// When it hears anything else.
    pub fn refusal(&mut self) -> Message {
        let (messages, ending) = self.read_to_end();
        match messages.as_slice() {
            [only] if only.kind == b'E' => only.clone(),
            other => panic!("expected one ErrorResponse and the end, got {other:?} and {ending:?}"),
        }
    }

    /// Answers the server's SCRAM offer and reads up to the first `ReadyForQuery`, which it returns
    /// everything up to.
    ///
    /// # Errors
    /// The refusal, or how the connection ended.
    pub fn authenticate(
        &mut self,
        user: &str,
        password: &str,
        binding: Binding,
    ) -> Result<Vec<Message>, Ending> {
        scram::authenticate(self, user, password, binding)?;
        let mut all = Vec::new();
        loop {
            match self.read_message()? {
                error if error.kind == b'E' => return Err(Ending::Refused(error)),
                message => all.push(message),
            }
            if all.last().is_some_and(|message| message.kind == b'Z') {
                return Ok(all);
            }
        }
    }

    /// Runs a query and returns its rows, fields as text.
    ///
    /// # Errors
    /// The server's error, or how the connection ended.
    pub fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Ending> {
        self.send_query(sql)?;
        let messages = self.read_until(b'Z')?;
        if let Some(error) = messages.iter().find(|message| message.kind == b'E') {
            return Err(Ending::Refused(error.clone()));
        }
        Ok(messages
            .iter()
            .filter(|message| message.kind == b'D')
            .map(Message::row)
            .collect())
    }

    /// The certificate that the server showed (DER), if there is TLS.
    #[must_use]
    pub fn server_certificate(&self) -> Option<Vec<u8>> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream
                .conn
                .peer_certificates()?
                .first()
                .map(|leaf| leaf.to_vec()),
        }
    }

    /// What ALPN settled on.
    #[must_use]
    pub fn alpn(&self) -> Option<String> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream
                .conn
                .alpn_protocol()
                .map(|name| String::from_utf8_lossy(name).into_owned()),
        }
    }

    /// Our end's address.
    ///
    /// # Panics
    /// When the socket is gone.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.socket().local_addr().expect("an open socket")
    }

    /// The socket under it all.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
