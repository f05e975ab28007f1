//! Looking for an attempt's events.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;

use portcullis_audit::Event;
use portcullis_policy::Reference;

use super::files::each_line;
use super::limits::MAX_FOUND;

/// The newest `MAX_FOUND` events with this reference in files given newest first; returned oldest
/// first. Lines that are not events are passed over: a search must work on a damaged file too.
pub(super) fn by_reference(
    newest_first: Vec<File>,
    reference: &Reference,
) -> io::Result<Vec<Event>> {
    let reference = reference.to_string();
    let mut found: VecDeque<Event> = VecDeque::new();
    // A crash between keeping a file's policy changes and removing it leaves them in both.
    let mut seen = BTreeSet::new();
    for file in newest_first {
        let mut here: VecDeque<Event> = VecDeque::new();
        let room = MAX_FOUND.saturating_sub(found.len());
        if room == 0 {
            break;
        }
        each_line(file, |line| {
            let Some(event) = matching(line, &reference) else {
                return;
            };
            if !seen.insert(line.to_vec()) {
                return;
            }
            if here.len() >= room {
                here.pop_front();
            }
            here.push_back(event);
        })?;
        here.extend(found);
        found = here;
    }
    Ok(found.into())
}

/// The text is looked for first, because it is cheap; then the line is understood, because the
/// text may stand in another field.
fn matching(line: &[u8], reference: &str) -> Option<Event> {
    let line = std::str::from_utf8(line)
        .ok()
        .filter(|line| line.contains(reference))?;
    let event = Event::parse(line).ok()?;
    (event.reference.as_deref() == Some(reference)).then_some(event)
}
