//! Listens in on a driver's connections, to know whether it asks for a cancel in clear.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use portcullis_tests::pipe::both_ways;

/// A port that leads to a server.
pub(crate) struct Ear {
    address: SocketAddr,
    heard: Arc<AtomicBool>,
}

/// Where the code of a CancelRequest stands in it, and what it is.
const CODE: std::ops::Range<usize> = 4..8;
const CANCEL: [u8; 4] = 80_877_102_u32.to_be_bytes();

impl Ear {
    /// Before this server, for as long as this process lives.
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let ear = Self {
            address: listener.local_addr().expect("bound"),
            heard: Arc::default(),
        };
        let heard = Arc::clone(&ear.heard);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || carry(&client, server, &heard));
            }
        });
        ear
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a cancel request came without TLS.
    pub(crate) fn heard_a_cancel(&self) -> bool {
        self.heard.load(Ordering::SeqCst)
    }
}

fn carry(client: &TcpStream, server: SocketAddr, heard: &AtomicBool) -> Option<()> {
    let server = TcpStream::connect(server).ok()?;
    // Or each round trip of several packets waits for a delayed acknowledgement.
    client.set_nodelay(true).ok()?;
    server.set_nodelay(true).ok()?;
    let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    let mut first = [0; 512];
    let length = from.read(&mut first).ok()?;
    if first[CODE] == CANCEL {
        heard.store(true, Ordering::SeqCst);
    }
    to.write_all(&first[..length]).ok()?;
    both_ways(client, &server);
    Some(())
}
