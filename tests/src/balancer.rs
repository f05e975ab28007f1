//! A load balancer as a cloud has it: it passes bytes on, after a PROXY v2 header of its own.
//!
//! With it real drivers come "from" any address and any private link.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::pipe::both_ways;

/// A balancer on a port of its own of 127.0.0.1. Dropping it stops it accepting.
#[derive(Debug)]
pub struct LoadBalancer {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl LoadBalancer {
    /// Passes connections on to `to`, from the address `from` (one that the listener trusts), each
    /// beginning with `header`.
    ///
    /// # Panics
    /// When there is no port.
    #[must_use]
    pub fn start(to: SocketAddr, from: IpAddr, header: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let header = header.clone();
                std::thread::spawn(move || pass_on(&client, to, from, &header));
            }
        });
        Self {
            address,
            stopped,
            accepting: Some(accepting),
        }
    }

    /// Where clients call it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for LoadBalancer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // One last call wakes it to see that.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// A PROXY v2 header for a TCP connection (command PROXY), with TLVs as (type, value).
///
/// # Panics
/// When the two addresses are not of one family.
#[must_use]
pub fn proxy_v2(source: SocketAddr, destination: SocketAddr, tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            body.extend_from_slice(&from.octets());
            body.extend_from_slice(&to.octets());
            0x11
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            body.extend_from_slice(&from.octets());
            body.extend_from_slice(&to.octets());
            0x21
        }
        mixed => panic!("one header has one family: {mixed:?}"),
    };
    for port in [source.port(), destination.port()] {
        body.extend_from_slice(&port.to_be_bytes());
    }
    for (kind, value) in tlvs {
        body.push(*kind);
        body.extend_from_slice(&length(value.len()));
        body.extend_from_slice(value);
    }
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[VERSION_2_PROXY, family]);
    header.extend_from_slice(&length(body.len()));
    header.extend_from_slice(&body);
    header
}

/// The TLV by which AWS names a VPC endpoint (`vpce-…`).
#[must_use]
pub fn aws_link(id: &str) -> (u8, Vec<u8>) {
    (0xEA, [&[1], id.as_bytes()].concat())
}

/// The TLV by which Azure names a private endpoint: a number, little-endian.
#[must_use]
pub fn azure_link(id: u32) -> (u8, Vec<u8>) {
    (0xEE, [&[1][..], &id.to_le_bytes()].concat())
}

/// The TLV by which GCP names a Private Service Connect connection: a number, big-endian.
#[must_use]
pub fn gcp_link(id: u64) -> (u8, Vec<u8>) {
    (0xE0, id.to_be_bytes().to_vec())
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;

fn length(count: usize) -> [u8; 2] {
    u16::try_from(count)
        .expect("a test's header is short")
        .to_be_bytes()
}

fn pass_on(client: &TcpStream, to: SocketAddr, from: IpAddr, header: &[u8]) {
    let called = call(to, from).and_then(|mut server| {
        server.write_all(header)?;
        Ok(server)
    });
    let Ok(server) = called else { return };
    both_ways(client, &server);
}

fn call(to: SocketAddr, from: IpAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(to),
        socket2::Type::STREAM,
        None,
    )?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect(&to.into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_header_is_laid_out_as_the_specification_says() {
        let (kind, value) = aws_link("vpce-1");
        let header = proxy_v2(
            "10.0.0.7:1".parse().unwrap(),
            "10.0.0.5:2".parse().unwrap(),
            &[(kind, &value)],
        );
        let expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x16\x0a\0\0\x07\x0a\0\0\x05\0\x01\0\x02\xea\0\x07\x01vpce-1";
        assert_eq!(header, expected);
    }

    #[test]
    fn bytes_pass_both_ways_behind_the_header_and_from_the_address_asked_for() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let from: IpAddr = "127.0.9.9".parse().unwrap();
        let balancer = LoadBalancer::start(server.local_addr().unwrap(), from, b"HEADER".to_vec());
        let mut client = TcpStream::connect(balancer.address()).unwrap();
        client.write_all(b"ping").unwrap();
        let (mut accepted, peer) = server.accept().unwrap();
        let mut heard = [0; 10];
        accepted.read_exact(&mut heard).unwrap();
        accepted.write_all(b"pong").unwrap();
        drop(accepted);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(
            (peer.ip(), &heard, answer.as_str()),
            (from, b"HEADERping", "pong")
        );
    }
}
