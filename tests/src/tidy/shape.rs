//! The shape of the house: what stands at the top, how deep it goes, how long a file is.

use std::collections::BTreeSet;

use super::{Fault, Tree};

/// Past this a file has a second thing in it.
pub const MAX_LINES: usize = 500;
/// crate/src/area/part/file.rs, and no deeper.
pub const MAX_DEPTH: usize = 5;

/// Everything that stands at the top.
const TOP: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "audit",
    "bench",
    "certs",
    "clippy.toml",
    "deny.toml",
    "gateway",
    "policy",
    "rust-toolchain.toml",
    "tests",
];

/// Files that are longer all the same, each with its reason. Shrink this list.
pub const LONGER: &[(&str, &str)] = &[];

/// What stands at the top and should not, or should and does not.
#[must_use]
pub fn top(tree: &Tree) -> Vec<Fault> {
    let names = tree
        .files()
        .iter()
        .filter_map(|file| file.path.split('/').next());
    let found: BTreeSet<&str> = names.collect();
    let wanted: BTreeSet<&str> = TOP.iter().copied().collect();
    let strangers = found
        .difference(&wanted)
        .map(|name| Fault::new(name, 0, "the top level is fixed: put this into a crate"));
    let missing = wanted
        .difference(&found)
        .map(|name| Fault::new(name, 0, "missing at the top level"));
    strangers.chain(missing).collect()
}

/// Files that lie too deep.
#[must_use]
pub fn depth(tree: &Tree) -> Vec<Fault> {
    let deep = tree
        .files()
        .iter()
        .filter(|file| file.path.split('/').count() > MAX_DEPTH);
    deep.map(|file| Fault::new(&file.path, 0, format!("more than {MAX_DEPTH} names deep")))
        .collect()
}

/// Rust files that are too long and not excepted, and exceptions that are no longer needed.
#[must_use]
pub fn length(tree: &Tree, longer: &[(&str, &str)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let lines = |text: &str| text.lines().count();
    for file in tree
        .files()
        .iter()
        .filter(|file| file.path.ends_with(".rs"))
    {
        let excepted = longer.iter().any(|(path, _)| *path == file.path);
        let count = lines(&file.text);
        if count > MAX_LINES && !excepted {
            faults.push(Fault::new(
                &file.path,
                count,
                format!("longer than {MAX_LINES} lines: what second thing has moved in?"),
            ));
        }
    }
    for (path, _) in longer {
        if tree.text(path).is_none_or(|text| lines(text) <= MAX_LINES) {
            faults.push(Fault::new(
                path,
                0,
                "no longer longer: take it off the list of exceptions",
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_and_a_gap_at_the_top_are_found() {
        let faults = top(&Tree::of(&[
            ("gateway/src/lib.rs", ""),
            ("scripts/x.sh", ""),
        ]));
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert!(
            told.contains(&"scripts:0: the top level is fixed: put this into a crate".to_owned())
        );
        assert!(told.contains(&"policy:0: missing at the top level".to_owned()));
        assert_eq!(told.len(), TOP.len());
    }

    #[test]
    fn a_file_too_deep_is_found_and_one_just_deep_enough_is_not() {
        let faults = depth(&Tree::of(&[
            ("a/src/b/c/d.rs", ""),
            ("a/src/b/c/d/e.rs", ""),
        ]));
        assert_eq!(faults.len(), 1);
    }

    #[test]
    fn a_file_at_the_limit_passes_and_one_past_it_does_not() {
        let (at, past) = ("\n".repeat(MAX_LINES), "\n".repeat(MAX_LINES + 1));
        let tree = Tree::of(&[("a.rs", &at), ("b.rs", &past)]);
        assert_eq!(length(&tree, &[]).len(), 1);
        assert_eq!(length(&tree, &[("b.rs", "a table")]).len(), 0);
    }

    #[test]
    fn a_stale_exception_is_found() {
        let tree = Tree::of(&[("a.rs", "\n")]);
        assert_eq!(
            length(&tree, &[("a.rs", "was long"), ("gone.rs", "is gone")]).len(),
            2
        );
    }
}
