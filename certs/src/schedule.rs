//! When a certificate is due: a schedule, not a timer.
//!
//! Nothing here reads a clock or draws a number. The moment comes in, what to do comes out, and the same certificate is always due at the
//! same moment, also after a restart: what spreads the fleet's certificates over time is drawn from their own fingerprints.

use crate::Validity;

/// What a certificate is for, as far as its life goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Seconds that one lives which is issued now.
    pub lifetime: i64,
    /// After which part of its life it is renewed.
    pub renewed_after: Part,
}

/// A part of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What must outlive a long silence of those who issue.
    Third,
    /// Anything else.
    TwoThirds,
}

impl Terms {
    /// A node's: 7 days, so that a key that was copied is worth little after a week; renewed after a third of that, so that a node which
    /// nobody renews outlives the stale limit (24 h) by days.
    pub const NODE: Self = Self {
        lifetime: 7 * 86_400,
        renewed_after: Part::Third,
    };

    /// An operator's: 90 days. They come back for another one.
    pub const OPERATOR: Self = Self {
        lifetime: 90 * 86_400,
        renewed_after: Part::TwoThirds,
    };

    /// A fleet's authority: ten years, and exchanged for another after two thirds of that.
    pub const AUTHORITY: Self = Self {
        lifetime: 10 * 365 * 86_400,
        renewed_after: Part::TwoThirds,
    };

    /// The life of a certificate that is issued at `now` (Unix seconds). It begins an hour before, for those whose clocks are behind.
    pub fn from(self, now: i64) -> Validity {
        Validity {
            not_before: now.saturating_sub(BACKDATED),
            not_after: now.saturating_add(self.lifetime),
        }
    }

    /// Whether that is a longer life than these terms allow.
    pub fn are_exceeded_by(self, validity: Validity) -> bool {
        let life = validity.not_after.saturating_sub(validity.not_before);
        life > self.lifetime.saturating_add(BACKDATED)
    }
}

/// Seconds by which a certificate begins before it is issued.
pub const BACKDATED: i64 = 3_600;

/// What to do about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing before this moment (Unix seconds).
    WaitUntil(i64),
    /// Have another one issued.
    Renew,
    /// It does not hold now: have another one issued by whatever way does not need it.
    Recover,
}

/// What to do at `now` (Unix seconds) about a certificate with this validity and fingerprint, on these terms.
///
/// It is due after its part of its life, less up to a twentieth of it by its fingerprint, so that what was issued together is not renewed
/// together. One that begins only later was issued by a clock that was ahead, or this one is behind: nobody believes it now.
pub fn next_action(terms: Terms, validity: Validity, fingerprint: &[u8; 32], now: i64) -> Action {
    if !validity.contains(now) {
        return Action::Recover;
    }
    // One from before, when they lived longer.
    if terms.are_exceeded_by(validity) {
        return Action::Renew;
    }
    let due = due(terms.renewed_after, validity, fingerprint);
    match now < due {
        true => Action::WaitUntil(due),
        false => Action::Renew,
    }
}

fn due(after: Part, validity: Validity, fingerprint: &[u8; 32]) -> i64 {
    let life = validity.not_after.saturating_sub(validity.not_before);
    let part = match after {
        Part::Third => life / 3,
        Part::TwoThirds => life / 3 * 2,
    };
    let [first, second, ..] = fingerprint;
    let spread = i64::from(u16::from_be_bytes([*first, *second]));
    let early = (life / SPREAD).saturating_mul(spread) >> u16::BITS;
    validity
        .not_before
        .saturating_add(part)
        .saturating_sub(early)
}

/// The part of a life over which renewals are spread.
const SPREAD: i64 = 20;

/// Whether a certificate that somebody else has to replace should have been: after three quarters of its life, and no earlier than 21 days
/// before its end.
pub fn is_late(validity: Validity, now: i64) -> bool {
    let life = validity.not_after.saturating_sub(validity.not_before);
    let left = validity.not_after.saturating_sub(now);
    left < (life / 4).min(21 * 86_400)
}

/// Days until the end, for people to read; less than 0 after it.
#[expect(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "nobody reads that many digits"
)]
pub fn days_left(validity: Validity, now: i64) -> f64 {
    validity.not_after.saturating_sub(now) as f64 / 86_400.0
}

/// How soon what failed is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    first_ms: u64,
    most_ms: u64,
}

impl Pace {
    /// What holds can wait: ten seconds, doubled up to an hour. Without a certificate there is nothing to wait for: a second, up to a minute.
    pub fn of(action: Action) -> Self {
        match action {
            Action::WaitUntil(_) | Action::Renew => Self {
                first_ms: 10_000,
                most_ms: 3_600_000,
            },
            Action::Recover => Self {
                first_ms: 1_000,
                most_ms: 60_000,
            },
        }
    }

    /// Milliseconds to wait after so many failures in a row, less up to a half by `random`.
    pub fn pause_ms(self, failures: u32, random: u64) -> u64 {
        let doubled = 2_u64.saturating_pow(failures.saturating_sub(1));
        let full = self.first_ms.saturating_mul(doubled).min(self.most_ms);
        full.saturating_sub(random % (full / 2))
    }
}
