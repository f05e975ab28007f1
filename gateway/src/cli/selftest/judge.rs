//! What was heard, and whether it is what must be.

use super::attack::{DEADLINE, Must};
use crate::runtime::clock::Duration;

/// Everything that an attacker got to hear on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// What was answered; decrypted where there was TLS.
    pub(super) bytes: Vec<u8>,
    /// How it ended.
    pub(super) end: End,
    /// After how long.
    pub(super) took: Duration,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The other side closed or reset it.
    Closed,
    /// It is still open, and the attacker has lost patience.
    Open,
    /// The handshake that was attempted was refused, by this.
    NoHandshake(String),
}

impl Heard {
    /// Whether this is what must come of an attack.
    pub(super) fn fits(&self, must: Must) -> bool {
        let ended = match self.end {
            End::Closed | End::NoHandshake(_) => true,
            End::Open => false,
        };
        ended
            && match must {
                Must::Silence => self.bytes.is_empty(),
                Must::NoHandshake => is_alert(self.bytes.strip_prefix(b"S").unwrap_or(&self.bytes)),
                Must::Refusal(sqlstate) => self.only_error().is_some_and(|it| it == sqlstate),
                Must::NoSession => messages(&self.bytes)
                    .is_some_and(|messages| messages.iter().all(|it| !it.is_of_a_session())),
                Must::Deadline => self.took <= DEADLINE && self.bytes.len() <= SHORT,
                // Judged from two.
                Must::Alike | Must::NotTaken => false,
            }
    }

    /// The SQLSTATE, if one fatal error is all that was answered.
    pub(super) fn only_error(&self) -> Option<String> {
        match messages(&self.bytes)?.as_slice() {
            [only] if only.kind == b'E' => {
                let fatal = only.field(b'V').is_some_and(|it| it == b"FATAL");
                fatal.then(|| text(only.field(b'C').unwrap_or_default()))
            }
            _ => None,
        }
    }

    /// The answer with its reference made the same for all.
    pub(super) fn but_for_references(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes.len());
        let mut rest = self.bytes.as_slice();
        while let Some((first, after)) = rest.split_first() {
            match rest.get(..REFERENCE).filter(|it| it.starts_with(b"PC-")) {
                Some(_) => {
                    out.extend(b"PC-");
                    rest = rest.get(REFERENCE..).unwrap_or_default();
                }
                None => {
                    out.push(*first);
                    rest = after;
                }
            }
        }
        out
    }

    /// For a person.
    pub(super) fn describe(&self) -> String {
        let answered = match (self.bytes.as_slice(), self.only_error()) {
            ([], _) => "nothing answered".to_owned(),
            (_, Some(sqlstate)) => format!("one fatal error, {sqlstate}"),
            (bytes, None) => format!("answered {}", sample(bytes)),
        };
        let after = format!("after {:.1} s", self.took.as_secs_f64());
        match &self.end {
            End::Closed => format!("{answered}, closed {after}"),
            End::Open => format!("{answered}, still open {after}"),
            End::NoHandshake(why) => format!("no handshake: {why}"),
        }
    }
}

/// `PC-XXXX-XXXX-XXXX`.
const REFERENCE: usize = 17;
/// What may be answered to one that is slow: `S`, and an alert.
const SHORT: usize = 64;
/// Bytes of an answer that a report shows.
const SAMPLE: usize = 48;

/// Nothing, or TLS alerts only.
fn is_alert(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let [0x15, 3, _, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        match after.get(length..) {
            Some(next) => rest = next,
            None => return false,
        }
    }
    rest.is_empty()
}

/// One message of a server.
struct Message<'a> {
    kind: u8,
    body: &'a [u8],
}

impl Message<'_> {
    /// A field of an error.
    fn field(&self, code: u8) -> Option<&[u8]> {
        self.body.split(|byte| *byte == 0).find_map(|field| {
            let (first, rest) = field.split_first()?;
            (*first == code).then_some(rest)
        })
    }

    /// Anything but an error, a negotiation, or a question for a credential.
    fn is_of_a_session(&self) -> bool {
        match self.kind {
            b'E' | b'v' => false,
            b'R' => self.body.starts_with(&[0; 4]) || self.body.len() < 4,
            _ => true,
        }
    }
}

/// The whole answer as messages, if that is what it is.
fn messages(bytes: &[u8]) -> Option<Vec<Message<'_>>> {
    let mut all = Vec::new();
    let mut rest = bytes;
    while let Some((kind, after)) = rest.split_first() {
        let (length, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (body, next) = after.split_at_checked(length.checked_sub(4)?)?;
        all.push(Message { kind: *kind, body });
        rest = next;
    }
    Some(all)
}

fn sample(bytes: &[u8]) -> String {
    let shown = bytes.get(..SAMPLE).unwrap_or(bytes);
    let more = if shown.len() < bytes.len() { "…" } else { "" };
    format!("{} bytes, \"{}{more}\"", bytes.len(), shown.escape_ascii())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(bytes: &[u8], end: End) -> Heard {
        Heard {
            bytes: bytes.to_vec(),
            end,
            took: Duration::from_millis(3),
        }
    }

    const REFUSAL: &[u8] = b"E\0\0\0\x1eSFATAL\0VFATAL\0C28000\0Mno\0\0";

    #[test]
    fn each_demand_is_met_by_its_answer_and_by_no_other() {
        let alert = b"\x15\x03\x03\0\x02\x02\x28";
        let asked = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
        let open = |bytes: &[u8]| heard(bytes, End::Open);
        let closed = |bytes: &[u8]| heard(bytes, End::Closed);
        for (must, heard, fits) in [
            (Must::Silence, closed(b""), true),
            (Must::Silence, closed(b"S"), false),
            (Must::Silence, open(b""), false),
            (Must::NoHandshake, closed(b""), true),
            (Must::NoHandshake, closed(alert), true),
            (
                Must::NoHandshake,
                closed(&[b"S", &alert[..]].concat()),
                true,
            ),
            (Must::NoHandshake, closed(b"\x16\x03\x03\0\x01\x02"), false),
            (
                Must::NoHandshake,
                closed(&[&alert[..], REFUSAL].concat()),
                false,
            ),
            (Must::NoHandshake, open(b""), false),
            (
                Must::NoHandshake,
                heard(b"", End::NoHandshake("no".into())),
                true,
            ),
            (Must::Refusal("28000"), closed(REFUSAL), true),
            (Must::Refusal("08P01"), closed(REFUSAL), false),
            (Must::Refusal("28000"), open(REFUSAL), false),
            (
                Must::Refusal("28000"),
                closed(&[&asked[..], REFUSAL].concat()),
                false,
            ),
            (
                Must::NoSession,
                closed(&[&asked[..], REFUSAL].concat()),
                true,
            ),
            (Must::NoSession, closed(b"R\0\0\0\x08\0\0\0\0"), false),
            (Must::NoSession, closed(b"Z\0\0\0\x05I"), false),
            (
                Must::NoSession,
                closed(b"HTTP/1.1 400 Bad Request\r\n"),
                false,
            ),
            (Must::Deadline, closed(b"S"), true),
            (Must::Deadline, open(b""), false),
        ] {
            assert_eq!(heard.fits(must), fits, "{must:?} by {}", heard.describe());
        }
    }

    #[test]
    fn references_are_the_only_thing_that_may_differ() {
        let told = |text: &str| heard(text.as_bytes(), End::Closed).but_for_references();
        assert_eq!(
            told("no (PC-0123-4567-89AB)"),
            told("no (PC-ZZZZ-4567-89AB)")
        );
        assert_ne!(
            told("no (PC-0123-4567-89AB)"),
            told("yes (PC-0123-4567-89AB)")
        );
        assert_eq!(told("PC-"), b"PC-");
    }
}
