//! The evidence bundle: opened and checked with nothing of ours, and whatever is changed in it is found.

mod logs;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use logs::Site;
use portcullis_audit::{Event, moment};
use portcullis_tests::fleet::Guests;
use portcullis_tests::{Finished, Fleet, Scratch, gateway, process, wait};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn export(logs: &Path, trust: &Path, more: &[&str], out: &Path) -> Finished {
    let mut command = Command::new(gateway::binary());
    command
        .args(["audit", "export"])
        .arg(logs)
        .arg("--trust")
        .arg(trust);
    command.arg("--out").arg(out).args(more);
    process::run(&command, SOON)
}

/// With nothing but Python: no environment, no packages, nothing of this machine's.
fn check(bundle: &Path, more: &[&str]) -> Finished {
    let mut command = Command::new("/usr/bin/python3");
    command
        .env_clear()
        .current_dir("/")
        .args(["-I", "-S", "-B"]);
    command.arg(bundle.join("verify.py")).args(more);
    process::run(&command, SOON)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

fn json(bundle: &Path, file: &str) -> Value {
    serde_json::from_slice(&fs::read(bundle.join(file)).unwrap()).unwrap()
}

fn contents(bundle: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let own = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        (path.strip_prefix(bundle).unwrap().to_owned(), bytes)
    };
    files(bundle).into_iter().map(own).collect()
}

const ALL: [&str; 4] = [
    "--from",
    "2020-01-01T00:00:00Z",
    "--to",
    "2100-01-01T00:00:00Z",
];

#[test]
fn a_fleet_s_evidence_is_whole_and_every_changed_byte_is_found() {
    let now = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        moment::to_text(i64::try_from(since.unwrap().as_millis()).unwrap())
    };
    let fleet = Fleet::of(3);
    let unwelcome = fleet.policy(Guests::Unwelcome);
    let _ = fleet.nodes[0].apply(std::slice::from_ref(&unwelcome)).ok();
    std::thread::sleep(Duration::from_millis(50));
    let from = now();
    std::thread::sleep(Duration::from_millis(50));
    let reply = fleet.nodes[0].apply(&[fleet.policy(Guests::Welcome)]).ok();
    let revision = reply["revision"].as_u64().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let to = now();
    std::thread::sleep(Duration::from_millis(50));
    let after = fleet.nodes[0].apply(&[unwelcome]).ok()["revision"]
        .as_u64()
        .unwrap();

    let scratch = Scratch::new("audit-export");
    let trust = scratch.path().join("trust.policy");
    let socket = fleet.nodes[0].socket().display().to_string();
    let told = fleet.nodes[0].portcullis(&["audit", "trust", "--socket", &socket]);
    fs::write(&trust, format!("{}\n", told.ok())).unwrap();
    // A copy that nobody writes to.
    let logs = scratch.path().join("logs");
    let (at, trusted) = (logs.display().to_string(), trust.display().to_string());
    let fetch = [
        "audit", "fetch", &at, "--trust", &trusted, "--socket", &socket,
    ];
    wait::wait_for("the last change in the log", SOON, || {
        let told = fleet.nodes[0].portcullis(&fetch);
        // A log whose first checkpoint is not shown yet cannot be fetched.
        let wanted = format!("\"revision\":{after},");
        let has = |log: &str| {
            let of_log = logs.join(log);
            of_log.exists()
                && files(&of_log)
                    .iter()
                    .any(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).contains(&wanted))
        };
        told.status.success() && has("fleet") && has("tenants/acme")
    });
    let period = ["--from", &from, "--to", &to];
    let bundle = scratch.path().join("bundle");
    let told = export(&logs, &trust, &period, &bundle);
    assert!(told.ok().contains("policy-changes: 2\n"), "{told}");

    // Elsewhere, by nobody whom this machine knows.
    let elsewhere = scratch.path().join("elsewhere");
    fs::rename(&bundle, &elsewhere).unwrap();
    let told = check(&elsewhere, &[]);
    assert!(told.ok().ends_with("the bundle is whole"), "{told}");
    assert!(
        told.stdout
            .contains("note: trust.policy is the bundle's own"),
        "{told}"
    );
    let told = check(&elsewhere, &[&trusted]);
    assert!(
        told.status.success() && !told.stdout.contains("note:"),
        "{told}"
    );

    // The change of the period, and no other.
    let changes = json(&elsewhere, "populations/allow-list-changes.json");
    assert_eq!(changes["count"], 1, "{changes}");
    let entry = &changes["entries"][0]["entry"];
    assert_eq!(entry["revision"], revision);
    assert!(
        entry["endpoints"][0]["opened"]["public"].is_array(),
        "{entry}"
    );
    let start = json(&elsewhere, "policy/start.json");
    let end = json(&elsewhere, "policy/end.json");
    assert_ne!(
        start["tenants"]["acme"]["document"],
        end["tenants"]["acme"]["document"]
    );
    assert_eq!(end["tenants"]["acme"]["document"], entry["document"]);
    let grants = json(&elsewhere, "populations/grants.json");
    assert_eq!(
        (grants["count"].as_u64(), grants["note"].is_string()),
        (Some(0), true)
    );
    assert!(json(&elsewhere, "manifest.json")["proofs"].as_u64() >= Some(2));
    assert!(
        fs::read_to_string(elsewhere.join("README.txt"))
            .unwrap()
            .contains("python3 -I -S verify.py")
    );

    // Again: the same bytes.
    let again = scratch.path().join("again");
    let _ = export(&logs, &trust, &period, &again).ok();
    assert!(contents(&again) == contents(&elsewhere));
    let told = export(&logs, &trust, &period, &again);
    assert_eq!(told.status.code(), Some(1), "{told}");
    assert!(told.stderr.contains("not empty"), "{told}");

    // A byte of any file, and any file taken away or added. Where the sums are made anew, what the log signed is found.
    for (file, bytes) in contents(&elsewhere) {
        let path = elsewhere.join(&file);
        let mut other = bytes.clone();
        let middle = other.len() / 2;
        other[middle] ^= 1;
        fs::write(&path, &other).unwrap();
        if file != Path::new("verify.py") {
            let told = check(&elsewhere, &[&trusted]);
            assert_eq!(told.status.code(), Some(1), "{}: {told}", file.display());
        }
        // A population's title and note are the exporter's own words, which nobody signed.
        let words =
            file.starts_with("populations") && file.extension().is_some_and(|it| it == "json");
        let signed = ["log", "populations", "policy"]
            .iter()
            .any(|it| file.starts_with(it))
            && !words;
        if signed {
            sum_anew(&elsewhere);
            let told = check(&elsewhere, &[&trusted]);
            assert_eq!(told.status.code(), Some(1), "{}: {told}", file.display());
        }
        fs::write(&path, &bytes).unwrap();
        sum_anew(&elsewhere);
    }
    let told = check(&elsewhere, &[]);
    assert!(told.status.success(), "{told}");
    fs::write(elsewhere.join("more.txt"), "x").unwrap();
    assert!(check(&elsewhere, &[]).stdout.contains("more.txt"));
    fs::remove_file(elsewhere.join("more.txt")).unwrap();
    fs::remove_file(elsewhere.join("populations/gaps.csv")).unwrap();
    assert!(
        check(&elsewhere, &[])
            .stdout
            .contains("populations/gaps.csv")
    );
}

/// Makes the sums fit whatever lies there.
fn sum_anew(bundle: &Path) {
    use std::fmt::Write as _;
    let mut sums = String::new();
    for (name, bytes) in contents(bundle) {
        if name != Path::new("SHA256SUMS") {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
            let hex: String = digest
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            writeln!(sums, "{hex}  {}", name.display()).unwrap();
        }
    }
    fs::write(bundle.join("SHA256SUMS"), sums).unwrap();
}

#[test]
fn long_logs_are_exported_and_a_tenant_s_bundle_names_no_other() {
    let site = Site::grown(&logs::VOTERS);
    let bundle = site.scratch.path().join("bundle");
    let told = export(&site.folder(), &site.trust(), &ALL, &bundle);
    assert!(told.status.success(), "{told}");
    let told = check(&bundle, &[]);
    assert!(told.ok().ends_with("the bundle is whole"), "{told}");
    // Each entry is in a population, counted from the logs themselves.
    let mut counted = 0;
    for file in files(&site.folder()) {
        if !file.to_string_lossy().contains("/tile/entries/") {
            continue;
        }
        let mut bytes = fs::read(&file).unwrap();
        while !bytes.is_empty() {
            let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
            let line = String::from_utf8(bytes[2..2 + length].to_vec()).unwrap();
            assert!(Event::parse(&line).is_ok());
            bytes.drain(..2 + length);
            counted += 1;
        }
    }
    let manifest = json(&bundle, "manifest.json");
    let counts = manifest["populations"].as_object().unwrap();
    let overlap = ["allow-list-changes"];
    let all: u64 = counts
        .iter()
        .filter(|(name, _)| !overlap.contains(&name.as_str()))
        .map(|(_, told)| told["count"].as_u64().unwrap())
        .sum();
    assert_eq!(all, counted);

    let own = site.scratch.path().join("own");
    let told = export(
        &site.folder(),
        &site.trust(),
        &[&ALL[..], &["--tenant", "acme"]].concat(),
        &own,
    );
    assert!(told.status.success(), "{told}");
    let told = check(&own, &[]);
    assert!(told.ok().ends_with("the bundle is whole"), "{told}");
    for (file, bytes) in contents(&own) {
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        assert!(!text.contains("globex"), "{}", file.display());
    }
    let told = export(
        &site.folder(),
        &site.trust(),
        &[&ALL[..], &["--tenant", "nobody"]].concat(),
        &site.scratch.path().join("none"),
    );
    assert_eq!(told.status.code(), Some(1), "{told}");
    assert!(
        told.stderr.contains("no log of the tenant nobody"),
        "{told}"
    );
}

#[test]
fn of_logs_that_are_not_as_they_were_signed_there_is_no_bundle() {
    let site = Site::grown(&logs::VOTERS);
    let bundle = site.scratch.path().join("bundle");
    let empty = [
        "--from",
        "2027-01-02T00:00:00Z",
        "--to",
        "2027-01-01T00:00:00Z",
    ];
    let told = export(&site.folder(), &site.trust(), &empty, &bundle);
    assert_eq!(told.status.code(), Some(1), "{told}");
    assert!(told.stderr.contains("--to must be after --from"), "{told}");
    let file = site.folder().join("tenants/acme/tile/entries/000");
    let mut bytes = fs::read(&file).unwrap();
    bytes[40] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let told = export(&site.folder(), &site.trust(), &ALL, &bundle);
    assert_eq!(told.status.code(), Some(7), "{told}");
    assert!(told.stderr.contains("entry 0 was changed"), "{told}");
    assert!(!bundle.exists());
    fs::remove_file(&file).unwrap();
    let told = export(&site.folder(), &site.trust(), &ALL, &bundle);
    assert_eq!(told.status.code(), Some(8), "{told}");
}
