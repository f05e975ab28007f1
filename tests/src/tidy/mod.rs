//! Scanners that keep the house in order: borders, doors, shape and prose.
//!
//! Each is a pure function from a [`Tree`] to what is wrong with it, so that its own tests can
//! hand it a house with a fault. `tests/tidy.rs` hands them the repository.
//!
//! Deliberately absent: a parser of Rust. Comments and strings are blanked, and then words are
//! looked for; that is enough to keep an honest house tidy, and anybody can read it.

pub mod borders;
pub mod doors;
pub mod limits;
pub mod prose;
pub mod shape;
pub mod source;

use std::fmt;
use std::path::Path;

/// The repository's text files.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    files: Vec<File>,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct File {
    /// Relative to the repository, parted by `/`.
    pub path: String,
    /// Its text; empty if it is none.
    pub text: String,
}

/// Something out of order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file.
    pub path: String,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Tree {
    /// Reads every file under `root` but those that git does not keep either: `.git`, and what
    /// cargo builds in `target`.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let mut files = Vec::new();
        collect(root, "", &mut files);
        files.sort_by(|one, other| one.path.cmp(&other.path));
        Self { files }
    }

    /// A made-up tree, for the scanners' own tests.
    #[must_use]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        Self {
            files: files.iter().map(file).collect(),
        }
    }

    /// All files, in order of their paths.
    #[must_use]
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// The text of one file, if there is one.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|file| file.path == path)
            .map(|file| file.text.as_str())
    }

    /// The Rust files under a folder, as code: comments, strings and tests blanked.
    pub fn code(&self, folder: &str) -> impl Iterator<Item = File> {
        let rust = self
            .files
            .iter()
            .filter(move |file| file.path.starts_with(folder) && file.path.ends_with(".rs"));
        rust.filter(|file| !is_test(&file.path)).map(|file| File {
            path: file.path.clone(),
            text: source::product_code(&file.text),
        })
    }
}

/// Fails a test with everything that is out of order.
///
/// # Panics
/// When anything is.
pub fn assert_tidy(mut faults: Vec<Fault>) {
    faults.sort();
    let told: Vec<String> = faults.iter().map(Fault::to_string).collect();
    assert!(
        told.is_empty(),
        "{} out of order:\n{}",
        told.len(),
        told.join("\n")
    );
}

impl Fault {
    pub(crate) fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Test code, which may do what it likes: a crate's `tests/`, and modules that are nothing else.
fn is_test(path: &str) -> bool {
    path.split('/').any(|part| {
        matches!(
            part,
            "tests" | "tests.rs" | "testing" | "testing.rs" | "benches"
        )
    })
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) {
    for entry in std::fs::read_dir(folder)
        .expect("the repository can be read")
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}/{name}")
        };
        if matches!(name.as_str(), ".git" | "target") {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), &path, files);
        } else {
            let text = std::fs::read(entry.path())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            files.push(File {
                path,
                text: text.unwrap_or_default(),
            });
        }
    }
}
