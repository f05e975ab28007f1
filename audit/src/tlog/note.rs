//! Signed notes (C2SP signed-note): a text and, under it, lines of signatures.

use std::fmt;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// Bytes of a note that is read.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;

/// Signatures of a note that is read.
pub const MAX_NOTE_SIGNATURES: usize = 64;

/// A text and who signed it, as it was read: nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The text with the newline that ends it.
    pub text: String,
    /// The lines under it.
    pub signatures: Vec<NoteSignature>,
}

/// One line under a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The key's name.
    pub name: String,
    /// The key's number, by which a key is found.
    pub key_id: [u8; 4],
    /// What the key's kind makes of the text.
    pub bytes: Vec<u8>,
}

impl Note {
    /// Reads a note.
    ///
    /// # Errors
    /// [`NotANote`]
    pub fn parse(bytes: &[u8]) -> Result<Self, NotANote> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NotANote::TooLong);
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| NotANote::Text)?;
        if whole
            .chars()
            .any(|character| character < ' ' && character != '\n')
        {
            return Err(NotANote::Text);
        }
        // The last empty line parts the text from its signatures.
        let (text, lines) = whole.rsplit_once("\n\n").ok_or(NotANote::NoSignatures)?;
        let lines = lines.strip_suffix('\n').ok_or(NotANote::Signature)?;
        let signatures: Vec<&str> = lines.split('\n').collect();
        if signatures.len() > MAX_NOTE_SIGNATURES {
            return Err(NotANote::TooManySignatures);
        }
        let signatures = signatures.into_iter().map(NoteSignature::parse);
        Ok(Self {
            text: format!("{text}\n"),
            signatures: signatures
                .collect::<Option<_>>()
                .ok_or(NotANote::Signature)?,
        })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|one| one.fmt(f))
    }
}

impl NoteSignature {
    /// Reads a line, without the newline that ends it.
    pub fn parse(line: &str) -> Option<Self> {
        let rest = line.strip_prefix(DASH)?;
        let (name, encoded) = rest.split_once(' ')?;
        let all = STANDARD.decode(encoded).ok()?;
        let (key_id, bytes) = all.split_first_chunk()?;
        (is_name(name) && !bytes.is_empty()).then(|| Self {
            name: name.to_owned(),
            key_id: *key_id,
            bytes: bytes.to_vec(),
        })
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [self.key_id.as_slice(), &self.bytes].concat();
        writeln!(f, "{DASH}{} {}", self.name, STANDARD.encode(all))
    }
}

/// An em dash (U+2014) and a space.
const DASH: &str = "\u{2014} ";

/// A public key with its name, by which signatures under notes are checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NoteKey {
    name: String,
    kind: KeyKind,
    key: [u8; 32],
}

/// What a key's signatures are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyKind {
    /// A log's: Ed25519 over the text.
    Log,
    /// A cosigner's: Ed25519 over the text with a time (C2SP tlog-cosignature, v1).
    Cosigner,
}

impl KeyKind {
    fn byte(self) -> u8 {
        match self {
            Self::Log => 0x01,
            Self::Cosigner => 0x04,
        }
    }
}

impl NoteKey {
    /// A key under a name.
    ///
    /// # Errors
    /// [`NotAKey::Name`]
    pub fn new(name: &str, kind: KeyKind, key: [u8; 32]) -> Result<Self, NotAKey> {
        if !is_name(name) {
            return Err(NotAKey::Name);
        }
        let name = name.to_owned();
        Ok(Self { name, kind, key })
    }

    /// Reads a key as it is shown: `name+number+key`, the number in hexadecimal, the key in base64.
    ///
    /// # Errors
    /// [`NotAKey`]
    pub fn parse(text: &str) -> Result<Self, NotAKey> {
        let (name, rest) = text.split_once('+').ok_or(NotAKey::Form)?;
        let (_, encoded) = rest.split_once('+').ok_or(NotAKey::Form)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NotAKey::Form)?;
        let (kind, key) = bytes.split_first().ok_or(NotAKey::Form)?;
        let kind = [KeyKind::Log, KeyKind::Cosigner]
            .into_iter()
            .find(|known| known.byte() == *kind)
            .ok_or(NotAKey::Kind)?;
        let key = key.try_into().map_err(|_| NotAKey::Form)?;
        let read = Self::new(name, kind, key)?;
        match read.to_string() == text {
            true => Ok(read),
            false => Err(NotAKey::Number),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The public key itself (RFC 8032).
    pub fn bytes(&self) -> &[u8; 32] {
        &self.key
    }

    /// Its number: the first bytes of a hash of name, kind and key.
    pub fn id(&self) -> [u8; 4] {
        let mut hasher = Sha256::new();
        hasher.update(self.name.as_bytes());
        hasher.update([b'\n', self.kind.byte()]);
        hasher.update(self.key);
        let [a, b, c, d, ..]: [u8; 32] = hasher.finalize().into();
        [a, b, c, d]
    }

    /// What this key says of a note.
    pub fn check(&self, note: &Note) -> Said {
        let id = self.id();
        let mut lines = note
            .signatures
            .iter()
            .filter(|line| line.name == self.name && line.key_id == id)
            .peekable();
        if lines.peek().is_none() {
            return Said::Nothing;
        }
        // One that is wrong under a known key is not passed over.
        let times: Option<Vec<Option<u64>>> = lines
            .map(|line| self.verify(&note.text, &line.bytes))
            .collect();
        match times {
            Some(times) => Said::Yes {
                at: times.into_iter().flatten().max(),
            },
            None => Said::Wrong,
        }
    }

    /// The time at which a cosigner signed, none of a log's; nothing if the signature is not this key's.
    fn verify(&self, text: &str, signature: &[u8]) -> Option<Option<u64>> {
        let key = UnparsedPublicKey::new(&ED25519, &self.key);
        match self.kind {
            KeyKind::Log => {
                let verified = key.verify(text.as_bytes(), signature);
                verified.is_ok().then_some(None)
            }
            KeyKind::Cosigner => {
                let (time, signature) = signature.split_first_chunk()?;
                let time = u64::from_be_bytes(*time);
                let message = cosigned(text, time);
                let verified = key.verify(message.as_bytes(), signature);
                verified.is_ok().then_some(Some(time))
            }
        }
    }

    /// The line by which the holder of this key, who signs with `sign`, signs a text: a log's.
    pub fn sign(&self, text: &str, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> NoteSignature {
        self.line(sign(text.as_bytes()).to_vec())
    }

    /// The line by which a cosigner, who signs with `sign`, says that it saw a text at `time`, Unix seconds.
    pub fn cosign(
        &self,
        text: &str,
        time: u64,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> NoteSignature {
        let signature = sign(cosigned(text, time).as_bytes());
        self.line([time.to_be_bytes().as_slice(), &signature].concat())
    }

    fn line(&self, bytes: Vec<u8>) -> NoteSignature {
        NoteSignature {
            name: self.name.clone(),
            key_id: self.id(),
            bytes,
        }
    }
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = u32::from_be_bytes(self.id());
        let mut bytes = vec![self.kind.byte()];
        bytes.extend_from_slice(&self.key);
        write!(f, "{}+{number:08x}+{}", self.name, STANDARD.encode(bytes))
    }
}

/// What a key says of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It did not sign it.
    Nothing,
    /// It signed it; a cosigner at this time, Unix seconds.
    Yes {
        /// The time; none of a log.
        at: Option<u64>,
    },
    /// A line that bears its name and number is not its signature: the note is not to be believed.
    Wrong,
}

fn cosigned(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

fn is_name(name: &str) -> bool {
    let bad =
        |character: char| character.is_whitespace() || character.is_control() || character == '+';
    !name.is_empty() && !name.chars().any(bad)
}

/// Bytes are no signed note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotANote {
    /// Longer than [`MAX_NOTE_BYTES`].
    TooLong,
    /// Not UTF-8, or with control characters.
    Text,
    /// No empty line parts a text from signatures.
    NoSignatures,
    /// A line under the text is no signature.
    Signature,
    /// More than [`MAX_NOTE_SIGNATURES`].
    TooManySignatures,
}

impl fmt::Display for NotANote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it is longer than {MAX_NOTE_BYTES} bytes"),
            Self::Text => f.write_str("it is not UTF-8, or has control characters"),
            Self::NoSignatures => f.write_str("no empty line parts its text from signatures"),
            Self::Signature => f.write_str("a line under its text is no signature"),
            Self::TooManySignatures => {
                write!(f, "it has more than {MAX_NOTE_SIGNATURES} signatures")
            }
        }
    }
}

impl std::error::Error for NotANote {}

/// A text is no key for notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAKey {
    /// It is not `name+number+key`.
    Form,
    /// The name is empty, or has a space, a control character or a plus sign.
    Name,
    /// It is a key of a kind that is not known here.
    Kind,
    /// The number is not the one that belongs to name and key.
    Number,
}

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "a key is written NAME+NUMBER+KEY",
            Self::Name => "a key's name has no spaces, control characters or plus signs",
            Self::Kind => "a key of a kind that is not known here",
            Self::Number => "the key's number does not belong to its name and key",
        })
    }
}

impl std::error::Error for NotAKey {}
