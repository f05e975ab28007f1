//! Passing bytes on between two connections, for what stands between a client and a server.

use std::net::{Shutdown, TcpStream};

/// Passes on what either says to the other, until both have ended; an end is passed on as well.
pub fn both_ways(one: &TcpStream, other: &TcpStream) {
    std::thread::scope(|both| {
        both.spawn(|| pass(one, other));
        pass(other, one);
    });
}

fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
