//! Private keys are in their own files and nowhere else: not in the state, a back-up, evidence, logs, arguments or environment, also where the
//! environment asks for them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_tests::fleet::{Fleet, GATEWAY, Guests};
use portcullis_tests::planted::secret_of_key;
use portcullis_tests::vault::only_key;
use portcullis_tests::{Planted, wait};
use serde_json::Value;

/// How long anything that should happen soon may take.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn private_keys_are_in_their_own_files_and_nowhere_else() {
    let mut fleet = Fleet::of(2);
    let gateway = fleet.unmade("edge", GATEWAY);
    fleet.join(gateway, "gateway");
    // What would have other programs write down their keys.
    let asked_for = fleet.nodes[0].folder().join("asked-for");
    let variables = [
        ("SSLKEYLOGFILE", asked_for.to_str().unwrap()),
        ("RUST_LOG", "trace"),
        ("RUST_BACKTRACE", "full"),
    ];
    for node in &mut fleet.nodes {
        if node.runs() {
            node.stop();
        }
        node.environment(&variables);
        node.start();
    }
    wait::wait_for("all to be there", SOON, || {
        let reply = fleet.nodes[0].apply(&[fleet.policy(Guests::Welcome)]);
        reply.status == 200 && reply.body["nodes_in_force"] == 3
    });
    for index in 0..3 {
        let mut client = fleet.connect(index, fleet.resident());
        assert_eq!(client.query("select 1").unwrap().len(), 1);
    }
    let backup = fleet.nodes[0].folder().join("backup").display().to_string();
    let socket = fleet.nodes[0].socket().display().to_string();
    let _ = fleet.nodes[0]
        .portcullis(&["backup", &backup, "--socket", &socket])
        .ok();
    for node in &fleet.nodes {
        let _ = node.event("a connection", |event| event["kind"] == "connection.closed");
    }

    let mut files = BTreeMap::new();
    for node in &fleet.nodes {
        read_all(node.folder(), &mut files);
    }
    read_all(fleet.recovery_key().parent().unwrap(), &mut files);
    let mut planted = Planted::default();
    // Sealed: in no file at all.
    let (_, authority) = only_key(&fleet.nodes[0].data());
    planted.add("the authority's key", &secret_of_key(&authority));
    let is_key = |path: &Path, bytes: &[u8]| {
        path.ends_with("root.key") || contains(bytes, b"PRIVATE KEY-----")
    };
    let (keys, others): (Vec<_>, Vec<_>) =
        files.iter().partition(|(path, bytes)| is_key(path, bytes));
    let mut names: Vec<&str> = Vec::new();
    for (path, bytes) in &keys {
        let text = str::from_utf8(bytes).unwrap();
        let secret = match path.ends_with("root.key") {
            true => from_hex(text.trim()),
            false => secret_of_key(text),
        };
        planted.add(&path.display().to_string(), &secret);
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap());
        // Whoever searches finds what is there.
        assert!(!planted.found_in(bytes).is_empty(), "{}", path.display());
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(
        names,
        [
            "database-client.key",
            "log.key",
            "node.key",
            "recovery.key",
            "root.key",
            "server.key",
            "view.key"
        ]
    );
    let seen = |end: &str| others.iter().any(|(path, _)| path.ends_with(end));
    for end in [
        "state.redb",
        "log",
        "backup",
        "node.toml",
        "view.kept",
        "vault/vault.json",
    ] {
        assert!(seen(end), "nothing was read of {end}");
    }
    for (path, bytes) in &others {
        let found = planted.found_in(bytes);
        assert_eq!(found, Vec::<&str>::new(), "in {}", path.display());
    }
    assert!(!asked_for.exists(), "somebody wrote down the keys of TLS");
    for node in &fleet.nodes {
        let of_process = |file: &str| fs::read(format!("/proc/{}/{file}", node.pid())).unwrap();
        let environment = of_process("environ");
        assert!(contains(&environment, b"SSLKEYLOGFILE="));
        let answers = node.ask("GET", "/v1/fleet", &Value::Null).unwrap();
        for (what, bytes) in [
            ("arguments", of_process("cmdline")),
            ("environment", environment),
            ("metrics", node.metrics().into_bytes()),
            ("answer", answers.ok().to_string().into_bytes()),
        ] {
            assert_eq!(
                planted.found_in(&bytes),
                Vec::<&str>::new(),
                "in its {what}"
            );
        }
        let limits = String::from_utf8(of_process("limits")).unwrap();
        let core = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = core.unwrap().split_whitespace().collect();
        assert_eq!(words.get(4..6).unwrap(), ["0", "0"], "{limits}");
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    let pairs = pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16));
    pairs.map(Result::unwrap).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|it| it == part)
}

fn read_all(folder: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        if kind.is_dir() {
            read_all(&path, into);
        } else if kind.is_file() {
            // What is replaced while it is read is read as what took its place.
            if let Ok(bytes) = fs::read(&path) {
                into.insert(path, bytes);
            }
        }
    }
}
