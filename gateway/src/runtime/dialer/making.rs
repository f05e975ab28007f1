//! Makes one socket in one place. Entering a namespace changes the calling thread for good, so
//! whoever calls [`make`] must be a thread that ends afterwards.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::LinkNameSpaceType;
use socket2::Socket;

use super::protocol::{Make, Place, Refusal, Request, Step};
use crate::runtime::sockets;

/// Where `ip netns` keeps its namespaces.
pub(super) const NAMESPACES: &str = "/run/netns";

/// The file system whose files are namespaces (`linux/magic.h`: `NSFS_MAGIC`).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Makes what `request` asks for. The calling thread is left inside the namespace.
pub(super) fn make(request: &Request, namespaces: &Path) -> Result<Socket, Refusal> {
    let place = &request.place;
    let device = match place {
        Place::NetworkNamespace(name) => {
            enter(place, &open(place, name.as_str(), namespaces)?)?;
            None
        }
        Place::Interface(name) => Some(name.as_str().as_bytes()),
    };
    let to_device = |socket: &Socket| match device {
        Some(_) => socket.bind_device(device),
        None => Ok(()),
    };
    let made = match request.make {
        Make::Socket { family } => sockets::unconnected(family).and_then(|socket| {
            to_device(&socket)?;
            Ok(socket)
        }),
        Make::Listener { address, backlog } => sockets::listener(address, backlog, to_device),
    };
    made.map_err(|error| match error.raw_os_error() {
        Some(errno) if errno == Errno::NODEV.raw_os_error() => Refusal::Unknown {
            place: place.clone(),
        },
        errno => failed(
            Step::Socket,
            place,
            errno.unwrap_or(Errno::IO.raw_os_error()),
        ),
    })
}

/// Opens DIR/NAME without following a link or waiting on a pipe. The name was checked when the
/// place was made: it holds no slash.
fn open(place: &Place, name: &str, namespaces: &Path) -> Result<OwnedFd, Refusal> {
    let refuse = |errno: Errno| match errno {
        Errno::NOENT => Refusal::Unknown {
            place: place.clone(),
        },
        Errno::LOOP => Refusal::NotANamespace {
            place: place.clone(),
        },
        other => failed(Step::Open, place, other.raw_os_error()),
    };
    let directory = rustix::fs::open(
        namespaces,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(refuse)?;
    let file = rustix::fs::openat(
        directory,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(refuse)?;
    let system = rustix::fs::fstatfs(&file).map_err(refuse)?;
    if u64::try_from(system.f_type).ok() != Some(NSFS_MAGIC) {
        return Err(Refusal::NotANamespace {
            place: place.clone(),
        });
    }
    Ok(file)
}

fn enter(place: &Place, namespace: &OwnedFd) -> Result<(), Refusal> {
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|errno| match errno {
            // A namespace, but of another kind.
            Errno::INVAL => Refusal::NotANamespace {
                place: place.clone(),
            },
            other => failed(Step::Enter, place, other.raw_os_error()),
        })
}

fn failed(step: Step, place: &Place, errno: i32) -> Refusal {
    Refusal::Failed {
        step,
        place: place.clone(),
        errno,
    }
}
