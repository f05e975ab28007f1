//! Who failed to sign in how often, and so how long the next proof waits before it is looked at.
//!
//! Nothing here waits and nothing reads a clock. An unknown role is a role like any other.

use std::sync::Arc;

use portcullis_policy::{ClusterId, TenantId};

use super::window::Window;
use crate::proxy::source::Source;
use crate::proxy::throttle::recent::Recent;
use crate::runtime::clock::{Duration, Instant};
use crate::runtime::limits::{
    FAILURES_BY_ROLE, FAILURES_BY_SOURCE, FAILURES_BY_SOURCE_AND_ROLE, FAILURES_KNOWN_FOR,
    FAILURES_REMEMBERED, Failures, PROOFS_UNDER_WAY,
};

/// A role of a cluster, whether or not there is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::proxy) struct Role {
    pub(in crate::proxy) tenant: TenantId,
    pub(in crate::proxy) cluster: ClusterId,
    pub(in crate::proxy) user: String,
}

/// Whoever comes from this source as this role.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::proxy) struct Who {
    pub(in crate::proxy) source: Source,
    pub(in crate::proxy) role: Arc<Role>,
}

/// What is remembered. A botnet fills the first three tables and pushes out what it likes of them;
/// the fourth is filled by right proofs alone.
pub(super) struct Tally {
    lines: Recent<Who, Line>,
    sources: Recent<Source, Window>,
    roles: Recent<Arc<Role>, Window>,
    signed_in: Recent<Who, Instant>,
}

/// The line of those who come from one source as one role.
struct Line {
    failures: Window,
    /// The proof of the last one in line is looked at then.
    last: Instant,
    /// Those in line, slowed or just past it: each may be one more failure.
    slowed: u32,
    /// Those whose proof is on its way to whoever will judge it, those in line among them.
    under_way: u32,
}

/// When a proof is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    At(Slowed),
    /// As many proofs of the same source and role as may be are under way already.
    Busy,
    /// The line is as long as it may be.
    Full,
}

/// How long a proof waits, and because of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slowed {
    pub(super) wait: Duration,
    pub(super) by: Option<&'static str>,
    /// Whether it stands in the line of its source and role.
    pub(super) in_line: bool,
}

/// What became of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Right,
    Wrong,
    /// It was never judged.
    Unknown,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            lines: Recent::of(FAILURES_REMEMBERED),
            sources: Recent::of(FAILURES_REMEMBERED),
            roles: Recent::of(FAILURES_REMEMBERED),
            signed_in: Recent::of(FAILURES_REMEMBERED),
        }
    }

    /// When the proof that `who` has sent is looked at, if it can wait no longer than `longest`.
    /// Whoever is told a moment takes it, and says in the end what came out.
    pub(super) fn turn(&mut self, who: &Who, longest: Duration, now: Instant) -> Answer {
        let (own, under_way) = match self.lines.get(who) {
            Some(line) => (line.turn(now), line.under_way),
            None => (None, 0),
        };
        if under_way >= PROOFS_UNDER_WAY {
            return Answer::Busy;
        }
        let own_wait = own.map(|turn| turn.saturating_duration_since(now));
        let by_source = self.sources.get(&who.source);
        let by_source = by_source.and_then(|count| steady(count, &FAILURES_BY_SOURCE, now));
        let by_role = match self.is_known(who, now) {
            true => None,
            false => self.roles.get(&who.role),
        };
        let by_role = by_role.and_then(|count| steady(count, &FAILURES_BY_ROLE, now));
        let longest_of_them = [
            (own_wait, "source_and_role"),
            (by_source, "source"),
            (by_role, "role"),
        ]
        .into_iter()
        .filter_map(|(wait, by)| Some((wait?, by)))
        .max();
        let (wait, by) =
            longest_of_them.map_or((Duration::ZERO, None), |(wait, by)| (wait, Some(by)));
        if wait > longest {
            return Answer::Full;
        }
        let line = self.lines.touch(who, || Line::new(now));
        line.under_way = line.under_way.saturating_add(1);
        if let Some(turn) = own {
            line.last = turn;
            line.slowed = line.slowed.saturating_add(1);
        }
        Answer::At(Slowed {
            wait,
            by,
            in_line: own.is_some(),
        })
    }

    /// Takes note of what became of a proof that had its turn.
    pub(super) fn settle(&mut self, who: &Who, slowed: Slowed, outcome: Outcome, now: Instant) {
        self.lines.change(who, |line| {
            line.under_way = line.under_way.saturating_sub(1);
            if slowed.in_line {
                line.slowed = line.slowed.saturating_sub(1);
            }
        });
        match outcome {
            Outcome::Unknown => {}
            Outcome::Right => {
                self.lines
                    .change(who, |line| line.failures = Window::new(now));
                if self.lines.get(who).is_some_and(|line| line.under_way == 0) {
                    self.lines.forget(who);
                }
                *self.signed_in.touch(who, || now) = now;
            }
            Outcome::Wrong => self.failed(who, now),
        }
    }

    /// Takes note of a wrong proof, wherever it was judged.
    pub(super) fn failed(&mut self, who: &Who, now: Instant) {
        let line = self.lines.touch(who, || Line::new(now));
        line.failures.add(FAILURES_BY_SOURCE_AND_ROLE.within, now);
        let source = self.sources.touch(&who.source, || Window::new(now));
        source.add(FAILURES_BY_SOURCE.within, now);
        let role = self.roles.touch(&who.role, || Window::new(now));
        role.add(FAILURES_BY_ROLE.within, now);
    }

    fn is_known(&self, who: &Who, now: Instant) -> bool {
        self.signed_in
            .get(who)
            .is_some_and(|at| now.saturating_duration_since(*at) < FAILURES_KNOWN_FOR)
    }
}

impl Line {
    fn new(now: Instant) -> Self {
        Self {
            failures: Window::new(now),
            last: now,
            slowed: 0,
            under_way: 0,
        }
    }

    /// The turn of one more, behind everybody in line; none if there is no line.
    fn turn(&self, now: Instant) -> Option<Instant> {
        let limit = &FAILURES_BY_SOURCE_AND_ROLE;
        let failed = self.failures.count(limit.within, now);
        // With nobody to blame yet those on their way are not counted: an application that opens
        // all its connections at once is no attack.
        if failed == 0 {
            return None;
        }
        let doubled = (failed.saturating_add(self.slowed)).checked_sub(limit.free)?;
        let wait = Duration::from_secs(1 << doubled.min(16)).min(limit.longest);
        Some(self.last.max(now) + wait)
    }
}

/// A wait without a line: a second for each time that the limit was reached.
fn steady(count: &Window, limit: &Failures, now: Instant) -> Option<Duration> {
    let seconds = count.count(limit.within, now) / limit.free;
    (seconds > 0).then(|| Duration::from_secs(seconds.into()).min(limit.longest))
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
