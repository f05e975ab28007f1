//! What the tests of the dialer stand on: a running dialer, a namespace, a server that tells its
//! name. All of it is gone when dropped.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use portcullis_policy::Via;
use tokio::net::TcpListener;

use super::protocol::{Reply, unframe};
use super::server::{Allowed, Options, Server, Stopper};
use super::{Dialer, DialerError};
use crate::runtime::sockets::Family;

/// A dialer in a thread of this process, stopped when dropped.
pub(super) struct Running {
    pub(super) socket: PathBuf,
    stopper: Stopper,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    pub(super) fn start(uids: BTreeSet<u32>, allowed: Allowed) -> Self {
        Self::start_with(uids, allowed, Options::default_namespaces())
    }

    pub(super) fn start_with(uids: BTreeSet<u32>, allowed: Allowed, namespaces: PathBuf) -> Self {
        let socket = scratch("dialer").join("dialer.sock");
        let server = Server::bind(options(&socket, uids, allowed, namespaces)).unwrap();
        let stopper = server.stopper().unwrap();
        let thread = std::thread::spawn(move || server.run().unwrap());
        Self {
            socket,
            stopper,
            thread: Some(thread),
        }
    }

    pub(super) fn dialer(&self) -> Dialer {
        Dialer::remote(&self.socket)
    }

    pub(super) async fn refusal(&self, namespace: &str) -> DialerError {
        let via = Via::NetworkNamespace(namespace.into());
        self.dialer()
            .tcp_socket(Some(&via), Family::V4)
            .await
            .unwrap_err()
    }

    pub(super) fn say(&self, text: &[u8]) -> Reply {
        let mut connection = UnixStream::connect(&self.socket).unwrap();
        connection
            .write_all(&u16::try_from(text.len()).unwrap().to_be_bytes())
            .unwrap();
        connection.write_all(text).unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        unframe(&answer).unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
        let _ = std::fs::remove_dir_all(self.socket.parent().unwrap());
    }
}

pub(super) fn options(
    socket: &Path,
    allowed_uids: BTreeSet<u32>,
    allowed: Allowed,
    namespaces: PathBuf,
) -> Options {
    Options {
        socket: socket.to_owned(),
        allowed_uids,
        allowed,
        namespaces,
    }
}

pub(super) fn us() -> BTreeSet<u32> {
    BTreeSet::from([rustix::process::getuid().as_raw()])
}

/// A named network namespace in which 10.0.0.5 is local, deleted when dropped.
pub(super) struct Namespace {
    pub(super) name: String,
}

impl Namespace {
    pub(super) fn new() -> Option<Self> {
        let name = format!("pctest-{}-{}", std::process::id(), unique());
        if !ip(&["netns", "add", &name]) {
            eprintln!("SKIPPED: network namespaces cannot be made here (run as root)");
            return None;
        }
        let namespace = Self { name };
        assert!(ip(&["-n", &namespace.name, "link", "set", "lo", "up"]));
        assert!(ip(&[
            "-n",
            &namespace.name,
            "address",
            "add",
            "10.0.0.5/16",
            "dev",
            "lo"
        ]));
        Some(namespace)
    }

    pub(super) fn via(&self) -> Via {
        Via::NetworkNamespace(self.name.clone())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.name]);
    }
}

pub(super) fn own_namespace() -> PathBuf {
    std::fs::read_link("/proc/thread-self/ns/net").unwrap()
}

pub(super) fn ip(arguments: &[&str]) -> bool {
    Command::new("ip")
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

pub(super) fn serve_name(listener: std::net::TcpListener, name: String) {
    let listener = TcpListener::from_std(listener).unwrap();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let mut connection: TcpStream = connection.into_std().unwrap();
            connection.write_all(name.as_bytes()).unwrap();
        }
    });
}

pub(super) async fn read_name(mut stream: tokio::net::TcpStream) -> String {
    let mut name = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut name)
        .await
        .unwrap();
    name
}

pub(super) fn scratch(what: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!(
        "portcullis-{what}-{}-{}",
        std::process::id(),
        unique()
    ));
    std::fs::create_dir_all(&path).unwrap();
    path
}

pub(super) fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
