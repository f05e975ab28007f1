//! A mistake in a file that a person wrote, and the text around it.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// One mistake: where it stands, what is wrong, and what to do instead.
///
/// Displayed as `file:line:column: message`, followed by the line itself with a caret under the
/// offending text. Nothing in it can control a terminal: the file's author need not be its reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileError {
    /// The file, as the operator knows it (`acme.yaml`, `/etc/portcullis/node.toml`).
    pub file: String,
    /// Line, counted from 1; none when the whole file is meant.
    pub line: Option<usize>,
    /// Column in characters, counted from 1; none when the whole file is meant.
    pub column: Option<usize>,
    /// What is wrong, and what to write instead.
    pub message: String,
    /// The line, and beneath it a caret, as two printable lines; none where quoting would tell
    /// too much (a file that holds a private key) or nothing.
    pub excerpt: Option<String>,
}

impl FileError {
    /// A mistake of the file as a whole: unreadable, too large, not UTF-8, empty.
    pub fn whole(file: impl fmt::Display, message: impl Into<String>) -> Self {
        Self {
            file: printable(&file.to_string()).into_owned(),
            line: None,
            column: None,
            message: message.into(),
            excerpt: None,
        }
    }
}

impl FileError {
    /// `file:line:column`, without anything that stands there.
    #[must_use]
    pub fn place(&self) -> String {
        match (self.line, self.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", self.file),
            (Some(_) | None, _) => self.file.clone(),
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.message)?;
        match &self.excerpt {
            Some(excerpt) => write!(f, "\n{excerpt}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FileError {}

/// A file's text under its name: turns a byte range into an error that a person can follow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) name: &'a str,
    pub(super) text: &'a str,
}

impl<'a> Source<'a> {
    /// An error at `span`, a byte range of the text (clamped to it).
    pub(super) fn error(&self, span: Range<usize>, message: impl Into<String>) -> FileError {
        let (line, column, whole_line) = self.locate(span.start);
        let width = self
            .text
            .get(span)
            .map_or(1, |marked| first_line(marked).chars().count());
        FileError {
            line: Some(line),
            column: Some(column),
            excerpt: (!holds_private_key(self.text))
                .then(|| excerpt(line, column, width, whole_line)),
            ..FileError::whole(self.name, message)
        }
    }

    /// Line and column of a byte offset, both from 1, for messages that name a second place.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let (line, column, _) = self.locate(offset);
        (line, column)
    }

    /// Refuses what an editor, a terminal or a reviewer would not show as it is: control
    /// characters, lone carriage returns, other line separators, and marks that reorder text.
    pub(super) fn check_characters(&self, tabs: Tabs) -> Result<(), FileError> {
        let mut characters = self.text.char_indices().peekable();
        while let Some((at, character)) = characters.next() {
            let problem = match character {
                '\n' => continue,
                '\r' if matches!(characters.peek(), Some((_, '\n'))) => continue,
                '\t' if tabs == Tabs::Allowed => continue,
                '\t' => "a tab; write spaces".to_owned(),
                '\r' => "a carriage return without a line feed; end lines with \\n".to_owned(),
                '\u{feff}' if at == 0 => {
                    "a byte order mark; save the file as UTF-8 without one".to_owned()
                }
                _ if is_deceptive(character) => format!(
                    "the invisible character U+{:04X}; remove it",
                    u32::from(character)
                ),
                _ => continue,
            };
            return Err(self.error(at..at + character.len_utf8(), problem));
        }
        Ok(())
    }

    fn locate(&self, offset: usize) -> (usize, usize, &'a str) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let (before, after) = self.text.split_at(offset);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(start..).unwrap_or_default().chars().count() + 1;
        let end = offset + first_line(after).len();
        (line, column, self.text.get(start..end).unwrap_or_default())
    }
}

/// Whether a kind of file may contain tabs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tabs {
    Allowed,
    Refused,
}

/// The text in double quotes, shortened and with everything unprintable escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(MAX_QUOTED)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(MAX_QUOTED).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// The most characters of a file's text that a message repeats.
const MAX_QUOTED: usize = 100;

/// Whether a text looks as if it held a private key: such text is never quoted nor sent anywhere.
pub(super) fn holds_private_key(text: &str) -> bool {
    text.contains("PRIVATE KEY-----")
}

/// The line of a mistake and the caret line beneath it, at most [`MAX_EXCERPT`] characters wide.
fn excerpt(line: usize, column: usize, width: usize, text: &str) -> String {
    let skipped = column.saturating_sub(MAX_EXCERPT / 2);
    let ellipsis = if skipped > 0 { "…" } else { "" };
    let shown: String = text.chars().skip(skipped).take(MAX_EXCERPT).collect();
    let indent = column - 1 - skipped.min(column - 1) + ellipsis.chars().count();
    let caret_room = (MAX_EXCERPT + 1).saturating_sub(indent).max(1);
    let carets = "^".repeat(width.clamp(1, caret_room));
    format!(
        "{line:>5} | {ellipsis}{}\n      | {}{carets}",
        printable(&shown).trim_end(),
        " ".repeat(indent),
    )
}

/// The widest excerpt, in characters.
const MAX_EXCERPT: usize = 120;

fn first_line(text: &str) -> &str {
    text.split('\n').next().unwrap_or_default()
}

/// One printable character for each character, so that carets stay under what they mark.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(|c: char| c.is_control() || is_deceptive(c)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(
        text.chars()
            .map(|character| match character {
                '\t' | '\r' => ' ',
                _ if character.is_control() || is_deceptive(character) => '\u{fffd}',
                _ => character,
            })
            .collect(),
    )
}

/// Characters that do not show, or that make other text show in another order
/// (Unicode TR 36, "bidirectional text spoofing"; CVE-2021-42574).
pub(super) fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{00ad}'
                | '\u{061c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_line_with_a_caret_under_the_offending_text() {
        let text = "allow:\n  - prefix: 10.0.0.1/8 # öffice\n";
        let start = text.find("10.").unwrap();
        let error = source(text).error(start..start + 10, "host bits are set");
        assert_eq!(
            error.to_string(),
            "acme.yaml:2:13: host bits are set\n    2 |   - prefix: 10.0.0.1/8 # öffice\n      |             ^^^^^^^^^^"
        );
    }

    #[test]
    fn columns_count_characters_and_offsets_past_the_end_are_clamped() {
        let text = "näme: x";
        let error = source(text).error(7..8, "x");
        assert_eq!((error.line, error.column), (Some(1), Some(7)));
        let error = source(text).error(500..900, "end");
        assert_eq!((error.line, error.column), (Some(1), Some(8)));
    }

    #[test]
    fn a_long_line_is_shown_in_part() {
        let text = format!("{}BAD{}", "a".repeat(1000), "b".repeat(1000));
        let error = source(&text).error(1000..1003, "bad");
        let excerpt = error.excerpt.unwrap();
        let lines: Vec<&str> = excerpt.lines().collect();
        assert!(lines[0].chars().count() < MAX_EXCERPT + 20);
        let caret = lines[1].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[0].chars().nth(caret), Some('B'));
    }

    #[test]
    fn a_caret_wider_than_the_excerpt_is_cut() {
        let text = "x".repeat(5000);
        let error = source(&text).error(0..5000, "long");
        assert!(error.excerpt.unwrap().chars().count() < 3 * MAX_EXCERPT);
    }

    #[test]
    fn text_that_would_move_a_terminal_is_neither_quoted_nor_shown() {
        let text = "note: \u{1b}[2Jx \u{202e}evil";
        let error = source(text).error(6..7, quoted(text));
        let shown = error.to_string();
        assert!(
            !shown.contains('\u{1b}') && !shown.contains('\u{202e}'),
            "{shown}"
        );
    }

    #[test]
    fn a_line_of_a_file_with_a_private_key_is_not_shown() {
        let text = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n";
        assert_eq!(source(text).error(31..33, "no").excerpt, None);
    }

    #[test]
    fn invisible_characters_are_refused_where_they_stand() {
        let check = |text: &str| {
            source(text)
                .check_characters(Tabs::Refused)
                .map_err(|error| error.to_string().lines().next().unwrap().to_owned())
        };
        assert_eq!(check("a: b\r\nc: ü\n"), Ok(()));
        for (text, expected) in [
            (
                "\u{feff}a: b",
                "1:1: a byte order mark; save the file as UTF-8 without one",
            ),
            ("a: b\n\tc: d", "2:1: a tab; write spaces"),
            (
                "a: b\rc: d",
                "1:5: a carriage return without a line feed; end lines with \\n",
            ),
            (
                "a: \u{202e}b",
                "1:4: the invisible character U+202E; remove it",
            ),
            (
                "a: b\u{0}",
                "1:5: the invisible character U+0000; remove it",
            ),
            (
                "a: b\u{2028}c: d",
                "1:5: the invisible character U+2028; remove it",
            ),
            (
                "a: b\u{85}c: d",
                "1:5: the invisible character U+0085; remove it",
            ),
        ] {
            assert_eq!(check(text), Err(format!("acme.yaml:{expected}")));
        }
    }

    fn source(text: &str) -> Source<'_> {
        Source {
            name: "acme.yaml",
            text,
        }
    }
}
