//! Whose signatures make a checkpoint believed (C2SP tlog-policy): logs, witnesses, and how many of which.

use std::collections::BTreeMap;
use std::fmt;

use super::checkpoint::{Checkpoint, NotACheckpoint};
use super::note::{KeyKind, NotAKey, Note, NoteKey, Said};

/// Bytes of a policy file.
pub const MAX_POLICY_BYTES: usize = 64 * 1024;

/// Logs, witnesses and groups of a policy, each.
pub const MAX_POLICY_LINES: usize = 64;

/// Who must have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPolicy {
    logs: Vec<NoteKey>,
    /// By the name that groups know them by, in the order of the file: a group's members stand before it.
    signers: Vec<(String, Signer)>,
    /// A signer's name; none where no cosignature is asked for.
    quorum: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Signer {
    Witness(NoteKey),
    Group { least: usize, members: Vec<String> },
}

/// Why a checkpoint is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The witnesses that cosigned it, by the names that the policy gives them, and when, Unix seconds.
    pub witnesses: BTreeMap<String, u64>,
}

impl TrustPolicy {
    /// A policy that asks for one log's signature and cosignatures by so many of these keys.
    ///
    /// # Errors
    /// [`NotAPolicy`]
    pub fn of(log: NoteKey, witnesses: Vec<NoteKey>, least: usize) -> Result<Self, NotAPolicy> {
        let mut text = format!("log {log}\n");
        let mut group = format!("group voters {least}");
        for (number, witness) in witnesses.iter().enumerate() {
            text.push_str(&format!("witness w{number} {witness}\n"));
            group.push_str(&format!(" w{number}"));
        }
        match least {
            0 => text.push_str("quorum none\n"),
            _ => text.push_str(&format!("{group}\nquorum voters\n")),
        }
        Self::parse(&text)
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// [`NotAPolicy`]
    pub fn parse(text: &str) -> Result<Self, NotAPolicy> {
        if text.len() > MAX_POLICY_BYTES {
            return Err(NotAPolicy::TooLong);
        }
        let mut policy = Self {
            logs: Vec::new(),
            signers: Vec::new(),
            quorum: None,
        };
        let mut quorum = false;
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |what| NotAPolicy::Line { number, what };
            let items: Vec<&str> = line
                .split([' ', '\t'])
                .filter(|it| !it.is_empty())
                .collect();
            match items.as_slice() {
                [] => {}
                [comment, ..] if comment.starts_with('#') => {}
                ["log", key] | ["log", key, _] => {
                    let key = key_of(key, KeyKind::Log).map_err(wrong)?;
                    policy.add_log(key).map_err(wrong)?;
                }
                ["witness", name, key] | ["witness", name, key, _] => {
                    let key = key_of(key, KeyKind::Cosigner).map_err(wrong)?;
                    policy.add(name, Signer::Witness(key)).map_err(wrong)?;
                }
                ["group", name, least, members @ ..] => {
                    let group = policy.group(least, members).map_err(wrong)?;
                    policy.add(name, group).map_err(wrong)?;
                }
                ["quorum", name] if !quorum => {
                    quorum = true;
                    if *name != NONE {
                        policy.known(name).map_err(wrong)?;
                        policy.quorum = Some((*name).to_owned());
                    }
                }
                ["quorum", ..] => return Err(wrong(Wrong::SecondQuorum)),
                _ => return Err(wrong(Wrong::Form)),
            }
        }
        match quorum {
            true => Ok(policy),
            false => Err(NotAPolicy::NoQuorum),
        }
    }

    /// The logs whose checkpoints are believed.
    pub fn logs(&self) -> &[NoteKey] {
        &self.logs
    }

    /// The policy for the log of this name. A log's key is also that of the logs beneath its name (`NAME/…`), unless the policy names
    /// them: they are believed under the same conditions. Nothing if neither is so.
    #[must_use]
    pub fn for_log(&self, origin: &str) -> Option<Self> {
        let named: Vec<NoteKey> = self
            .logs
            .iter()
            .filter(|log| log.name() == origin)
            .cloned()
            .collect();
        let logs = match named.is_empty() {
            false => named,
            true => {
                let above = |log: &&NoteKey| {
                    let rest = origin.strip_prefix(log.name());
                    rest.is_some_and(|rest| rest.starts_with('/'))
                };
                let renamed = self.logs.iter().filter(above);
                let renamed = renamed.map(|log| NoteKey::new(origin, KeyKind::Log, *log.bytes()));
                renamed.collect::<Result<_, _>>().ok()?
            }
        };
        (!logs.is_empty()).then(|| Self {
            logs,
            ..self.clone()
        })
    }

    /// The key of the witness that the policy calls so.
    #[must_use]
    pub fn witness(&self, name: &str) -> Option<&NoteKey> {
        self.signers
            .iter()
            .find_map(|(known, signer)| match signer {
                Signer::Witness(key) if known == name => Some(key),
                Signer::Witness(_) | Signer::Group { .. } => None,
            })
    }

    /// Whether this checkpoint is believed.
    ///
    /// # Errors
    /// [`NotBelieved`]
    pub fn check(&self, note: &Note) -> Result<Believed, NotBelieved> {
        let checkpoint = Checkpoint::parse(&note.text).map_err(NotBelieved::NotACheckpoint)?;
        let mut of_origin = self
            .logs
            .iter()
            .filter(|log| log.name() == checkpoint.origin)
            .peekable();
        if of_origin.peek().is_none() {
            return Err(NotBelieved::OtherLog(checkpoint.origin));
        }
        let mut signed = false;
        for log in of_origin {
            match log.check(note) {
                Said::Yes { .. } => signed = true,
                Said::Nothing => {}
                Said::Wrong => return Err(NotBelieved::WrongSignature(log.name().to_owned())),
            }
        }
        if !signed {
            return Err(NotBelieved::NotSigned(checkpoint.origin));
        }
        let mut witnesses = BTreeMap::new();
        let mut agreed: BTreeMap<&str, bool> = BTreeMap::new();
        for (name, signer) in &self.signers {
            let agrees = match signer {
                Signer::Witness(key) => match key.check(note) {
                    Said::Yes { at } => {
                        witnesses.insert(name.clone(), at.unwrap_or_default());
                        true
                    }
                    Said::Nothing => false,
                    Said::Wrong => return Err(NotBelieved::WrongSignature(name.clone())),
                },
                Signer::Group { least, members } => {
                    let count = |member: &&String| agreed.get(member.as_str()) == Some(&true);
                    members.iter().filter(count).count() >= *least
                }
            };
            agreed.insert(name, agrees);
        }
        match &self.quorum {
            Some(quorum) if agreed.get(quorum.as_str()) != Some(&true) => {
                Err(NotBelieved::NoQuorum {
                    quorum: quorum.clone(),
                    witnesses: witnesses.into_keys().collect(),
                })
            }
            Some(_) | None => Ok(Believed {
                checkpoint,
                witnesses,
            }),
        }
    }

    fn add_log(&mut self, key: NoteKey) -> Result<(), Wrong> {
        if self.logs.iter().any(|log| log.bytes() == key.bytes()) {
            return Err(Wrong::Twice);
        }
        if self.logs.len() >= MAX_POLICY_LINES {
            return Err(Wrong::TooMany);
        }
        self.logs.push(key);
        Ok(())
    }

    fn add(&mut self, name: &str, signer: Signer) -> Result<(), Wrong> {
        let there = |(other, known): &(String, Signer)| {
            other == name
                || match (known, &signer) {
                    (Signer::Witness(one), Signer::Witness(two)) => one.bytes() == two.bytes(),
                    (_, _) => false,
                }
        };
        if name == NONE || self.signers.iter().any(there) {
            return Err(Wrong::Twice);
        }
        if self.signers.len() >= 2 * MAX_POLICY_LINES {
            return Err(Wrong::TooMany);
        }
        self.signers.push((name.to_owned(), signer));
        Ok(())
    }

    fn group(&self, least: &str, members: &[&str]) -> Result<Signer, Wrong> {
        let mut unique: Vec<String> = Vec::with_capacity(members.len());
        for member in members {
            self.known(member)?;
            // Whoever is in two groups would count twice.
            let elsewhere = self.signers.iter().any(|(_, signer)| match signer {
                Signer::Group { members, .. } => members.iter().any(|it| it == member),
                Signer::Witness(_) => false,
            });
            if elsewhere || unique.iter().any(|it| it == member) {
                return Err(Wrong::Twice);
            }
            unique.push((*member).to_owned());
        }
        let least = match least {
            "any" => 1,
            "all" => unique.len(),
            number => number.parse().map_err(|_| Wrong::Form)?,
        };
        if least == 0 || least > unique.len() {
            return Err(Wrong::Threshold);
        }
        Ok(Signer::Group {
            least,
            members: unique,
        })
    }

    fn known(&self, name: &str) -> Result<(), Wrong> {
        let known = self.signers.iter().any(|(known, _)| known == name);
        known.then_some(()).ok_or(Wrong::Unknown)
    }
}

impl fmt::Display for TrustPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for log in &self.logs {
            writeln!(f, "log {log}")?;
        }
        for (name, signer) in &self.signers {
            match signer {
                Signer::Witness(key) => writeln!(f, "witness {name} {key}")?,
                Signer::Group { least, members } => {
                    writeln!(f, "group {name} {least} {}", members.join(" "))?;
                }
            }
        }
        writeln!(f, "quorum {}", self.quorum.as_deref().unwrap_or(NONE))
    }
}

/// No cosignature is asked for.
const NONE: &str = "none";

fn key_of(text: &str, kind: KeyKind) -> Result<NoteKey, Wrong> {
    let key = NoteKey::parse(text).map_err(Wrong::Key)?;
    match key.kind() == kind {
        true => Ok(key),
        false => Err(Wrong::KeyKind),
    }
}

/// A text is no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAPolicy {
    /// Longer than [`MAX_POLICY_BYTES`].
    TooLong,
    /// It does not say whose cosignatures are needed; `quorum none` if nobody's are.
    NoQuorum,
    /// One line is wrong.
    Line {
        /// Which, from 1.
        number: usize,
        /// How.
        what: Wrong,
    },
}

/// How a policy's line is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It is none of the lines that a policy has.
    Form,
    /// Its key cannot be read.
    Key(NotAKey),
    /// A log's key where a witness's should be, or the other way round.
    KeyKind,
    /// The name or the key is there already, or in another group.
    Twice,
    /// No line before it has this name.
    Unknown,
    /// A group needs more than it has, or nobody.
    Threshold,
    /// There is a quorum already.
    SecondQuorum,
    /// More than [`MAX_POLICY_LINES`].
    TooMany,
}

impl fmt::Display for NotAPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it is longer than {MAX_POLICY_BYTES} bytes"),
            Self::NoQuorum => f.write_str(
                "it has no line `quorum NAME`; `quorum none` if no cosignatures are asked for",
            ),
            Self::Line { number, what } => write!(f, "line {number}: {what}"),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str(
                "a line is `log KEY`, `witness NAME KEY`, `group NAME any|all|N MEMBER…` or `quorum NAME`",
            ),
            Self::Key(error) => write!(f, "{error}"),
            Self::KeyKind => f.write_str("a log's key and a witness's are of different kinds"),
            Self::Twice => f.write_str("this name, key or member is there already"),
            Self::Unknown => f.write_str("no line before it has this name"),
            Self::Threshold => f.write_str("a group needs at least 1 and at most all its members"),
            Self::SecondQuorum => f.write_str("there is one quorum, with one name"),
            Self::TooMany => write!(f, "more than {MAX_POLICY_LINES}"),
        }
    }
}

impl std::error::Error for NotAPolicy {}

/// Why a checkpoint is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotBelieved {
    /// The note is no checkpoint.
    NotACheckpoint(NotACheckpoint),
    /// It is of another log; its origin.
    OtherLog(String),
    /// The log did not sign it; its name.
    NotSigned(String),
    /// A line under a known name is not its signature; whose.
    WrongSignature(String),
    /// Too few witnesses cosigned it.
    NoQuorum {
        /// What is asked for.
        quorum: String,
        /// Who did.
        witnesses: Vec<String>,
    },
}

impl fmt::Display for NotBelieved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotACheckpoint(error) => write!(f, "it is no checkpoint: {error}"),
            Self::OtherLog(origin) => {
                write!(f, "it is of a log that the policy does not name: {origin}")
            }
            Self::NotSigned(log) => write!(f, "the log {log} did not sign it"),
            Self::WrongSignature(name) => {
                write!(f, "the signature of {name} is not over this text")
            }
            Self::NoQuorum { quorum, witnesses } if witnesses.is_empty() => {
                write!(f, "`{quorum}` must have cosigned it, and nobody did")
            }
            Self::NoQuorum { quorum, witnesses } => {
                write!(
                    f,
                    "`{quorum}` must have cosigned it, and only {} did",
                    witnesses.join(", ")
                )
            }
        }
    }
}

impl std::error::Error for NotBelieved {}
