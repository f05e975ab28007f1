//! The table for the README: a row for each way, a column for each thing that was measured.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::ways::{Behind, Way};

/// A column of the table, in the order in which they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Column {
    OneClient,
    ManyClients,
    Added,
    QueryCost,
    Connections,
    ConnectionCost,
    ResumedCost,
    CopyOut,
    CopyIn,
    CopyCost,
    Idle,
}

impl Column {
    fn head(self) -> &'static str {
        match self {
            Self::OneClient => "queries/s, 1 client",
            Self::ManyClients => "16 clients",
            Self::Added => "added µs p50 / p99",
            Self::QueryCost => "CPU s per 100,000 queries, 1 / 16",
            Self::Connections => "connections/s",
            Self::ConnectionCost => "CPU ms each",
            Self::ResumedCost => "resumed",
            Self::CopyOut => "COPY out",
            Self::CopyIn => "COPY in",
            Self::CopyCost => "CPU s per GB, out / in",
            Self::Idle => "KiB idle, fresh / after 1 MB (once)",
        }
    }
}

/// What has been measured so far.
#[derive(Default)]
pub(crate) struct Board {
    cells: BTreeMap<Way, BTreeMap<Column, String>>,
    lines: Vec<String>,
}

impl Board {
    /// Fills a cell.
    pub(crate) fn put(&mut self, way: Way, column: Column, text: impl Into<String>) {
        let row = self.cells.entry(way).or_default();
        let _ = row.insert(column, text.into());
    }

    /// Adds a line below the tables.
    pub(crate) fn line(&mut self, text: impl Into<String>) {
        self.lines.push(text.into());
    }

    /// As Markdown; empty when nothing was measured that has a place here.
    pub(crate) fn markdown(&self, introduction: &str) -> String {
        let mut text = String::new();
        for behind in [Behind::Tls, Behind::Plain] {
            text += &self.table(behind);
        }
        for line in &self.lines {
            let _ = writeln!(text, "- {line}");
        }
        if text.is_empty() {
            return text;
        }
        format!("{introduction}\n\n{}\n", text.trim_end())
    }

    fn table(&self, behind: Behind) -> String {
        let rows = |way: &Way| way.behind() == behind || *way == Way::Direct;
        let rows: Vec<_> = self.cells.iter().filter(|(way, _)| rows(way)).collect();
        let others = rows.iter().filter(|(way, _)| **way != Way::Direct);
        let mut columns: Vec<Column> = others.flat_map(|(_, row)| row.keys().copied()).collect();
        columns.sort();
        columns.dedup();
        if columns.is_empty() {
            return String::new();
        }
        let heads: Vec<&str> = columns.iter().map(|column| column.head()).collect();
        let mut text = format!("| {} | {} |\n", behind.words(), heads.join(" | "));
        let _ = writeln!(text, "|---|{}", "--:|".repeat(columns.len()));
        for (way, row) in rows {
            let cell = |column| row.get(column).map_or("–", String::as_str);
            let cells: Vec<&str> = columns.iter().map(cell).collect();
            let _ = writeln!(text, "| {} | {} |", way.word(), cells.join(" | "));
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_direct_way_stands_in_both_tables_and_what_was_not_measured_is_a_dash() {
        let mut board = Board::default();
        board.put(Way::Direct, Column::OneClient, "100");
        board.put(Way::Gateway(Behind::Tls), Column::OneClient, "90");
        board.put(Way::Gateway(Behind::Plain), Column::ConnectionCost, "1.0");
        board.line("and more");
        assert_eq!(
            board.markdown("On a machine:"),
            "On a machine:\n\n\
             | TLS on both sides | queries/s, 1 client |\n|---|--:|\n| direct | 100 |\n| gateway | 90 |\n\n\
             | TLS to the client | CPU ms each |\n|---|--:|\n| direct | – |\n| gateway | 1.0 |\n\n\
             - and more\n"
        );
        assert_eq!(Board::default().markdown("On a machine:"), "");
    }
}
