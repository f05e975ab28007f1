//! Directories for tests: short enough for a Unix socket, reachable by the account that runs
//! PostgreSQL, gone when the test is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that is removed with everything in it when dropped.
///
/// With `PORTCULLIS_KEEP=1` in the environment it stays, for a look at what a test left.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// A new empty directory (mode 0755); `label` is a few letters that tell what it is for.
    #[must_use]
    pub fn new(label: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base().join(format!("{}-{number}-{label}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|e| panic!("cannot make {}: {e}", path.display()));
        // Whatever the umask: PostgreSQL's account has to get in.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own directory");
        Self { path }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that everybody may read; makes the folders in between. Returns its path.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        self.write_with_mode(name, contents, 0o644)
    }

    /// Writes a file that only its owner may read, as keys must be. Returns its path.
    pub fn write_secret(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        self.write_with_mode(name, contents, 0o600)
    }

    /// Gives the directory and everything in it to another account (uid, gid). Only root can, and
    /// only root needs to: for anybody else this does nothing.
    pub fn give_to(&self, account: (u32, u32)) {
        if is_root() {
            give_away(&self.path, account);
        }
    }

    fn write_with_mode(&self, name: &str, contents: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.path.join(name);
        let folder = path.parent().expect("a file stands in a folder");
        fs::create_dir_all(folder).expect("a scratch directory can be written");
        fs::write(&path, contents)
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::env::var_os("PORTCULLIS_KEEP").is_some() {
            eprintln!("kept: {}", self.path.display());
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ stands in the repository")
}

/// What `make setup` installed: `venv` and `npm` stand in it.
#[must_use]
pub fn tools() -> PathBuf {
    repository().join("target/tools")
}

/// Whether this process may do what only root may.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The uid and the gid of the account that PostgreSQL runs as when we are root (it refuses to run
/// as root itself).
#[must_use]
pub fn postgres_account() -> (u32, u32) {
    static ACCOUNT: OnceLock<(u32, u32)> = OnceLock::new();
    *ACCOUNT.get_or_init(|| {
        let accounts = fs::read_to_string("/etc/passwd").expect("accounts are listed");
        accounts
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields.first() == Some(&"postgres"))
            .and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))
            .expect("no account named postgres: run `make setup`")
    })
}

/// Sockets' names must fit 108 bytes, with a directory and `.s.PGSQL.12345` after this one.
const MAX_BASE_BYTES: usize = 60;

/// Under which every scratch directory stands: target/tmp, or the system's temporary directory
/// where target/tmp is too deep or closed to the account that runs PostgreSQL.
pub(crate) fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let ours = repository().join("target/tmp");
        let elsewhere = std::env::temp_dir().join(format!(
            "portcullis-tests-{}",
            rustix::process::geteuid().as_raw()
        ));
        let base = if usable(&ours) { ours } else { elsewhere };
        fs::create_dir_all(&base).unwrap_or_else(|e| panic!("cannot make {}: {e}", base.display()));
        sweep(&base);
        base
    })
}

fn usable(path: &Path) -> bool {
    let writable = fs::create_dir_all(path).is_ok()
        && rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    let short = path.as_os_str().len() <= MAX_BASE_BYTES;
    writable && short && (!is_root() || open_to_everybody(path))
}

/// Whether an account with no rights of its own can walk down to `path`.
pub(crate) fn open_to_everybody(path: &Path) -> bool {
    path.ancestors()
        .filter_map(|folder| fs::metadata(folder).ok())
        .all(|folder| folder.mode() & 0o001 != 0)
}

/// Removes what test processes that were killed left behind.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .split('-')
            .next()
            .and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn give_away(path: &Path, account: (u32, u32)) {
    let (uid, gid) = account;
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))
        .unwrap_or_else(|e| panic!("cannot give away {}: {e}", path.display()));
    let is_folder = fs::symlink_metadata(path).is_ok_and(|it| it.is_dir());
    if is_folder {
        for entry in fs::read_dir(path).expect("our own folder").flatten() {
            give_away(&entry.path(), account);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_directory_goes_with_its_owner() {
        let scratch = Scratch::new("gone");
        let file = scratch.write("a/b.txt", "x");
        assert!(file.exists());
        drop(scratch);
        assert!(!file.exists());
    }

    #[test]
    fn a_secret_is_for_its_owner_only() {
        let scratch = Scratch::new("secret");
        let mode = fs::metadata(scratch.write_secret("key", "x"))
            .unwrap()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
