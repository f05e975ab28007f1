//! The StartupMessage: whom and what a client asks for.
//!
//! Source: PostgreSQL documentation, "StartupMessage"; `ProcessStartupPacket` in PostgreSQL's `backend_startup.c`.

use crate::bytes::{Reader, push_c_string};
use crate::limits::{MAX_NAME, MAX_STARTUP_PACKET, MAX_STARTUP_PARAMETERS, MAX_VALUE};
use crate::negotiate::ProtocolVersion;
use crate::{Complaint, StartupLayout};

/// A startup packet, read once and for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartupMessage {
    /// As asked for; not yet negotiated.
    pub version: ProtocolVersion,
    /// The role, 1 to 63 bytes, never cut.
    pub user: String,
    /// The database; the role's name when absent or empty, as in PostgreSQL. Physical replication has no database and
    /// disregards it.
    pub database: String,
    /// `options`, untouched: command-line switches with their own quoting.
    pub options: Option<String>,
    /// `replication`.
    pub replication: Replication,
    /// Everything else, in order and untouched. Which of these go on to a server is the caller's decision.
    pub parameters: Vec<(String, String)>,
    /// The names of the `_pq_.` options, in order, for [`negotiate`](crate::negotiate::negotiate).
    pub protocol_options: Vec<String>,
}

/// What kind of session is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// An ordinary session.
    No,
    /// `replication=true`: a WAL sender without a database.
    Physical,
    /// `replication=database`: a WAL sender in a database.
    Logical,
}

impl Replication {
    /// The value to send on to a server; `None` for an ordinary session.
    pub fn parameter(self) -> Option<&'static str> {
        match self {
            Self::No => None,
            Self::Physical => Some("true"),
            Self::Logical => Some("database"),
        }
    }
}

impl StartupMessage {
    /// Reads the body of a startup packet: the bytes after length and version.
    ///
    /// # Errors
    /// A major version other than 3, a layout that is not pairs of C strings and a terminator, what says who
    /// one is given twice, a parameter past its limits, or no role.
    pub fn decode(body: &[u8], version: ProtocolVersion) -> Result<Self, Complaint> {
        // Protocol 2 has another layout altogether, so its body must not be read as ours.
        if version.major() != 3 {
            return Err(Complaint::UnsupportedVersion { version });
        }
        let mut reserved = Reserved::default();
        let mut parameters: Vec<(String, String)> = Vec::new();
        let mut protocol_options = Vec::new();
        for (name, value) in pairs(body)? {
            match name {
                "user" => reserved.user = Some(value),
                "database" => reserved.database = Some(value),
                "options" => reserved.options = Some(value),
                "replication" => reserved.replication = Some(value),
                option if option.starts_with(PROTOCOL_OPTION) => {
                    protocol_options.push(option.to_owned());
                }
                setting => parameters.push((setting.to_owned(), value.to_owned())),
            }
        }
        let user = match reserved.user {
            None | Some("") => return Err(Complaint::MissingUser),
            Some(user) => name("user", user)?,
        };
        let database = match reserved.database {
            None | Some("") => user,
            Some(database) => name("database", database)?,
        };
        Ok(Self {
            version,
            user: user.to_owned(),
            database: database.to_owned(),
            options: reserved.options.map(str::to_owned),
            replication: reserved
                .replication
                .map_or(Ok(Replication::No), replication)?,
            parameters,
            protocol_options,
        })
    }
}

/// A whole StartupMessage of protocol 3.0 for a server: `user`, `database`, then `parameters` in order.
///
/// # Errors
/// [`Complaint::Unencodable`] for an empty role or parameter name, a NUL in a string (it would begin another
/// parameter) or a packet longer than [`MAX_STARTUP_PACKET`].
pub fn encode_startup<'a>(
    user: &'a str,
    database: &'a str,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Vec<u8>, Complaint> {
    if user.is_empty() {
        return Err(Complaint::Unencodable("an empty role name"));
    }
    let mut body = ProtocolVersion::V3_0.to_u32().to_be_bytes().to_vec();
    let reserved = [("user", user), ("database", database)];
    for (name, value) in reserved.into_iter().chain(parameters) {
        if name.is_empty() {
            return Err(Complaint::Unencodable("a startup parameter without a name"));
        }
        push_c_string(&mut body, name.as_bytes())
            .and_then(|()| push_c_string(&mut body, value.as_bytes()))
            .ok_or(Complaint::Unencodable("a NUL in a startup parameter"))?;
    }
    body.push(0);
    let length = body.len() + 4;
    let Some(length) = u32::try_from(length)
        .ok()
        .filter(|_| length <= MAX_STARTUP_PACKET)
    else {
        return Err(Complaint::Unencodable("a startup packet that is too long"));
    };
    let mut packet = length.to_be_bytes().to_vec();
    packet.append(&mut body);
    Ok(packet)
}

/// Names that begin so ask for a protocol extension; PostgreSQL compares case-sensitively.
const PROTOCOL_OPTION: &str = "_pq_.";

/// Parameters with a meaning of their own; PostgreSQL knows them in these letters only.
const RESERVED: [&str; 4] = ["user", "database", "options", "replication"];

#[derive(Default)]
struct Reserved<'a> {
    user: Option<&'a str>,
    database: Option<&'a str>,
    options: Option<&'a str>,
    replication: Option<&'a str>,
}

/// The pairs of a startup packet in order, each within its limits; what says who one is is not
/// given twice. Of a setting given twice PostgreSQL takes the last, and gets both.
fn pairs(body: &[u8]) -> Result<Vec<(&str, &str)>, Complaint> {
    // The last byte is checked first, so that every string inside is sure to end.
    if body.last() != Some(&0) {
        return Err(Complaint::StartupLayout(StartupLayout::NoTerminator));
    }
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    let mut reader = Reader::new(body);
    loop {
        let name = match reader.c_string() {
            None => return Err(Complaint::StartupLayout(StartupLayout::NoTerminator)),
            Some([]) => break,
            Some(name) => name,
        };
        let value = reader
            .c_string()
            .ok_or(Complaint::StartupLayout(StartupLayout::NoValue))?;
        if pairs.len() >= MAX_STARTUP_PARAMETERS {
            return Err(Complaint::TooManyParameters);
        }
        let (name, value) = pair(name, value)?;
        let decisive = RESERVED.contains(&name) || name.starts_with(PROTOCOL_OPTION);
        if decisive && pairs.iter().any(|(known, _)| *known == name) {
            return Err(Complaint::DuplicateParameter {
                name: name.to_owned(),
            });
        }
        pairs.push((name, value));
    }
    if !reader.is_empty() {
        return Err(Complaint::StartupLayout(StartupLayout::TrailingBytes));
    }
    Ok(pairs)
}

fn pair<'a>(name: &'a [u8], value: &'a [u8]) -> Result<(&'a str, &'a str), Complaint> {
    if name.len() > MAX_NAME {
        return Err(Complaint::ParameterNameLength { length: name.len() });
    }
    let name = std::str::from_utf8(name).map_err(|_| Complaint::ParameterNotUtf8)?;
    if value.len() > MAX_VALUE {
        return Err(Complaint::ParameterValueLength {
            name: name.to_owned(),
            length: value.len(),
        });
    }
    let value = std::str::from_utf8(value).map_err(|_| Complaint::ParameterNotUtf8)?;
    let misspelt = |reserved: &str| name.eq_ignore_ascii_case(reserved) && name != reserved;
    if RESERVED.iter().copied().any(misspelt) {
        return Err(Complaint::ParameterSpelling {
            name: name.to_owned(),
        });
    }
    Ok((name, value))
}

fn name<'a>(field: &'static str, value: &'a str) -> Result<&'a str, Complaint> {
    if value.len() > MAX_NAME {
        return Err(Complaint::NameLength {
            field,
            length: value.len(),
        });
    }
    Ok(value)
}

/// As PostgreSQL reads it: exactly `database`, or what `parse_bool` takes (any case, any unambiguous prefix).
fn replication(value: &str) -> Result<Replication, Complaint> {
    if value == "database" {
        return Ok(Replication::Logical);
    }
    let lower = value.to_ascii_lowercase();
    let prefix_of = |word: &str, least: usize| lower.len() >= least && word.starts_with(&lower);
    if prefix_of("true", 1) || prefix_of("yes", 1) || prefix_of("on", 2) || lower == "1" {
        Ok(Replication::Physical)
    } else if prefix_of("false", 1) || prefix_of("no", 1) || prefix_of("off", 2) || lower == "0" {
        Ok(Replication::No)
    } else {
        Err(Complaint::InvalidReplication)
    }
}
