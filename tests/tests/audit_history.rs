//! `portcullis audit verify` and what a log said before: rolled back, rewritten, shown otherwise to others.

mod logs;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use logs::{Site, VOTERS, audit, copy, files, head, look, stranger, tenant};
use portcullis::ledger::inspect::Verdict;
use portcullis::ledger::tiles::LogId;
use serde_json::Value;

#[test]
fn a_log_that_was_rolled_back_is_found_by_the_fleets_and_by_an_earlier_checkpoint() {
    let mut site = Site::grown(&VOTERS);
    let old = site.scratch.path().join("old");
    copy(&site.folder(), &old);
    site.add(&tenant("acme"), 100);
    site.seal();
    let folder = site.folder();
    let (since_fleet, since_acme) = (
        site.keep(&LogId::Fleet, "fleet.seen"),
        site.keep(&tenant("acme"), "acme.seen"),
    );
    site.add(&tenant("acme"), 1);
    site.seal();
    let trust = site.trust().display().to_string();
    let said = |place: &Path, since: &[&Path]| {
        let place = place.display().to_string();
        let mut arguments = vec!["verify", &place, "--trust", &trust, "--json"];
        since
            .iter()
            .for_each(|file| arguments.extend(["--since", file.to_str().unwrap()]));
        let said = audit(&arguments);
        let report: Value = serde_json::from_str(said.stdout.trim()).unwrap_or_default();
        (said.status.code(), report, said)
    };
    let (code, report, _) = said(&folder, &[&since_fleet, &since_acme]);
    assert_eq!((code, report["verdict"].as_str()), (Some(0), Some("good")));
    // All of it as it was.
    let (code, _, told) = said(&old, &[]);
    assert_eq!(code, Some(0), "{told}");
    let (code, report, told) = said(&old, &[&since_fleet]);
    assert_eq!(code, Some(9), "{told}");
    let found = &report["logs"][0]["findings"][0];
    assert_eq!(
        (&found["kind"], &found["file"]),
        (&"contradiction".into(), &"fleet/checkpoint".into())
    );
    assert!(
        found["says"].as_str().unwrap().contains("rolled back"),
        "{told}"
    );
    let (code, _, told) = said(&old, &[&since_acme]);
    assert_eq!(code, Some(9), "{told}");
    // One log as it was, and the fleet's tells.
    fs::remove_dir_all(folder.join("tenants/acme")).unwrap();
    copy(&old.join("tenants/acme"), &folder.join("tenants/acme"));
    let (code, report, told) = said(&folder, &[]);
    assert_eq!(code, Some(8), "{told}");
    let found = &report["logs"][1]["findings"][0];
    assert_eq!(
        (&found["kind"], &found["file"]),
        (&"missing".into(), &"tenants/acme/checkpoint".into())
    );
    assert_eq!(
        (found["first"].as_u64(), found["last"].as_u64()),
        (Some(540), Some(639)),
        "{told}"
    );
}

#[test]
fn two_histories_are_named_and_both_checkpoints_kept() {
    let (one, mut other) = (Site::grown(&VOTERS), Site::new());
    for round in 0..12 {
        other.add(&LogId::Fleet, 3);
        other.add_as(
            &tenant("acme"),
            45,
            if round == 4 { "as we want it" } else { "" },
        );
        if round % 3 == 0 {
            other.add(&tenant("globex"), 2);
        }
        other.seal();
    }
    // Each is good by itself, and as long as the other.
    for site in [&one, &other] {
        let (folder, trust) = (
            site.folder().display().to_string(),
            site.trust().display().to_string(),
        );
        let said = audit(&["verify", &folder, "--trust", &trust]);
        assert!(said.status.success(), "{said}");
    }
    for log in [LogId::Fleet, tenant("acme")] {
        let seen = one.keep(&log, "seen");
        let kept = other
            .scratch
            .path()
            .join(format!("kept-{}", log.to_string().replace('/', "-")));
        fs::create_dir(&kept).unwrap();
        let (folder, trust) = (
            other.folder().display().to_string(),
            other.trust().display().to_string(),
        );
        for _ in 0..2 {
            let said = audit(&[
                "verify",
                &folder,
                "--trust",
                &trust,
                "--since",
                seen.to_str().unwrap(),
                "--keep",
                kept.to_str().unwrap(),
            ]);
            assert_eq!(said.status.code(), Some(9), "{said}");
            assert!(said.stdout.contains("split view"), "{said}");
            assert!(said.stdout.contains(&format!("{log}/checkpoint")), "{said}");
            let proof: BTreeSet<Vec<u8>> = files(&kept)
                .iter()
                .map(|file| fs::read(kept.join(file)).unwrap())
                .collect();
            let theirs = other.folder().join(log.to_string()).join("checkpoint");
            assert_eq!(
                proof,
                BTreeSet::from([fs::read(&seen).unwrap(), fs::read(theirs).unwrap()]),
                "{said}"
            );
        }
        let place = other.folder().join(log.to_string()).display().to_string();
        let theirs = stranger(&[
            "consistent",
            &place,
            seen.to_str().unwrap(),
            &other.trust_of(&log).display().to_string(),
        ]);
        assert_eq!(theirs.status.code(), Some(1), "{theirs:?}");
        assert!(
            String::from_utf8_lossy(&theirs.stderr).contains("fork"),
            "{theirs:?}"
        );
    }
    // A tenant whose log the fleet's never was shown: even of the same size.
    copy(
        &other.folder().join("tenants/acme"),
        &one.scratch.path().join("theirs"),
    );
    fs::remove_dir_all(one.folder().join("tenants/acme")).unwrap();
    copy(
        &one.scratch.path().join("theirs"),
        &one.folder().join("tenants/acme"),
    );
    let report = look(&one.folder());
    assert_eq!(report.verdict, Verdict::Contradicted, "{report:?}");
    let found = &report.logs[1].findings[0];
    assert!(
        found.says.contains("its first 225 entries") && found.proof.is_some(),
        "{found:?}"
    );
}

#[test]
fn a_head_that_is_not_the_tenants_contradicts_it() {
    let mut site = Site::grown(&VOTERS);
    let zeros = portcullis_audit::tlog::Hash([0; 32]).to_string();
    site.claim(head("acme", 300, &zeros));
    site.seal();
    let report = look(&site.folder());
    assert_eq!(report.verdict, Verdict::Contradicted);
    assert_eq!(report.logs[1].findings.len(), 1, "{report:?}");
    let mut site = Site::grown(&VOTERS);
    site.claim(head("initech", 3, &zeros));
    site.seal();
    let report = look(&site.folder());
    assert_eq!(report.verdict, Verdict::Incomplete, "{report:?}");
    assert_eq!(
        report.logs[3].findings[0].file,
        "tenants/initech/checkpoint"
    );
}
