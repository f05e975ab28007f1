//! A population as two files: JSON for programs, CSV for people.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use portcullis_audit::{Event, moment, personal};
use serde_json::{Value, json};

use super::populations::Population;

/// The two files of a population, being written.
pub(super) struct Sheet {
    json: BufWriter<File>,
    csv: BufWriter<File>,
    /// Entries.
    pub(super) count: u64,
    /// Events: an entry of a batch counts for as many as it anchors.
    pub(super) events: u64,
}

const COLUMNS: &str = "log,index,at,kind,node,tenant,revision,reference,by,entry";

impl Sheet {
    pub(super) fn begin(json: File, csv: File, population: &Population) -> io::Result<Self> {
        let (mut json, mut csv) = (BufWriter::new(json), BufWriter::new(csv));
        json.write_all(b"{")?;
        for (name, value) in population.about() {
            writeln!(json, "{}:{},", json!(name), json!(value))?;
        }
        write!(json, "\"query\":{},\n\"entries\":[", population.query())?;
        write!(csv, "{COLUMNS}\r\n")?;
        Ok(Self {
            json,
            csv,
            count: 0,
            events: 0,
        })
    }

    /// Adds an entry that stands for so many events.
    pub(super) fn add(
        &mut self,
        log: &str,
        index: u64,
        event: &Event,
        line: &str,
        events: u64,
    ) -> io::Result<()> {
        let between = if self.count > 0 { ",\n" } else { "\n" };
        // The line is canonical JSON already, and stays byte for byte.
        write!(
            self.json,
            "{between}{{\"log\":{},\"index\":{index},\"entry\":{line}}}",
            json!(log)
        )?;
        let text = |value: Option<&String>| value.cloned().unwrap_or_default();
        let cells = [
            log.to_owned(),
            index.to_string(),
            moment::to_text(event.at_ms),
            event.kind.to_string(),
            event.node.clone(),
            text(event.tenant.as_ref()),
            event.revision.map(|it| it.to_string()).unwrap_or_default(),
            text(event.reference.as_ref()),
            event.field("by").map(personal::shown).unwrap_or_default(),
            escaped(line),
        ];
        let cells = cells.map(|cell| cell_of(&cell));
        write!(self.csv, "{}\r\n", cells.join(","))?;
        self.count = self.count.saturating_add(1);
        self.events = self.events.saturating_add(events);
        Ok(())
    }

    pub(super) fn end(mut self) -> io::Result<Value> {
        write!(
            self.json,
            "\n],\n\"count\":{},\n\"events\":{}}}\n",
            self.count, self.events
        )?;
        self.json.flush()?;
        self.csv.flush()?;
        Ok(json!({ "count": self.count, "events": self.events }))
    }
}

/// An entry without what some programs take for the end of a cell. Both stand in its texts alone, where JSON has another spelling for them.
fn escaped(line: &str) -> String {
    line.replace(';', "\\u003b").replace('\t', "\\u0009")
}

/// A cell as RFC 4180 quotes it. What a spreadsheet would take for a formula gets an apostrophe before it, so that it
/// is a text; so does what one whose separator is another would take for the cell after it.
fn cell_of(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = match formula {
        true => format!("'{text}"),
        false => text.to_owned(),
    };
    let text = text.replace(';', ";'").replace('\t', "\t'");
    match text.contains([',', ';', '\t', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{cell_of, escaped};

    #[test]
    fn a_cell_is_a_text_whatever_is_in_it() {
        for (text, cell) in [
            ("acme", "acme"),
            ("", ""),
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "\"'\t'x\""),
            ("x;=HYPERLINK(1)", "\"x;'=HYPERLINK(1)\""),
            ("x\t=1", "\"x\t'=1\""),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("=\"x\",1", "\"'=\"\"x\"\",1\""),
            ("a\r\nb", "\"a\r\nb\""),
        ] {
            assert_eq!(cell_of(text), cell, "{text}");
        }
    }

    #[test]
    fn an_entry_has_nothing_that_ends_a_cell_and_says_the_same() {
        let line = "{\"a\":\"x;=HYPERLINK(1)\",\"b\":\"\\\\;\"}";
        assert!(!escaped(line).contains([';', '\t']));
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parsed(&escaped(line)), parsed(line));
    }
}
