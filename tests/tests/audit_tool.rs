//! `portcullis audit verify`: what holds, and everything that does not.

mod logs;

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use logs::{FLEET, Site, VOTERS, audit, look, origin, stranger, tenant};
use portcullis::ledger::inspect::{Kind, Report, Verdict};
use portcullis::ledger::tiles::LogId;
use portcullis_audit::tlog::{Level, Tile, entries};
use portcullis_tests::process::Service;
use portcullis_tests::{ports, wait};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn logs_that_are_as_they_were_signed_are_good_wherever_they_lie() {
    let site = Site::grown(&VOTERS);
    let folder = site.folder().display().to_string();
    let trust = site.trust().display().to_string();
    let port = ports::free();
    let mut server = Command::new("python3");
    server.args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"]);
    server.arg(&folder).arg(port.to_string());
    let log = site.scratch.path().join("server.log");
    let _server = Service::start("a static server", &server, &log, Signal::KILL);
    wait::wait_for("the server", Duration::from_secs(30), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    for place in [folder.clone(), format!("http://127.0.0.1:{port}/")] {
        let said = audit(&["verify", &place, "--trust", &trust, "--json"]);
        let report: Value = serde_json::from_str(said.ok()).unwrap();
        assert_eq!(report["verdict"], "good", "{said}");
        let logs = report["logs"].as_array().unwrap().iter();
        let sizes: Vec<(String, u64)> = logs
            .map(|log| {
                (
                    log["log"].as_str().unwrap().to_owned(),
                    log["size"].as_u64().unwrap(),
                )
            })
            .collect();
        let wanted = [("fleet", 52), ("tenants/acme", 540), ("tenants/globex", 8)];
        assert_eq!(
            sizes,
            wanted.map(|(log, size)| (log.to_owned(), size)),
            "{said}"
        );
        assert_eq!(report["heads"], 16, "{said}");
        assert_eq!(report["logs"][1]["cosigned"].as_object().unwrap().len(), 3);
        // One of them alone, and a stranger of the same mind.
        for id in [LogId::Fleet, tenant("acme"), tenant("globex")] {
            let one = format!("{}/{id}", place.trim_end_matches('/'));
            let said = audit(&["verify", &one, "--trust", &trust]);
            assert!(said.ok().contains("everything is there"), "{said}");
            assert!(
                said.stdout.contains(&format!("{}: good", origin(&id))),
                "{said}"
            );
            let one = format!("{folder}/{id}");
            let theirs = stranger(&["log", &one, &site.trust_of(&id).display().to_string()]);
            assert!(theirs.status.success(), "{theirs:?}");
        }
    }
    // A server that goes is not a log that is good, nor one that was changed.
    let gone = format!("http://127.0.0.1:{}/", ports::free());
    let said = audit(&["verify", &gone, "--trust", &trust]);
    assert_eq!(said.status.code(), Some(1), "{said}");
    assert!(said.stderr.contains("could not connect"), "{said}");
}

/// Two of the three sign, so that the policy needs every signature.
#[test]
fn a_bit_flipped_anywhere_is_found_where_it_is() {
    let site = Site::grown(&[2, 3]);
    let folder = site.folder();
    assert_eq!(look(&folder).verdict, Verdict::Good);
    let mut tried = 0;
    for name in site.files() {
        let file = folder.join(&name);
        let good = fs::read(&file).unwrap();
        let step = if good.len() <= 1_024 { 1 } else { 611 };
        for (number, at) in (0..good.len()).step_by(step).enumerate() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (number % 8);
            fs::write(&file, &bad).unwrap();
            let report = look(&folder);
            let wrong = format!("{name}, byte {at}: {report:?}");
            assert_eq!(report.verdict, Verdict::Tampered, "{wrong}");
            let index = entry_of(&name, &good, at);
            let (log, _) = name
                .split_once(if name.ends_with("checkpoint") {
                    "/checkpoint"
                } else {
                    "/tile/"
                })
                .unwrap();
            let findings = report.logs.iter().flat_map(|log| &log.findings);
            let named = findings
                .filter(|found| found.kind != Kind::Missing)
                .all(|found| {
                    let place = index.is_some_and(|index| {
                        found.first <= Some(index) && Some(index) <= found.last
                    });
                    found.file.starts_with(log) && (found.file == name || place)
                });
            assert!(named, "{wrong}");
            tried += 1;
        }
        fs::write(&file, &good).unwrap();
    }
    assert!(tried > 2_000, "{tried}");
    assert_eq!(look(&folder).verdict, Verdict::Good);
}

#[test]
fn a_file_that_is_cut_gone_or_another_is_named() {
    let site = Site::grown(&VOTERS);
    let folder = site.folder();
    let named = |report: &Report, name: &str| {
        let mut findings = report.logs.iter().flat_map(|log| &log.findings);
        assert!(
            findings.any(|found| found.file == name),
            "{name}: {report:?}"
        );
    };
    let all = site.files();
    for name in &all {
        let file = folder.join(name);
        let good = fs::read(&file).unwrap();
        for bad in [&good[..good.len() - 1], &good[..good.len() / 2], &[]] {
            fs::write(&file, bad).unwrap();
            let report = look(&folder);
            assert_eq!(report.verdict, Verdict::Tampered, "{name}: {report:?}");
            named(&report, name);
        }
        fs::write(&file, [&good[..], &[0]].concat()).unwrap();
        let report = look(&folder);
        assert_eq!(report.verdict, Verdict::Tampered, "{name}: {report:?}");
        named(&report, name);
        fs::remove_file(&file).unwrap();
        let report = look(&folder);
        assert_eq!(report.verdict, Verdict::Incomplete, "{name}: {report:?}");
        named(&report, name);
        // Something else in its place.
        fs::create_dir(&file).unwrap();
        assert_eq!(look(&folder).verdict, Verdict::Tampered, "{name}");
        fs::remove_dir(&file).unwrap();
        fs::write(&file, &good).unwrap();
    }
    // Every file in the place of every other that holds something else.
    for (number, one) in all.iter().enumerate() {
        for other in &all[number + 1..] {
            let (one, other) = (folder.join(one), folder.join(other));
            let (first, second) = (fs::read(&one).unwrap(), fs::read(&other).unwrap());
            if first == second {
                continue;
            }
            fs::write(&one, &second).unwrap();
            fs::write(&other, &first).unwrap();
            assert_eq!(
                look(&folder).verdict,
                Verdict::Tampered,
                "{one:?} {other:?}"
            );
            fs::write(&one, &first).unwrap();
            fs::write(&other, &second).unwrap();
        }
    }
    // One tenant's log in another's place.
    let log = |name: &str| folder.join("tenants").join(name);
    fs::rename(log("acme"), log("aside")).unwrap();
    fs::rename(log("globex"), log("acme")).unwrap();
    fs::rename(log("aside"), log("globex")).unwrap();
    let report = look(&folder);
    assert_eq!(report.verdict, Verdict::Tampered);
    named(&report, "tenants/acme/checkpoint");
    named(&report, "tenants/globex/checkpoint");
    fs::remove_dir_all(log("acme")).unwrap();
    fs::rename(log("globex"), log("acme")).unwrap();
    let report = look(&folder);
    assert_eq!(report.verdict, Verdict::Incomplete, "{report:?}");
    named(&report, "tenants/globex/checkpoint");
    fs::remove_dir_all(folder.join("fleet")).unwrap();
    let report = look(&folder);
    assert_eq!(report.verdict, Verdict::Incomplete, "{report:?}");
    named(&report, "fleet/checkpoint");
}

#[test]
fn logs_that_grow_while_they_are_looked_at_are_good() {
    let mut site = Site::grown(&VOTERS);
    let folder = site.folder();
    // A log that was never published, and what is none, promise nothing.
    site.add_unpublished("initech");
    fs::create_dir(folder.join("tenants/.hidden")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut seen, mut largest) = (0, 0);
            while !done.load(Ordering::Relaxed) || seen < 3 {
                let report = look(&folder);
                assert_eq!(report.verdict, Verdict::Good, "{report:?}");
                assert_eq!(report.logs.len(), 3, "{report:?}");
                largest = report.logs[1].size;
                seen += 1;
            }
            largest
        });
        for _ in 0..60 {
            site.add(&LogId::Fleet, 2);
            site.add(&tenant("acme"), 7);
            site.seal();
            std::thread::sleep(Duration::from_millis(20));
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 540);
    });
}

#[test]
fn too_few_cosignatures_are_not_enough_and_what_they_are_under_is_looked_at_all_the_same() {
    let mut site = Site::grown(&VOTERS);
    site.voters = vec![3];
    site.add(&tenant("globex"), 1);
    site.seal();
    let (folder, trust) = (
        site.folder().display().to_string(),
        site.trust().display().to_string(),
    );
    let said = audit(&["verify", &folder, "--trust", &trust]);
    assert_eq!(said.status.code(), Some(7), "{said}");
    for line in [
        "fleet/checkpoint: not believed: `voters` must have cosigned it, and only w1 did",
        "tenants/acme: good, 540 entries",
    ] {
        assert!(said.stdout.contains(line), "{said}");
    }
    fs::remove_file(site.folder().join("tenants/globex/tile/entries/000.p/9")).unwrap();
    let report = look(&site.folder());
    let kinds: Vec<Kind> = report.logs[2]
        .findings
        .iter()
        .map(|found| found.kind)
        .collect();
    assert_eq!(kinds, [Kind::NotBelieved, Kind::Missing]);
}

#[test]
fn what_cannot_be_looked_at_is_said_clearly() {
    let site = Site::grown(&VOTERS);
    let path = |name: &str| site.scratch.path().join(name).display().to_string();
    let (folder, trust) = (
        site.folder().display().to_string(),
        site.trust().display().to_string(),
    );
    fs::create_dir(path("empty")).unwrap();
    fs::write(
        path("wrong"),
        format!("# whom we believe\n{}log x\n", logs::trust()),
    )
    .unwrap();
    fs::write(path("no-quorum"), "# nobody\n").unwrap();
    fs::write(path("binary"), [0xff, 0xfe]).unwrap();
    let none = "nowhere".to_owned();
    for (arguments, says) in [
        (
            vec!["verify", &none, "--trust", &trust],
            "nowhere: No such file",
        ),
        (
            vec!["verify", &trust, "--trust", &trust],
            "it is no directory",
        ),
        (
            vec!["verify", &path("empty"), "--trust", &trust],
            "there is no log",
        ),
        (
            vec!["verify", "ftp://logs.example", "--trust", &trust],
            "a URL begins with http",
        ),
        (
            vec![
                "verify",
                "https://logs.example",
                "--trust",
                &trust,
                "--ca",
                &none,
            ],
            "nowhere: No such file",
        ),
        (
            vec!["verify", &folder, "--trust", &none],
            "nowhere: No such file",
        ),
        (
            vec!["verify", &folder, "--trust", &path("wrong")],
            "line 8: ",
        ),
        (
            vec!["verify", &folder, "--trust", &path("no-quorum")],
            "no line `quorum NAME`",
        ),
        (
            vec!["verify", &folder, "--trust", &path("binary")],
            "it is not UTF-8",
        ),
        (
            vec!["verify", &folder, "--trust", &trust, "--since", &none],
            "nowhere: No such file",
        ),
        (
            vec!["verify", &folder, "--trust", &trust, "--since", &trust],
            "it is no checkpoint",
        ),
    ] {
        let said = audit(&arguments);
        assert_eq!(said.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(
            said.stderr.starts_with("error: ") && said.stderr.contains(says),
            "{arguments:?}: {said}"
        );
    }
    // An earlier checkpoint of a log that is not there, and one that another key signed.
    let other = format!("{FLEET}/tenants/initech");
    let note = logs::sign(&other, &site.tree(&LogId::Fleet), &VOTERS, 1);
    fs::write(path("initech"), note.to_string()).unwrap();
    let said = audit(&[
        "verify",
        &folder,
        "--trust",
        &trust,
        "--since",
        &path("initech"),
    ]);
    assert!(said.refused().contains("which is not there"), "{said}");
    let forged = fs::read_to_string(site.folder().join("fleet/checkpoint"))
        .unwrap()
        .replacen("52\n", "53\n", 1);
    fs::write(path("forged"), forged).unwrap();
    let said = audit(&[
        "verify",
        &folder,
        "--trust",
        &trust,
        "--since",
        &path("forged"),
    ]);
    assert_eq!(said.status.code(), Some(1), "{said}");
    assert!(said.stderr.contains("not to be believed"), "{said}");
}

/// The index of the entry that a byte of a file belongs to.
fn entry_of(name: &str, bytes: &[u8], at: usize) -> Option<u64> {
    let (_, path) = name.split_once("/tile/")?;
    let tile = Tile::parse(&format!("tile/{path}"))?;
    let subtrees = tile.subtrees();
    let place = match tile.level {
        Level::Hashes(_) => at / 32,
        Level::Entries => {
            let mut end = 0;
            let found = entries(bytes, tile.width).unwrap();
            found.iter().position(|entry| {
                end += 2 + entry.len();
                at < end
            })?
        }
    };
    let at = subtrees.take(place + 1).last()?;
    Some(at.index << at.level)
}
