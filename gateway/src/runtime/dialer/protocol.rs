//! What the gateway and the dialer say to each other: one request and one reply on each
//! connection, both a big-endian `u16` length and that many bytes of JSON. A reply that says
//! `made` carries exactly one descriptor beside its first byte.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use portcullis_policy::Via;
use serde::{Deserialize, Serialize};

use crate::runtime::sockets::Family;

/// The longest JSON text either side accepts, in bytes.
pub const MAX_FRAME: usize = 1024;
/// The bytes of the length before it.
pub const LENGTH_BYTES: usize = 2;
/// The longest name of a network namespace, in bytes.
pub const MAX_NAMESPACE_NAME: usize = 64;
/// The longest name of an interface, in bytes (Linux: `IFNAMSIZ` less its NUL).
pub const MAX_INTERFACE_NAME: usize = 15;

/// "Make me this, there."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Request {
    /// What is wanted.
    pub make: Make,
    /// Where it shall be made.
    pub place: Place,
}

/// The two things a dialer makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Make {
    /// An unconnected, non-blocking TCP socket.
    Socket {
        /// Of this family.
        family: Family,
    },
    /// A bound and listening, non-blocking TCP socket with `SO_REUSEPORT`.
    Listener {
        /// Bound here.
        address: SocketAddr,
        /// With at most so many connections waiting.
        backlog: u32,
    },
}

/// Where a socket is made. Its text is `network-namespace:NAME` or `interface:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// Inside the network namespace of this name.
    NetworkNamespace(PlaceName),
    /// Bound to the interface of this name.
    Interface(PlaceName),
}

impl Place {
    /// The place that a policy's or a node's `via` names.
    ///
    /// # Errors
    /// [`PlaceError`] when the name breaks the grammar.
    pub fn of(via: &Via) -> Result<Self, PlaceError> {
        match via {
            Via::NetworkNamespace(name) => Self::network_namespace(name),
            Via::Interface(name) => Self::interface(name),
        }
    }

    fn network_namespace(name: &str) -> Result<Self, PlaceError> {
        PlaceName::parse(name, MAX_NAMESPACE_NAME).map(Self::NetworkNamespace)
    }

    fn interface(name: &str) -> Result<Self, PlaceError> {
        PlaceName::parse(name, MAX_INTERFACE_NAME).map(Self::Interface)
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        match text.split_once(':') {
            Some(("network-namespace", name)) => Self::network_namespace(name),
            Some(("interface", name)) => Self::interface(name),
            Some(_) | None => Err(PlaceError::Kind(text.to_owned())),
        }
    }
}

/// A name that is no path: one made of slashes or dots would lead a privileged process out of its
/// directory, so it can only be had by way of [`Place`], checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlaceName(String);

impl PlaceName {
    fn parse(name: &str, longest: usize) -> Result<Self, PlaceError> {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let fits = (1..=longest).contains(&name.len())
            && name.bytes().all(known)
            && name != "."
            && name != "..";
        if fits {
            Ok(Self(name.to_owned()))
        } else {
            Err(PlaceError::Name {
                name: name.to_owned(),
                longest,
            })
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PlaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Place {
    type Error = PlaceError;

    fn try_from(text: String) -> Result<Self, PlaceError> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NetworkNamespace(name) => write!(f, "network-namespace:{name}"),
            Self::Interface(name) => write!(f, "interface:{name}"),
        }
    }
}

/// A text that names no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceError {
    /// It does not begin with a kind of place.
    Kind(String),
    /// Its name breaks the grammar.
    Name {
        /// The name.
        name: String,
        /// How long it may be, in bytes.
        longest: usize,
    },
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(text) => write!(
                f,
                "{text:?} names no place: write network-namespace:NAME or interface:NAME"
            ),
            Self::Name { name, longest } => write!(
                f,
                "{name:?} is not a name of 1 to {longest} characters out of A-Z a-z 0-9 . _ -"
            ),
        }
    }
}

impl std::error::Error for PlaceError {}

/// The dialer's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Reply {
    /// The socket comes with this reply.
    Made,
    /// There is none, because of this.
    Refused(Refusal),
}

/// Why the dialer made nothing. Its text says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Refusal {
    /// The asking process runs as a user who was not allowed.
    Stranger {
        /// Its user id.
        uid: u32,
    },
    /// As many requests as the dialer serves at once are being served.
    Busy,
    /// The request could not be understood.
    Malformed {
        /// In what way.
        what: String,
    },
    /// The dialer was not started with `--allow` for this place.
    NotAllowed {
        /// The place.
        place: Place,
    },
    /// There is no such namespace or interface.
    Unknown {
        /// The place.
        place: Place,
    },
    /// Something of that name exists, but it is no network namespace.
    NotANamespace {
        /// The place.
        place: Place,
    },
    /// The kernel said no.
    Failed {
        /// To what.
        step: Step,
        /// The place.
        place: Place,
        /// With this error number.
        errno: i32,
    },
}

/// What the dialer was doing when the kernel said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Opening the namespace's file.
    Open,
    /// Entering the namespace.
    Enter,
    /// Making, binding or listening.
    Socket,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger { uid } => write!(
                f,
                "user {uid} is not allowed; start the dialer with --allow-uid {uid} if it should be"
            ),
            Self::Busy => f.write_str("it is serving as many requests as it may; try again"),
            Self::Malformed { what } => write!(
                f,
                "it did not understand the request ({what}); run the same version on both sides"
            ),
            Self::NotAllowed { place } => write!(
                f,
                "{place} is not on its list; start the dialer with --allow {place} if it should be"
            ),
            Self::Unknown {
                place: Place::NetworkNamespace(name),
            } => write!(
                f,
                "namespace {name} does not exist; `ip netns list` shows those that do, \
                 `ip netns add {name}` makes it"
            ),
            Self::Unknown {
                place: Place::Interface(name),
            } => write!(
                f,
                "interface {name} does not exist; `ip link show` shows those that do"
            ),
            Self::NotANamespace { place } => write!(
                f,
                "{place} is not a network namespace; look at the file of that name \
                 (`ip netns list`, `findmnt -t nsfs`)"
            ),
            Self::Failed { step, place, errno } => {
                let source = std::io::Error::from_raw_os_error(*errno);
                match step {
                    Step::Open => write!(f, "{place} could not be opened: {source}"),
                    Step::Enter => write!(
                        f,
                        "{place} could not be entered: {source}; that takes CAP_SYS_ADMIN, which \
                         `portcullis dialer` is started with"
                    ),
                    Step::Socket => write!(f, "no socket could be made in {place}: {source}"),
                }
            }
        }
    }
}

/// Puts the length before the JSON text of a request or reply.
///
/// # Errors
/// [`FrameError`] when the text is longer than [`MAX_FRAME`].
pub fn frame(message: &impl Serialize) -> Result<Vec<u8>, FrameError> {
    let text = serde_json::to_vec(message).map_err(|e| FrameError::Json(e.to_string()))?;
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    if usize::from(length) > MAX_FRAME {
        return Err(FrameError::TooLong(text.len()));
    }
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(&text);
    Ok(bytes)
}

/// Reads a frame out of the bytes received so far; `None` means that more are needed.
///
/// # Errors
/// [`FrameError`] when the length is over [`MAX_FRAME`], when bytes follow the frame, or when the
/// text is not what was expected.
pub fn unframe<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<Option<T>, FrameError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    match rest.len().cmp(&length) {
        std::cmp::Ordering::Less => Ok(None),
        std::cmp::Ordering::Greater => Err(FrameError::Trailing(rest.len() - length)),
        std::cmp::Ordering::Equal => serde_json::from_slice(rest)
            .map(Some)
            .map_err(|e| FrameError::Json(e.to_string())),
    }
}

/// Bytes that are no frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// Its length is over the maximum.
    TooLong(usize),
    /// So many bytes follow it.
    Trailing(usize),
    /// The JSON text says something else.
    Json(String),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(length) => {
                write!(
                    f,
                    "a message of {length} bytes, at most {MAX_FRAME} are accepted"
                )
            }
            Self::Trailing(count) => write!(f, "{count} bytes after the message"),
            Self::Json(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_way_there() {
        let request = Request {
            make: Make::Listener {
                address: "[fd00::1]:5433".parse().unwrap(),
                backlog: 4096,
            },
            place: "network-namespace:acme".parse().unwrap(),
        };
        let bytes = frame(&request).unwrap();
        assert_eq!(unframe::<Request>(&bytes).unwrap(), Some(request));
        for cut in 0..bytes.len() {
            assert_eq!(
                unframe::<Request>(&bytes[..cut]).unwrap(),
                None,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_name_that_is_a_path_is_refused_wherever_it_is_read() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "/run",
            "a\0",
            "é",
            "a b",
            &"n".repeat(65),
        ] {
            assert!(
                format!("network-namespace:{name}")
                    .parse::<Place>()
                    .is_err(),
                "{name:?}"
            );
            let json = serde_json::json!({
                "make": {"socket": {"family": "v4"}},
                "place": format!("network-namespace:{name}"),
            });
            assert!(serde_json::from_value::<Request>(json).is_err(), "{name:?}");
            assert!(
                Place::of(&Via::NetworkNamespace(name.into())).is_err(),
                "{name:?}"
            );
        }
        assert!(
            format!("network-namespace:{}", "n".repeat(64))
                .parse::<Place>()
                .is_ok()
        );
        assert!(
            format!("interface:{}", "n".repeat(15))
                .parse::<Place>()
                .is_ok()
        );
        assert!(
            format!("interface:{}", "n".repeat(16))
                .parse::<Place>()
                .is_err()
        );
        assert!("acme".parse::<Place>().is_err());
    }

    #[test]
    fn lengths_are_checked_before_they_are_believed() {
        let longest = u16::try_from(MAX_FRAME).unwrap();
        assert_eq!(unframe::<Reply>(&longest.to_be_bytes()).unwrap(), None);
        let over = (longest + 1).to_be_bytes();
        assert_eq!(
            unframe::<Reply>(&over),
            Err(FrameError::TooLong(MAX_FRAME + 1))
        );
        let mut two = frame(&Reply::Made).unwrap();
        two.push(b' ');
        assert_eq!(unframe::<Reply>(&two), Err(FrameError::Trailing(1)));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let place: Place = "network-namespace:acme".parse().unwrap();
        let said = Refusal::Unknown {
            place: place.clone(),
        }
        .to_string();
        assert!(said.contains("namespace acme does not exist"), "{said}");
        assert!(said.contains("ip netns list"), "{said}");
        let said = Refusal::NotAllowed { place }.to_string();
        assert!(said.contains("--allow network-namespace:acme"), "{said}");
    }
}
