//! The little of the PostgreSQL protocol that a test client must understand, written apart from
//! the product's codecs: a test that read with the code under test would agree with its mistakes.

use std::io::{self, Read};

/// A message from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type byte.
    pub kind: u8,
    /// What follows the length.
    pub body: Vec<u8>,
}

/// Why no further message came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Closed between messages: in order, with close_notify if there is TLS.
    Closed,
    /// Closed, but in the middle of a message, or without TLS's close_notify.
    CutOff,
    /// Reset.
    Reset,
    /// Nothing came within the client's limit: it is still open.
    Silent,
    /// The server said no (an `ErrorResponse` where another message was due).
    Refused(Message),
    /// Anything else: a TLS alert, say.
    Other(String),
}

/// More than any message that a test should see.
const MAX_MESSAGE: usize = 64 << 20;

impl Message {
    pub(super) fn read(stream: &mut impl Read) -> Result<Self, Ending> {
        let mut kind = [0];
        // The end is in order only here, between messages.
        match stream.read(&mut kind) {
            Ok(0) => return Err(Ending::Closed),
            Ok(_) => {}
            Err(error) => return Err(Ending::from(error)),
        }
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).expect("32 bits fit");
        assert!(
            (4..=MAX_MESSAGE).contains(&length),
            "a message of type {:?} says it is {length} long",
            char::from(kind[0])
        );
        let mut body = vec![0; length - 4];
        stream.read_exact(&mut body)?;
        Ok(Self {
            kind: kind[0],
            body,
        })
    }

    /// A field of an `ErrorResponse` or `NoticeResponse`: `C` is the SQLSTATE, `M` the message.
    #[must_use]
    pub fn field(&self, code: u8) -> Option<String> {
        self.body
            .split(|&byte| byte == 0)
            .find(|field| field.first() == Some(&code))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
    }

    /// The SQLSTATE of an `ErrorResponse`.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn sqlstate(&self) -> String {
        self.field(b'C')
            .unwrap_or_else(|| panic!("no SQLSTATE in {self:?}"))
    }

    /// Everything that an `ErrorResponse` says to a person, in one line.
    #[must_use]
    pub fn text(&self) -> String {
        [b'S', b'M', b'D', b'H']
            .iter()
            .filter_map(|&code| self.field(code))
            .collect::<Vec<_>>()
            .join(" | ")
    }

    /// The reference (`PC-…`) in an `ErrorResponse`.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn reference(&self) -> String {
        let text = self.text();
        let start = text
            .find("PC-")
            .unwrap_or_else(|| panic!("no reference in {text:?}"));
        text[start..]
            .chars()
            .take("PC-XXXX-XXXX-XXXX".len())
            .collect()
    }

    /// The number after the length of an authentication request.
    #[must_use]
    pub fn authentication(&self) -> Option<u32> {
        let number = self.body.first_chunk::<4>()?;
        (self.kind == b'R').then_some(u32::from_be_bytes(*number))
    }

    /// The fields of a `DataRow`, as text.
    #[must_use]
    pub fn row(&self) -> Vec<Option<String>> {
        let (count, mut rest) = self.body.split_at(2);
        let count = u16::from_be_bytes([count[0], count[1]]);
        (0..count)
            .map(|_| {
                let (length, after) = rest.split_at(4);
                rest = after;
                let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
                let length = usize::try_from(length).ok()?;
                let (value, after) = rest.split_at(length);
                rest = after;
                Some(String::from_utf8_lossy(value).into_owned())
            })
            .collect()
    }
}

/// A startup packet of this version with these parameters, in this order, whatever they are.
#[must_use]
pub fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        for text in [name, value] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    let mut packet = length_of(&body).to_vec();
    packet.extend_from_slice(&body);
    packet
}

/// A message with its type byte and its length.
#[must_use]
pub fn tagged(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend_from_slice(&length_of(body));
    message.extend_from_slice(body);
    message
}

/// A length counts itself.
fn length_of(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4)
        .expect("a test's message is short")
        .to_be_bytes()
}

impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::UnexpectedEof => Self::CutOff,
            _ => Self::Other(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_startup_packet_counts_its_own_length() {
        assert_eq!(
            startup(0x0003_0000, &[("user", "a")]),
            b"\0\0\0\x10\0\x03\0\0user\0a\0\0"
        );
    }

    #[test]
    fn an_error_is_taken_apart() {
        let bytes = tagged(
            b'E',
            b"SFATAL\0C28000\0Mno (reference PC-ABCD-EFGH-JKMN)\0\0",
        );
        let message = Message::read(&mut bytes.as_slice()).unwrap();
        assert_eq!(
            (message.sqlstate().as_str(), message.reference().as_str()),
            ("28000", "PC-ABCD-EFGH-JKMN")
        );
    }

    #[test]
    fn the_end_between_messages_and_the_end_within_one_are_told_apart() {
        let bytes = tagged(b'Z', b"I");
        assert_eq!(Message::read(&mut [].as_slice()), Err(Ending::Closed));
        assert_eq!(Message::read(&mut &bytes[..3]), Err(Ending::CutOff));
    }

    #[test]
    fn a_null_and_an_empty_field_are_told_apart() {
        let row = Message {
            kind: b'D',
            body: b"\0\x02\xff\xff\xff\xff\0\0\0\0".to_vec(),
        };
        assert_eq!(row.row(), [None, Some(String::new())]);
    }
}
