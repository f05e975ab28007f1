//! A witness that a customer runs: it cosigns what only grew, catches a rollback and a split view, and forgets nothing in a crash.

#[path = "logs/mod.rs"]
mod logs;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use logs::grown::{Grown, tree};
use logs::{FLEET, Site, origin, tenant};
use portcullis::ledger::inspect::{Directory, Earlier, growth};
use portcullis::ledger::tiles::LogId;
use portcullis_audit::tlog::{
    AddCheckpoint, Checkpoint, Hash, Note, NoteKey, NoteSignature, TrustPolicy,
};
use portcullis_tests::gateway::binary;
use portcullis_tests::process::Service;
use portcullis_tests::scratch::{Scratch, repository, tools};
use portcullis_tests::{ports, process, wait};
use rustix::process::Signal;
use serde_json::Value;

const NAME: &str = "witness.example/w1";

#[test]
fn a_log_that_grows_is_cosigned_until_it_is_rolled_back_or_rewritten() {
    let mut site = Site::grown(&logs::VOTERS);
    let witness = Witness::start();
    for log in [LogId::Fleet, tenant("acme")] {
        let first = note(&site, &log);
        assert_eq!(witness.ask(0, &first, &[]).status, 200);
    }
    for _ in 0..3 {
        site.add(&tenant("acme"), 300);
        site.add(&LogId::Fleet, 40);
        site.seal();
        for log in [LogId::Fleet, tenant("acme")] {
            let (old, new) = (witness.size(&origin(&log)), note(&site, &log));
            let reply = witness.ask(old, &new, &proof(&site, &log, old));
            assert_eq!(reply.status, 200, "{reply:?}");
            // The note with it is believed by whoever asks for the log, two voters and the witness.
            let mut signed = new.clone();
            signed.signatures.push(reply.line());
            let more = format!(
                "witness customer {}\ngroup both all voters customer\nquorum both\n",
                witness.key
            );
            let policy = logs::trust().to_string().replace("quorum voters\n", &more);
            let trust = TrustPolicy::parse(&policy).unwrap();
            let trust = trust.for_log(&origin(&log)).unwrap();
            assert!(trust.check(&signed).is_ok(), "{policy}");
            assert!(trust.check(&new).is_err());
        }
    }
    let size = witness.size(FLEET);

    // The fleet from a backup: it is shorter, and then it goes on differently.
    let mut site = Site::grown(&logs::VOTERS);
    let reply = witness.ask(note_size(&site), &note(&site, &LogId::Fleet), &[]);
    assert_eq!((reply.status, reply.size()), (409, size));
    site.add_as(&LogId::Fleet, 500, "another history");
    site.seal();
    let reply = witness.ask(
        size,
        &note(&site, &LogId::Fleet),
        &proof(&site, &LogId::Fleet, size),
    );
    assert_eq!(reply.status, 422, "{reply:?}");
    assert_eq!(witness.size(FLEET), size);
    let shown = witness.show();
    assert_eq!(
        (&shown["contradictions"], &shown["unproven"]),
        (&0.into(), &1.into())
    );
    assert!(
        witness
            .service
            .log()
            .contains("without proof that its log only grew")
    );
}

#[test]
fn two_roots_of_one_size_are_kept_as_a_proof_and_told() {
    let witness = Witness::start();
    let [one, other] = ["", "another history"].map(|story| {
        let mut site = Site::new();
        site.add_as(&LogId::Fleet, 10, story);
        site.seal();
        note(&site, &LogId::Fleet)
    });
    assert_eq!(witness.ask(0, &one, &[]).status, 200);
    for _ in 0..2 {
        let reply = witness.ask(10, &other, &[]);
        assert_eq!((reply.status, reply.size()), (409, 10));
    }
    assert_eq!(witness.show()["contradictions"], 1);
    assert_eq!(witness.service.log().matches("TWO HISTORIES").count(), 1);
    let files = logs::files(&witness.scratch.path().join("state/evidence"));
    let [newer, older] = files.as_slice() else {
        panic!("{files:?}");
    };
    // Anybody who has the log's key can read them, and the log signed both.
    for (file, text) in [(older, &one.text), (newer, &other.text)] {
        let bytes = fs::read(witness.scratch.path().join("state/evidence").join(file)).unwrap();
        assert!(Earlier::parse(&bytes, &logs::trust()).is_ok(), "{file}");
        assert_eq!(&Note::parse(&bytes).unwrap().text, text);
    }
}

#[test]
fn a_stranger_that_knows_the_specification_alone_is_answered_as_it_says() {
    let witness = Witness::start();
    let seed = "01".repeat(32);
    let run = |seed: &str, origin: &str, steps: &str| {
        let file = witness.scratch.write("steps", steps);
        let mut command = Command::new(tools().join("venv/bin/python"));
        command
            .arg(repository().join("tests/programs/witness.py"))
            .args([&witness.url(), seed, &witness.key.to_string(), origin])
            .arg(file);
        process::run(&command, Duration::from_secs(120))
    };
    let steps = "\
        main 0 0 200\nmain 0 1 200\nmain 0 2 409\nmain 1 1 200\ngarbage\n\
        main 1 255 200\nmain 255 257 200\nmain 257 300 200\n\
        main 299 300 409\nmain 255 256 409\n7x 7 300 409\n7x 300 300 409\n7x 300 310 422\n\
        main 300 301 200\n300x 301 302 422\n301x 301 302 200\nmain 302 303 422\n301x 302 600 200\ngarbage\n";
    let said = run(&seed, FLEET, steps);
    assert_eq!(said.ok(), "ok 600", "{said}");
    // Another key under the same name, and a log that nobody named.
    let said = run(&"02".repeat(32), FLEET, "main 600 700 403\nmain 0 0 403\n");
    assert_eq!(said.ok(), "ok None", "{said}");
    let said = run(&seed, "log.example", "main 0 1 404\n");
    assert_eq!(said.ok(), "ok None", "{said}");
    let other = format!("{FLEET}/tenants/acme");
    let said = run(&seed, &other, "main 0 1 200\n");
    assert_eq!(said.ok(), "ok 1", "{said}");
}

#[test]
fn what_is_no_request_is_refused_and_the_witness_goes_on() {
    let witness = Witness::start();
    for (method, path, body, status) in [
        ("POST", "/add-checkpoint", "", 400),
        ("POST", "/add-checkpoint", "old 0\n\nnothing\n", 400),
        ("GET", "/add-checkpoint", "", 405),
        ("POST", "/", "", 405),
        ("POST", "/add-checkpoints", "", 404),
        ("POST", "//add-checkpoint", "", 400),
    ] {
        let reply = http(witness.address, method, path, body.as_bytes());
        assert_eq!(reply.status, status, "{method} {path}");
    }
    let reply = http(
        witness.address,
        "POST",
        "/add-checkpoint",
        &vec![b'x'; 200_000],
    );
    assert_eq!(reply.status, 413);
    // More than a peer may ask at once; a second later it may again.
    let over = (0..400).any(|_| http(witness.address, "GET", "/", b"").status == 429);
    assert!(over);
    wait::wait_for("the pace", Duration::from_secs(20), || {
        http(witness.address, "GET", "/", b"").status == 200
    });
}

#[test]
fn a_witness_that_is_killed_again_and_again_signs_one_history_that_only_grows() {
    let mut witness = Witness::start();
    let mut signed: Vec<Vec<u32>> = Vec::new();
    let mut history: Vec<u32> = Vec::new();
    for round in 0..25_u32 {
        // Two that hold the log's key, and go on differently from what was cosigned last, at the same time.
        let address = witness.address;
        let askers: Vec<_> = (0..2)
            .map(|asker| {
                let mut entries = history.clone();
                std::thread::spawn(move || race(address, &mut entries, 2 * round + asker))
            })
            .collect();
        std::thread::sleep(Duration::from_millis(u64::from(7 + (round * 37) % 60)));
        witness.service.kill();
        let mut of_round = Vec::new();
        for asker in askers {
            of_round.push(asker.join().unwrap());
        }
        // Each of the two saw its answers in order. Only one of them can have any.
        let winners: Vec<_> = of_round
            .into_iter()
            .filter(|it| !it.signed.is_empty())
            .collect();
        assert!(
            winners.len() <= 1,
            "two histories were cosigned in round {round}"
        );
        witness.start_again();
        let size = usize::try_from(witness.size(FLEET)).unwrap();
        let before = signed.last().map_or(0, Vec::len);
        assert!(size >= before, "{size} entries after {before}");
        if let Some(winner) = winners.into_iter().next() {
            signed.extend(winner.signed.iter().cloned());
            let last = winner.signed.last().unwrap();
            assert!(
                size >= last.len(),
                "{size} entries remembered, {} cosigned",
                last.len()
            );
        }
        // It may have remembered one that it did not come to sign: of whom, its root tells.
        let root = witness.show()["logs"][0]["root"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let candidates = (0..2).map(|asker| {
            let mut entries = history.clone();
            entries.resize(size, 2 * round + asker);
            entries
        });
        history = candidates
            .chain([history.clone()])
            .find(|entries| {
                entries.len() == size && (size == 0 || tree(entries).root().to_string() == root)
            })
            .expect("it remembers a history that was shown to it");
    }
    // All that was ever cosigned is the beginning of what is remembered now.
    for (number, one) in signed.iter().enumerate() {
        assert!(history.starts_with(one), "cosignature {number}");
    }
    assert!(signed.is_sorted_by_key(Vec::len));
    eprintln!(
        "FIGURE witness: {} cosignatures over 25 kills, one history of {} entries",
        signed.len(),
        history.len()
    );
    assert!(signed.len() >= 5, "{}", signed.len());
}

#[test]
fn a_state_that_is_in_use_older_damaged_or_gone_is_refused_and_it_is_said_what_to_do() {
    let mut witness = Witness::start();
    let log = Grown::new(&[0; 20]);
    assert_eq!(witness.add(0, &log, 5).status, 200);
    let second = process::run(&witness.command(ports::free()), Duration::from_secs(60));
    assert!(
        second.refused().contains("another witness has it"),
        "{second}"
    );
    let state = witness.scratch.path().join("state/state");
    let older = fs::read(&state).unwrap();
    assert_eq!(witness.add(5, &log, 9).status, 200);
    assert!(witness.service.stop().unwrap().success());
    let good = fs::read(&state).unwrap();
    let key = witness.scratch.path().join("keys/w.pem");
    let mut damaged = good.clone();
    let at = damaged.len() / 2;
    damaged[at] ^= 1;
    for bytes in [Some(older), Some(damaged), None] {
        match bytes {
            Some(bytes) => fs::write(&state, bytes).unwrap(),
            None => fs::remove_file(&state).unwrap(),
        }
        let said = process::run(&witness.command(ports::free()), Duration::from_secs(60));
        assert_eq!(said.status.code(), Some(1), "{said}");
        for part in [
            "state/state",
            "Begin anew: move the state directory and the key away",
        ] {
            assert!(said.refused().contains(part), "{said}");
        }
        fs::write(&state, &good).unwrap();
    }
    let public = witness.key.to_string();
    let pem = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    let said = process::run(&witness.command(ports::free()), Duration::from_secs(60));
    assert!(said.refused().contains("the key is gone"), "{said}");
    fs::write(&key, pem).unwrap();
    witness.start_again();
    assert_eq!(witness.key.to_string(), public);
    assert_eq!(witness.size(FLEET), 9);
    assert_eq!(witness.add(9, &log, 20).status, 200);
}

/// What one who asks got.
struct Raced {
    /// The histories that were cosigned, in order.
    signed: Vec<Vec<u32>>,
}

/// Asks for one entry more, again and again, until nobody answers.
fn race(address: SocketAddr, entries: &mut Vec<u32>, story: u32) -> Raced {
    let mut signed = Vec::new();
    let mut old = entries.len();
    loop {
        entries.resize(old + 1, story);
        let log = Grown::new(entries);
        let note = log.note(entries.len());
        let request = AddCheckpoint::new(old as u64, log.proof(old, entries.len()), note.clone());
        let body = request.unwrap().to_string();
        let Some(reply) = try_http(address, "POST", "/add-checkpoint", body.as_bytes()) else {
            return Raced { signed };
        };
        match reply.status {
            200 => {
                signed.push(entries.clone());
                old += 1;
            }
            // The other one was faster: what it signed is not ours, and never will be.
            409 | 422 => {}
            429 => std::thread::sleep(Duration::from_millis(5)),
            status => panic!("{status}"),
        }
    }
}

/// A real process.
struct Witness {
    scratch: Scratch,
    address: SocketAddr,
    service: Service,
    key: NoteKey,
}

impl Witness {
    fn start() -> Self {
        let scratch = Scratch::new("witness");
        scratch.write("trust.policy", logs::trust().to_string());
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()));
        let (service, key) = launch(&scratch, address);
        Self {
            scratch,
            address,
            service,
            key,
        }
    }

    fn start_again(&mut self) {
        (self.service, self.key) = launch(&self.scratch, self.address);
    }

    fn command(&self, port: u16) -> Command {
        command(&self.scratch, SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn ask(&self, old: u64, note: &Note, proof: &[Hash]) -> Reply {
        let request = AddCheckpoint::new(old, proof.to_vec(), note.clone());
        let body = request.unwrap().to_string();
        http(self.address, "POST", "/add-checkpoint", body.as_bytes())
    }

    fn add(&self, old: usize, log: &Grown, new: usize) -> Reply {
        self.ask(old as u64, &log.note(new), &log.proof(old, new))
    }

    fn show(&self) -> Value {
        let reply = http(self.address, "GET", "/", b"");
        serde_json::from_slice(&reply.body).unwrap()
    }

    fn size(&self, origin: &str) -> u64 {
        let shown = self.show();
        let mut logs = shown["logs"].as_array().unwrap().iter();
        let log = logs.find(|log| log["origin"] == origin);
        log.map_or(0, |log| log["size"].as_u64().unwrap())
    }
}

fn launch(scratch: &Scratch, address: SocketAddr) -> (Service, NoteKey) {
    let log = scratch.path().join("witness.log");
    drop(fs::remove_file(&log));
    let service = Service::start(
        "the witness",
        &command(scratch, address),
        &log,
        Signal::TERM,
    );
    let mut key = None;
    wait::wait_for("the witness", Duration::from_secs(60), || {
        let said = service.log();
        let line = said.lines().find_map(|line| line.strip_prefix("witness "));
        key = line.and_then(|line| NoteKey::parse(line.strip_prefix(NAME)?.trim()).ok());
        key.is_some() && TcpStream::connect(address).is_ok()
    });
    (service, key.unwrap())
}

fn command(scratch: &Scratch, address: SocketAddr) -> Command {
    let path = |name: &str| scratch.path().join(name);
    let mut command = Command::new(binary());
    command
        .args(["audit", "witness", "--name", NAME])
        .args(["--listen", &address.to_string()])
        .arg("--trust")
        .arg(path("trust.policy"))
        .arg("--state")
        .arg(path("state"))
        .arg("--key")
        .arg(path("keys/w.pem"));
    command
}

#[derive(Debug)]
struct Reply {
    status: u16,
    kind: String,
    body: Vec<u8>,
}

impl Reply {
    fn line(&self) -> NoteSignature {
        NoteSignature::parse(std::str::from_utf8(&self.body).unwrap().trim_end()).unwrap()
    }

    fn size(&self) -> u64 {
        assert_eq!(self.kind, "text/x.tlog.size");
        let text = std::str::from_utf8(&self.body).unwrap();
        text.strip_suffix('\n').unwrap().parse().unwrap()
    }
}

fn http(to: SocketAddr, method: &str, path: &str, body: &[u8]) -> Reply {
    try_http(to, method, path, body).expect("it answers")
}

fn try_http(to: SocketAddr, method: &str, path: &str, body: &[u8]) -> Option<Reply> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: w\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // Who refuses early does not read it all.
    drop(stream.write_all(&[head.as_bytes(), body].concat()));
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes));
    let end = bytes.windows(4).position(|it| it == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let header = |name: &str| {
        let mut lines = head.lines();
        lines.find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned))
    };
    let body = bytes[end + 4..].to_vec();
    let length: usize = header("content-length")?.parse().ok()?;
    // Killed in the middle of its answer.
    (body.len() == length).then_some(())?;
    Some(Reply {
        status: head.get(9..12)?.parse().ok()?,
        kind: header("content-type")?,
        body,
    })
}

fn note(site: &Site, log: &LogId) -> Note {
    let file = site.folder().join(log.to_string()).join("checkpoint");
    Note::parse(&fs::read(file).unwrap()).unwrap()
}

fn note_size(site: &Site) -> u64 {
    let note = note(site, &LogId::Fleet);
    Checkpoint::parse(&note.text).unwrap().size
}

/// The proof from the log's files.
fn proof(site: &Site, log: &LogId, old: u64) -> Vec<Hash> {
    let checkpoint = Checkpoint::parse(&note(site, log).text).unwrap();
    let mut source = Directory(site.folder());
    growth(&mut source, &log.to_string(), old, &checkpoint).unwrap()
}
