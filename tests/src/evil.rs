//! A database that lies: it does what its script says, byte by byte, with a TLS of its own, and
//! remembers everything that it got out of those who called.
//!
//! Deliberately absent: SQL. The one question that it answers in order is the gateway's for a
//! role's verifier, so that a client can get as far as being signed in.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::client::{Message, SSL_REQUEST, tagged};
use crate::identities::Credential;
use crate::policy::{cluster_lines, service_line};
use crate::postgres::{SERVER_NAME, SERVICE_ROLE};

/// How long a script waits for bytes, or for room for its own.
const PATIENCE: Duration = Duration::from_secs(20);

/// What one connection is answered; whatever it returns, the connection then ends.
pub type Script = dyn Fn(&mut Caller) -> io::Result<()> + Send + Sync;

/// A server on a port of 127.0.0.1. Dropping it stops it accepting.
#[derive(Debug)]
pub struct EvilDatabase {
    address: SocketAddr,
    seen: Arc<Seen>,
    stopped: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    connections: AtomicUsize,
    /// What came, of all connections, decrypted where there was TLS.
    heard: Mutex<Vec<u8>>,
    /// Bodies of the messages that carry credentials.
    credentials: Mutex<Vec<Vec<u8>>>,
}

impl EvilDatabase {
    /// Follows this script from the first byte of each connection.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start(script: impl Fn(&mut Caller) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (seen, stopped) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let (script, seen_there) = (Arc::new(script), Arc::clone(&seen));
        let stop = Arc::clone(&stopped);
        let accepting = std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                seen_there.connections.fetch_add(1, Ordering::Relaxed);
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen_there));
                std::thread::spawn(move || {
                    let _ = script(&mut Caller::new(socket, seen));
                });
            }
        });
        Self {
            address,
            seen,
            stopped,
            accepting: Some(accepting),
        }
    }

    /// Shows this certificate and reads the start-up packet in order; the gateway's own role is
    /// told that every role has this SCRAM verifier; the script begins where any other role is to
    /// be authenticated.
    #[must_use]
    pub fn with_clients(
        credential: &Credential,
        verifier: &str,
        script: impl Fn(&mut Caller) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let (credential, verifier) = (credential.clone(), verifier.to_owned());
        Self::start(move |caller| {
            caller.secure(&credential)?;
            let asked = caller.startup()?;
            if asked.contains(&("user".to_owned(), SERVICE_ROLE.to_owned())) {
                return caller.tell_verifiers(&verifier);
            }
            script(caller)
        })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a cluster's policy says of it: lines for [`TenantText::cluster_text`]. The gateway will
    /// want [`SERVER_NAME`] by one of these authorities.
    ///
    /// [`TenantText::cluster_text`]: crate::TenantText::cluster_text
    #[must_use]
    pub fn cluster(&self, authorities_pem: &str) -> String {
        cluster_lines(
            &self.address.to_string(),
            SERVER_NAME,
            authorities_pem,
            &service_line(),
        )
    }

    /// How many have connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// Everything that it was sent so far.
    #[must_use]
    pub fn heard(&self) -> Vec<u8> {
        self.seen.heard.lock().expect("a plain list").clone()
    }

    /// The bodies of the password and SASL messages that it was sent so far.
    #[must_use]
    pub fn credentials(&self) -> Vec<Vec<u8>> {
        self.seen.credentials.lock().expect("a plain list").clone()
    }
}

impl Drop for EvilDatabase {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes it up.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

/// Somebody who has connected, as a script sees them.
#[derive(Debug)]
pub struct Caller {
    stream: Option<Stream>,
    seen: Arc<Seen>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Caller {
    fn new(socket: TcpStream, seen: Arc<Seen>) -> Self {
        for set in [
            socket.set_read_timeout(Some(PATIENCE)),
            socket.set_write_timeout(Some(PATIENCE)),
            socket.set_nodelay(true),
        ] {
            set.expect("an open socket");
        }
        Self {
            stream: Some(Stream::Plain(socket)),
            seen,
        }
    }

    /// Sends these bytes, whatever they are.
    ///
    /// # Errors
    /// The socket's.
    pub fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream()?;
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Sends the same bytes until the other side has had enough.
    ///
    /// # Errors
    /// The socket's: how it ends.
    pub fn flood(&mut self, bytes: &[u8]) -> io::Result<()> {
        loop {
            self.say(bytes)?;
        }
    }

    /// Says nothing, and listens until the other side leaves.
    ///
    /// # Errors
    /// The socket's.
    pub fn stall(&mut self) -> io::Result<()> {
        while !self.hear_some(1024)?.is_empty() {}
        Ok(())
    }

    /// Neither speaks nor listens for this long.
    ///
    /// # Errors
    /// Never; so that a script can end with it.
    pub fn sleep(&mut self, time: Duration) -> io::Result<()> {
        std::thread::sleep(time);
        Ok(())
    }

    /// Waits for the SSLRequest, whatever it is.
    ///
    /// # Errors
    /// The socket's.
    pub fn ssl_request(&mut self) -> io::Result<()> {
        self.hear(SSL_REQUEST.len()).map(drop)
    }

    /// Takes the SSLRequest, says `S` and shakes hands with this certificate.
    ///
    /// # Errors
    /// The socket's, or what went wrong with the handshake.
    pub fn secure(&mut self, credential: &Credential) -> io::Result<()> {
        self.ssl_request()?;
        self.say(b"S")?;
        self.shake_hands(credential)
    }

    /// Reads the start-up packet; its parameters, in order.
    ///
    /// # Errors
    /// The socket's.
    pub fn startup(&mut self) -> io::Result<Vec<(String, String)>> {
        let length = self.length()?;
        let body = self.hear(length)?;
        let texts: Vec<String> = body[4..]
            .split(|&byte| byte == 0)
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect();
        let pairs = texts.chunks_exact(2).filter(|pair| !pair[0].is_empty());
        Ok(pairs
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect())
    }

    /// Reads one message.
    ///
    /// # Errors
    /// The socket's.
    pub fn message(&mut self) -> io::Result<Message> {
        let kind = self.hear(1)?[0];
        let length = self.length()?;
        let body = self.hear(length)?;
        if kind == b'p' {
            let mut credentials = self.seen.credentials.lock().expect("a plain list");
            credentials.push(body.clone());
        }
        Ok(Message { kind, body })
    }

    /// The socket under it all.
    ///
    /// # Errors
    /// None is left after a handshake that failed.
    pub fn socket(&self) -> io::Result<&TcpStream> {
        match &self.stream {
            Some(Stream::Plain(socket)) => Ok(socket),
            Some(Stream::Tls(stream)) => Ok(&stream.sock),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Lets the client in, as if it had proved something.
    ///
    /// # Errors
    /// The socket's.
    pub fn let_in(&mut self) -> io::Result<()> {
        let key = tagged(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]);
        self.say(&[tagged(b'R', &[0; 4]), key, tagged(b'Z', b"I")].concat())
    }

    /// Answers every question with this verifier, for a role that may sign in for ever.
    fn tell_verifiers(&mut self, verifier: &str) -> io::Result<()> {
        self.let_in()?;
        let answer = [
            tagged(b'1', b""),
            tagged(b'2', b""),
            row_description(),
            row(&[Some(verifier.as_bytes()), None, Some(&[1]), None]),
            tagged(b'C', b"SELECT 1\0"),
            tagged(b'Z', b"I"),
        ];
        loop {
            match self.message()?.kind {
                b'S' => self.say(&answer.concat())?,
                b'X' => return Ok(()),
                _ => {}
            }
        }
    }

    fn shake_hands(&mut self, credential: &Credential) -> io::Result<()> {
        let Some(Stream::Plain(socket)) = self.stream.take() else {
            return Err(io::Error::other("shaken already"));
        };
        let connection =
            ServerConnection::new(configuration(credential)).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        self.stream = Some(Stream::Tls(Box::new(stream)));
        Ok(())
    }

    /// A length that counts itself: how much follows it.
    fn length(&mut self) -> io::Result<usize> {
        let bytes = self.hear(4)?;
        let length = u32::from_be_bytes(bytes.try_into().expect("four bytes"));
        Ok(usize::try_from(length)
            .expect("32 bits fit")
            .saturating_sub(4))
    }

    fn hear(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < count {
            let more = self.hear_some(count - all.len())?;
            if more.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            all.extend(more);
        }
        Ok(all)
    }

    fn hear_some(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; most];
        let count = self.stream()?.read(&mut bytes)?;
        bytes.truncate(count);
        self.seen.heard.lock().expect("a plain list").extend(&bytes);
        Ok(bytes)
    }

    fn stream(&mut self) -> io::Result<&mut dyn ReadWrite> {
        match &mut self.stream {
            Some(Stream::Plain(stream)) => Ok(stream),
            Some(Stream::Tls(stream)) => Ok(stream.as_mut()),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// A `DataRow`: `None` is NULL.
#[must_use]
pub fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len())
        .expect("a short row")
        .to_be_bytes()
        .to_vec();
    for value in values {
        match value {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(bytes) => {
                body.extend(
                    u32::try_from(bytes.len())
                        .expect("a short value")
                        .to_be_bytes(),
                );
                body.extend(*bytes);
            }
        }
    }
    tagged(b'D', &body)
}

/// The columns of that answer: verifier text, valid_until_ms int8, can_login bool, withheld text; all in binary.
#[must_use]
pub fn row_description() -> Vec<u8> {
    let columns: [(&str, u32); 4] = [
        ("verifier", 25),
        ("valid_until_ms", 20),
        ("can_login", 16),
        ("withheld", 25),
    ];
    let mut body = vec![0, 4];
    for (name, kind) in columns {
        body.extend(name.as_bytes());
        body.extend([0; 7]);
        body.extend(kind.to_be_bytes());
        body.extend([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1]);
    }
    tagged(b'T', &body)
}

fn configuration(credential: &Credential) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(credential.chain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(credential.key_pem.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let configuration = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a key that fits");
    Arc::new(configuration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Dial;

    #[test]
    fn it_follows_its_script_and_remembers_what_it_got() {
        let evil = EvilDatabase::start(|caller| {
            caller.ssl_request()?;
            caller.say(b"N")?;
            caller.stall()
        });
        let mut client = Dial::plain(evil.address())
            .first(&SSL_REQUEST)
            .connect()
            .unwrap();
        assert_eq!(client.read_exactly(1).unwrap(), b"N");
        client.send(b"and more").unwrap();
        drop(client);
        let whole = [&SSL_REQUEST[..], b"and more"].concat();
        crate::wait::wait_for("all of it", PATIENCE, || evil.heard() == whole);
        assert_eq!((evil.connections(), evil.credentials().len()), (1, 0));
    }
}
