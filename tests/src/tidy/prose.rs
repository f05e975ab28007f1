//! What is written for people: links that lead somewhere, names that are explained, and nothing
//! about the machine it was written on.

use std::collections::BTreeSet;

use super::source::is_identifier;
use super::{Fault, Tree};

/// What must not stand in any file: paths of a machine and hosts of registries. (Cut in two, so
/// that this file may be searched as well.)
const FOREIGN: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("npmjs", ".org"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("deb.debian", ".org"),
    concat!("static.crates", ".io"),
    concat!("index.crates", ".io"),
];

/// Files that tell where they were written, or where from.
#[must_use]
pub fn foreign(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.files() {
        for (number, line) in (1..).zip(file.text.lines()) {
            for word in FOREIGN.iter().filter(|word| line.contains(*word)) {
                faults.push(Fault::new(
                    &file.path,
                    number,
                    format!("`{word}` belongs to a machine, not to the project"),
                ));
            }
        }
    }
    faults
}

/// Links in Markdown that lead nowhere: to a file that is not there, or a heading that is not in it.
#[must_use]
pub fn links(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree
        .files()
        .iter()
        .filter(|file| file.path.ends_with(".md"))
    {
        for (number, target) in targets(&file.text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target.as_str(), ""));
            let there = if path.is_empty() {
                file.path.clone()
            } else {
                join(&file.path, path)
            };
            let folder = format!("{}/", there.trim_end_matches('/'));
            match tree.text(&there) {
                Some(text) if heading.is_empty() || headings(text).contains(heading) => {}
                Some(_) => faults.push(Fault::new(
                    &file.path,
                    number,
                    format!("{there} has no heading #{heading}"),
                )),
                None if tree
                    .files()
                    .iter()
                    .any(|file| file.path.starts_with(&folder)) => {}
                None => faults.push(Fault::new(
                    &file.path,
                    number,
                    format!("there is no {there}"),
                )),
            }
        }
    }
    faults
}

/// Pages of the manual that its index does not lead to.
#[must_use]
pub fn unlisted(tree: &Tree) -> Vec<Fault> {
    const INDEX: &str = "gateway/manual/index.md";
    let Some(index) = tree.text(INDEX) else {
        return vec![Fault::new(INDEX, 0, "missing")];
    };
    let listed: BTreeSet<String> = targets(index)
        .into_iter()
        .map(|(_, target)| join(INDEX, &target))
        .collect();
    let pages = tree
        .files()
        .iter()
        .filter(|file| file.path.starts_with("gateway/manual/") && file.path.ends_with(".md"));
    let unlisted = pages.filter(|page| page.path != INDEX && !listed.contains(&page.path));
    unlisted
        .map(|page| Fault::new(&page.path, 0, format!("not listed in {INDEX}")))
        .collect()
}

/// Words that a page should explain and does not, in backticks.
#[must_use]
pub fn unexplained(tree: &Tree, words: &BTreeSet<String>, page: &str) -> Vec<Fault> {
    let Some(text) = tree.text(page) else {
        return vec![Fault::new(page, 0, "missing")];
    };
    if words.is_empty() {
        return vec![Fault::new(
            page,
            0,
            "nothing to explain was found: the scanner has lost its way",
        )];
    }
    let missing = words
        .iter()
        .filter(|word| !text.contains(&format!("`{word}`")));
    missing
        .map(|word| Fault::new(page, 0, format!("does not explain `{word}`")))
        .collect()
}

/// The keys of policy files: what stands in the lists named `KNOWN` of the code that reads them.
#[must_use]
pub fn policy_keys(tree: &Tree) -> BTreeSet<String> {
    let readers = tree
        .files()
        .iter()
        .filter(|file| file.path.starts_with("gateway/src/config/policy_files/"));
    let lists = readers.flat_map(|file| file.text.split("KNOWN: &[&str] = &[").skip(1));
    let inside = lists
        .filter_map(|rest| rest.split_once(']'))
        .map(|(list, _)| list);
    // Every other part between quotes is a key.
    inside
        .flat_map(|list| list.split('"').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

/// The keys of `node.toml`: the fields of the structures that it is read into, in kebab case.
#[must_use]
pub fn node_keys(tree: &Tree) -> BTreeSet<String> {
    let raw = tree
        .text("gateway/src/config/node/raw.rs")
        .unwrap_or_default();
    let fields = raw
        .lines()
        .filter_map(|line| line.trim().strip_prefix("pub(super) ")?.split_once(':'));
    fields
        .filter(|(name, _)| name.chars().all(is_identifier))
        .map(|(name, _)| name.replace('_', "-"))
        .collect()
}

/// The names of metrics: the first string after each macro that makes one.
#[must_use]
pub fn metric_names(tree: &Tree) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in tree
        .files()
        .iter()
        .filter(|file| file.path.starts_with("gateway/src/"))
    {
        for makes in ["counter!(", "gauge!(", "histogram!("] {
            for rest in file.text.split(makes).skip(1) {
                let name = rest
                    .trim_start()
                    .strip_prefix('"')
                    .and_then(|rest| rest.split_once('"'));
                names.extend(name.map(|(name, _)| name.to_owned()));
            }
        }
    }
    names
}

/// The targets of Markdown links and their lines, code excepted.
fn targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // Every other part between backticks is code.
        for prose in line.split('`').step_by(2) {
            let mut rest = prose;
            while let Some((_, after)) = rest.split_once("](") {
                let Some((target, more)) = after.split_once(')') else {
                    break;
                };
                found.push((number, target.trim().to_owned()));
                rest = more;
            }
        }
    }
    found
}

/// The anchors of a page's headings, as forges make them: lower case, spaces to hyphens, the rest gone.
fn headings(text: &str) -> BTreeSet<String> {
    let titles = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim());
    let anchor = |title: &str| {
        let kept = title
            .chars()
            .filter(|&it| is_identifier(it) || it == ' ' || it == '-');
        kept.flat_map(char::to_lowercase)
            .map(|it| if it == ' ' { '-' } else { it })
            .collect()
    };
    titles.map(anchor).collect()
}

/// `relative` as seen from the file `from`.
fn join(from: &str, relative: &str) -> String {
    let path = relative.split('#').next().unwrap_or("");
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_nowhere_is_found_and_one_to_somewhere_is_not() {
        let page = "# A page\nSee [b](b.md#part-two), [c](../c.md), [dir](../gateway), [web](https://example.net/x), [here](#a-page).\n`[not](a-link.md)`\n```\n[nor](this.md)\n```\n";
        let tree = |page: &str| {
            Tree::of(&[
                ("m/a.md", page),
                ("m/b.md", "## Part two"),
                ("c.md", ""),
                ("gateway/x", ""),
            ])
        };
        assert_eq!(links(&tree(page)), []);
        for bad in [
            "[x](gone.md)",
            "[x](b.md#part-three)",
            "a [b](b.md) and [x](../m/gone.md)",
            "[x](#elsewhere)",
        ] {
            assert_eq!(links(&tree(bad)).len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_page_off_the_index_is_found() {
        let tree = Tree::of(&[
            (
                "gateway/manual/index.md",
                "[a](a.md) [d](decisions/0001-x.md)",
            ),
            ("gateway/manual/a.md", ""),
            ("gateway/manual/b.md", ""),
            ("gateway/manual/decisions/0001-x.md", ""),
        ]);
        assert_eq!(
            unlisted(&tree)
                .iter()
                .map(|fault| fault.path.as_str())
                .collect::<Vec<_>>(),
            ["gateway/manual/b.md"]
        );
    }

    #[test]
    fn a_word_that_a_page_does_not_explain_is_found() {
        let words: BTreeSet<String> = ["known", "secret_one"].map(str::to_owned).into();
        let tree = Tree::of(&[("d.md", "`known`, secret_one")]);
        assert_eq!(
            unexplained(&tree, &words, "d.md"),
            [Fault::new("d.md", 0, "does not explain `secret_one`")]
        );
        assert_eq!(unexplained(&tree, &BTreeSet::new(), "d.md").len(), 1);
        assert_eq!(unexplained(&tree, &words, "gone.md").len(), 1);
    }

    #[test]
    fn the_keys_of_both_kinds_of_file_are_found_in_the_code_that_reads_them() {
        let policy =
            "const KNOWN: &[&str] = &[\n  \"tenant\",\n  \"private-links\"];\n let x = [\"no\"];";
        let node =
            "struct A {\n    pub(super) allowed_uids: Vec<u32>,\n}\npub(super) fn read(x: u8) {}";
        let tree = Tree::of(&[
            ("gateway/src/config/policy_files/tenant.rs", policy),
            ("gateway/src/config/node/raw.rs", node),
        ]);
        assert_eq!(
            policy_keys(&tree),
            ["private-links", "tenant"].map(str::to_owned).into()
        );
        assert_eq!(node_keys(&tree), ["allowed-uids"].map(str::to_owned).into());
    }

    #[test]
    fn the_names_of_metrics_are_found() {
        let code = "counter!(\"a_total\", \"code\" => c).increment(1);\nmetrics::gauge!(\n    \"b\"\n).set(1);";
        let tree = Tree::of(&[("gateway/src/proxy/x.rs", code)]);
        assert_eq!(
            metric_names(&tree),
            ["a_total", "b"].map(str::to_owned).into()
        );
    }

    #[test]
    fn a_machines_path_is_found() {
        let text = format!("fine\nsee {}main\n", FOREIGN[0]);
        assert_eq!(
            foreign(&Tree::of(&[("a.md", &text), ("b.md", "homework/x")])).len(),
            1
        );
    }
}
