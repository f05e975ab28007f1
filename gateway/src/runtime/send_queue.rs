//! What of a socket's bytes the kernel has not sent yet. The one file with `unsafe`: the question is
//! an ioctl that no crate asks safely.

use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// SIOCOUTQNSD, linux/sockios.h: bytes in the send queue that were never sent.
const UNSENT: Opcode = 0x894B;

/// How many written bytes the kernel still holds back, waiting for the peer to take more.
///
/// # Errors
/// The kernel's, if the descriptor is not a TCP socket.
pub fn unsent(socket: &impl AsFd) -> io::Result<usize> {
    #[expect(unsafe_code, reason = "SIOCOUTQNSD has no safe wrapper")]
    // SAFETY: the request writes exactly one C int (tcp(7), tcp_ioctl in the kernel), which is what
    // the getter provides room for, and keeps no pointer.
    let bytes = unsafe { ioctl(socket, Getter::<UNSENT, c_int>::new()) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_the_peer_does_not_take_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_peer, _) = listener.accept().unwrap();
        assert_eq!(unsent(&socket).unwrap(), 0);
        socket.set_nonblocking(true).unwrap();
        while socket.write(&[0; 65_536]).is_ok() {}
        assert!(unsent(&socket).unwrap() > 0);
    }
}
