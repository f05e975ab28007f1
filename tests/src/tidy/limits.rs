//! Every limit that is named is shown: by `portcullis limits`, and so by the metrics.

use super::source::word_ends;
use super::{Fault, Tree};

/// The table that the command and the metrics read.
const TABLE: &str = "gateway/src/api/limit_table/";

/// Files called `limits.rs` that are not shown line by line, each with its reason.
const APART: &[(&str, &str)] = &[
    (
        "gateway/src/config/node/limits.rs",
        "the hard maxima of what node.toml may say; the manual tells them",
    ),
    (
        "gateway/src/proxy/limits.rs",
        "names none: it settles those of runtime/limits.rs",
    ),
    ("gateway/src/cli/text/limits.rs", "prints the table"),
];

/// Constants of the product's `limits.rs` files that the table does not mention.
#[must_use]
pub fn unshown(tree: &Tree) -> Vec<Fault> {
    let table: Vec<_> = tree.code(TABLE).collect();
    let shown = |name: &str| {
        let mut lines = table.iter().flat_map(|file| file.text.lines());
        lines.any(|line| word_ends(line, name).next().is_some())
    };
    let mut faults = Vec::new();
    let mut seen = 0;
    for folder in ["gateway/", "policy/src/", "certs/src/", "audit/src/"] {
        let files = tree.code(folder);
        let named = files.filter(|file| file.path.ends_with("/limits.rs"));
        for file in named.filter(|file| APART.iter().all(|(path, _)| *path != file.path)) {
            for (number, line) in (1..).zip(file.text.lines()) {
                let Some(name) = constant(line) else { continue };
                seen += 1;
                if !shown(name) {
                    faults.push(Fault::new(
                        &file.path,
                        number,
                        format!("{name} is in no line of {TABLE}: nobody would see it"),
                    ));
                }
            }
        }
    }
    if seen == 0 {
        faults.push(Fault::new(
            TABLE,
            0,
            "no limit was found: the scanner has lost its way",
        ));
    }
    faults
}

/// The name of the constant that a line makes public.
fn constant(line: &str) -> Option<&str> {
    let (name, _) = line.trim().strip_prefix("pub const ")?.split_once(':')?;
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_the_table_leaves_out_is_found() {
        let limits = "/// One.\npub const SHOWN: usize = 1;\npub const HIDDEN: u32 = 2;\nconst OWN: u8 = 3;\n";
        let table = "const ALL: &[u8] = &[count(node::SHOWN), count(node::HIDDEN_TOO)];";
        let tree = Tree::of(&[
            ("gateway/src/runtime/limits.rs", limits),
            ("gateway/src/api/limit_table/mod.rs", table),
            (
                "gateway/src/proxy/limits.rs",
                "pub const ELSEWHERE: u8 = 1;",
            ),
        ]);
        let faults = unshown(&tree);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].message.starts_with("HIDDEN "));
        assert_eq!(unshown(&Tree::of(&[])).len(), 1);
    }
}
