//! The evidence bundle: opened and checked with nothing of ours, and whatever is changed in it is found.

mod exported;
mod logs;

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use exported::{ALL, EARLY, bundle_with, check, contents, export, files, forged, json, sum_anew};
use logs::Site;
use portcullis::ledger::export::{Period, export as write};
use portcullis::ledger::inspect::{Directory, Source};
use portcullis::ledger::tiles::LogId;
use portcullis_audit::tlog::TrustPolicy;
use portcullis_audit::{Event, moment};
use portcullis_tests::fleet::Guests;
use portcullis_tests::{Fleet, Scratch, wait};

const SOON: Duration = Duration::from_secs(60);

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
    // Cosignatures have seconds: one that is of the next says that nothing else was before.
    std::thread::sleep(Duration::from_secs(1));
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
        let proved = ["log", "populations", "policy", "manifest.json"];
        if proved.iter().any(|it| file.starts_with(it)) {
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

#[test]
fn a_population_has_no_byte_that_does_not_follow_from_the_log() {
    let epoch = Event::new(1_800_000_000_400, "fleet.epoch", "n1").with("epoch", 2);
    let (_site, bundle) = bundle_with(epoch, &LogId::Fleet);
    let glass = "populations/break-glass.json";
    let denied = "populations/denied-attempts.csv";
    let wrong = |file: &str| format!("WRONG {file}: ");
    for (file, old, new) in [
        (
            glass,
            "\"events\":1}",
            "\"events\":1,\"entries\":[],\"count\":0,\"events\":0}",
        ),
        (glass, "\"query\":", "\"count\":0,\"query\":"),
        (glass, "\"count\":1", "\"count\":true"),
        (glass, "\"note\":\"", "\"note\":\"Nobody used it. "),
        ("populations/grants.json", "\n],", "\n{},],"),
        (denied, ",entry\r\n", ",entry,note\r\n"),
        (denied, "log,", "\"log\","),
        (denied, "}\"\r\n", "}\",=HYPERLINK(1)\r\n"),
    ] {
        forged(&bundle, &[(file, old, new)], &wrong(file));
    }
    // What has a name twice is read by some programs as the first, and by others as the last.
    for file in ["manifest.json", "policy/start.json"] {
        let twice = "{\n  \"tenants\": {},\n";
        forged(&bundle, &[(file, "{\n", twice)], &wrong(file));
        forged(
            &bundle,
            &[(file, "{\n", "{\n  \"more\": 1,\n")],
            &wrong(file),
        );
    }

    // An event that no query asks for any more.
    let text = fs::read_to_string(bundle.join(glass)).unwrap();
    let (_, entries) = text.split_once("\"entries\":[").unwrap();
    let (entries, _) = entries.split_once("\n]").unwrap();
    let csv = fs::read_to_string(bundle.join("populations/break-glass.csv")).unwrap();
    let (_, row) = csv.split_once("\r\n").unwrap();
    let counted = "\"break-glass\": {\n      \"count\": 1,\n      \"events\": 1\n    }";
    let none = counted.replace('1', "0");
    let unasked = [
        (glass, "[\"fleet.epoch\"]", "[]"),
        (glass, entries, ""),
        (
            glass,
            "\"count\":1,\n\"events\":1",
            "\"count\":0,\n\"events\":0",
        ),
        ("populations/break-glass.csv", row, ""),
        ("manifest.json", counted, &none),
    ];
    forged(&bundle, &unasked, &wrong(glass));
    // Nor is it asked for if the whole population is gone.
    for file in [glass, "populations/break-glass.csv"] {
        fs::remove_file(bundle.join(file)).unwrap();
    }
    let gone = [("manifest.json", format!("{counted},\n    "))];
    let gone = gone.each_ref().map(|(file, old)| (*file, old.as_str(), ""));
    forged(&bundle, &gone, &wrong("manifest.json"));
}

#[test]
fn a_log_that_is_signed_again_while_it_is_exported_makes_a_whole_bundle() {
    struct Live(Site);
    impl Source for Live {
        fn read(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, String> {
            let read = Directory(self.0.folder()).read(path, limit);
            match path {
                "fleet/checkpoint" => self.0.publish(&LogId::Fleet),
                "tenants/acme/checkpoint" => self.0.publish(&logs::tenant("acme")),
                _ => {}
            }
            read
        }

        fn tenants(&mut self) -> Result<Vec<String>, String> {
            Directory(self.0.folder()).tenants()
        }
    }
    let mut live = Live(Site::grown(&logs::VOTERS));
    let bundle = live.0.scratch.path().join("bundle");
    let period = Period {
        from_ms: 0,
        to_ms: 1_800_000_001_000,
        tenant: None,
    };
    write(&mut live, &logs::trust(), &period, &bundle).unwrap();
    let told = check(&bundle, &[]);
    assert!(told.ok().ends_with("the bundle is whole"), "{told}");
}

#[test]
fn what_a_log_let_go_of_is_no_gap_if_the_log_says_so() {
    let acme = logs::tenant("acme");
    let mut site = Site::new();
    site.add(&LogId::Fleet, 1);
    let document = serde_json::json!({ "tls": true });
    let mut applied = Event::new(1_800_000_000_000, "policy.applied", "n1")
        .with("document", document)
        .with("endpoints", serde_json::json!([]));
    applied.tenant = Some("acme".to_owned());
    site.say(&acme, applied.line());
    site.add(&acme, 1_100);
    // Said after the period, in a bundle that has nothing else of it.
    let pruned = Event::new(1_800_000_001_101, "log.pruned", "n1").with("kept_from", 512);
    site.say(&acme, pruned.line());
    site.seal();
    let log = site.folder().join("tenants/acme");
    // The policy at that place stays.
    fs::remove_file(log.join("tile/entries/001")).unwrap();
    let said = "{\"declared_by\":1101,\"kept_from\":512}\n";
    fs::write(log.join("kept-from"), said).unwrap();
    let period = [
        "--from",
        "2027-01-15T08:00:00Z",
        "--to",
        "2027-01-15T08:00:00.800Z",
    ];
    let bundle = site.scratch.path().join("bundle");
    let told = export(&site.folder(), &site.trust(), &period, &bundle);
    assert!(told.status.success(), "{told}");
    let told = check(&bundle, &[]);
    assert!(told.ok().ends_with("the bundle is whole"), "{told}");
    assert!(
        told.stdout
            .contains("256 entries before 512 were let go of, as entry 1101 says"),
        "{told}"
    );
    let denied = json(&bundle, "populations/denied-attempts.json");
    assert_eq!(denied["entries"][1]["index"], 512);

    // What the entry does not say is a gap, and so is what nobody says.
    let wrong = "WRONG manifest.json: \"gone\" of tenants/acme: entry";
    for (old, new) in [
        ("\"kept_from\": 512", "\"kept_from\": 256"),
        ("\"declared_by\": 1101", "\"declared_by\": 1100"),
        ("\"declared_by\": 1101", "\"declared_by\": 300"),
    ] {
        forged(&bundle, &[("manifest.json", old, new)], wrong);
    }
    let gone = fs::read_to_string(bundle.join("manifest.json")).unwrap();
    let (_, gone) = gone.split_once("\"gone\": {").unwrap();
    let (gone, _) = gone.split_once('}').unwrap();
    let gone = format!("{{{gone}}}");
    let change = ("manifest.json", gone.as_str(), "null");
    forged(
        &bundle,
        &[change],
        "WRONG manifest.json: entry 0 of tenants/acme",
    );
    // True and 1 are two things in JSON.
    let change = ("policy/end.json", "\"tls\": true", "\"tls\": 1");
    forged(
        &bundle,
        &[change],
        "WRONG policy/end.json: the document of acme",
    );
}

#[test]
fn a_period_that_the_logs_do_not_reach_is_told_loudly() {
    let site = Site::grown(&logs::VOTERS);
    let bundle = site.scratch.path().join("bundle");
    let told = export(&site.folder(), &site.trust(), &ALL, &bundle);
    let manifest = json(&bundle, "manifest.json");
    let newest = &manifest["logs"][0]["cosigned"];
    let at = manifest["nothing_after"].as_str().unwrap();
    assert_eq!(newest["w0"], at, "{manifest}");
    let says = format!(
        "THE PERIOD IS NOT WHOLE: the logs say nothing after {at}, and it ends at 2100-01-01T00:00:00.000Z"
    );
    assert!(
        told.status.success() && told.stderr.contains(&says),
        "{told}"
    );
    let told = check(&bundle, &[]);
    assert!(told.ok().contains(&format!("note: {says}")), "{told}");
    let later = "2100-01-01T00:00:00.000Z";
    let change = (
        format!("\"nothing_after\": \"{at}"),
        format!("\"nothing_after\": \"{later}"),
    );
    let change = ("manifest.json", change.0.as_str(), change.1.as_str());
    forged(
        &bundle,
        &[change],
        "WRONG manifest.json: the logs say nothing after",
    );

    // A moment before nobody can say; until then, all is said.
    let first = ["--from", "2027-01-15T08:00:00Z", "--to", at];
    let bundle = site.scratch.path().join("reached");
    let told = export(&site.folder(), &site.trust(), &first, &bundle);
    assert!(told.status.success() && told.stderr.is_empty(), "{told}");
    assert!(!check(&bundle, &[]).ok().contains("NOT WHOLE"));
}

#[test]
fn a_trust_policy_in_which_somebody_counts_twice_is_refused_by_both() {
    let site = Site::grown(&logs::VOTERS);
    let bundle = site.scratch.path().join("bundle");
    let told = export(&site.folder(), &site.trust(), &EARLY, &bundle);
    assert!(told.status.success(), "{told}");
    let policy = logs::trust().to_string();
    let line = |begins: &str| policy.lines().find(|it| it.starts_with(begins)).unwrap();
    let (log, one, two) = (line("log "), line("witness w0 "), line("witness w1 "));
    let three = line("witness w2 ");
    let again = one.replace("witness w0 ", "witness again ");
    // The first is good, and no other.
    for (number, lines) in [
        format!("{one}\n{two}\n{three}\ngroup all 3 w0 w1 w2\nquorum all"),
        format!("{one}\n{again}\ngroup all 2 w0 again\nquorum all"),
        format!("{one}\n{two}\ngroup a 1 w0\ngroup b 1 w0 w1\ngroup all 2 a b\nquorum all"),
        format!("{one}\ngroup all 2 w0 w0\nquorum all"),
        format!("{one}\ngroup all 1 none w0\nquorum all"),
        format!("{one}\ngroup all 0_1 w0\nquorum all"),
        format!("{log}\n{one}\nquorum w0"),
        format!("{one}\u{a0}\nquorum w0"),
    ]
    .iter()
    .enumerate()
    {
        let good = number == 0;
        let text = format!("{log}\n{lines}\n");
        assert_eq!(TrustPolicy::parse(&text).is_ok(), good, "{text}");
        let file = site.scratch.path().join("other.policy");
        fs::write(&file, &text).unwrap();
        let told = check(&bundle, &[&file.display().to_string()]);
        assert_eq!(told.status.success(), good, "{text}{told}");
        assert!(
            good || told.stdout.contains("WRONG other.policy: line"),
            "{told}"
        );
    }
}

#[test]
fn no_cell_is_a_formula_whatever_ends_a_cell() {
    let mut event = Event::new(1_800_000_000_300, "connection.denied", "n1")
        .with("note", "x;=HYPERLINK(1)\t=2;\\;\"=3");
    event.tenant = Some("acme".to_owned());
    event.reference = Some("y;=HYPERLINK(4)\t=5".to_owned());
    let (_site, bundle) = bundle_with(event, &logs::tenant("acme"));
    let csv = fs::read_to_string(bundle.join("populations/denied-attempts.csv")).unwrap();
    assert!(csv.contains("x\\u003b=HYPERLINK(1)"), "{csv}");
    for ends in [',', ';', '\t', '\n'] {
        let formula = |cell: &&str| cell.trim_start_matches('"').starts_with('=');
        assert_eq!(csv.split(ends).find(formula), None, "{ends:?}");
    }
}
