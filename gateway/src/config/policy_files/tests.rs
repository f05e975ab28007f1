//! Whole directories: what is written well is understood, what is not is refused with a golden message.

use super::*;
use portcullis_policy::OnStale;
use std::fmt::Write;
use std::path::{Path, PathBuf};

#[test]
fn a_directory_is_understood_and_only_its_own_files_are_taken() {
    let files = collect(&testdata("policy-good")).unwrap();
    let names: Vec<&str> = files.files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "acme.yaml",
            "ca/acme-clients.pem",
            "ca/acme-db.pem",
            "keys/acme.json",
            "no.yaml"
        ]
    );
    let tenants = parse(&files).map_err(shown).unwrap();
    let ids: Vec<&str> = tenants.iter().map(|tenant| tenant.id.as_str()).collect();
    assert_eq!(ids, ["acme", "no"]);
    assert!(tenants[1].suspended);
}

#[test]
fn what_is_rendered_reads_as_the_same_document() {
    for tenant in parse(&collect(&testdata("policy-good")).unwrap()).unwrap() {
        let text = render(&tenant);
        let files = one_file(&format!("{}.yaml", tenant.id), &text);
        let again = parse(&files).map_err(|errors| format!("{}\n{text}", shown(errors)));
        assert_eq!(again.unwrap(), [tenant]);
    }
}

/// Each `testdata/policy-bad/NAME.yaml` is refused with what `NAME.txt` beside it says. `BLESS=1` writes these files anew:
/// read the difference before keeping it.
#[test]
fn every_bad_file_is_refused_with_its_golden_message() {
    let directory = testdata("policy-bad");
    let mut differences = String::new();
    let mut count = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        count += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut files = one_file(name, &text);
        if text.contains("attached/ca.pem") {
            let pem = std::fs::read_to_string(directory.join("attached/ca.pem")).unwrap();
            files.files.insert("attached/ca.pem".to_owned(), pem);
        }
        let actual = match parse(&files) {
            Ok(_) => "accepted\n".to_owned(),
            Err(errors) => shown(errors),
        };
        let golden = path.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&golden, &actual).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if actual != expected || actual == "accepted\n" {
            let _ = writeln!(
                differences,
                "=== {name}: expected\n{expected}--- got\n{actual}"
            );
        }
    }
    assert!(count > 50, "only {count} files found");
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn a_network_a_private_link_or_a_server_name_belongs_to_one_file_only() {
    let tenant = |id: &str, name: &str| {
        format!(
            "tenant: {id}\nnetworks: [z, a-{id}, shared]\nprivate-links: [\"gcp:7\"]\nclusters:\n  c: {{engine: postgresql, backends: [\"192.0.2.1:5432\"], tls: unencrypted-and-unverified}}\nendpoints:\n  e: {{cluster: c, names: [{name}], authentication: relay, doors: [], allow: []}}\n"
        )
    };
    let mut files = one_file("a.yaml", &tenant("a", "x.example"));
    files
        .files
        .insert("b.yaml".to_owned(), tenant("b", "X.example"));
    let messages: Vec<String> = parse(&files).unwrap_err().iter().map(first_line).collect();
    assert_eq!(
        messages,
        [
            "b.yaml:2:20: network shared is already claimed at a.yaml:2; it belongs to one tenant",
            "b.yaml:2:12: network z is already claimed at a.yaml:2; it belongs to one tenant",
            "b.yaml:3:17: private link gcp:7 is already claimed at a.yaml:3; it belongs to one tenant",
            "b.yaml:7:27: server name x.example is already claimed at a.yaml:7; it belongs to one tenant",
        ]
    );
}

#[test]
fn one_tenant_cannot_have_two_files() {
    let mut files = one_file("a.yaml", "tenant: a\n");
    files
        .files
        .insert("a.yml".to_owned(), "tenant: a\n".to_owned());
    let errors = parse(&files).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "a.yml: tenant a is already written in another file"
    );
}

#[test]
fn one_mistake_refuses_every_file() {
    let mut files = one_file("a.yaml", "tenant: a\n");
    files
        .files
        .insert("b.yaml".to_owned(), "tenant: b\nnetworks:\n".to_owned());
    assert_eq!(parse(&files).unwrap_err().len(), 1);
}

#[test]
fn a_file_that_nobody_refers_to_is_refused_rather_than_ignored() {
    let mut files = one_file("a.yaml", "tenant: a\n");
    for stray in ["ca.pem", "sub/b.yaml", "A.YAML"] {
        files.files.insert(stray.to_owned(), String::new());
    }
    assert_eq!(parse(&files).unwrap_err().len(), 3);
}

#[test]
fn sizes_are_limited_at_the_edge() {
    let comment = |length: usize| format!("tenant: a\n#{}\n", "x".repeat(length - 12));
    let limit = usize::try_from(MAX_POLICY_FILE_BYTES).unwrap();
    assert!(parse(&one_file("a.yaml", &comment(limit))).is_ok());
    let errors = parse(&one_file("a.yaml", &comment(limit + 1))).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "a.yaml: is larger than 4194304 bytes"
    );

    let many = |count: usize| PolicyFiles {
        files: (0..count)
            .map(|number| (format!("t{number}.yaml"), format!("tenant: t{number}\n")))
            .collect(),
    };
    assert_eq!(parse(&many(MAX_POLICY_FILES)).unwrap().len(), 20_000);
    assert!(parse(&many(MAX_POLICY_FILES + 1)).is_err());

    let full = PolicyFiles {
        files: (0..33)
            .map(|number| (format!("t{number}.yaml"), comment(limit)))
            .collect(),
    };
    let errors = parse(&full).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "policy: all files together are larger than 134217728 bytes"
    );
}

#[test]
fn mistakes_are_told_up_to_a_limit() {
    let entries = "      - {prefix: x, origin: public}\n".repeat(500);
    let bad = |id: usize| format!("tenant: t{id}\nendpoints:\n  e:\n    allow:\n{entries}");
    assert_eq!(parse(&one_file("t1.yaml", &bad(1))).unwrap_err().len(), 100);
    let many = PolicyFiles {
        files: (0..50).map(|id| (format!("t{id}.yaml"), bad(id))).collect(),
    };
    assert_eq!(parse(&many).unwrap_err().len(), MAX_POLICY_ERRORS);
}

#[test]
fn a_file_of_nothing_but_mistakes_is_refused_without_looking_at_each() {
    // Each mistake costs a walk over the file to find its line: a million of them would take hours.
    let same = "a:\n".repeat(900_000);
    let other: String = (0..300_000).map(|key| format!("k{key}: x\n")).collect();
    for text in [same, other] {
        let errors = parse(&one_file("a.yaml", &text)).unwrap_err();
        assert!((100..110).contains(&errors.len()), "{}", errors.len());
    }
}

#[test]
fn a_long_list_is_read_quickly_enough_to_be_refused_by_its_own_limit() {
    let entry = "      - {prefix: 203.0.113.7, origin: public}\n";
    let text = format!(
        "tenant: a\nclusters:\n  c: {{engine: postgresql, backends: [\"192.0.2.1:5432\"], tls: unencrypted-and-unverified}}\nendpoints:\n  e:\n    cluster: c\n    names: [x.example]\n    authentication: scram\n    doors: [public]\n    allow:\n{}",
        entry.repeat(50_000)
    );
    let errors = parse(&one_file("a.yaml", &text)).unwrap_err();
    assert_eq!(
        first_line(&errors[0]),
        "a.yaml:4:1: endpoints: 50000 entries and excepts are more than 10000"
    );
}

#[test]
fn what_lies_outside_of_the_directory_is_not_read() {
    let directory = Directory::new("outside");
    let pem = std::fs::read_to_string(testdata("policy-good/ca/acme-db.pem")).unwrap();
    directory.write("elsewhere/ca.pem", &pem);
    directory.write("policy/ca/in.pem", &pem);
    let policy = directory.0.join("policy");
    std::os::unix::fs::symlink("../../elsewhere/ca.pem", policy.join("ca/out.pem")).unwrap();
    std::os::unix::fs::symlink("in.pem", policy.join("ca/link.pem")).unwrap();
    let refer = |path: &str| {
        let text = format!("tenant: a\nclusters:\n  c:\n    tls: {{authorities-file: {path}}}\n");
        directory.write("policy/a.yaml", &text);
        collect(&policy).map(|files| files.files.keys().cloned().collect::<Vec<_>>())
    };
    assert_eq!(refer("ca/in.pem").unwrap(), ["a.yaml", "ca/in.pem"]);
    assert_eq!(refer("ca/link.pem").unwrap(), ["a.yaml", "ca/link.pem"]);
    for (path, problem) in [
        (
            "ca/out.pem",
            "\"ca/out.pem\": leads out of the policy directory",
        ),
        (
            "../elsewhere/ca.pem",
            "\"../elsewhere/ca.pem\": write a path relative to the policy directory, without . and ..",
        ),
        (
            "/etc/passwd",
            "\"/etc/passwd\": write a path relative to the policy directory, without . and ..",
        ),
        ("ca", "\"ca\": is not a regular file"),
        (
            "ca/none.pem",
            "\"ca/none.pem\": cannot be opened: No such file or directory (os error 2)",
        ),
    ] {
        let errors = refer(path).unwrap_err();
        assert_eq!(
            first_line(&errors[0]),
            format!("a.yaml:4:29: authorities-file {problem}")
        );
    }
    std::fs::remove_file(policy.join("a.yaml")).unwrap();
    directory.write("elsewhere/b.yaml", "tenant: b\n");
    std::os::unix::fs::symlink("../elsewhere/b.yaml", policy.join("b.yaml")).unwrap();
    assert_eq!(
        collect(&policy).unwrap_err()[0].to_string(),
        "b.yaml: leads out of the policy directory"
    );
}

#[test]
fn a_directory_replaced_whole_through_a_link_is_read() {
    // As Kubernetes mounts a ConfigMap: every name is a link through `..data` to the current version.
    let directory = Directory::new("mounted");
    directory.write("..2026_11_22/a.yaml", "tenant: a\n");
    std::os::unix::fs::symlink("..2026_11_22", directory.0.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", directory.0.join("a.yaml")).unwrap();
    let files = collect(&directory.0).unwrap();
    assert_eq!(files, one_file("a.yaml", "tenant: a\n"));
}

#[test]
fn a_private_key_is_not_read_into_policy() {
    let directory = Directory::new("private-key");
    let key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n";
    directory.write("server.key", key);
    let text = "tenant: a\nclusters: {c: {tls: {authorities-file: server.key}}}\n";
    directory.write("a.yaml", text);
    directory.write("b.yaml", key);
    let shown = shown(collect(&directory.0).unwrap_err());
    assert!(
        shown.contains("authorities-file \"server.key\": holds a private key"),
        "{shown}"
    );
    assert!(shown.contains("b.yaml: holds a private key"), "{shown}");
    assert!(!shown.contains("MHcCAQEE"), "{shown}");
}

#[test]
fn a_file_that_cannot_be_policy_is_told_and_what_is_hidden_is_passed_over() {
    let directory = Directory::new("unreadable");
    directory.write("a.yaml", "tenant: a\n");
    directory.write(".a.yaml.swp", "\u{0}");
    directory.write(".#b.yaml", "x");
    directory.write("notes.md", "# x");
    assert_eq!(collect(&directory.0).unwrap().files.len(), 1);

    directory.write("B.YAML", "tenant: b\n");
    std::fs::write(directory.0.join("c.yaml"), b"tenant: c\n# caf\xe9\n").unwrap();
    std::fs::create_dir(directory.0.join("d.yaml")).unwrap();
    let large = "#".repeat(usize::try_from(MAX_POLICY_FILE_BYTES).unwrap() + 1);
    directory.write("e.yml", &large);
    assert_eq!(
        shown(collect(&directory.0).unwrap_err()),
        "B.YAML: is not read as policy; write .yaml in lower case\n\
         c.yaml: is not UTF-8 text (byte 15, in line 2)\n\
         d.yaml: is not a regular file\n\
         e.yml: is larger than 4194304 bytes\n"
    );
    let missing = collect(&directory.0.join("none")).unwrap_err();
    assert!(
        missing[0]
            .message
            .starts_with("cannot be opened: No such file")
    );
}

#[test]
fn what_a_reader_would_not_see_is_refused() {
    for (text, expected) in [
        (
            "\u{feff}tenant: a\n",
            "a.yaml:1:1: a byte order mark; save the file as UTF-8 without one",
        ),
        ("tenant:\ta\n", "a.yaml:1:8: a tab; write spaces"),
        (
            "tenant: a\r# b\n",
            "a.yaml:1:10: a carriage return without a line feed; end lines with \\n",
        ),
        (
            "tenant: a # \u{202e}x\n",
            "a.yaml:1:13: the invisible character U+202E; remove it",
        ),
        (
            "tenant: a\u{0}\n",
            "a.yaml:1:10: the invisible character U+0000; remove it",
        ),
        (
            "",
            "a.yaml: nothing is written in this file; to remove a tenant, delete its file and apply with --prune",
        ),
        (
            "# tenant: a\n",
            "a.yaml: nothing is written in this file; to remove a tenant, delete its file and apply with --prune",
        ),
        (
            "---\n",
            "a.yaml:1:4: a tenant: a mapping is needed here, with `tenant`, `suspended`, `networks`, `private-links`, `clusters`, `endpoints`, `limits`",
        ),
    ] {
        let errors = parse(&one_file("a.yaml", text)).unwrap_err();
        assert_eq!(first_line(&errors[0]), expected, "{text:?}");
    }
    // Lines may end as they do on Windows.
    assert!(parse(&one_file("a.yaml", "tenant: a\r\nsuspended: true\r\n")).is_ok());
}

#[test]
fn on_stale_is_one_of_its_words_or_says_after_how_many_seconds() {
    let read = |said: &str| {
        let text = format!("tenant: a\nlimits:\n  on-stale: {said}\n");
        match parse(&one_file("a.yaml", &text)) {
            Ok(documents) => Ok(documents[0].limits.on_stale),
            Err(errors) => Err(first_line(&errors[0])),
        }
    };
    assert_eq!(read("serve"), Ok(OnStale::Serve));
    assert_eq!(read("refuse"), Ok(OnStale::RefuseAfter(30)));
    assert_eq!(read("{refuse-after: 600}"), Ok(OnStale::RefuseAfter(600)));
    for (said, expected) in [
        (
            "close",
            "a.yaml:3:13: on-stale: \"close\" is none of its words; write serve, refuse, or `{refuse-after: 60}` with the seconds",
        ),
        (
            "",
            "a.yaml:3:11: on-stale: write serve, refuse, or `{refuse-after: 60}` with the seconds",
        ),
        (
            "{refuse-after: soon}",
            "a.yaml:3:28: refuse-after: write a whole number from 0 to 4294967295, in digits",
        ),
        (
            "{refuse-after: 9}",
            "a.yaml:3:13: limits.on-stale: refuse-after 9: write 10 to 86400 seconds",
        ),
    ] {
        assert_eq!(read(said), Err(expected.to_owned()), "{said:?}");
    }
}

fn one_file(name: &str, text: &str) -> PolicyFiles {
    PolicyFiles {
        files: BTreeMap::from([(name.to_owned(), text.to_owned())]),
    }
}

fn shown(errors: Vec<FileError>) -> String {
    errors.iter().fold(String::new(), |mut text, error| {
        let _ = writeln!(text, "{error}");
        text
    })
}

fn first_line(error: &FileError) -> String {
    error.to_string().lines().next().unwrap().to_owned()
}

fn testdata(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata")).join(name)
}

/// A directory that goes away with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("portcullis-policy-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
