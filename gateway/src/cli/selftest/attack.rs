//! What an attack is: its name, what it does, what must come of it, and what did.

use crate::runtime::clock::Duration;

/// One attack.
#[derive(Clone, Debug)]
pub(super) struct Attack {
    /// For `--only`.
    pub(super) name: &'static str,
    /// For a person.
    pub(super) does: String,
    /// How it is done.
    pub(super) act: Act,
    /// What must come of it.
    pub(super) must: Must,
}

/// What an attacker does.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// On a bare connection, these bytes at once.
    Clear(Vec<u8>),
    /// On a bare connection, these bytes one by one, each after a pause.
    Drip(Vec<u8>),
    /// TLS from the first byte, offering these protocols by ALPN.
    Direct(&'static [&'static [u8]]),
    /// SSLRequest, TLS for this name, and then these bytes.
    Inside(Name, Vec<u8>),
    /// These bytes as the early data of a resumed handshake.
    EarlyData(Vec<u8>),
    /// These bytes inside TLS, for one name and for another.
    Compare(Name, Name, Vec<u8>),
}

/// The name that the ClientHello asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// One that nobody has, made up anew each time.
    Unknown,
    /// None.
    Withheld,
    /// An endpoint's, by `--server-name`.
    Given(String),
}

/// What must come of an attack. In every case the connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Must {
    /// Not one byte is answered.
    Silence,
    /// No handshake: a TLS alert is answered at most.
    NoHandshake,
    /// One fatal error of this SQLSTATE is answered, and nobody is asked for a password.
    Refusal(&'static str),
    /// At most a question for a password or an error is answered: nothing of a session.
    NoSession,
    /// It ends at all, by itself.
    Deadline,
    /// Both answers are the same but for their references.
    Alike,
    /// Nothing of it is taken.
    NotTaken,
}

impl Must {
    /// How long to wait for it.
    pub(super) fn patience(self) -> Duration {
        match self == Self::Deadline {
            true => DEADLINE,
            false => ANSWER,
        }
    }

    /// For a person.
    pub(super) fn text(self) -> String {
        match self {
            Self::Silence => "closed without a byte".to_owned(),
            Self::NoHandshake => "no handshake: closed, after a TLS alert at most".to_owned(),
            Self::Refusal(sqlstate) => format!("one fatal error, {sqlstate}, and closed"),
            Self::NoSession => "closed, and no session begins".to_owned(),
            Self::Deadline => format!("closed by the gateway within {DEADLINE:?}"),
            Self::Alike => "two answers that differ in their references only".to_owned(),
            Self::NotTaken => "early data is not taken".to_owned(),
        }
    }
}

/// How long an attacker waits for the answer to anything but slowness.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// How long one that is slow waits for the end: the gateway's own deadline before authentication, and
/// room for the network.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// What came of an attack.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Which.
    pub(super) attack: Attack,
    /// The judgement.
    pub(super) verdict: Verdict,
    /// For a person: what was seen.
    pub(super) happened: String,
}

/// The judgement on an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was refused as it must be.
    Refused,
    /// It was not.
    NotRefused,
    /// It could not be made from here.
    NotRun,
    /// It should have been possible, and was not: nothing is known.
    Failed,
}

impl Verdict {
    /// Whether the gateway cannot be said to stand.
    pub(super) fn is_failure(self) -> bool {
        match self {
            Self::NotRefused | Self::Failed => true,
            Self::Refused | Self::NotRun => false,
        }
    }

    /// The word of reports.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::NotRefused => "NOT REFUSED",
            Self::NotRun => "not run",
            Self::Failed => "FAILED",
        }
    }
}
