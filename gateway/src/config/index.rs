//! Where the index of the audit logs is: a database, and as whom.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

use super::files;

/// The schema that the index has unless another is named.
pub const INDEX_SCHEMA: &str = "portcullis_audit";

/// The index of the audit logs in a PostgreSQL database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexPlace {
    /// The database, and as whom.
    pub url: IndexUrl,
    /// The authorities of its certificate; needed unless it is on this machine.
    pub ca: Option<PathBuf>,
    /// A file with the role's password, for its owner alone.
    pub password: Option<PathBuf>,
    /// Where in it.
    pub schema: SchemaName,
}

/// `postgresql://ROLE@HOST[:PORT]/DATABASE`, or `postgresql://ROLE@/DATABASE?host=/DIRECTORY` for a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexUrl {
    /// As whom.
    pub role: String,
    /// Where.
    pub host: IndexHost,
    /// Its port.
    pub port: u16,
    /// Its name there.
    pub database: String,
}

/// Where a database listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexHost {
    /// A name or an address.
    Network(String),
    /// The directory of its Unix socket.
    Socket(PathBuf),
}

/// The name of a schema: 1 to 63 of `a-z`, `0-9` and `_`, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaName(String);

/// The files that a place names, read.
#[derive(Default)]
pub struct IndexFiles {
    /// The authorities, as PEM.
    pub ca: Option<String>,
    /// The password; wiped when dropped, and never shown.
    pub password: Option<Zeroizing<String>>,
}

impl fmt::Debug for IndexFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexFiles").finish_non_exhaustive()
    }
}

impl IndexPlace {
    /// Whether what is said can be said in the clear: it does not leave this machine, and no authority is named.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.ca.is_none()
    }

    /// Checks that a place on the network has authorities.
    ///
    /// # Errors
    /// A sentence that says what to write.
    pub fn check(&self) -> Result<(), String> {
        match &self.url.host {
            IndexHost::Socket(_) if self.ca.is_some() => Err(
                "no authority is needed for a Unix socket, which has no TLS: leave it out"
                    .to_owned(),
            ),
            IndexHost::Network(host) if self.ca.is_none() && !is_here(host) => Err(format!(
                "{host} is not this machine: name the file with the authorities of its certificate (`ca`, or `--index-ca`), because nothing is said to it without TLS"
            )),
            IndexHost::Socket(_) | IndexHost::Network(_) => Ok(()),
        }
    }

    /// Reads the files. Waits for the disk.
    ///
    /// # Errors
    /// A sentence with the file's name and never with what is in it.
    pub fn files(&self) -> Result<IndexFiles, String> {
        let named = |path: &Path, problem: String| format!("{}: {problem}", path.display());
        let ca = self.ca.as_deref().map(|path| {
            files::read_text(path, MAX_CA_BYTES).map_err(|problem| named(path, problem))
        });
        let password = self
            .password
            .as_deref()
            .map(|path| password(path).map_err(|problem| named(path, problem)));
        Ok(IndexFiles {
            ca: ca.transpose()?,
            password: password.transpose()?,
        })
    }
}

/// Authorities of one database, in bytes.
const MAX_CA_BYTES: u64 = 256 * 1024;
/// A password with the end of its line, in bytes.
const MAX_PASSWORD_BYTES: u64 = 1024;

fn password(path: &Path) -> Result<Zeroizing<String>, String> {
    let (file, metadata) = files::open(path)?;
    if metadata.mode() & 0o077 != 0 {
        return Err(format!(
            "is a password that others than its owner can use (mode {:04o}); chmod 600 it",
            metadata.mode() & 0o7777
        ));
    }
    let (owner, ours) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != ours && owner != 0 {
        return Err(format!(
            "is a password that belongs to user {owner}; it must belong to root or to user {ours}, who reads it"
        ));
    }
    let text = files::read(file, MAX_PASSWORD_BYTES).map(Zeroizing::new)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    match line {
        "" => Err("is empty; write the password on one line".to_owned()),
        line if line.contains(['\n', '\0']) => {
            Err("has more than one line; write the password alone".to_owned())
        }
        line => Ok(Zeroizing::new(line.to_owned())),
    }
}

fn is_here(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl FromStr for IndexUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!(
                "{what}; write postgresql://ROLE@HOST:PORT/DATABASE, or postgresql://ROLE@/DATABASE?host=/DIRECTORY for a Unix socket"
            )
        };
        let rest = text.strip_prefix("postgresql://");
        let rest = rest.or_else(|| text.strip_prefix("postgres://"));
        let rest = rest.ok_or_else(|| wrong("it is no URL of a PostgreSQL database"))?;
        let (role, rest) = rest
            .split_once('@')
            .ok_or_else(|| wrong("it names no role"))?;
        if role.contains(':') {
            return Err(wrong(
                "a password does not belong into a URL, which many can read: write it to a file of mode 0600",
            ));
        }
        let (place, rest) = rest
            .split_once('/')
            .ok_or_else(|| wrong("it names no database"))?;
        let (database, query) = match rest.split_once('?') {
            Some((database, query)) => (database, Some(query)),
            None => (rest, None),
        };
        for (what, name) in [("role", role), ("database", database)] {
            if !is_name(name) {
                return Err(wrong(&format!(
                    "the {what} is none: 1 to 63 of letters, digits, _, - and ."
                )));
            }
        }
        let (host, port) = match (place, query) {
            ("", Some(query)) => {
                let directory = query.strip_prefix("host=").filter(|it| {
                    it.starts_with('/') && !it.contains(['&', '%', '\0']) && it.len() <= MAX_SOCKET
                });
                let directory = directory.ok_or_else(|| wrong("host is no directory"))?;
                (IndexHost::Socket(directory.into()), POSTGRES_PORT)
            }
            ("", None) => return Err(wrong("it names no host")),
            (_, Some(_)) => return Err(wrong("nothing may follow the database")),
            (place, None) => network(place).ok_or_else(|| wrong("the host or its port is none"))?,
        };
        Ok(Self {
            role: role.to_owned(),
            host,
            port,
            database: database.to_owned(),
        })
    }
}

const POSTGRES_PORT: u16 = 5432;
/// Of the directory of a Unix socket, whose name is 14 more.
const MAX_SOCKET: usize = 90;

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=63).contains(&name.len()) && name.bytes().all(fits)
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]` or `[ADDRESS]:PORT`.
fn network(place: &str) -> Option<(IndexHost, u16)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':')?),
            };
            (host, port)
        }
        None => {
            let (host, port) = match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            };
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
            if !(1..=253).contains(&host.len()) || !host.bytes().all(fits) {
                return None;
            }
            (host, port)
        }
    };
    let port = match port {
        None => POSTGRES_PORT,
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
    };
    Some((IndexHost::Network(host.to_owned()), port))
}

impl fmt::Display for IndexUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            role,
            host,
            port,
            database,
        } = self;
        match host {
            IndexHost::Network(host) if host.contains(':') => {
                write!(f, "postgresql://{role}@[{host}]:{port}/{database}")
            }
            IndexHost::Network(host) => write!(f, "postgresql://{role}@{host}:{port}/{database}"),
            IndexHost::Socket(directory) => write!(
                f,
                "postgresql://{role}@/{database}?host={}",
                directory.display()
            ),
        }
    }
}

impl SchemaName {
    /// The name; it needs no quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self(INDEX_SCHEMA.to_owned())
    }
}

impl FromStr for SchemaName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins = text.starts_with(|first: char| first.is_ascii_lowercase());
        // PostgreSQL keeps these for itself.
        let is_free = !text.starts_with("pg_") && text != "information_schema";
        match begins && is_free && text.len() <= 63 && text.bytes().all(fits) {
            true => Ok(Self(text.to_owned())),
            false => Err(
                "a schema's name is 1 to 63 of a-z, 0-9 and _, beginning with a letter and not with pg_"
                    .to_owned(),
            ),
        }
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<String, String> {
        text.parse::<IndexUrl>().map(|url| url.to_string())
    }

    #[test]
    fn urls_say_who_where_and_which_and_nothing_else() {
        for (written, meant) in [
            (
                "postgresql://w@db.example/audit",
                "postgresql://w@db.example:5432/audit",
            ),
            (
                "postgres://w@127.0.0.1:6000/audit",
                "postgresql://w@127.0.0.1:6000/audit",
            ),
            (
                "postgresql://w@[::1]:6000/audit",
                "postgresql://w@[::1]:6000/audit",
            ),
            (
                "postgresql://w@/audit?host=/run/pg",
                "postgresql://w@/audit?host=/run/pg",
            ),
        ] {
            assert_eq!(url(written).unwrap(), meant);
        }
        for wrong in [
            "",
            "mysql://w@h/d",
            "postgresql://h/d",
            "postgresql://w:secret@h/d",
            "postgresql://w@h",
            "postgresql://w@h/",
            "postgresql://@h/d",
            "postgresql://w@h:0/d",
            "postgresql://w@h:70000/d",
            "postgresql://w@h/d?sslmode=disable",
            "postgresql://w@/d",
            "postgresql://w@/d?host=run",
            "postgresql://w@[h]/d",
            "postgresql://w@h h/d",
            "postgresql://w'--@h/d",
            "postgresql://w@h/d%00",
        ] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
        assert!(
            !url("postgresql://w:secret@h/d")
                .unwrap_err()
                .contains("secret")
        );
    }

    #[test]
    fn what_leaves_this_machine_needs_authorities() {
        let place = |host: &str, ca: Option<&str>| IndexPlace {
            url: format!("postgresql://w@{host}").parse().unwrap(),
            ca: ca.map(PathBuf::from),
            password: None,
            schema: SchemaName::default(),
        };
        for here in ["127.0.0.1/d", "[::1]/d", "localhost/d", "/d?host=/run"] {
            assert_eq!(place(here, None).check(), Ok(()), "{here}");
        }
        for away in ["10.0.0.1/d", "db.example/d", "127.0.0.1.example/d"] {
            assert!(place(away, None).check().is_err(), "{away}");
            assert_eq!(place(away, Some("ca.pem")).check(), Ok(()), "{away}");
        }
        assert!(place("/d?host=/run", Some("ca.pem")).check().is_err());
    }

    #[test]
    fn a_schema_is_a_plain_name() {
        let long = "a".repeat(64);
        for wrong in [
            "",
            "A",
            "1a",
            "a-b",
            "a\"b",
            "a;drop",
            "pg_x",
            "information_schema",
            &long,
        ] {
            assert!(wrong.parse::<SchemaName>().is_err(), "{wrong}");
        }
        for right in ["a", "portcullis_audit", &"a".repeat(63)] {
            assert_eq!(right.parse::<SchemaName>().unwrap().as_str(), right);
        }
    }
}
