//! Where everything is: a private directory, and ports on loopback.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use super::installation::Account;
use crate::runtime::random;

/// The directory and the addresses of one run.
#[derive(Clone, Debug)]
pub(super) struct Home {
    /// Under the system's temporary directory (TMPDIR), ours alone.
    pub(super) directory: PathBuf,
    /// The nodes, at least one.
    pub(super) nodes: Vec<Place>,
    /// Where PostgreSQL is.
    pub(super) postgres: SocketAddr,
}

/// One node's place.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its name.
    pub(super) name: String,
    /// Its folder in the directory; the directory itself where there is one node.
    pub(super) folder: PathBuf,
    /// Where clients come in.
    pub(super) listen: SocketAddr,
    /// Where metrics are.
    pub(super) metrics: SocketAddr,
    /// Where other nodes come in.
    pub(super) mesh: SocketAddr,
}

impl Place {
    /// A path in the node's folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Home {
    /// Makes the directory, for us alone: where PostgreSQL must run under another account, that
    /// account may walk through and see nothing but its own part.
    pub(super) fn create(account: Option<Account>, nodes: usize) -> Result<Self, String> {
        let mut addresses = free_addresses(1 + ADDRESSES_OF_NODE * nodes)?.into_iter();
        let base = std::env::temp_dir();
        check_base(&base, account)?;
        let mark = u64::from_be_bytes(random::bytes());
        let directory = base.join(format!("portcullis-dev-{mark:016x}"));
        let mode = if account.is_some() { 0o711 } else { 0o700 };
        DirBuilder::new()
            .mode(mode)
            .create(&directory)
            .map_err(|error| {
                format!(
                    "cannot make {}: {error}; TMPDIR names another place",
                    directory.display()
                )
            })?;
        let mut next = || addresses.next().ok_or("too few addresses".to_owned());
        let postgres = next()?;
        let mut places = Vec::new();
        for number in 1..=nodes {
            let (name, folder) = if nodes == 1 {
                ("dev".to_owned(), directory.clone())
            } else {
                let name = format!("n{number}");
                let folder = directory.join(&name);
                make_private(&folder, None)?;
                (name, folder)
            };
            places.push(Place {
                name,
                folder,
                listen: next()?,
                metrics: next()?,
                mesh: next()?,
            });
        }
        Ok(Self {
            directory,
            nodes: places,
            postgres,
        })
    }

    /// A path in the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Takes back an empty [`Home::create`]; afterwards it is the janitor's.
    pub(super) fn remove(&self) {
        drop(fs::remove_dir(&self.directory));
    }
}

/// What a node listens on: clients, metrics, other nodes.
const ADDRESSES_OF_NODE: usize = 3;

/// The directory's name goes into configuration files of three kinds and into lines for a shell;
/// with these characters alone none of them needs quoting.
fn check_base(base: &Path, account: Option<Account>) -> Result<(), String> {
    let shown = base.display();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
    let name = base.as_os_str().as_encoded_bytes();
    if !base.is_absolute() || !name.iter().all(plain) || name.len() > MAX_BASE {
        return Err(format!(
            "the temporary directory {shown} will not do: it must be absolute, of at most {MAX_BASE} letters, digits and . _ - /; \
             set TMPDIR to one that is, like /tmp"
        ));
    }
    if account.is_some() {
        let closed = base
            .ancestors()
            .find(|folder| fs::metadata(folder).is_ok_and(|it| it.mode() & 0o001 == 0));
        if let Some(closed) = closed {
            return Err(format!(
                "{} is closed to others, and PostgreSQL does not run as root: its account could not reach {shown}; \
                 set TMPDIR to a directory that everybody can enter, like /tmp",
                closed.display()
            ));
        }
    }
    Ok(())
}

/// Unix sockets' paths end at 107 bytes, and `portcullis-dev-….`, `postgres/.s.PGSQL.12345` follow.
const MAX_BASE: usize = 48;

/// Addresses on loopback where nothing listens.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, String> {
    let mut found = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); count];
    // Held until all are found, so that none is found twice.
    let mut held = Vec::new();
    let width = PORTS.end - PORTS.start;
    let offset = u16::from_be_bytes(random::bytes()) % width;
    let mut candidates = (0..width).map(|step| PORTS.start + (offset + step) % width);
    for address in &mut found {
        let free = candidates.by_ref().find_map(|port| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .ok()
                .map(|it| (port, it))
        });
        let Some((port, listener)) = free else {
            return Err(format!(
                "no free port on 127.0.0.1 from {} to {}",
                PORTS.start, PORTS.end
            ));
        };
        address.set_port(port);
        held.push(listener);
    }
    Ok(found)
}

/// Below the range from which the kernel gives ports to clients (32768): none is taken meanwhile.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Makes a directory for its owner alone; there must be none.
pub(super) fn make_private(path: &Path, account: Option<Account>) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("cannot make {}: {error}", path.display());
    DirBuilder::new().mode(0o700).create(path).map_err(fail)?;
    give(path, account).map_err(fail)
}

/// Writes a file for its owner alone, ours or that account's. It replaces one that is there.
pub(super) fn write_private(
    path: &Path,
    text: &str,
    account: Option<Account>,
) -> Result<(), String> {
    let write = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        give(path, account)
    };
    write().map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn give(path: &Path, account: Option<Account>) -> std::io::Result<()> {
    account.map_or(Ok(()), |account| {
        chown(path, Some(account.uid), Some(account.gid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_on_loopback_and_all_different() {
        let mut ports: Vec<u16> = free_addresses(8)
            .unwrap()
            .iter()
            .map(|address| {
                assert!(address.ip().is_loopback());
                address.port()
            })
            .collect();
        ports.sort_unstable();
        assert!(ports.is_sorted_by(|a, b| a < b), "{ports:?}");
    }

    #[test]
    fn a_temporary_directory_that_would_need_quoting_is_refused() {
        for bad in [
            "/tmp/with space",
            "/tmp/it's",
            "relative",
            "/tmp/über",
            &format!("/{}", "long".repeat(20)),
        ] {
            assert!(
                check_base(Path::new(bad), None)
                    .unwrap_err()
                    .contains("TMPDIR"),
                "{bad}"
            );
        }
        check_base(Path::new("/tmp"), None).unwrap();
    }

    #[test]
    fn a_written_file_is_for_its_owner_alone_even_where_an_open_one_was() {
        let path = std::env::temp_dir().join(format!("portcullis-home-{}", std::process::id()));
        fs::write(&path, "old").unwrap();
        write_private(&path, "new", None).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.len()), (0o600, 3));
        fs::remove_file(&path).unwrap();
    }
}
