//! Moments as text: RFC 3339 in UTC with milliseconds, `2026-11-22T16:04:05.678Z`, always 24 characters, so that text order is time order.

/// The text of a moment given in Unix milliseconds. Years outside 0000 to 9999 are held at the nearest end.
pub fn to_text(unix_ms: i64) -> String {
    let unix_ms = unix_ms.clamp(FIRST_MS, LAST_MS);
    let (day, of_day) = (unix_ms.div_euclid(DAY_MS), unix_ms.rem_euclid(DAY_MS));
    let (year, month, date) = civil(day);
    let (seconds, millis) = (of_day / 1_000, of_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The moment in Unix milliseconds of a text as [`to_text`] writes it; no other spelling, no leap second.
pub fn from_text(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 24 {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        bytes.get(from..to)?.iter().try_fold(0i64, |sum, byte| {
            byte.is_ascii_digit()
                .then(|| sum * 10 + i64::from(byte - b'0'))
        })
    };
    let (year, month, date) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let seconds = (hour * 60 + minute) * 60 + second;
    let unix_ms = days(year, month, date) * DAY_MS + seconds * 1_000 + number(20, 23)?;
    // Punctuation, ranges and the calendar are all checked by writing it again.
    (to_text(unix_ms) == text).then_some(unix_ms)
}

const DAY_MS: i64 = 86_400_000;
/// 0000-01-01T00:00:00.000Z
const FIRST_MS: i64 = -62_167_219_200_000;
/// 9999-12-31T23:59:59.999Z
const LAST_MS: i64 = 253_402_300_799_999;

/// Days in 400 years of the Gregorian calendar, after which it repeats.
const ERA_DAYS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01. Years are counted from March, so that a leap day is the last of its year.
const EPOCH_DAYS: i64 = 719_468;

/// Year, month and date of a day counted from 1970-01-01 (the method of H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + EPOCH_DAYS;
    let (era, of_era) = (day.div_euclid(ERA_DAYS), day.rem_euclid(ERA_DAYS));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, date)
}

/// The reverse of [`civil`], for any numbers; senseless dates give the days of some other date.
fn days(year: i64, month: i64, date: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + date - 1;
    era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH_DAYS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments_have_known_texts() {
        // The numbers are from `date -u -d TEXT +%s`.
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (FIRST_MS, "0000-01-01T00:00:00.000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(to_text(unix_ms), text);
            assert_eq!(from_text(text), Some(unix_ms), "{text}");
        }
    }

    #[test]
    fn moments_beyond_the_calendar_are_held_at_its_ends() {
        assert_eq!(to_text(i64::MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(to_text(i64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "1970-01-01T00:00:00Z",
            "1970-01-01T00:00:00.000z",
            "1970-01-01 00:00:00.000Z",
            "1970-01-01T00:00:00.000+",
            "1970-1-01T00:00:00.0000Z",
            "2023-02-29T00:00:00.000Z",
            "1970-00-01T00:00:00.000Z",
            "1970-13-01T00:00:00.000Z",
            "1970-01-32T00:00:00.000Z",
            "1970-01-01T24:00:00.000Z",
            "1970-01-01T00:60:00.000Z",
            "1970-01-01T00:00:60.000Z",
            "+970-01-01T00:00:00.000Z",
            "１970-01-01T00:00:00.00Z",
        ] {
            assert_eq!(from_text(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_moment_comes_back_and_text_order_is_time_order(a in FIRST_MS..=LAST_MS, b in FIRST_MS..=LAST_MS) {
            prop_assert_eq!(from_text(&to_text(a)), Some(a));
            prop_assert_eq!(to_text(a).cmp(&to_text(b)), a.cmp(&b));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}.[0-9]{3}Z|.{0,30}") {
            if let Some(moment) = from_text(&text) {
                prop_assert_eq!(to_text(moment), text);
            }
        }
    }
}
