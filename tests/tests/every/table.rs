//! What the manual's page of drivers says, and what it should.

use std::fmt::Write as _;

use portcullis_tests::drivers::program::{CONNECTING, Outcome, Report, WORKING};
use portcullis_tests::scratch::repository;

use super::programs::{DRIVERS, Driver};

const PAGE: &str = "gateway/manual/drivers.md";
const BEGIN: &str = "<!-- What follows is written by tests/tests/drivers_each.rs. -->\n";
const END: &str = "<!-- What precedes is written by tests/tests/drivers_each.rs. -->\n";

/// The lines that the page has about one driver.
pub(crate) fn told(driver: &Driver) -> Vec<String> {
    let (row, line) = (
        format!("| {} |", driver.name),
        format!("- **{}**", driver.name),
    );
    let (_, generated, _) = parts();
    let about = |text: &&str| text.starts_with(&row) || text.starts_with(&line);
    generated.lines().filter(about).map(str::to_owned).collect()
}

/// The lines that it should have.
pub(crate) fn lines(driver: &Driver, report: &Report) -> Vec<String> {
    let mut lines = vec![
        row(driver, Some(&report.version), &CONNECTING, report),
        row(driver, None, &WORKING, report),
    ];
    let all = CONNECTING.iter().chain(&WORKING);
    let cannot: Vec<String> = all
        .filter_map(|name| match report.checks.get(*name) {
            Some(Outcome::Cannot(why) | Outcome::Partly(why)) => {
                Some(format!("{}: {why}", name.replace('-', " ")))
            }
            Some(Outcome::Works(_) | Outcome::Fails(_)) | None => None,
        })
        .collect();
    if !cannot.is_empty() {
        lines.push(format!("- **{}**: {}.", driver.name, cannot.join("; ")));
    }
    lines
}

/// The names of drivers in the first column, once for each table.
pub(crate) fn names() -> Vec<String> {
    let (_, generated, _) = parts();
    let rows = generated
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    rows.map(|(name, _)| name.to_owned())
        .filter(|name| name != "driver")
        .collect()
}

/// Writes the page's tables anew.
pub(crate) fn write(reports: &[Report]) {
    let about: Vec<Vec<String>> = DRIVERS
        .iter()
        .zip(reports)
        .map(|(driver, report)| lines(driver, report))
        .collect();
    let mut text = String::new();
    for (at, (title, columns)) in [
        ("driver | version", &CONNECTING[..]),
        ("driver", &WORKING[..]),
    ]
    .into_iter()
    .enumerate()
    {
        let heads = columns.join(" | ").replace('-', " ");
        let rule = "---|".repeat(title.split('|').count()) + &":-:|".repeat(columns.len());
        let _ = write!(text, "| {title} | {heads} |\n|{rule}\n");
        for rows in &about {
            let _ = writeln!(text, "{}", rows[at]);
        }
        text.push('\n');
    }
    for line in about.iter().filter_map(|rows| rows.get(2)) {
        let _ = writeln!(text, "{line}");
    }
    let (before, _, after) = parts();
    std::fs::write(
        repository().join(PAGE),
        format!("{before}{BEGIN}\n{text}\n{END}{after}"),
    )
    .expect("the page can be written");
}

fn row(driver: &Driver, version: Option<&str>, columns: &[&str], report: &Report) -> String {
    let cells: Vec<String> = columns
        .iter()
        .map(|name| match report.checks.get(*name) {
            Some(Outcome::Works(how)) if *name == "cancel" => format!("✓ {how}"),
            Some(Outcome::Works(_)) => "✓".to_owned(),
            Some(Outcome::Partly(_)) => "(✓)".to_owned(),
            Some(Outcome::Cannot(_)) => "–".to_owned(),
            Some(Outcome::Fails(_)) | None => "✗".to_owned(),
        })
        .collect();
    let version = version
        .map(|version| format!(" {version} |"))
        .unwrap_or_default();
    format!("| {} |{version} {} |", driver.name, cells.join(" | "))
}

fn parts() -> (String, String, String) {
    let page =
        std::fs::read_to_string(repository().join(PAGE)).expect("the manual has a page of drivers");
    let (before, rest) = page.split_once(BEGIN).expect("where the tables begin");
    let (generated, after) = rest.split_once(END).expect("where they end");
    (before.to_owned(), generated.to_owned(), after.to_owned())
}
