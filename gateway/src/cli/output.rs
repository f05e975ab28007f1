//! The one place that writes to the terminal.

use std::io::{self, Write};

/// Prints text to stdout, with an end of line. A reader that has gone (`| head`) is no error.
pub fn say(text: &str) {
    write_line(io::stdout().lock(), text);
}

/// Prints text to stderr, with an end of line.
pub fn complain(text: &str) {
    write_line(io::stderr().lock(), text);
}

fn write_line(mut out: impl Write, text: &str) {
    let text = text.trim_end_matches('\n');
    // Where the terminal is gone there is nobody to tell.
    drop(
        out.write_all(text.as_bytes())
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush()),
    );
}

/// `text` with everything that could steer a terminal made visible. What strangers chose (user
/// names, databases, notes) goes through here before it is printed.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character != '\n' && (character.is_control() || is_steering(character)) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// Format characters that reorder or hide text: bidirectional controls, zero-width, separators.
const fn is_steering(character: char) -> bool {
    matches!(
        character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{061c}'
    )
}

/// "1 connection", "2 connections".
#[must_use]
pub fn counted(count: usize, one: &str) -> String {
    if count == 1 {
        format!("1 {one}")
    } else {
        format!("{count} {one}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_would_steer_a_terminal_is_shown_instead() {
        assert_eq!(printable("a\u{1b}[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
        assert_eq!(printable("zwei\nZeilen, ä"), "zwei\nZeilen, ä");
    }
}
