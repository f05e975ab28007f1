//! What can be typed about how long the audit logs are kept, as clap reads it.

use std::str::FromStr;

use clap::Args;
use portcullis_policy::{HoldId, TenantId};

use super::args::NodeArgs;

/// `audit keep`.
#[derive(Args, Clone, Debug)]
pub struct KeepArgs {
    /// How long entries are kept at least: 90d, 7y, or forever
    #[arg(long, value_name = "TIME")]
    pub entries: Option<KeptFor>,
    /// How long it can be said which persons entries name: 90d, 7y, or forever
    #[arg(long, value_name = "TIME")]
    pub personal: Option<KeptFor>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `audit hold`.
#[derive(Args, Clone, Debug)]
pub struct HoldArgs {
    /// A name by which it is released again
    #[arg(value_name = "NAME")]
    pub name: HoldId,
    /// Why, for whoever reads it in some years
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// The log of this tenant alone [default: all logs]
    #[arg(long, value_name = "TENANT")]
    pub tenant: Option<TenantId>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `audit release`.
#[derive(Args, Clone, Debug)]
pub struct ReleaseArgs {
    /// The hold's name
    #[arg(value_name = "NAME")]
    pub name: HoldId,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// For how long something is kept: seconds; none: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptFor(pub Option<u64>);

/// Seconds of each unit; a year has 365 days.
const UNITS: [(char, u64); 5] = [
    ('s', 1),
    ('m', 60),
    ('h', 3_600),
    ('d', 86_400),
    ('y', 365 * 86_400),
];

impl FromStr for KeptFor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "forever" {
            return Ok(Self(None));
        }
        let seconds = UNITS.iter().find_map(|(unit, seconds)| {
            let count: u64 = text.strip_suffix(*unit)?.parse().ok()?;
            count.checked_mul(*seconds)
        });
        match seconds {
            Some(seconds) => Ok(Self(Some(seconds))),
            None => Err("write a number and s, m, h, d or y (365 days), or forever".to_owned()),
        }
    }
}

impl KeptFor {
    /// As it may be typed, in the largest unit that fits.
    #[must_use]
    pub fn text(self) -> String {
        let Some(seconds) = self.0 else {
            return "forever".to_owned();
        };
        let units = UNITS.iter().rev();
        let mut fitting = units.filter(|(_, unit)| seconds > 0 && seconds.is_multiple_of(*unit));
        match fitting.next() {
            Some((name, unit)) => format!("{}{name}", seconds / unit),
            None => format!("{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written_alike() {
        for (text, seconds) in [
            ("forever", None),
            ("1s", Some(1)),
            ("90m", Some(5_400)),
            ("36h", Some(129_600)),
            ("400d", Some(34_560_000)),
            ("7y", Some(220_752_000)),
        ] {
            let read: KeptFor = text.parse().unwrap();
            assert_eq!((read.0, read.text()), (seconds, text.to_owned()));
        }
        for text in [
            "",
            "d",
            "7",
            "7 d",
            "-1d",
            "7w",
            "1.5d",
            "18446744073709551615y",
        ] {
            assert!(text.parse::<KeptFor>().is_err(), "{text}");
        }
    }
}
