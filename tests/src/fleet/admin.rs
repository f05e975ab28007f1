//! A node's admin socket, asked without the command line: one process less per question, and
//! requests that it never sends.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// What a node answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// As HTTP has it.
    pub status: u16,
    /// JSON.
    pub body: Value,
}

impl Answer {
    /// The body of a yes.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// The code of a no.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}

/// Asks a node through its admin socket; `None` when it is not there, or says nothing in time.
#[must_use]
pub fn ask(
    socket: &Path,
    method: &str,
    target: &str,
    body: &str,
    limit: Duration,
) -> Option<Answer> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.set_write_timeout(Some(limit)).ok()?;
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        status,
        body: serde_json::from_str(body).ok()?,
    })
}
