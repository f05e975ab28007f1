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

/// Writes target/bench/summary.json and returns where it is.
///
/// # Panics
/// When it cannot be written.
pub(crate) fn write_summary(summary: Map<String, Value>) -> PathBuf {
    let folder = repository().join("target/bench");
    fs::create_dir_all(&folder).expect("target/ can be written");
    let path = folder.join("summary.json");
    let text = serde_json::to_string_pretty(&Value::Object(summary)).expect("plain figures");
    fs::write(&path, text + "\n").expect("target/ can be written");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

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
