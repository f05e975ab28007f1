//! The options of every TCP socket that the gateway opens or accepts, named in one place.
//!
//! Deliberately absent: reading, writing and connecting (the rooms that use the sockets), and
//! entering another network namespace (`dialer`).

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// A silent connection is probed for the first time after this long.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// Then again at this interval,
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// and given up after so many unanswered probes.
pub const KEEPALIVE_RETRIES: u32 = 3;
/// A client that acknowledges nothing, or takes nothing, for this long is given up (RFC 5482; Linux
/// counts a closed window, too). Databases are not: one may be busy for longer with what a client
/// has pipelined, and the kernel's own fifteen-odd minutes find one that vanished.
pub const CLIENT_STALL: Duration = Duration::from_secs(60);
/// Connections the kernel holds for a listener that has not accepted them yet. The kernel caps it
/// at `net.core.somaxconn`, whose default is the same number.
pub const BACKLOG: u32 = 4096;

/// Sets what every established connection has: no Nagle delay, keepalive.
///
/// # Errors
/// The kernel's, if the descriptor is not a TCP socket.
pub fn tune(connection: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(connection);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES),
    )
}

/// Closing `connection` from now on resets it: what the kernel still holds of what was written is
/// thrown away instead of being delivered.
///
/// # Errors
/// The kernel's, if the descriptor is not a socket.
pub fn abort_on_close(connection: &impl AsFd) -> io::Result<()> {
    SockRef::from(connection).set_linger(Some(Duration::ZERO))
}

/// Makes an unconnected, non-blocking, tuned TCP socket in the calling thread's network namespace.
///
/// # Errors
/// The kernel's (out of descriptors, address family not supported).
pub fn unconnected(family: Family) -> io::Result<Socket> {
    let socket = bare(family)?;
    tune(&socket)?;
    Ok(socket)
}

/// Binds a listener in the calling thread's network namespace: non-blocking, `SO_REUSEPORT` (so
/// that each worker may have its own), and for IPv6 only IPv6, so that an IPv4 client never
/// arrives in an IPv6 disguise. What it accepts is tuned, and given up when its client stalls:
/// Linux hands these options down, where setting them on each connection would cost six calls.
/// `prepare` runs between making the socket and binding it.
///
/// # Errors
/// The kernel's (address in use, address not of this machine, privileged port).
pub fn listener(
    address: SocketAddr,
    backlog: u32,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<Socket> {
    let socket = bare(Family::of(address))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    tune(&socket)?;
    socket.set_tcp_user_timeout(Some(CLIENT_STALL))?;
    prepare(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog.min(BACKLOG)).unwrap_or(i32::MAX))?;
    Ok(socket)
}

fn bare(family: Family) -> io::Result<Socket> {
    let socket = Socket::new(family.domain(), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Which of the two internet protocols a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6, without IPv4-mapped addresses.
    V6,
}

impl Family {
    /// The family that can reach `address`.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }

    /// The same, as the socket API names it.
    #[must_use]
    pub fn domain(self) -> Domain {
        match self {
            Self::V4 => Domain::IPV4,
            Self::V6 => Domain::IPV6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unconnected_socket_carries_every_named_option() {
        let socket = unconnected(Family::V4).unwrap();
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.nonblocking().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
    }

    #[test]
    fn an_accepted_connection_carries_what_its_listener_does() {
        let listening = listener("127.0.0.1:0".parse().unwrap(), BACKLOG, |_| Ok(())).unwrap();
        listening.set_nonblocking(false).unwrap();
        let address = listening.local_addr().unwrap().as_socket().unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (socket, _) = listening.accept().unwrap();
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(CLIENT_STALL));
    }

    #[test]
    fn two_workers_may_listen_on_the_same_address() {
        let first = listener("127.0.0.1:0".parse().unwrap(), BACKLOG, |_| Ok(())).unwrap();
        let address = first.local_addr().unwrap().as_socket().unwrap();
        listener(address, BACKLOG, |_| Ok(())).unwrap();
    }

    #[test]
    fn an_ipv6_listener_takes_no_ipv4_client() {
        let Ok(socket) = listener("[::]:0".parse().unwrap(), 8, |_| Ok(())) else {
            eprintln!("SKIPPED: no IPv6 on this machine");
            return;
        };
        assert!(socket.only_v6().unwrap());
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}
