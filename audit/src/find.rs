//! Finding events again by the reference that a client was told.

use crate::{Event, NotAnEvent};

/// The events among `lines` that carry `reference` (in its canonical spelling), in the lines' order.
///
/// Lazy, and cheap on lines that do not mention the reference: those are not parsed. A line that mentions it and is no event (cut off by
/// a crash, or edited) is reported, not passed over.
pub fn find<L: AsRef<str>>(
    lines: impl IntoIterator<Item = L>,
    reference: &str,
) -> impl Iterator<Item = Found> {
    lines
        .into_iter()
        .enumerate()
        .filter_map(move |(index, line)| {
            let line = line.as_ref();
            if reference.is_empty() || !line.contains(reference) {
                return None;
            }
            let event = Event::parse(line);
            if let Ok(event) = &event
                && event.reference.as_deref() != Some(reference)
            {
                return None;
            }
            let line_number = index.saturating_add(1);
            Some(Found { line_number, event })
        })
}

/// A line that carries the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Which line, counted from 1.
    pub line_number: usize,
    /// What it says; or why it cannot be read.
    pub event: Result<Event, NotAnEvent>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    const REFERENCE: &str = "PC-0000-0000-0001";

    fn line(at_ms: i64, reference: &str, user: &str) -> String {
        let mut event = Event::new(at_ms, kinds::CONNECTION_DENIED, "gw1").with("user", user);
        event.reference = Some(reference.to_owned());
        event.line()
    }

    #[test]
    fn only_lines_with_the_reference_are_found_in_their_order() {
        let lines = [
            line(1, REFERENCE, "app"),
            line(2, "PC-0000-0000-0002", "app"),
            // Somebody signs in under a name that is another's reference.
            line(3, "PC-0000-0000-0003", REFERENCE),
            line(4, REFERENCE, "app"),
        ];
        let found: Vec<_> = find(&lines, REFERENCE)
            .map(|found| (found.line_number, found.event.unwrap().at_ms))
            .collect();
        assert_eq!(found, [(1, 1), (4, 4)]);
        assert_eq!(find(&lines, "PC-0000-0000-0009").count(), 0);
        assert_eq!(find(&lines, "").count(), 0);
    }

    #[test]
    fn a_torn_line_that_mentions_the_reference_is_reported() {
        let whole = line(1, REFERENCE, "app");
        let torn = whole.trim_end_matches('}');
        let found: Vec<_> = find([torn, &whole], REFERENCE).collect();
        assert_eq!(found[0].event, Err(NotAnEvent::NotJson));
        assert_eq!(found[0].line_number, 1);
        assert!(found[1].event.is_ok());
    }
}
