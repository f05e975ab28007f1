//! Each big or dangerous thing comes in by one door.

use std::collections::BTreeSet;

use super::source::{is_identifier, word_ends};
use super::{Fault, Tree};

/// A name that product code may use in these places only.
struct Door {
    name: &'static str,
    places: &'static [&'static str],
    why: &'static str,
}

const fn door(name: &'static str, places: &'static [&'static str], why: &'static str) -> Door {
    Door { name, places, why }
}

const DOORS: &[Door] = &[
    door(
        "hyper",
        &["gateway/src/http/"],
        "HTTP, both ways, is one room's business",
    ),
    door(
        "hyper_util",
        &["gateway/src/http/"],
        "HTTP, both ways, is one room's business",
    ),
    door(
        "quinn",
        &["gateway/src/mesh/"],
        "nodes speak to each other through one room",
    ),
    door(
        "tokio_postgres",
        &["gateway/src/database/"],
        "databases are asked by one room",
    ),
    door(
        "jsonwebtoken",
        &["certs/src/"],
        "who somebody is, is certs' word",
    ),
    door("rcgen", &["certs/src/"], "certificates are issued by certs"),
    door("argon2", &["certs/src/vault/"], "passphrases open vaults"),
    door(
        "cryptoki",
        &["gateway/src/vault/module.rs"],
        "keys in modules open vaults",
    ),
    door(
        "aws_lc_rs",
        &["certs/src/", "audit/src/tlog/note.rs"],
        "keys are used by certs; audit checks signatures under notes, in one file",
    ),
    door(
        "fpe",
        &["certs/src/cancel_key/"],
        "one key is a permutation",
    ),
    door(
        "aes",
        &["certs/src/cancel_key/"],
        "one key is a permutation",
    ),
    door(
        "x509_parser",
        &["certs/src/"],
        "certificates are read by certs",
    ),
    door(
        "serde_saphyr",
        &["gateway/src/config/"],
        "what people write is parsed once, at the border",
    ),
    door(
        "object_store",
        &["gateway/src/fleet/objects/", "gateway/src/http/objects.rs"],
        "the copy of the audit logs is one room's business, and its requests are http's",
    ),
    door(
        "redb",
        &["gateway/consensus/"],
        "state on disk is consensus' business",
    ),
    door(
        "ServerConfig::builder*",
        &["certs/src/"],
        "TLS is configured in one place",
    ),
    door(
        "ClientConfig::builder*",
        &["certs/src/"],
        "TLS is configured in one place",
    ),
    door(
        "move_into_link_name_space",
        &["gateway/src/runtime/dialer/"],
        "only the dialer enters namespaces",
    ),
    door(
        "SystemTime::now",
        &["gateway/src/runtime/clock.rs"],
        "one file reads clocks",
    ),
    door(
        "Instant::now",
        &["gateway/src/runtime/clock.rs"],
        "one file reads clocks",
    ),
    door(
        "rand",
        &["gateway/src/runtime/random.rs"],
        "one file draws randomness",
    ),
    door(
        "clap",
        &["gateway/src/cli/", "gateway/src/main.rs"],
        "the command line is one room's business",
    ),
];

/// Where the doors are kept. Tests and benchmarks live outside and may use what they like.
const PRODUCT: &[&str] = &[
    "gateway/src/",
    "gateway/wire/src/",
    "gateway/consensus/src/",
    "policy/src/",
    "certs/src/",
    "audit/src/",
];

/// Second crypto providers and bindings to C that we do without.
const BANNED: &[&str] = &[
    "openssl",
    "openssl-sys",
    "native-tls",
    "ring",
    "tokio-native-tls",
    "hyper-tls",
];
/// Two versions of these in one binary would not understand each other.
const SINGLE: &[&str] = &[
    "rustls",
    "hyper",
    "http",
    "tokio",
    "tokio-rustls",
    "quinn",
    "openraft",
];

/// Uses of a guarded name elsewhere than at its door.
#[must_use]
pub fn entered(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in PRODUCT.iter().flat_map(|folder| tree.code(folder)) {
        for (number, line) in (1..).zip(file.text.lines()) {
            for door in DOORS {
                if uses(line, door.name)
                    && !door.places.iter().any(|place| file.path.starts_with(place))
                {
                    faults.push(Fault::new(
                        &file.path,
                        number,
                        format!(
                            "`{}` is for {:?} only: {}",
                            door.name, door.places, door.why
                        ),
                    ));
                }
            }
        }
    }
    faults
}

/// Doors that nobody uses any more: such a line guards nothing and misleads.
#[must_use]
pub fn disused(tree: &Tree) -> Vec<Fault> {
    let used = |door: &&Door| {
        let mut files = door.places.iter().flat_map(|place| tree.code(place));
        files.any(|file| file.text.lines().any(|line| uses(line, door.name)))
    };
    let fault = |door: &Door| {
        Fault::new(
            "tests/src/tidy/doors.rs",
            0,
            format!("`{}` is not used at its door {:?}", door.name, door.places),
        )
    };
    DOORS.iter().filter(|door| !used(door)).map(fault).collect()
}

/// Banned packages and forbidden duplicates among what is built: lines `name v1.2.3 …`, as
/// `cargo tree --prefix none` prints them. (Cargo.lock also names what no feature asks for.)
#[must_use]
pub fn built(listing: &str) -> Vec<Fault> {
    let fault = |message: String| Fault::new("Cargo.lock", 0, message);
    let package = |line: &str| -> Option<(String, String)> {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    };
    let packages: BTreeSet<(String, String)> = listing.lines().filter_map(package).collect();
    let mut faults = Vec::new();
    if packages.is_empty() {
        faults.push(fault(
            "cargo names no package: the scanner has lost its way".to_owned(),
        ));
    }
    for name in BANNED {
        if packages.iter().any(|(known, _)| known == name) {
            faults.push(fault(format!(
                "{name} is banned: aws-lc-rs is the one provider of cryptography"
            )));
        }
    }
    for name in SINGLE {
        let versions: Vec<&str> = packages
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, version)| version.as_str())
            .collect();
        if versions.len() > 1 {
            faults.push(fault(format!("several versions of {name}: {versions:?}")));
        }
    }
    faults
}

/// A name ending in `*` may go on; another is a whole word, and if it is a package's name, one that
/// a path begins with.
fn uses(line: &str, name: &str) -> bool {
    if let Some(beginning) = name.strip_suffix('*') {
        return line
            .match_indices(beginning)
            .any(|(at, _)| !line[..at].ends_with(is_identifier));
    }
    if name.contains("::") || name.contains("name_space") {
        return word_ends(line, name).next().is_some();
    }
    word_ends(line, name).any(|after| {
        let at = line.len() - after.len() - name.len();
        let begins_path = !line[..at].trim_end().ends_with("::") && !line[..at].ends_with('.');
        begins_path && (after.starts_with("::") || line.trim_start().starts_with("use "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, code: &str) -> usize {
        entered(&Tree::of(&[(path, code)])).len()
    }

    #[test]
    fn a_name_used_away_from_its_door_is_found() {
        for code in [
            "use hyper::Request;",
            "use hyper as h;",
            "let now = std::time::Instant::now();",
            "let now = tokio::time::Instant::now();",
            "let config = rustls::ServerConfig::builder_with_provider(p);",
            "let x: u8 = rand::random();",
            "rustix::thread::move_into_link_name_space(fd, None)",
        ] {
            assert_eq!(count("gateway/src/proxy/greet.rs", code), 1, "{code}");
        }
    }

    #[test]
    fn a_name_at_its_door_in_a_comment_or_in_a_test_is_not() {
        assert_eq!(
            count("gateway/src/http/server.rs", "use hyper::Request;"),
            0
        );
        assert_eq!(
            count("gateway/src/runtime/clock.rs", "SystemTime::now()"),
            0
        );
        assert_eq!(
            count(
                "gateway/src/proxy/greet.rs",
                "// hyper::Request\nlet x = \"rand::random\";"
            ),
            0
        );
        assert_eq!(
            count(
                "gateway/src/proxy/greet.rs",
                "#[cfg(test)]\nmod tests { use rand::random; }"
            ),
            0
        );
        assert_eq!(count("gateway/src/proxy/tests.rs", "use rand::random;"), 0);
        assert_eq!(
            count(
                "gateway/src/proxy/greet.rs",
                "let rand = 1; self.rand::<u8>(); other::rand::x();"
            ),
            0
        );
    }

    #[test]
    fn a_door_that_nobody_uses_is_found() {
        let all = disused(&Tree::of(&[])).len();
        assert_eq!(all, DOORS.len());
        assert_eq!(
            disused(&Tree::of(&[(
                "gateway/src/http/server.rs",
                "use hyper::Request;"
            )]))
            .len(),
            all - 1
        );
    }

    #[test]
    fn banned_and_double_packages_are_found_among_what_is_built() {
        assert_eq!(
            built(
                "rustls v0.23.1\nsyn v1.0.0\nsyn v2.0.0\nring-buffer v1.0.0\nrustls v0.23.1 (*)\n"
            ),
            []
        );
        assert_eq!(built("ring v0.17.14\n").len(), 1);
        assert_eq!(built("rustls v0.23.1\nrustls v0.24.0\n").len(), 1);
        assert_eq!(built("").len(), 1);
    }
}
