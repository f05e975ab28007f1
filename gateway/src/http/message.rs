//! Requests, answers and who asked, in our own words rather than an HTTP library's.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::limits::MAX_JSON_DEPTH;

/// What a handler is given: the request, whole, its body within the route's limit.
#[derive(Debug)]
pub struct Request {
    /// Who asks.
    pub peer: Peer,
    /// The text that stood where the route's pattern says `{}`, in order.
    pub captured: Vec<String>,
    /// `name=value` pairs of the query. Values are plain: nothing in them is percent-encoded.
    pub query: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The body as JSON.
    ///
    /// # Errors
    /// What is wrong with it: nested deeper than `MAX_JSON_DEPTH`, not JSON, an unknown or a
    /// missing key.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, BodyError> {
        if json_depth(&self.body) > MAX_JSON_DEPTH {
            return Err(BodyError::TooDeep);
        }
        serde_json::from_slice(&self.body).map_err(BodyError::Malformed)
    }
}

/// A body is not the JSON that was asked for.
#[derive(Debug)]
pub enum BodyError {
    /// Nested deeper than `MAX_JSON_DEPTH`.
    TooDeep,
    /// Not JSON, or with an unknown or a missing key.
    Malformed(serde_json::Error),
}

impl BodyError {
    /// A stable word for it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooDeep => "body_too_deep",
            Self::Malformed(_) => "body_malformed",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep => write!(
                f,
                "the JSON body is nested deeper than {MAX_JSON_DEPTH} levels"
            ),
            Self::Malformed(error) => write!(f, "the body: {error}"),
        }
    }
}

impl std::error::Error for BodyError {}

/// The deepest nesting of brackets outside of strings; brackets need not match (the parser's job).
fn json_depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in body {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth = depth.saturating_add(1);
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The far side of a connection, as the kernel states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process on this machine, through a Unix socket.
    Local(Caller),
    /// Through TCP: an address proves nothing about who it is.
    Remote(SocketAddr),
    /// Through TLS, by the certificate of the handshake.
    Operator(Operator),
}

/// Whom a certificate names. Whether that operator may do anything is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The name.
    pub name: Arc<str>,
    /// SHA-256 of the public key in the certificate (SubjectPublicKeyInfo, DER).
    pub key: [u8; 32],
    /// Until when the certificate is good, in Unix seconds: a connection may outlive it.
    pub until: i64,
    /// Where the connection came from. For the record only.
    pub address: SocketAddr,
}

/// The credentials that the kernel recorded when a process connected to a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Process id, where the system tells. For the log only: it may have been reused since.
    pub pid: Option<i32>,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) allow: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// `200 OK` with a value as JSON.
    pub fn json<T: Serialize>(value: &T) -> Self {
        Self::json_with_status(200, value)
    }

    /// Any status with a value as JSON.
    pub fn json_with_status<T: Serialize>(status: u16, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut body) => {
                body.push(b'\n');
                Self {
                    status,
                    content_type: "application/json",
                    allow: None,
                    body,
                }
            }
            Err(error) => Self::refusal(
                500,
                "answer_unwritable",
                &format!("the answer could not be written as JSON: {error}"),
            ),
        }
    }

    /// `200 OK` with text of the given media type.
    #[must_use]
    pub fn text(content_type: &'static str, body: String) -> Self {
        Self {
            status: 200,
            content_type,
            allow: None,
            body: body.into_bytes(),
        }
    }

    /// Any status with text of the given media type.
    #[must_use]
    pub fn with_status(status: u16, content_type: &'static str, body: String) -> Self {
        Self {
            status,
            ..Self::text(content_type, body)
        }
    }

    /// `200 OK` with bytes that are not text.
    #[must_use]
    pub fn octets(body: Vec<u8>) -> Self {
        Self {
            status: 200,
            content_type: "application/octet-stream",
            allow: None,
            body,
        }
    }

    /// An answer that is not a yes: `{"error": {"code": …, "message": …}}`.
    #[must_use]
    pub fn refusal(status: u16, code: &str, message: &str) -> Self {
        let mut body = serde_json::json!({ "error": { "code": code, "message": message } })
            .to_string()
            .into_bytes();
        body.push(b'\n');
        Self {
            status,
            content_type: "application/json",
            allow: None,
            body,
        }
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// The methods that exist here. Any other is answered 405.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads; changes nothing.
    Get,
    /// Carries a body; may change something.
    Post,
}

impl Method {
    /// The method of that exact (case-sensitive, RFC 9110 section 9.1) name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "GET" => Some(Self::Get),
            "POST" => Some(Self::Post),
            _ => None,
        }
    }

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &str) -> Request {
        Request {
            peer: Peer::Local(Caller {
                uid: 0,
                gid: 0,
                pid: None,
            }),
            captured: Vec::new(),
            query: BTreeMap::new(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn brackets_inside_strings_do_not_count_as_depth() {
        assert_eq!(json_depth(br#"{"a": "[[[[\"[[", "b": [1, [2]]}"#), 3);
        assert_eq!(json_depth(br#""\\" [[["#), 3);
    }

    #[test]
    fn a_body_at_the_depth_limit_is_read_and_one_deeper_is_refused() {
        let nested =
            |levels: usize| request(&format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
        assert!(nested(MAX_JSON_DEPTH).json::<serde_json::Value>().is_ok());
        assert!(matches!(
            nested(MAX_JSON_DEPTH + 1).json::<serde_json::Value>(),
            Err(BodyError::TooDeep)
        ));
    }

    #[test]
    fn a_body_that_is_not_json_is_refused_with_the_place() {
        let refused = request("{\"a\": }")
            .json::<serde_json::Value>()
            .unwrap_err();
        assert!(refused.to_string().contains("line 1 column 7"), "{refused}");
    }
}
