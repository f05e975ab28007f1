//! An object store (moto: S3 and IAM, signatures checked) behind TLS, and what can befall the way to it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::identities::{Credential, TestAuthority};
use crate::process::{self, Service};
use crate::scratch::{Scratch, repository, tools};
use crate::{ports, wait};

/// The bucket that there is.
pub const BUCKET: &str = "audit-logs";
/// How long the store may take to start, and a command to it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store. Dropping it stops it.
#[derive(Debug)]
pub struct ObjectStore {
    scratch: Scratch,
    plain: u16,
    door: Door,
    authority_pem: String,
    /// Who may use it: the id of an access key, and its secret.
    pub key: (String, String),
    _service: Service,
}

/// What the way to the store does with requests and answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Says that the store has too much to do, without asking it.
    SlowDown,
    /// Takes the request and never answers.
    Stall,
    /// Closes before anything was said.
    Hang,
    /// Ends in the middle of every answer that has a body.
    Truncate,
    /// Changes a byte of each answer to a GET whose path has this in it.
    Lie(&'static str),
}

/// Whether files can be locked in the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// They can.
    On,
    /// They cannot.
    Off,
}

impl ObjectStore {
    /// Starts one with an empty bucket.
    ///
    /// # Panics
    /// When it does not come up, with what it said.
    #[must_use]
    pub fn start(lock: Lock) -> Self {
        let scratch = Scratch::new("store");
        let plain = ports::free();
        let mut command = Command::new(tools().join("moto/bin/python"));
        command.args([
            "-m",
            "moto.server",
            "-H",
            "127.0.0.1",
            "-p",
            &plain.to_string(),
        ]);
        let log = scratch.path().join("moto.log");
        let service = Service::start("the object store", &command, &log, Signal::KILL);
        let up = wait::until(PATIENCE, || {
            TcpStream::connect(("127.0.0.1", plain)).ok().map(drop)
        });
        assert!(up.is_some(), "no object store: {}", service.log());
        let authority = TestAuthority::new("Object store authority");
        let door = Door::open(plain, &authority.server(&["localhost"]));
        let mut store = Self {
            scratch,
            plain,
            door,
            authority_pem: authority.pem(),
            key: ("founder".to_owned(), "founder".to_owned()),
            _service: service,
        };
        let lock = if lock == Lock::On { "lock" } else { "plain" };
        let told = store.owner(&["make", BUCKET, lock, "portcullis"]);
        let (id, secret) = told.split_once(' ').expect("an access key");
        store.key = (id.to_owned(), secret.to_owned());
        store
    }

    /// From now on the way to it does this.
    pub fn fault(&self, fault: Fault) {
        *self.door.shared.fault.lock().expect("a plain value") = fault;
    }

    /// Requests that came so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.door.shared.requests.load(Ordering::Relaxed)
    }

    /// Where it is, over TLS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.door.address.port())
    }

    /// The authority of its certificate, as a file.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.scratch.write("store-ca.pem", &self.authority_pem)
    }

    /// `[audit.objects]` of a node's file, with this access key.
    #[must_use]
    pub fn section(&self, key: &(String, String), more: &str) -> String {
        let text = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            key.0, key.1
        );
        let credentials = self.scratch.write_secret("store-key", text);
        format!(
            "[audit.objects]\nurl = \"s3://{BUCKET}/copy\"\nendpoint = \"{}\"\nregion = \"eu-central-1\"\ncredentials = \"{}\"\nca = \"{}\"\nreread-seconds = 1\n{more}\n",
            self.url(),
            credentials.display(),
            self.authority().display()
        )
    }

    /// Does what the bucket's owner can do (`tests/programs/store.py`); what is said.
    ///
    /// # Panics
    /// When the store refuses.
    pub fn owner(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(tools().join("moto/bin/python"));
        command
            .arg(repository().join("tests/programs/store.py"))
            .arg(format!("http://127.0.0.1:{}", self.plain))
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", &self.key.0)
            .env("AWS_SECRET_ACCESS_KEY", &self.key.1);
        process::run(&command, PATIENCE).ok().to_owned()
    }

    /// All that it has of the logs, as a directory.
    ///
    /// # Panics
    /// As [`Self::owner`].
    #[must_use]
    pub fn download(&self, name: &str) -> PathBuf {
        let folder = self.scratch.path().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a fresh directory");
        let _ = self.owner(&["get", BUCKET, &folder.display().to_string()]);
        folder.join("copy")
    }

    /// Puts this file there, over whatever is there.
    pub fn overwrite(&self, key: &str, file: &Path) {
        let key = format!("copy/{key}");
        let _ = self.owner(&["put", BUCKET, &key, &file.display().to_string()]);
    }
}

/// Speaks TLS and passes requests on, one to a connection.
#[derive(Debug)]
struct Door {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    fault: Mutex<Fault>,
    requests: AtomicUsize,
    stopped: AtomicBool,
}

impl Door {
    fn open(plain: u16, credential: &Credential) -> Self {
        let chain = CertificateDer::pem_slice_iter(credential.chain_pem.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("a chain");
        let key = PrivateKeyDer::from_pem_slice(credential.key_pem.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate");
        let tls = Arc::new(tls);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let there = Arc::clone(&shared);
        drop(std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if there.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (tls, there) = (Arc::clone(&tls), Arc::clone(&there));
                drop(std::thread::spawn(move || {
                    let _ = pass(socket, tls, plain, &there);
                }));
            }
        }));
        Self { address, shared }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn pass(socket: TcpStream, tls: Arc<ServerConfig>, plain: u16, shared: &Shared) -> io::Result<()> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let fault = shared.fault.lock().expect("a plain value").clone();
    if fault == Fault::Hang {
        return Ok(());
    }
    let session = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut caller = StreamOwned::new(session, socket);
    let request = whole(&mut caller)?;
    shared.requests.fetch_add(1, Ordering::Relaxed);
    match fault {
        Fault::SlowDown => {
            let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
            write!(
                caller,
                "HTTP/1.1 503 Slow Down\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )?;
            return close(caller);
        }
        Fault::Stall => {
            // Until the other side has had enough.
            let _ = caller.read(&mut [0; 64]);
            return Ok(());
        }
        Fault::None | Fault::Hang | Fault::Truncate | Fault::Lie(_) => {}
    }
    let mut store = TcpStream::connect(("127.0.0.1", plain))?;
    store.set_read_timeout(Some(PATIENCE))?;
    store.write_all(&request)?;
    let mut answer = Vec::new();
    store.read_to_end(&mut answer)?;
    let body = head_end(&answer).unwrap_or(answer.len());
    let line = String::from_utf8_lossy(&request);
    let line = line.lines().next().unwrap_or_default();
    match fault {
        Fault::Truncate if body < answer.len() => {
            answer.truncate(body + (answer.len() - body) / 2);
        }
        Fault::Lie(path) if line.starts_with("GET ") && line.contains(path) => {
            if let Some(byte) = answer.get_mut(body + 3) {
                *byte ^= 1;
            }
        }
        _ => {}
    }
    caller.write_all(&answer)?;
    close(caller)
}

fn close(mut caller: StreamOwned<ServerConnection, TcpStream>) -> io::Result<()> {
    caller.conn.send_close_notify();
    caller.flush()
}

/// One request with its body.
fn whole(caller: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut more = [0; 16 * 1024];
    loop {
        if let Some(body) = head_end(&request) {
            let head = String::from_utf8_lossy(&request[..body]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .and_then(|length| length.trim().parse::<usize>().ok());
            if request.len() >= body + length.unwrap_or(0) {
                return Ok(request);
            }
        }
        let count = caller.read(&mut more)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&more[..count]);
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}
