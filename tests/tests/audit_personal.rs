//! Who did something: in no audit log, and for whoever may know it proved by what is kept beside them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_tests::fleet::Guests;
use portcullis_tests::process::Finished;
use portcullis_tests::{Fleet, ports, wait};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(30);
/// A name that nothing else has.
const PERSON: &str = "quillemot";

/// A fleet of three whose first node listens for operators, and in which one made changes and asked.
struct Site {
    fleet: Fleet,
    api: u16,
    revision: u64,
}

impl Site {
    fn new() -> Self {
        let mut fleet = Fleet::of(3);
        let api = ports::free();
        fleet.nodes[0].stop();
        fleet.nodes[0].rewrite(
            "[fleet]\n",
            &format!("[api]\nlisten = \"127.0.0.1:{api}\"\n[fleet]\n"),
        );
        fleet.nodes[0].start();
        fleet.settled();
        let mut site = Self {
            fleet,
            api,
            revision: 0,
        };
        let out = site.fleet.nodes[0].folder().join(PERSON);
        let out = out.display().to_string();
        let roles = ["--roles", "fleet-operator,policy-author", "--out", &out];
        let added = site.local(&[&["operator", "add", PERSON], roles.as_slice()].concat());
        assert!(added.status.success(), "{added}");
        let policy = site.fleet.nodes[0].folder().join("acme.yaml");
        std::fs::write(&policy, site.fleet.policy(Guests::Unwelcome).yaml()).unwrap();
        let policy = policy.display().to_string();
        let put = site.by(&["policy", "put", "acme", &policy]);
        assert!(put.status.success(), "{put}");
        site.revision = site.fleet.nodes[0].revision();
        // Somebody who asks for a log, which is recorded by the node.
        let asked = site.by(&["audit", "trust"]);
        assert!(asked.status.success(), "{asked}");
        site
    }

    fn local(&self, arguments: &[&str]) -> Finished {
        let node = &self.fleet.nodes[0];
        let socket = node.socket().display().to_string();
        node.portcullis(&[arguments, &["--socket", &socket]].concat())
    }

    fn by(&self, arguments: &[&str]) -> Finished {
        let node = &self.fleet.nodes[0];
        let identity = node.folder().join(PERSON).display().to_string();
        let at = format!("127.0.0.1:{}", self.api);
        node.portcullis(&[arguments, &["--node", &at, "--identity", &identity]].concat())
    }

    fn audit(&self, node: usize, folder: &str) -> PathBuf {
        self.fleet.nodes[node].data().join("audit").join(folder)
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

fn names(path: &Path) -> bool {
    // What is partial is replaced meanwhile.
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes
        .windows(PERSON.len())
        .any(|part| part == PERSON.as_bytes())
}

#[test]
fn a_person_is_in_no_log_and_what_names_one_opens_what_the_log_says() {
    let mut site = Site::new();
    let openings = |site: &Site, node: usize| -> Vec<(PathBuf, String)> {
        let folder = site.audit(node, "openings");
        let read = |path: PathBuf| {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            (path.strip_prefix(&folder).unwrap().to_owned(), text)
        };
        files(&folder).into_iter().map(read).collect()
    };
    for node in 0..3 {
        wait::wait_for("what opens the commitments", SOON, || {
            let all = openings(&site, node);
            all.len() == 2 && all.iter().all(|(_, text)| text.contains(PERSON))
        });
        for path in files(&site.audit(node, "openings")) {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
        let logs = files(&site.audit(node, "logs"));
        assert!(logs.len() > 6, "{logs:?}");
        assert_eq!(logs.iter().filter(|path| names(path)).count(), 0);
    }
    wait::wait_for("the same everywhere", SOON, || {
        let first = openings(&site, 0);
        (1..3).all(|node| openings(&site, node) == first)
    });

    // Who made the change, proved from the files alone and what a node may be asked for.
    let trust = site.fleet.nodes[0].folder().join("trust.policy");
    std::fs::write(
        &trust,
        format!("{}\n", site.local(&["audit", "trust"]).ok()),
    )
    .unwrap();
    let trust = trust.display().to_string();
    let logs = site.audit(1, "logs").display().to_string();
    let proof = site.fleet.nodes[0]
        .folder()
        .join("proof")
        .display()
        .to_string();
    let (_, text) = openings(&site, 0)
        .into_iter()
        .find(|(path, _)| path.starts_with("tenants"))
        .unwrap();
    let opening = text.lines().find(|line| line.contains(PERSON)).unwrap();
    let opening: Value = serde_json::from_str(opening).unwrap();
    let index = opening["index"].to_string();
    let of_entry = ["--log", "acme", "--index", &index];
    let prove = [
        &["audit", "prove", &logs, "--out", &proof],
        of_entry.as_slice(),
    ]
    .concat();
    let proved = site.fleet.nodes[0].portcullis(&prove);
    assert!(proved.status.success(), "{proved}");
    let opened = site
        .by(&[&["audit", "open"], of_entry.as_slice()].concat())
        .ok()
        .to_owned();
    let file = site.fleet.nodes[0].folder().join("openings");
    std::fs::write(&file, &opened).unwrap();
    let check = |file: &Path| {
        let file = file.display().to_string();
        let node = &site.fleet.nodes[0];
        node.portcullis(&[
            "audit",
            "check",
            &proof,
            "--trust",
            &trust,
            "--openings",
            &file,
        ])
    };
    let told = check(&file).ok().to_owned();
    assert!(
        told.contains(&format!("opened: by is \"operator {PERSON}\"")),
        "{told}"
    );
    let revision = site.revision;
    assert!(
        told.contains(&format!("\"revision\":{revision},")),
        "{told}"
    );
    // Another person is not what the log committed to.
    std::fs::write(&file, opened.replace(PERSON, "somebody1")).unwrap();
    let told = check(&file);
    assert_eq!(told.status.code(), Some(7), "{told}");
    assert!(
        told.stderr.contains("committed to something else"),
        "{told}"
    );

    // A node that lost all of it has it again from the others: openings, too.
    site.fleet.nodes[2].kill();
    for folder in ["logs/tenants", "logs/fleet", "openings"] {
        std::fs::remove_dir_all(site.audit(2, folder)).unwrap();
    }
    site.fleet.nodes[2].start();
    wait::wait_for("what opens it to be had again", SOON, || {
        let first = openings(&site, 0);
        let again = openings(&site, 2);
        // What came meanwhile may be written on one and not yet on the other.
        let lines = |all: &[(PathBuf, String)]| -> Vec<String> {
            all.iter()
                .flat_map(|(_, text)| text.lines().map(str::to_owned))
                .collect()
        };
        let again = lines(&again);
        !first.is_empty() && lines(&first).iter().all(|line| again.contains(line))
    });
}
