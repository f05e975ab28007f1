//! Certificates that no longer count, although their period has not ended.
//!
//! Serial numbers are an authority's own: what is revoked of one tenant says nothing about the clients of another. Each
//! tenant has its own list, in the part of the view that its gateways hold, so that nobody has to ask anybody on the path
//! of a connection.
//!
//! Absent: certificates. To this crate one is its serial number.

use crate::document::{DocumentPath, line};
use crate::limits::{MAX_REVOCATIONS, MAX_REVOKED_REASON, MAX_SERIAL};
use crate::state::Rejection;
use crate::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A certificate's serial number: 1 to [`MAX_SERIAL`] bytes without zeros before them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// The number in these bytes, the highest first. None: there is none, or it is longer than any that an authority may give
    /// (RFC 5280 §4.1.2.2).
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let number = match bytes.get(zeros..) {
            Some([]) | None => bytes.get(bytes.len().checked_sub(1)?..)?,
            Some(number) => number,
        };
        (number.len() <= MAX_SERIAL).then(|| Self(number.to_vec()))
    }
}

/// Hexadecimal, as openssl prints it: in either case, with colons between bytes or without, with zeros before it or without.
impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        let digits: String = match text.contains(':') {
            false => text.to_owned(),
            true if text.split(':').all(|byte| byte.len() == 2) => text.replace(':', ""),
            true => return Err(SerialError),
        };
        // More digits than zeros before the longest number would need are no number that anybody gives.
        if digits.is_empty() || digits.len() > 4 * MAX_SERIAL {
            return Err(SerialError);
        }
        let even = match digits.len() % 2 {
            0 => digits,
            _ => format!("0{digits}"),
        };
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|it| u8::try_from(it).ok())
        };
        let mut bytes = Vec::new();
        for pair in even.as_bytes().chunks(2) {
            let [high, low] = *pair else {
                return Err(SerialError);
            };
            let (Some(high), Some(low)) = (digit(high), digit(low)) else {
                return Err(SerialError);
            };
            bytes.push(high * 16 + low);
        }
        Self::of(&bytes).ok_or(SerialError)
    }
}

/// Lower-case hexadecimal, two digits for a byte.
impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Serial {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Serial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A text is no serial number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SerialError;

impl fmt::Display for SerialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a serial number is 1 to {MAX_SERIAL} bytes in hexadecimal, such as 1f:0a:33 or 1F0A33; `openssl x509 -noout -serial -in FILE` prints it"
        )
    }
}

impl std::error::Error for SerialError {}

/// That a certificate was revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Revocation {
    /// Why, in one line.
    pub reason: String,
    /// Who said so.
    pub author: String,
    /// When.
    pub at: Timestamp,
    /// When the certificate itself ends, where that is known: then this may be forgotten.
    pub until: Option<Timestamp>,
}

/// What is revoked of one tenant's clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revocations(BTreeMap<Serial, Revocation>);

impl Revocations {
    /// What is known of a serial number, if it is revoked.
    #[must_use]
    pub fn get(&self, serial: &Serial) -> Option<&Revocation> {
        self.0.get(serial)
    }

    /// All of them, by serial number.
    pub fn iter(&self) -> impl Iterator<Item = (&Serial, &Revocation)> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same with one more, and without those whose certificates had ended when it was revoked. One that is revoked stays
    /// as it was said first.
    pub(crate) fn with(&self, serial: &Serial, revocation: Revocation) -> Result<Self, Rejection> {
        if revocation.until.is_some_and(|until| until <= revocation.at) {
            return Err(Rejection::RevokedTooLate);
        }
        if self.0.contains_key(serial) {
            return Ok(self.clone());
        }
        let still = |(_, it): &(&Serial, &Revocation)| it.until.is_none_or(|it| it > revocation.at);
        let kept = self.0.iter().filter(still);
        let mut next: BTreeMap<_, _> = kept.map(|(key, it)| (key.clone(), it.clone())).collect();
        next.insert(serial.clone(), revocation);
        let next = Self(next);
        next.check()?;
        Ok(next)
    }

    /// The same without one; none if it is not revoked.
    pub(crate) fn without(&self, serial: &Serial) -> Option<Self> {
        let mut next = self.clone();
        next.0.remove(serial).map(|_| next)
    }

    pub(crate) fn check(&self) -> Result<(), Rejection> {
        if self.0.len() > MAX_REVOCATIONS {
            return Err(Rejection::TooMany {
                what: "revoked certificates of this tenant",
                maximum: MAX_REVOCATIONS,
            });
        }
        let readable = |it: &Revocation| {
            (1..=MAX_REVOKED_REASON).contains(&it.reason.len())
                && line(DocumentPath::root(), "the reason", &it.reason).is_ok()
        };
        match self.0.values().all(readable) {
            true => Ok(()),
            false => Err(Rejection::RevokedReason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_the_same_however_it_is_written() {
        let plain: Serial = "1f0a33".parse().unwrap();
        for text in ["1F0A33", "1f:0a:33", "00:1F:0A:33", "001f0a33", "01f0a33"] {
            assert_eq!(text.parse::<Serial>().unwrap(), plain, "{text}");
        }
        assert_eq!(Serial::of(&[0, 0x1f, 0x0a, 0x33]), Some(plain.clone()));
        assert_eq!(plain.to_string(), "1f0a33");
        for zero in ["0", "00", "00:00"] {
            assert_eq!(zero.parse::<Serial>().unwrap().to_string(), "00");
        }
        assert_eq!(Serial::of(&[0]), "0".parse().ok());
    }

    #[test]
    fn what_is_no_serial_number_is_refused() {
        let longest = "f".repeat(2 * MAX_SERIAL);
        assert!(longest.parse::<Serial>().is_ok());
        let too_long = format!("1{longest}");
        for text in [
            "", ":", "xyz", "0x1f", "-1", "1f 0a", "1:0a", "1f::0a", "1f:0a:", "é1", &too_long,
        ] {
            assert!(text.parse::<Serial>().is_err(), "{text}");
        }
        assert_eq!(Serial::of(&[]), None);
        assert_eq!(Serial::of(&[1; MAX_SERIAL + 1]), None);
    }
}
