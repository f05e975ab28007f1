//! Where the time of signing in goes, as a client sees it.

use std::time::Instant;

/// A step of signing in, which ends with what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The kernel on the other side has taken the connection.
    Connected,
    /// The SSLRequest is answered: somebody has accepted the connection.
    Accepted,
    /// The TLS handshake is over.
    Protected,
    /// The start-up packet is answered: how to authenticate.
    Asked,
    /// The challenge is there.
    Challenged,
    /// The proof is answered.
    Believed,
    /// Queries may come.
    Ready,
}

impl Step {
    /// In their order.
    pub(crate) const ALL: [Self; 7] = [
        Self::Connected,
        Self::Accepted,
        Self::Protected,
        Self::Asked,
        Self::Challenged,
        Self::Believed,
        Self::Ready,
    ];

    /// For tables.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Connected => "TCP",
            Self::Accepted => "accept",
            Self::Protected => "TLS",
            Self::Asked => "start-up",
            Self::Challenged => "challenge",
            Self::Believed => "proof",
            Self::Ready => "ready",
        }
    }
}

/// The milliseconds that each step took.
pub(crate) type Taken = [f64; Step::ALL.len()];

/// A clock that is told of each step's end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    last: Instant,
    taken: Taken,
}

impl Steps {
    /// The first step begins.
    pub(crate) fn begin() -> Self {
        Self {
            last: Instant::now(),
            taken: Taken::default(),
        }
    }

    /// This step has ended and the next begins.
    pub(crate) fn end(&mut self, step: Step) {
        let now = Instant::now();
        self.taken[step as usize] = (now - self.last).as_secs_f64() * 1e3;
        self.last = now;
    }

    /// What each took; a step that was left out took no time.
    pub(crate) fn taken(&self) -> Taken {
        self.taken
    }
}
