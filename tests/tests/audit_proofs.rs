//! `portcullis audit prove` and `audit check`: one entry, with all that proves it.

mod logs;

use std::fs;

use logs::{Site, VOTERS, audit, event, origin, reference, stranger, tenant};
use portcullis::ledger::tiles::LogId;
use portcullis_audit::Event;
use serde_json::Value;

#[test]
fn a_proof_is_small_and_a_stranger_believes_it_for_its_entry_alone() {
    let site = Site::grown(&VOTERS);
    let path = |name: &str| site.scratch.path().join(name).display().to_string();
    let (folder, trust) = (
        site.folder().display().to_string(),
        site.trust().display().to_string(),
    );
    let acme = tenant("acme");
    for (log, name, index) in [
        (&LogId::Fleet, "fleet", 0),
        (&acme, "acme", 0),
        (&acme, "tenants/acme", 255),
        (&acme, "acme", 256),
        (&acme, "acme", 511),
        (&acme, "acme", 539),
    ] {
        let (number, proof) = (index.to_string(), path("proof"));
        let said = audit(&[
            "prove", &folder, "--log", name, "--index", &number, "--out", &proof, "--json",
        ]);
        let told: Value = serde_json::from_str(said.ok()).unwrap();
        assert_eq!(told["index"], index, "{said}");
        // The same on standard output.
        let text = fs::read_to_string(&proof).unwrap();
        let said = audit(&["prove", &folder, "--log", name, "--index", &number]);
        assert_eq!(said.stdout, text);
        let without: usize = text
            .lines()
            .filter(|line| !line.starts_with("extra "))
            .map(|line| line.len() + 1)
            .sum();
        assert!(without <= 2_048, "{without} bytes");
        let said = audit(&["check", &proof, "--trust", &trust, "--json"]);
        let told: Value = serde_json::from_str(said.ok()).unwrap();
        let wanted = event(log, index, "");
        let line: Value = serde_json::from_str(&wanted.line()).unwrap();
        assert_eq!(told["event"], line, "{said}");
        assert_eq!(
            (&told["proved"], &told["origin"], &told["index"]),
            (&true.into(), &origin(log).into(), &index.into())
        );
        assert_eq!(told["cosigned"].as_object().unwrap().len(), 3);
        let policy = site.trust_of(log).display().to_string();
        fs::write(path("entry"), wanted.line()).unwrap();
        let theirs = stranger(&["proof", &proof, &policy, &path("entry")]);
        assert!(theirs.status.success(), "{theirs:?}");
        // Another entry is not proved by it.
        fs::write(path("entry"), event(log, index + 1, "").line()).unwrap();
        let theirs = stranger(&["proof", &proof, &policy, &path("entry")]);
        assert_eq!(theirs.status.code(), Some(1), "{theirs:?}");
        let said = audit(&[
            "check",
            &proof,
            "--trust",
            &trust,
            "--entry",
            &path("entry"),
        ]);
        assert_eq!(said.status.code(), Some(7), "{said}");
        assert!(said.stderr.contains("NOT PROVED"), "{said}");
    }
    // What strangers wrote into an event steers no terminal.
    let said = audit(&["check", &path("proof"), "--trust", &trust]);
    assert!(
        !said.ok().contains('\u{2028}') && said.stdout.contains("line\\n\\u2028"),
        "{said}"
    );
    assert_eq!(said.stdout.trim_end().lines().count(), 2, "{said}");
}

#[test]
fn an_event_is_found_by_its_reference_if_there_is_one_of_it() {
    let mut site = Site::grown(&VOTERS);
    // The second event of an attempt.
    let mut again = Event::new(1_800_000_000_000, "connection.closed", "fleet");
    again.reference = Some(reference(0));
    site.claim(again.line());
    site.seal();
    let folder = site.folder().display().to_string();
    let prove = |log: &str, number: u64| {
        let reference = reference(number);
        audit(&["prove", &folder, "--log", log, "--reference", &reference])
    };
    let said = prove("acme", 500);
    assert!(said.ok().contains("\nindex 500\n"), "{said}");
    let said = prove("acme", 12_345);
    assert_eq!(said.status.code(), Some(1));
    assert!(
        said.refused().contains("no entry has the reference PC-"),
        "{said}"
    );
    let said = prove("fleet", 0);
    assert_eq!(said.status.code(), Some(1));
    for line in [
        "by --index:",
        "\n  0  connection.denied",
        "\n  52  connection.closed",
    ] {
        assert!(said.refused().contains(line), "{said}");
    }
}

#[test]
fn what_cannot_be_proved_is_said_clearly() {
    let site = Site::grown(&VOTERS);
    let folder = site.folder().display().to_string();
    let acme = format!("{folder}/tenants/acme");
    for (arguments, says) in [
        (vec!["prove", &folder, "--index", "0"], "name one by --log"),
        (
            vec!["prove", &acme, "--log", "acme", "--index", "0"],
            "leave --log away",
        ),
        (
            vec!["prove", &acme, "--index", "540"],
            "there is no entry 540: the log has 540, from 0",
        ),
        (
            vec!["prove", "nowhere", "--index", "0"],
            "nowhere: No such file",
        ),
    ] {
        let said = audit(&arguments);
        assert_eq!(said.status.code(), Some(1), "{said}");
        assert!(said.stderr.contains(says), "{said}");
    }
    let said = audit(&["prove", &folder, "--log", "initech", "--index", "0"]);
    assert!(
        said.refused()
            .contains("tenants/initech/checkpoint: it is missing"),
        "{said}"
    );
    // A log that was changed proves nothing.
    for file in ["tile/entries/000", "tile/0/000", "tile/1/000.p/2"] {
        let file = format!("{acme}/{file}");
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        bad[40] ^= 1;
        fs::write(&file, bad).unwrap();
        let said = audit(&["prove", &acme, "--index", "0"]);
        assert_eq!(said.status.code(), Some(7), "{file}: {said}");
        fs::write(&file, good).unwrap();
    }
}

/// Two of the three sign, so that the policy needs every signature.
#[test]
fn a_proof_with_a_bit_flipped_anywhere_proves_nothing() {
    let site = Site::grown(&[2, 4]);
    let (folder, trust) = (
        site.folder().display().to_string(),
        site.trust().display().to_string(),
    );
    let file = site.scratch.path().join("proof");
    let proof = file.display().to_string();
    audit(&[
        "prove", &folder, "--log", "acme", "--index", "300", "--out", &proof,
    ])
    .ok()
    .lines()
    .for_each(drop);
    let good = fs::read(&file).unwrap();
    let check = || audit(&["check", &proof, "--trust", &trust]);
    assert!(check().status.success());
    for (number, at) in (0..good.len()).step_by(5).enumerate() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (number % 8);
        fs::write(&file, &bad).unwrap();
        let said = check();
        assert_eq!(said.status.code(), Some(7), "byte {at}: {said}");
    }
    for length in (0..good.len()).step_by(97) {
        fs::write(&file, &good[..length]).unwrap();
        assert_eq!(check().status.code(), Some(7), "{length} bytes");
    }
    fs::write(&file, &good).unwrap();
    // Nobody who is trusted signed it.
    let stranger = portcullis_tests::Scratch::new("stranger");
    let other = logs::trust()
        .to_string()
        .replace("portcullis/7f3a", "portcullis/0000");
    assert_ne!(other, logs::trust().to_string());
    let other = stranger.write("policy", other);
    let said = audit(&["check", &proof, "--trust", other.to_str().unwrap()]);
    assert_eq!(
        said.status.code(),
        Some(1),
        "the key's number does not fit: {said}"
    );
}
