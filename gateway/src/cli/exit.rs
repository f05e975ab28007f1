//! Exit codes, all of them, in one place.

use std::process::ExitCode;

/// How a command ended. The number is public API: scripts test for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done; or asked and answered yes.
    Done,
    /// 1: something broke, or could not be found or reached. What and what next is on stderr.
    Error,
    /// 2: the command line itself is wrong. Only the parser returns this.
    Usage,
    /// 3: the answer is no: policy refused, a guard rail refused, `explain` ends in a denial,
    /// `cluster check` found something that must be set up, `selftest` an attack that was not refused.
    Refused,
    /// 4: `plan --detailed-exit-code` found differences (0 then means: none).
    Differences,
    /// 5: applied, but `apply --receipt` ended before every lapsed connection was seen closed, or `certs rotate` before every node had followed.
    Unfinished,
    /// 6: nothing was changed yet: a second person must approve first.
    Waiting,
    /// 7: `audit` found something that is not as it was signed, or not signed by whom it should be.
    Tampered,
    /// 8: `audit verify` found that something is missing; what is there is as it was signed.
    Incomplete,
    /// 9: `audit verify` found that a log contradicts what it signed before: it was rolled back or rewritten.
    Contradicted,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Differences => 4,
            Self::Unfinished => 5,
            Self::Waiting => 6,
            Self::Tampered => 7,
            Self::Incomplete => 8,
            Self::Contradicted => 9,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// For `portcullis help`.
pub const HELP: &str = "\
Exit codes:
  0  done; the answer is yes
  1  something broke, or could not be found or reached
  2  the command line is wrong
  3  the answer is no: refused by policy or by a guard rail, explain ends in a denial, cluster check found work,
     selftest an attack that was not refused
  4  plan --detailed-exit-code: there are differences (0: none)
  5  apply --receipt: in force, but a lapsed connection was not seen closed in time;
     certs rotate: begun, but a node had not followed in time
  6  nothing is changed yet: it waits for a second person (see portcullis pending)
  7  audit: something is not as it was signed, or not signed by whom it should be
  8  audit verify: something is missing; what is there is as it was signed
  9  audit verify: a log contradicts what was signed before: it was rolled back or rewritten

Environment:
  PORTCULLIS_SOCKET  the node's admin socket, where --socket is not given";
