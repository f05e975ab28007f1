//! What a run tells: tables for people, and the same figures for programs.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use portcullis_tests::scratch::repository;
use serde_json::{Map, Value};

/// One part's figures.
pub(crate) struct Table {
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    figures: Vec<Value>,
}

impl Table {
    /// A table without rows. The first column stands left, the others right.
    pub(crate) fn new(title: &str, columns: &[&'static str]) -> Self {
        Self {
            title: title.to_owned(),
            columns: columns.to_vec(),
            rows: Vec::new(),
            notes: Vec::new(),
            figures: Vec::new(),
        }
    }

    /// Adds a row, and the figures behind it.
    ///
    /// # Panics
    /// When it has not as many cells as there are columns.
    pub(crate) fn row(&mut self, cells: Vec<String>, figures: Value) {
        assert_eq!(cells.len(), self.columns.len(), "{cells:?}");
        self.rows.push(cells);
        self.figures.push(figures);
    }

    /// Adds a line below the table.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// The table as text.
    pub(crate) fn text(&self) -> String {
        let width = |index: usize| {
            let cells = self.rows.iter().map(|row| row[index].chars().count());
            cells
                .chain([self.columns[index].chars().count()])
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::from(" ");
            for (index, (cell, width)) in cells.zip(&widths).enumerate() {
                let _ = match index {
                    0 => write!(line, " {cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            line.trim_end().to_owned()
        };
        let mut text = format!("\n{}\n", self.title);
        let _ = writeln!(text, "{}", line(&mut self.columns.iter().copied()));
        for row in &self.rows {
            let _ = writeln!(text, "{}", line(&mut row.iter().map(String::as_str)));
        }
        for note in &self.notes {
            let _ = writeln!(text, "  {note}");
        }
        text
    }

    /// The figures behind the rows.
    pub(crate) fn figures(&self) -> Value {
        Value::Array(self.figures.clone())
    }
}

/// A part of what README.md shows: each is replaced by a run that measured it, and by no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The ways of one gateway, beside its peers.
    Ways,
    /// Three nodes.
    Fleet,
    /// A change told to many.
    Subscribers,
    /// A start with all that a fleet may have.
    Restart,
    /// The audit logs.
    Audit,
    /// The past, told from them.
    Reach,
    /// Connections in them.
    Receipts,
    /// Their index.
    Index,
    /// The doors' certificates.
    Certificates,
}

impl Shown {
    const ALL: [Self; 9] = [
        Self::Ways,
        Self::Fleet,
        Self::Subscribers,
        Self::Restart,
        Self::Audit,
        Self::Reach,
        Self::Receipts,
        Self::Index,
        Self::Certificates,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Ways => "bench",
            Self::Fleet => "bench fleet",
            Self::Subscribers => "bench subscribers",
            Self::Restart => "bench restart",
            Self::Audit => "bench audit",
            Self::Reach => "bench reach",
            Self::Receipts => "bench receipts",
            Self::Index => "bench index",
            Self::Certificates => "bench certificates",
        }
    }

    fn path(self) -> PathBuf {
        let file = match self {
            Self::Ways => "table.md",
            Self::Fleet => "fleet.md",
            Self::Subscribers => "subscribers.md",
            Self::Restart => "restart.md",
            Self::Audit => "audit.md",
            Self::Reach => "reach.md",
            Self::Receipts => "receipts.md",
            Self::Index => "index.md",
            Self::Certificates => "certificates.md",
        };
        folder().join(file)
    }
}

/// Writes what README.md shall show of this and returns where it is.
///
/// # Panics
/// When it cannot be written.
pub(crate) fn write_shown(what: Shown, markdown: &str) -> PathBuf {
    let path = what.path();
    fs::write(&path, markdown).expect("target/ can be written");
    path
}

/// Puts what was measured last into README.md, each part between its own markers. A part that was
/// not measured here stays as it is.
///
/// # Panics
/// When there is nothing, or README.md has no place for it.
pub(crate) fn show_in_readme() {
    let measured: Vec<(Shown, String)> = Shown::ALL
        .into_iter()
        .filter_map(|what| Some((what, fs::read_to_string(what.path()).ok()?)))
        .collect();
    assert!(!measured.is_empty(), "no table: run `make bench` first");
    let path = repository().join("README.md");
    let readme = fs::read_to_string(&path).expect("README.md");
    let shown = measured.iter().fold(readme, |readme, (what, markdown)| {
        between_markers(&readme, what.word(), markdown)
    });
    fs::write(&path, shown).expect("README.md can be written");
}

fn between_markers(text: &str, word: &str, what: &str) -> String {
    let (begin, end) = (format!("<!-- {word} -->"), format!("<!-- {word} ends -->"));
    let parts = text.split_once(&begin).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(&end)?;
        Some((before, after))
    });
    let (before, after) = parts.unwrap_or_else(|| panic!("no {begin} and {end}"));
    format!("{before}{begin}\n{}\n{end}{after}", what.trim())
}

fn folder() -> PathBuf {
    let folder = repository().join("target/bench");
    fs::create_dir_all(&folder).expect("target/ can be written");
    folder
}

/// Writes target/bench/summary.json and returns where it is.
///
/// # Panics
/// When it cannot be written.
pub(crate) fn write_summary(summary: Map<String, Value>) -> PathBuf {
    let path = folder().join("summary.json");
    let text = serde_json::to_string_pretty(&Value::Object(summary)).expect("plain figures");
    fs::write(&path, text + "\n").expect("target/ can be written");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_takes_the_place_of_the_same_part_and_of_no_other() {
        let readme = "# It\n<!-- bench -->\nold\n<!-- bench ends -->\n<!-- bench fleet -->\nformer\n\
                      <!-- bench fleet ends -->\nMore.\n";
        let with = between_markers(readme, Shown::Ways.word(), "new\n");
        assert_eq!(with, readme.replace("old", "new"));
        assert_eq!(between_markers(&with, Shown::Ways.word(), "new"), with);
        let with = between_markers(readme, Shown::Fleet.word(), "new\n");
        assert_eq!(with, readme.replace("former", "new"));
    }

    #[test]
    fn readme_has_a_place_for_each_part() {
        let readme = fs::read_to_string(repository().join("README.md")).expect("README.md");
        for what in Shown::ALL {
            let _ = between_markers(&readme, what.word(), "");
        }
    }

    #[test]
    fn a_table_lines_its_figures_up() {
        let mut table = Table::new("Speed", &["what", "ns"]);
        table.row(vec!["one".to_owned(), "7".to_owned()], Value::Null);
        table.row(
            vec!["a thousand".to_owned(), "1000".to_owned()],
            Value::Null,
        );
        table.note("All of it.");
        assert_eq!(
            table.text(),
            "\nSpeed\n  what          ns\n  one            7\n  a thousand  1000\n  All of it.\n"
        );
    }
}
