//! A client that does not become the bottleneck itself: what is the same for every connection (TLS
//! configuration, salted password) is made once, and the rest is as little as the protocol allows.
//!
//! It offers the key exchanges that drivers offer today, so that no way is charged for more.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use portcullis_tests::client::{SSL_REQUEST, V3_0, startup, tagged};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use socket2::SockRef;

use crate::scram::{Exchange, Keys};
use crate::stage::Target;
use crate::steps::{Step, Steps, Taken};
use crate::ways::Way;

/// Nothing here should take longer.
const LIMIT: Duration = Duration::from_secs(60);

/// Whom to call, and how.
#[derive(Clone)]
pub(crate) struct Caller {
    to: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    beginning: Beginning,
    /// Shared by all connections: the salt is the server's, so one computation serves all.
    keys: Arc<OnceLock<Keys>>,
    from: Option<IpAddr>,
    first: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Beginning {
    SslRequest,
    DirectTls,
}

/// Whether a connection may take up an earlier one's TLS session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sessions {
    Fresh,
    Resumed,
}

impl Caller {
    /// Goes this way.
    pub(crate) fn new(way: Way, target: Target, sessions: Sessions) -> Self {
        let beginning = match way {
            Way::HaproxyDirect => Beginning::DirectTls,
            _ => Beginning::SslRequest,
        };
        let mut config = config(&target.authorities, sessions);
        if beginning == Beginning::DirectTls {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Self {
            to: target.address,
            name: ServerName::try_from(target.name).expect("a host name"),
            config: Arc::new(config),
            beginning,
            keys: Arc::default(),
            from: None,
            first: Vec::new(),
        }
    }

    /// Calls another address, which shows the same certificate.
    pub(crate) fn to(mut self, address: SocketAddr) -> Self {
        self.to = address;
        self
    }

    /// Calls from this address.
    pub(crate) fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    /// Says this before anything else: a PROXY header.
    pub(crate) fn first(mut self, bytes: &[u8]) -> Self {
        self.first = bytes.to_vec();
        self
    }

    /// Connects, TLS handshake included.
    pub(crate) fn connect(&self) -> io::Result<Client> {
        let mut steps = Steps::begin();
        let mut socket = self.socket()?;
        steps.end(Step::Connected);
        if self.beginning == Beginning::SslRequest {
            socket.write_all(&[&self.first, &SSL_REQUEST[..]].concat())?;
            let mut answer = [0];
            socket.read_exact(&mut answer)?;
            if answer != *b"S" {
                return Err(io::Error::other("no TLS"));
            }
            steps.end(Step::Accepted);
        }
        let tls = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        steps.end(Step::Protected);
        Ok(Client {
            stream,
            steps,
            body: Vec::new(),
        })
    }

    /// Connects and signs in.
    pub(crate) fn sign_in(&self, user: &str, password: &str, database: &str) -> io::Result<Client> {
        let mut client = self.connect()?;
        client.start(user, database)?;
        let exchange = client.challenged(user)?;
        let proof = exchange.proof(&self.keys, password);
        client.send(&tagged(b'p', &proof))?;
        client.expect_authentication(Step::Believed)?;
        client.ready()?;
        client.steps.end(Step::Ready);
        Ok(client)
    }

    fn socket(&self) -> io::Result<TcpStream> {
        let domain = socket2::Domain::for_address(self.to);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        if let Some(from) = self.from {
            // A port that waits for stragglers will do: the far end's port makes the difference.
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.connect(&self.to.into())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_write_timeout(Some(LIMIT))?;
        Ok(socket.into())
    }
}

fn config(authorities_pem: &str, sessions: Sessions) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities_pem.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("an authority");
    }
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519, kx_group::SECP256R1];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has suites for both")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = match sessions {
        Sessions::Fresh => Resumption::disabled(),
        Sessions::Resumed => Resumption::in_memory_sessions(SESSIONS_KEPT),
    };
    config
}

/// More than there are clients at once, each of which uses a ticket up.
const SESSIONS_KEPT: usize = 64;

/// An open connection.
pub(crate) struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    steps: Steps,
    body: Vec<u8>,
}

impl Client {
    /// Whether the TLS session was an earlier one's.
    pub(crate) fn resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// What signing in took.
    pub(crate) fn steps(&self) -> Taken {
        self.steps.taken()
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends the start-up packet.
    pub(crate) fn start(&mut self, user: &str, database: &str) -> io::Result<()> {
        self.send(&startup(V3_0, &[("user", user), ("database", database)]))
    }

    /// Reads one message; its body is [`Client::body`].
    pub(crate) fn read(&mut self) -> io::Result<u8> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        self.body.resize(length as usize - 4, 0);
        self.stream.read_exact(&mut self.body)?;
        Ok(head[0])
    }

    /// The body of the message that was read last.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Reads messages up to this type and says how many bytes they had.
    pub(crate) fn read_until(&mut self, kind: u8) -> io::Result<usize> {
        let mut bytes = 0;
        loop {
            let read = self.read()?;
            bytes += self.body.len() + HEAD;
            if read == b'E' && kind != b'E' {
                return Err(self.refused());
            }
            if read == kind {
                return Ok(bytes);
            }
        }
    }

    /// Reads up to `ReadyForQuery`.
    pub(crate) fn ready(&mut self) -> io::Result<()> {
        self.read_until(b'Z').map(|_| ())
    }

    /// Runs a query and reads its answer, whose size it returns.
    pub(crate) fn query(&mut self, sql: &str) -> io::Result<usize> {
        self.send(&tagged(b'Q', format!("{sql}\0").as_bytes()))?;
        self.read_until(b'Z')
    }

    /// Reads what a COPY gives out, and says how many bytes of data that was.
    pub(crate) fn copy_out(&mut self, sql: &str) -> io::Result<usize> {
        self.send(&tagged(b'Q', format!("{sql}\0").as_bytes()))?;
        let mut reader = BufReader::with_capacity(COPY_BUFFER, &mut self.stream);
        let mut bytes = 0;
        loop {
            let mut head = [0; HEAD];
            reader.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
            match head[0] {
                b'E' => return Err(io::Error::other("the server refused a COPY")),
                b'd' => bytes += length,
                _ => {}
            }
            let mut left = length;
            while left > 0 {
                let there = reader.fill_buf()?.len().min(left);
                if there == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                reader.consume(there);
                left -= there;
            }
            if head[0] == b'Z' {
                return Ok(bytes);
            }
        }
    }

    /// Sends these messages so many times as the data of a COPY.
    pub(crate) fn copy_in(&mut self, sql: &str, messages: &[u8], times: usize) -> io::Result<()> {
        self.send(&tagged(b'Q', format!("{sql}\0").as_bytes()))?;
        self.read_until(b'G')?;
        for _ in 0..times {
            self.stream.write_all(messages)?;
        }
        self.send(&tagged(b'c', &[]))?;
        self.ready()
    }

    /// Reads until there is no more to come, and says when that was.
    pub(crate) fn heard_to_the_end(mut self) -> Instant {
        while self.read().is_ok() {}
        Instant::now()
    }

    /// Leaves in order: `Terminate` and TLS's own farewell.
    pub(crate) fn leave(mut self) {
        self.stream.conn.send_close_notify();
        let _ = self.send(&tagged(b'X', &[]));
    }

    /// Says farewell before it ever signed in, and reads what there is until the other side is gone: tickets, where it gives any.
    pub(crate) fn turn_back(mut self) {
        self.stream.conn.send_close_notify();
        let _ = self.stream.flush();
        let _ = self.stream.sock.shutdown(Shutdown::Write);
        let _ = self.heard_to_the_end();
    }

    /// The certificate that was shown.
    pub(crate) fn shown(&self) -> Vec<u8> {
        let chain = self.stream.conn.peer_certificates().unwrap_or_default();
        chain.first().map(|it| it.to_vec()).unwrap_or_default()
    }

    /// Is gone at once, without a farewell and without a port that waits for stragglers.
    pub(crate) fn vanish(self) {
        let _ = SockRef::from(&self.stream.sock).set_linger(Some(Duration::ZERO));
    }

    /// Sends the first message of an exchange and reads up to the server's challenge.
    pub(crate) fn challenged(&mut self, user: &str) -> io::Result<Exchange> {
        self.expect_authentication(Step::Asked)?;
        let begun = Exchange::begin(user);
        self.send(&tagged(b'p', begun.first()))?;
        self.expect_authentication(Step::Challenged)?;
        Ok(begun.challenged(self.body.get(4..).unwrap_or_default()))
    }

    fn expect_authentication(&mut self, step: Step) -> io::Result<()> {
        match self.read()? {
            b'R' => {
                self.steps.end(step);
                Ok(())
            }
            _ => Err(self.refused()),
        }
    }

    fn refused(&self) -> io::Error {
        io::Error::other(String::from_utf8_lossy(&self.body).replace('\0', " "))
    }
}

const COPY_BUFFER: usize = 256 * 1024;
/// A message's type and length.
const HEAD: usize = 5;
