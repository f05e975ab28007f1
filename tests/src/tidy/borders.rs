//! Who may know whom: between packages, and between the rooms of the gateway.

use std::collections::BTreeSet;

use super::source::{is_identifier, word_ends};
use super::{Fault, Tree};

/// What each package of the product may depend on of its own house. Floor 0 are strangers to each
/// other, and wire to all.
const PACKAGES: &[(&str, &[&str])] = &[
    ("policy", &[]),
    ("certs", &[]),
    ("audit", &[]),
    ("gateway/wire", &[]),
    (
        "gateway/consensus",
        &["portcullis-policy", "portcullis-certs", "portcullis-audit"],
    ),
    (
        "gateway",
        &[
            "portcullis-policy",
            "portcullis-certs",
            "portcullis-audit",
            "portcullis-wire",
            "portcullis-consensus",
        ],
    ),
];

/// What decides and what understands bytes never waits.
const NEVER_WAIT: &[&str] = &["policy/src", "certs/src", "audit/src", "gateway/wire/src"];
const WAITING: &[&str] = &[
    "tokio",
    "futures",
    "async-trait",
    "hyper",
    "tokio-postgres",
    "tokio-rustls",
];

/// The law is pure: this is all it stands on.
const POLICY_STANDS_ON: &[&str] = &["imbl", "postcard", "serde", "sha2"];

/// The rooms of gateway/src from the top; rooms of one rank do not know each other.
const ROOMS: &[&[&str]] = &[
    &["cli"],
    &["api"],
    &["fleet", "bots"],
    &["proxy", "broker", "ship"],
    &["database", "ledger", "http", "mesh", "vault"],
    &["runtime", "config"],
];

/// Packages that depend on what they may not.
#[must_use]
pub fn packages(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (folder, allowed) in PACKAGES {
        let path = format!("{folder}/Cargo.toml");
        let Some(manifest) = tree.text(&path) else {
            faults.push(Fault::new(&path, 0, "missing"));
            continue;
        };
        for (line, name) in dependencies(manifest) {
            if name.starts_with("portcullis") && !allowed.contains(&name.as_str()) {
                faults.push(Fault::new(
                    &path,
                    line,
                    format!("{folder} must not know {name}"),
                ));
            }
            if NEVER_WAIT.contains(&format!("{folder}/src").as_str())
                && WAITING.contains(&name.as_str())
            {
                faults.push(Fault::new(
                    &path,
                    line,
                    format!("only the gateway waits; {name} is not for {folder}"),
                ));
            }
            if *folder == "policy" && !POLICY_STANDS_ON.contains(&name.as_str()) {
                faults.push(Fault::new(
                    &path,
                    line,
                    format!("the law stands on {POLICY_STANDS_ON:?} alone, not on {name}"),
                ));
            }
        }
    }
    faults
}

/// Anything that waits where nothing may.
#[must_use]
pub fn waiting(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in NEVER_WAIT.iter().flat_map(|folder| tree.code(folder)) {
        for (number, line) in (1..).zip(file.text.lines()) {
            for word in ["async", "await", "tokio"] {
                if word_ends(line, word).next().is_some() {
                    faults.push(Fault::new(
                        &file.path,
                        number,
                        format!("`{word}`: only the gateway waits"),
                    ));
                }
            }
        }
    }
    faults
}

/// Rooms of the gateway that look upwards, or sideways.
#[must_use]
pub fn rooms(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in tree.code("gateway/src/") {
        let Some(room) = room_of(&file.path) else {
            continue;
        };
        let Some(own) = rank(room) else {
            faults.push(Fault::new(
                &file.path,
                0,
                format!("{room} has no place among the rooms: give it one in tidy/borders.rs"),
            ));
            continue;
        };
        for (line, other) in mentions(&file.path, &file.text) {
            let allowed = other == room || rank(&other).is_none_or(|rank| rank > own);
            if !allowed {
                faults.push(Fault::new(
                    &file.path,
                    line,
                    format!("{room} must not know {other}: imports go down only"),
                ));
            }
        }
    }
    faults
}

/// The names and lines of a manifest's dependencies that are compiled into the product.
fn dependencies(manifest: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(manifest.lines()) {
        if line.starts_with('[') {
            inside = line.contains("dependencies") && !line.contains("dev-dependencies");
        } else if inside {
            let name: String = line
                .chars()
                .take_while(|&it| is_identifier(it) || it == '-')
                .collect();
            if !name.is_empty() {
                found.push((number, name));
            }
        }
    }
    found
}

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|rooms| rooms.contains(&room))
}

/// `proxy` for `gateway/src/proxy/greet.rs` and `gateway/src/proxy.rs`; none for lib.rs and main.rs.
fn room_of(path: &str) -> Option<&str> {
    let first = path.strip_prefix("gateway/src/")?.split('/').next()?;
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(room, "lib" | "main")).then_some(room)
}

/// The names that directly follow the crate's root in paths, and where: `crate::proxy::…`,
/// `crate::{proxy, api::…}`, and as many `super::` as lead up to the root.
fn mentions(path: &str, code: &str) -> BTreeSet<(usize, String)> {
    let mut found = BTreeSet::new();
    let depth = module_depth(path);
    let line_of = |rest: &str| code[..code.len() - rest.len()].lines().count().max(1);
    for rest in word_ends(code, "crate") {
        let Some(after) = rest.trim_start().strip_prefix("::") else {
            continue;
        };
        found.extend(heads(after).into_iter().map(|name| (line_of(rest), name)));
    }
    for rest in word_ends(code, "super") {
        let (climbed, after) = climb(rest);
        if climbed >= depth {
            found.extend(heads(after).into_iter().map(|name| (line_of(rest), name)));
        }
    }
    found
}

/// How far below the crate's root a file's module is.
fn module_depth(path: &str) -> usize {
    let inner = path.trim_start_matches("gateway/src/");
    let parts = inner.split('/').count();
    if inner.ends_with("/mod.rs") {
        parts - 1
    } else {
        parts
    }
}

/// Behind the first `super`: how many there are in a row, and what follows the last `::`.
fn climb(rest: &str) -> (usize, &str) {
    let (mut count, mut rest) = (1, rest.trim_start());
    loop {
        let Some(after) = rest.strip_prefix("::") else {
            return (count, "");
        };
        rest = after.trim_start();
        match rest.strip_prefix("super") {
            Some(more) if !more.starts_with(is_identifier) => {
                count += 1;
                rest = more.trim_start();
            }
            _ => return (count, rest),
        }
    }
}

/// The first names of a path's continuation: one, or those of a group in braces.
fn heads(after: &str) -> Vec<String> {
    let after = after.trim_start();
    let name = |text: &str| {
        text.trim_start()
            .chars()
            .take_while(|&it| is_identifier(it))
            .collect::<String>()
    };
    let Some(group) = after.strip_prefix('{') else {
        return vec![name(after)];
    };
    let mut depth = 0_usize;
    let mut members = vec![String::new()];
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                members.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = members.last_mut() {
            last.push(character);
        }
    }
    members
        .iter()
        .map(|member| name(member))
        .filter(|name| !name.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room_faults(path: &str, code: &str) -> Vec<String> {
        rooms(&Tree::of(&[(path, code)]))
            .into_iter()
            .map(|fault| format!("{}: {}", fault.line, fault.message))
            .collect()
    }

    #[test]
    fn a_room_may_look_down_and_at_itself() {
        let code = "use crate::{database::Upstream, runtime};\nuse crate::proxy::greet;\nuse super::admit;\npub(crate) fn f() {}";
        assert_eq!(room_faults("gateway/src/proxy/dial.rs", code), [""; 0]);
    }

    #[test]
    fn a_room_that_looks_up_or_sideways_is_found_however_it_is_written() {
        for code in [
            "use crate::api::Server;",
            "use crate::{runtime::{self, clock}, api};",
            "fn f() { crate::api::serve() }",
            "use crate\n    ::api::Server;",
            "use super::super::api;",
            "use super::super::{runtime, api};",
        ] {
            assert_eq!(
                room_faults("gateway/src/proxy/dial.rs", code).len(),
                1,
                "{code}"
            );
        }
        assert_eq!(
            room_faults("gateway/src/http/mod.rs", "use super::database::Verifiers;").len(),
            1
        );
        assert_eq!(
            room_faults("gateway/src/ledger/mod.rs", "\n\nuse crate::http::Server;"),
            ["3: ledger must not know http: imports go down only"]
        );
    }

    #[test]
    fn what_is_only_talked_about_is_not_an_import() {
        let code = "// crate::api\nfn f() { log(\"crate::api::x\") }\n#[cfg(test)]\nmod tests { use crate::api; }";
        assert_eq!(room_faults("gateway/src/proxy/dial.rs", code), [""; 0]);
    }

    #[test]
    fn a_room_without_a_place_is_found() {
        assert!(room_faults("gateway/src/attic/mod.rs", "")[0].contains("no place"));
    }

    #[test]
    fn arrows_between_strangers_are_found() {
        let plain = "[dependencies]\nserde.workspace = true\n";
        let manifests = |policy: &str, certs: &str| {
            let tree = Tree::of(&[
                ("policy/Cargo.toml", policy),
                ("certs/Cargo.toml", certs),
                ("audit/Cargo.toml", plain),
                ("gateway/wire/Cargo.toml", plain),
                ("gateway/consensus/Cargo.toml", plain),
                ("gateway/Cargo.toml", plain),
            ]);
            packages(&tree).len()
        };
        assert_eq!(manifests(plain, plain), 0);
        assert_eq!(
            manifests(
                plain,
                "[dependencies]\nportcullis-policy.workspace = true\n"
            ),
            1
        );
        assert_eq!(
            manifests(
                plain,
                "[dependencies.tokio]\nworkspace = true\n[dependencies]\ntokio = \"1\"\n"
            ),
            1
        );
        assert_eq!(manifests("[dependencies]\nrand = \"1\"\n", plain), 1);
        assert_eq!(
            manifests("[dev-dependencies]\nproptest = \"1\"\n", plain),
            0
        );
    }

    #[test]
    fn waiting_is_found_on_floor_0_and_not_in_the_gateway() {
        let code = "pub async fn f() { g().await }";
        assert_eq!(
            waiting(&Tree::of(&[
                ("policy/src/a.rs", code),
                ("gateway/src/proxy/a.rs", code)
            ]))
            .len(),
            2
        );
    }
}
