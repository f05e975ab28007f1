//! How many addresses, said so that a person can take it in.

use serde::{Serialize, Serializer};
use std::fmt;

/// A number of addresses, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// IPv4 addresses: at most 2^32.
    pub v4: u64,
    /// IPv6 addresses; all 2^128 of them count as the highest number. Serialized as text: few readers of JSON have such numbers.
    #[serde(serialize_with = "as_text")]
    pub v6: u128,
}

impl Count {
    /// Both families together, stopping at the highest number.
    #[must_use]
    pub fn total(self) -> u128 {
        self.v6.saturating_add(u128::from(self.v4))
    }

    /// Whether it counts nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.v4 == 0 && self.v6 == 0
    }
}

/// `256 IPv4 addresses`, `2^64 IPv6 addresses`, `1 IPv4 address and all IPv6 addresses`, `no address`.
impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALL_V4: u64 = 1 << 32;
        let all_v4 = self.v4 == ALL_V4;
        let all_v6 = self.v6 == u128::MAX;
        match (self.v4, self.v6) {
            (0, 0) => return f.write_str("no address"),
            _ if all_v4 && all_v6 => return f.write_str("every address"),
            _ => {}
        }
        if self.v4 > 0 {
            one_family(f, u128::from(self.v4), all_v4, "IPv4")?;
        }
        if self.v4 > 0 && self.v6 > 0 {
            f.write_str(" and ")?;
        }
        if self.v6 > 0 {
            one_family(f, self.v6, all_v6, "IPv6")?;
        }
        Ok(())
    }
}

fn as_text<S: Serializer>(count: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(count)
}

/// Above this, an exact power of two is written as one, and any other number is rounded to one with a sign that it is.
const MAX_PLAIN: u128 = 1 << 32;

fn one_family(f: &mut fmt::Formatter<'_>, count: u128, all: bool, family: &str) -> fmt::Result {
    let plural = if count == 1 { "" } else { "es" };
    if all {
        write!(f, "all {family} address{plural}")
    } else if count <= MAX_PLAIN {
        write!(f, "{count} {family} address{plural}")
    } else if count.is_power_of_two() {
        write!(f, "2^{} {family} address{plural}", count.ilog2())
    } else {
        write!(f, "more than 2^{} {family} address{plural}", count.ilog2())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_read_as_sentences() {
        let check = |v4, v6, expected: &str| assert_eq!(Count { v4, v6 }.to_string(), expected);
        check(0, 0, "no address");
        check(1, 0, "1 IPv4 address");
        check(256, 0, "256 IPv4 addresses");
        check(1 << 32, 0, "all IPv4 addresses");
        check(0, 1, "1 IPv6 address");
        check(0, 1 << 64, "2^64 IPv6 addresses");
        check(0, (1 << 64) + 1, "more than 2^64 IPv6 addresses");
        check(2, 3, "2 IPv4 addresses and 3 IPv6 addresses");
        check(1, u128::MAX, "1 IPv4 address and all IPv6 addresses");
        check(1 << 32, u128::MAX, "every address");
    }
}
