//! Where PostgreSQL is on this machine, and whom it runs as.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs of one PostgreSQL, and the account for the server.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    /// Initialises a data directory.
    pub(super) initdb: PathBuf,
    /// The server.
    pub(super) postgres: PathBuf,
    /// The client: the one beside the server, or the one on the PATH.
    pub(super) psql: PathBuf,
    /// The server's version, like `15.18`.
    pub(super) version: String,
    /// Set when we are root, as whom the server refuses to run.
    pub(super) account: Option<Account>,
}

/// A user of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    /// Its user id.
    pub(super) uid: u32,
    /// Its group's id.
    pub(super) gid: u32,
}

impl Installation {
    /// Finds one: where [`PG_BIN`](pg_bin_from_environment) says, else the newest of Debian's, else
    /// on the PATH.
    pub(super) fn find() -> Result<Self, String> {
        let (folder, version) = match pg_bin_from_environment() {
            Some(folder) => {
                let version = served(&folder).map_err(|problem| format!("PG_BIN: {problem}"))?;
                (folder, version)
            }
            None => newest(&folders()).ok_or_else(|| missing("no PostgreSQL server was found"))?,
        };
        let beside = folder.join("psql");
        let psql = if beside.is_file() {
            Some(beside)
        } else {
            on_path("psql")
        };
        let psql = psql.ok_or_else(|| missing("no psql was found"))?;
        let account = if rustix::process::geteuid().is_root() {
            Some(server_account()?)
        } else {
            None
        };
        Ok(Self {
            initdb: folder.join("initdb"),
            postgres: folder.join("postgres"),
            psql,
            version,
            account,
        })
    }
}

/// The versions that Portcullis is tested with.
const VERSIONS: std::ops::RangeInclusive<u32> = 15..=18;

fn missing(what: &str) -> String {
    format!(
        "{what}; on Debian: apt-get install postgresql\n\
         Looked for versions {} to {} in /usr/lib/postgresql/*/bin and on the PATH; PG_BIN names the directory of another.",
        VERSIONS.start(),
        VERSIONS.end()
    )
}

/// The directory with `postgres` and `initdb`, if the caller says so.
fn pg_bin_from_environment() -> Option<PathBuf> {
    std::env::var_os("PG_BIN")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Debian's directories, and those of the PATH.
fn folders() -> Vec<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    debian
        .map(|entry| entry.path().join("bin"))
        .chain(path_folders())
        .collect()
}

fn path_folders() -> Vec<PathBuf> {
    std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).collect())
        .unwrap_or_default()
}

fn on_path(program: &str) -> Option<PathBuf> {
    path_folders()
        .into_iter()
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// The first of the highest version.
fn newest(folders: &[PathBuf]) -> Option<(PathBuf, String)> {
    let usable = folders
        .iter()
        .filter_map(|folder| Some((folder, served(folder).ok()?)));
    let newest = usable.reduce(|best, next| {
        if major(&next.1) > major(&best.1) {
            next
        } else {
            best
        }
    });
    newest.map(|(folder, version)| (folder.clone(), version))
}

/// The version in that directory, if it is one that will do.
fn served(folder: &Path) -> Result<String, String> {
    for program in ["initdb", "postgres"] {
        if !folder.join(program).is_file() {
            return Err(format!("there is no {program} in {}", folder.display()));
        }
    }
    let asked = Command::new(folder.join("postgres"))
        .arg("--version")
        .output();
    let told =
        asked.map_err(|error| format!("{}/postgres cannot be run: {error}", folder.display()))?;
    let told = String::from_utf8_lossy(&told.stdout);
    match told.split_whitespace().nth(2) {
        Some(version) if major(version).is_some_and(|major| VERSIONS.contains(&major)) => {
            Ok(version.to_owned())
        }
        Some(_) | None => Err(format!(
            "{} has {}: wanted is 15 to 18",
            folder.display(),
            told.lines().next().unwrap_or("no version")
        )),
    }
}

/// 15 of `15.18`, 18 of `18beta1`.
fn major(version: &str) -> Option<u32> {
    let digits = version
        .find(|it: char| !it.is_ascii_digit())
        .unwrap_or(version.len());
    version.get(..digits)?.parse().ok()
}

fn server_account() -> Result<Account, String> {
    let accounts = fs::read_to_string(ACCOUNTS)
        .map_err(|error| format!("{ACCOUNTS} cannot be read: {error}"))?;
    account_in(&accounts, SERVER_ACCOUNT).ok_or_else(|| {
        missing("PostgreSQL does not run as root, and there is no account `postgres` for it here")
    })
}

const ACCOUNTS: &str = "/etc/passwd";
const SERVER_ACCOUNT: &str = "postgres";

/// An account by name in passwd(5).
fn account_in(accounts: &str, name: &str) -> Option<Account> {
    let lines = accounts
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines
        .into_iter()
        .find(|fields| fields.first() == Some(&name))?;
    Some(Account {
        uid: fields.get(2)?.parse().ok()?,
        gid: fields.get(3)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_releases_and_betas() {
        assert_eq!(major("15.18"), Some(15));
        assert_eq!(major("18beta1"), Some(18));
        assert_eq!(major("devel"), None);
    }

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts = "root:x:0:0:root:/r:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:105:113:x:/p:/bin/bash\n";
        assert_eq!(
            account_in(accounts, "postgres"),
            Some(Account { uid: 105, gid: 113 })
        );
        assert_eq!(account_in(accounts, "post"), None);
    }

    #[test]
    fn a_directory_without_a_server_is_told_as_such() {
        let problem = served(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(problem, "there is no initdb in /nonexistent");
    }

    #[test]
    fn what_is_missing_says_what_to_install() {
        assert!(missing("no PostgreSQL server was found").contains("apt-get install postgresql"));
    }
}
