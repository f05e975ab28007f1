//! Why a connection is refused or closed, as a number on the wire and as a word in events.

use std::fmt;

/// Why a connection ends. The numbers are part of the protocol, the words part of the public API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closing {
    /// The node stops.
    ShutDown = 1,
    /// The peer speaks another version.
    WrongVersion = 2,
    /// The peer belongs to another fleet.
    WrongFleet = 3,
    /// The peer lives in an epoch that is over.
    OlderEpoch = 4,
    /// The closing node itself lives in an epoch that is over.
    NewerEpoch = 5,
    /// The peer is no member, or no longer, or not with this key.
    NotAMember = 6,
    /// The peer says that it is another node than its certificate does.
    OtherNode = 7,
    /// The peer broke the protocol.
    Protocol = 8,
    /// The peer has a newer connection.
    Replaced = 9,
    /// The peer has another address.
    Moved = 10,
    /// There are too many already.
    Busy = 11,
    /// A stranger has had its answer, or took too long.
    JoinOver = 12,
    /// A stranger asked for something other than to join.
    JoinOnly = 13,
    /// The certificate admits nobody here.
    Certificate = 14,
    /// The handshake or the greeting took too long.
    TooSlow = 15,
    /// A later start of the same node was heard: two processes run with its data, or an older copy of it was put in its place.
    StartedTwice = 16,
}

const ALL: [Closing; 16] = [
    Closing::ShutDown,
    Closing::WrongVersion,
    Closing::WrongFleet,
    Closing::OlderEpoch,
    Closing::NewerEpoch,
    Closing::NotAMember,
    Closing::OtherNode,
    Closing::Protocol,
    Closing::Replaced,
    Closing::Moved,
    Closing::Busy,
    Closing::JoinOver,
    Closing::JoinOnly,
    Closing::Certificate,
    Closing::TooSlow,
    Closing::StartedTwice,
];

impl Closing {
    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u32 {
        self as u32
    }

    /// From the number on the wire.
    #[must_use]
    pub fn from_code(code: u64) -> Option<Self> {
        ALL.into_iter().find(|it| u64::from(it.code()) == code)
    }

    /// The word in events and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ShutDown => "shut_down",
            Self::WrongVersion => "wrong_version",
            Self::WrongFleet => "wrong_fleet",
            Self::OlderEpoch => "older_epoch",
            Self::NewerEpoch => "newer_epoch",
            Self::NotAMember => "not_a_member",
            Self::OtherNode => "other_node",
            Self::Protocol => "protocol",
            Self::Replaced => "replaced",
            Self::Moved => "moved",
            Self::Busy => "busy",
            Self::JoinOver => "join_over",
            Self::JoinOnly => "join_only",
            Self::Certificate => "certificate",
            Self::TooSlow => "too_slow",
            Self::StartedTwice => "started_twice",
        }
    }
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_number() {
        for reason in ALL {
            assert_eq!(Closing::from_code(u64::from(reason.code())), Some(reason));
        }
        assert_eq!(Closing::from_code(0), None);
        assert_eq!(Closing::from_code(1 << 40), None);
    }
}
