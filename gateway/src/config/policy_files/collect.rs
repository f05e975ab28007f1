//! Reading the policy directory, and nothing that lies outside of it.

use super::yaml::{self, Node, Value};
use super::{
    MAX_POLICY_BYTES, MAX_POLICY_ERRORS, MAX_POLICY_FILE_BYTES, MAX_POLICY_FILES, PolicyFiles,
    is_tenant_file, reference,
};
use crate::config::file_error::{FileError, Source, holds_private_key, quoted};
use crate::config::files;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Reads every tenant's file in `directory` and every file that one refers to.
///
/// Tenant files are the `*.yaml` and `*.yml` at the top level; names that begin with a dot and
/// other files are passed over. Symbolic links are followed as long as they stay in the directory.
///
/// Errors: every file that cannot be read, is too large, is not UTF-8, leads out of the directory
/// or holds a private key. What YAML says is not checked here.
pub fn collect(directory: &Path) -> Result<PolicyFiles, Vec<FileError>> {
    let whole = |problem: String| vec![FileError::whole(directory.display(), problem)];
    let root = directory
        .canonicalize()
        .map_err(|error| whole(format!("cannot be opened: {error}")))?;
    let mut collector = Collector {
        root,
        files: BTreeMap::new(),
        bytes: 0,
        errors: Vec::new(),
    };
    let names = collector.tenant_files().map_err(whole)?;
    for name in names {
        collector.tenant_file(&name);
        if collector.errors.len() >= MAX_POLICY_ERRORS {
            break;
        }
    }
    if collector.errors.is_empty() {
        Ok(PolicyFiles {
            files: collector.files,
        })
    } else {
        Err(collector.errors)
    }
}

struct Collector {
    root: PathBuf,
    files: BTreeMap<String, String>,
    bytes: u64,
    errors: Vec<FileError>,
}

impl Collector {
    /// The names of the tenants' files, in order.
    fn tenant_files(&mut self) -> Result<Vec<String>, String> {
        let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let Ok(name) = name.into_string() else {
                return Err("a file's name in it is not UTF-8".to_owned());
            };
            if name.starts_with('.') {
                continue;
            }
            if is_tenant_file(&name) {
                names.push(name);
            } else if is_tenant_file(&name.to_ascii_lowercase()) {
                let message = "is not read as policy; write .yaml in lower case";
                self.errors.push(FileError::whole(&name, message));
            }
            if names.len() > MAX_POLICY_FILES {
                return Err(format!("more than {MAX_POLICY_FILES} policy files"));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn tenant_file(&mut self, name: &str) {
        let text = match self.read(name) {
            Ok(text) => text,
            Err(problem) => {
                self.errors.push(FileError::whole(name, problem));
                return;
            }
        };
        let source = Source { name, text: &text };
        let mut references = Vec::new();
        // What is not YAML is told by `parse`, with everything else that is wrong in the file.
        if let Ok(root) = yaml::read(&source) {
            find_references(&root, &mut references);
        }
        for (key, path, at) in references {
            if let Err(problem) = self.referred(&path) {
                self.errors
                    .push(source.error(at, format!("{key} {problem}")));
            }
        }
        self.files.insert(name.to_owned(), text);
    }

    /// Takes in a file that a tenant's file refers to, once.
    fn referred(&mut self, path: &str) -> Result<(), String> {
        let path = reference(path)?;
        if self.files.contains_key(path) {
            return Ok(());
        }
        let text = self
            .read(path)
            .map_err(|problem| format!("{}: {problem}", quoted(path)))?;
        self.files.insert(path.to_owned(), text);
        Ok(())
    }

    fn read(&mut self, path: &str) -> Result<String, String> {
        let whole = self
            .root
            .join(path)
            .canonicalize()
            .map_err(|error| format!("cannot be opened: {error}"))?;
        if !whole.starts_with(&self.root) {
            return Err("leads out of the policy directory".to_owned());
        }
        if self.files.len() >= MAX_POLICY_FILES {
            return Err(format!("is one more than {MAX_POLICY_FILES} policy files"));
        }
        let text = files::read_text(&whole, MAX_POLICY_FILE_BYTES)?;
        if holds_private_key(&text) {
            return Err("holds a private key, which is not read into policy".to_owned());
        }
        self.bytes += u64::try_from(text.len()).unwrap_or(u64::MAX);
        if self.bytes > MAX_POLICY_BYTES {
            return Err(format!(
                "brings the policy directory to more than {MAX_POLICY_BYTES} bytes"
            ));
        }
        Ok(text)
    }
}

/// Every value of a key that refers to a file, wherever in the document it stands.
fn find_references(node: &Node<'_>, found: &mut Vec<(&'static str, String, Range<usize>)>) {
    match &node.value {
        Value::Map(pairs) => {
            for pair in pairs {
                let key = REFERRING.iter().find(|key| **key == pair.key.text);
                if let (Some(key), Value::Text { text, .. }) = (key, &pair.value.value) {
                    found.push((key, text.clone().into_owned(), pair.value.at.clone()));
                }
                find_references(&pair.value, found);
            }
        }
        Value::List(items) => {
            for item in items {
                find_references(item, found);
            }
        }
        Value::Null | Value::Text { .. } => {}
    }
}

/// The keys whose value is the path of a file.
const REFERRING: [&str; 2] = ["authorities-file", "keys-file"];
