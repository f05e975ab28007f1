//! JSON in one spelling: no spaces, sorted names, and no character in a text that could act on whoever reads it.

use serde_json::Value;

/// The value's one spelling, of one line: nothing in it steers a terminal or ends a line for whoever reads lines.
#[must_use]
pub fn text(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

/// Appends the value's one spelling.
pub(crate) fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => write_text(text, out),
        Value::Array(members) => {
            out.push('[');
            for (index, member) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(member, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            // Sorted here: the map's own order depends on a feature that any other crate may switch on.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            write_members(members.into_iter(), out);
        }
    }
}

/// Appends an object; the members must come sorted.
pub(crate) fn write_members<'a>(
    members: impl Iterator<Item = (&'a String, &'a Value)>,
    out: &mut String,
) {
    out.push('{');
    for (index, (name, value)) in members.enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(name, out);
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            acting if acts(acting) => {
                for unit in acting.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            harmless => out.push(harmless),
        }
    }
    out.push('"');
}

/// Characters that end a line somewhere, move a terminal's cursor, turn the direction of reading, or cannot be seen.
fn acts(character: char) -> bool {
    matches!(character,
        // C0 and C1 controls and DEL: terminal escapes, NEL (U+0085)
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // soft hyphen, Arabic letter mark, Mongolian vowel separator
        | '\u{ad}' | '\u{61c}' | '\u{180e}'
        // zero-width characters, left-to-right and right-to-left marks
        | '\u{200b}'..='\u{200f}'
        // line and paragraph separators, bidirectional embeddings and overrides
        | '\u{2028}'..='\u{202e}'
        // word joiner, invisible operators, bidirectional isolates, deprecated format characters
        | '\u{2060}'..='\u{206f}'
        // byte order mark, interlinear annotations
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        // tags: invisible letters
        | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(value: &Value) -> String {
        let mut out = String::new();
        write(value, &mut out);
        out
    }

    #[test]
    fn names_are_sorted_and_nothing_is_spaced() {
        let value = json!({"b": [1, -2, true, null], "a": {"z": "", "y": {}}});
        assert_eq!(
            text(&value),
            r#"{"a":{"y":{},"z":""},"b":[1,-2,true,null]}"#
        );
    }

    #[test]
    fn acting_characters_are_escaped_and_others_are_not() {
        for (character, spelling) in [
            ("\n", r"\n"),
            ("\r", r"\r"),
            ("\t", r"\t"),
            ("\"", r#"\""#),
            ("\\", r"\\"),
            ("\u{0}", r"\u0000"),
            ("\u{1b}", r"\u001b"),
            ("\u{7f}", r"\u007f"),
            ("\u{85}", r"\u0085"),
            ("\u{9b}", r"\u009b"),
            ("\u{200f}", r"\u200f"),
            ("\u{2028}", r"\u2028"),
            ("\u{2029}", r"\u2029"),
            ("\u{202e}", r"\u202e"),
            ("\u{2066}", r"\u2066"),
            ("\u{feff}", r"\ufeff"),
            ("\u{e0041}", r"\udb40\udc41"),
            ("é", "é"),
            ("日本", "日本"),
            ("😀", "😀"),
            ("/", "/"),
        ] {
            assert_eq!(text(&json!(character)), format!("\"{spelling}\""));
        }
    }

    #[test]
    fn every_character_comes_back() {
        let all: String = ('\u{0}'..=char::MAX).collect();
        let back: String = serde_json::from_str(&text(&json!(all))).expect("JSON");
        assert!(back == all);
    }
}
