//! Ports for servers: below the kernel's ephemeral range, so that no client takes one meanwhile,
//! and claimed by a file lock, so that test processes running side by side never share one.

use std::fs::File;
use std::net::TcpListener;
use std::sync::Mutex;

/// Where the kernel's ephemeral ports cannot be (they start at 32768).
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port that nothing listens on, on any address, and that nobody else who asks here is given
/// while this process lives.
///
/// # Panics
/// When all are taken.
#[must_use]
pub fn free() -> u16 {
    // The next port to try, and the locks on those given out: held until the process ends.
    static GIVEN: Mutex<(Option<u16>, Vec<File>)> = Mutex::new((None, Vec::new()));
    let mut given = GIVEN
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    for _ in RANGE {
        let port = given.0.unwrap_or_else(first);
        given.0 = Some(if port + 1 < RANGE.end {
            port + 1
        } else {
            RANGE.start
        });
        if let Some(lock) = claim(port) {
            given.1.push(lock);
            return port;
        }
    }
    panic!("no free port in {RANGE:?}");
}

/// Processes start apart, so that they seldom try the same port.
fn first() -> u16 {
    let width = u32::from(RANGE.end - RANGE.start);
    let offset = std::process::id().wrapping_mul(97) % width;
    RANGE.start + u16::try_from(offset).expect("narrower than the range")
}

fn claim(port: u16) -> Option<File> {
    let folder = super::scratch::base().join("ports");
    std::fs::create_dir_all(&folder).expect("the scratch directory can be written");
    let lock = File::create(folder.join(port.to_string())).ok()?;
    lock.try_lock().ok()?;
    TcpListener::bind(("0.0.0.0", port)).ok()?;
    Some(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let mut ports: Vec<u16> = (0..20).map(|_| free()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
    }

    #[test]
    fn a_port_in_use_is_not_given() {
        let port = free();
        let _listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        assert!(claim(port).is_none());
    }
}
