//! Certificates of the doors: what a handshake costs there, what ten thousand certificates take, and whether clients notice when all of
//! them are replaced.
//!
//! Beside a bare end of handshakes with the same kind of certificate, with and without resumption, and beside the same door while nothing is
//! replaced.

use std::fs::{OpenOptions, rename};
use std::hint::black_box;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portcullis_certs::{Identity, ServerIdentities};
use portcullis_tests::identities::Credential;
use portcullis_tests::process::Service;
use portcullis_tests::{Gateway, Listener, Scratch, TestAuthority, ports, wait};
use rustix::process::Signal;
use serde_json::json;

use crate::board::Board;
use crate::client::{Caller, Sessions};
use crate::machine::{processor_seconds, resident_kib};
use crate::program::ourselves;
use crate::report::Table;
use crate::sample::{Sample, quantile};
use crate::stage::Target;
use crate::steps::Step;
use crate::ways::Way;

/// Certificates of the doors, beside their first.
const MANY: usize = 10_000;
/// Of how many look-ups are timed.
const LOOKED_UP: [usize; 3] = [1, 100, MANY];
const LOOK_UPS: usize = 200_000;
/// Clients at once, a thread each.
const CLIENTS: usize = 4;
/// How long handshakes of one kind are counted in a round.
const ROUND: Duration = Duration::from_secs(4);
/// After the last certificate is shown: what is let go of is let go of by then.
const AFTER: Duration = Duration::from_millis(500);
/// Between two looks at what is shown.
const LOOK: Duration = Duration::from_millis(50);
const START_LIMIT: Duration = Duration::from_secs(10);
const SWAP_LIMIT: Duration = Duration::from_secs(120);
/// A name that the first certificate stands for.
const FIRST: &str = "orders.db.test";
/// A name that the last one alone bears.
const LAST: &str = "last.many.test";

/// Measures.
pub(crate) fn measure(rounds: usize, board: &mut Board) -> Table {
    let mut table = Table::new(
        "certificates of the doors",
        &[
            "what",
            "median (lowest–highest of the rounds)",
            "to the baseline",
        ],
    );
    handshakes(rounds, &mut table, board);
    let authority = TestAuthority::new("Many");
    let sets = [many(&authority), many(&authority)];
    look_ups(&sets[0], rounds, &mut table, board);
    replaced(&authority, &sets, rounds, &mut table, board);
    table
}

fn handshakes(rounds: usize, table: &mut Table, board: &mut Board) {
    let authority = TestAuthority::new("Handshakes");
    let credential = authority.server(&[FIRST]);
    let gateway = gateway(&credential, &[]);
    let scratch = Scratch::new("bare");
    let bare = |resume| End::bare(&scratch, &credential, &authority, resume);
    let ends = [
        (bare(false), "bare", Sessions::Fresh),
        (bare(true), "bare, resumed", Sessions::Resumed),
        (End::door(&gateway, &authority), "door", Sessions::Fresh),
    ];
    let mut rates = [(); 3].map(|()| Sample::default());
    let mut costs = [(); 3].map(|()| Sample::default());
    for _ in 0..rounds {
        for (index, (end, _, sessions)) in ends.iter().enumerate() {
            let caller = end.caller(FIRST, *sessions);
            let before = processor_seconds(end.pid);
            let began = Instant::now();
            let made = load(&[caller], || began.elapsed() < ROUND);
            let resumed = made.iter().filter(|it| it.resumed).count();
            // Each client's first is a full one.
            let expected = match sessions {
                Sessions::Fresh => 0,
                Sessions::Resumed => made.len() - CLIENTS,
            };
            assert!(
                resumed.abs_diff(expected) <= CLIENTS,
                "{resumed} of {}",
                made.len()
            );
            let made = made.len() as f64;
            rates[index].push(made / began.elapsed().as_secs_f64());
            costs[index].push((processor_seconds(end.pid) - before) / made * 1e3);
        }
    }
    let ratio = |of: &[Sample; 3], index: usize| of[index].over(&of[0]);
    for (index, (_, word, _)) in ends.iter().enumerate() {
        for (what, of) in [("handshakes/s", &rates), ("CPU ms each", &costs)] {
            table.row(
                vec![format!("{what}, {word}"), format!("{:.3}", of[index]), format!("{:.2}", ratio(of, index).median())],
                json!({"what": what, "end": *word, "figure": of[index].json(), "to bare": ratio(of, index).json()}),
            );
        }
    }
    board.line(format!(
        "TLS handshakes at a door by {CLIENTS} clients that leave again: {:.0}/s, {:.2} of a bare rustls server with the same certificate ({:.0}/s), at {:.2} of its CPU each ({:.2} ms); were sessions resumed there, {:.2} of its rate at {:.2} of its CPU",
        rates[2].median(), ratio(&rates, 2).median(), rates[0].median(), ratio(&costs, 2).median(), costs[0].median(), ratio(&rates, 1).median(), ratio(&costs, 1).median(),
    ));
}

fn look_ups(set: &[Credential], rounds: usize, table: &mut Table, board: &mut Board) {
    let read = |it: &Credential| Identity::from_pem(&it.chain_pem, &it.key_pem).expect("PEM");
    let all: Vec<Identity> = set.iter().map(read).collect();
    let first = all.first().expect("many").clone();
    let mut found = [(); LOOKED_UP.len()].map(|()| Sample::default());
    let known = LOOKED_UP.map(|count| {
        let others = all.get(1..count).unwrap_or_default().to_vec();
        ServerIdentities::new(first.clone(), others).expect("a name each")
    });
    for _ in 0..rounds {
        for (index, count) in LOOKED_UP.into_iter().enumerate() {
            let names: Vec<String> = (0..count).map(name).collect();
            let began = Instant::now();
            for look in 0..LOOK_UPS {
                // Far apart, so that it is not the same few again and again.
                let name = &names[look * 7_919 % count];
                let _ = black_box(known[index].choose(Some(black_box(name))));
            }
            found[index].push(began.elapsed().as_secs_f64() * 1e9 / LOOK_UPS as f64);
        }
    }
    for (figures, count) in found.iter().zip(LOOKED_UP) {
        let ratio = figures.over(&found[0]);
        table.row(
            vec![
                format!("ns to find one of {count} by name"),
                format!("{figures:.0}"),
                format!("{:.2}", ratio.median()),
            ],
            json!({"certificates": count, "ns": figures.json(), "to one": ratio.json()}),
        );
    }
    let told = |index: usize| found[index].median();
    board.line(format!(
        "a certificate found by its name: {:.0} ns among {}, {:.0} among {}, {:.0} among {}",
        told(0),
        LOOKED_UP[0],
        told(1),
        LOOKED_UP[1],
        told(2),
        LOOKED_UP[2],
    ));
}

fn replaced(
    authority: &TestAuthority,
    sets: &[Vec<Credential>; 2],
    rounds: usize,
    table: &mut Table,
    board: &mut Board,
) {
    let first = authority.server(&["*.db.test"]);
    let few = resident_kib(gateway(&first, &[]).pid());
    let gateway = gateway(&first, &sets[0]);
    let bytes = (resident_kib(gateway.pid()) - few) * 1024.0 / MANY as f64;
    let end = End::door(&gateway, authority);
    let names = ["first.db.test", "e5000.many.test", LAST];
    let callers = names.map(|name| end.caller(name, Sessions::Fresh));
    let [.., last] = &callers;
    let folder = gateway.configuration();
    let folder = folder.parent().expect("a file is somewhere");
    let (mut quiet, mut stalled) = (Windows::default(), Windows::default());
    let (mut read, mut peak) = (Sample::default(), 0_f64);
    for round in 0..rounds {
        put_beside(folder, &sets[(round + 1) % 2]);
        let before = shown(last);
        let over = AtomicBool::new(false);
        let (taken, [began, swapped, done]) = std::thread::scope(|scope| {
            let clients = scope.spawn(|| load(&callers, || !over.load(Ordering::Relaxed)));
            let began = Instant::now();
            std::thread::sleep(ROUND);
            put_in_place(folder);
            let swapped = Instant::now();
            let is_new = wait::until(SWAP_LIMIT, || {
                std::thread::sleep(LOOK);
                peak = peak.max(resident_kib(gateway.pid()));
                (shown(last) != before).then_some(())
            });
            is_new.expect("they are put in use");
            read.push(swapped.elapsed().as_secs_f64());
            std::thread::sleep(AFTER);
            over.store(true, Ordering::Relaxed);
            let done = Instant::now();
            (
                clients.join().expect("clients that got in every time"),
                [began, swapped, done],
            )
        });
        let within = |from, to| {
            let within = taken
                .iter()
                .filter(move |it| (from..to).contains(&it.ended));
            within.map(|it| it.accept).collect::<Vec<f64>>()
        };
        quiet.push(within(began, began + ROUND), ROUND);
        stalled.push(within(swapped, done), done - swapped);
    }
    for (what, still, busy) in [
        ("ms until accepted, the longest", &quiet.most, &stalled.most),
        ("ms until accepted, p99", &quiet.p99, &stalled.p99),
        ("connections/s", &quiet.rate, &stalled.rate),
    ] {
        let ratio = busy.over(still);
        table.row(
            vec![
                format!("{what}, nothing replaced"),
                format!("{still:.2}"),
                "1".to_owned(),
            ],
            json!({"what": what, "quiet": still.json()}),
        );
        table.row(
            vec![
                format!("{what}, {MANY} certificates replaced"),
                format!("{busy:.2}"),
                format!("{:.2}", ratio.median()),
            ],
            json!({"what": what, "replaced": busy.json(), "to quiet": ratio.json()}),
        );
    }
    let after = resident_kib(gateway.pid());
    table.row(
        vec!["bytes of memory for each certificate".to_owned(), format!("{bytes:.0}"), "–".to_owned()],
        json!({"bytes each": bytes, "MiB of the process with one": few / 1024.0, "MiB after replacing": after / 1024.0, "MiB at most": peak / 1024.0}),
    );
    board.line(format!(
        "{MANY} certificates of a door replaced while {CLIENTS} clients connect and leave as fast as they can: from connecting until accepted {:.1} ms at the longest, {:.2} at p99; nothing replaced, {:.1} and {:.2} (medians of {rounds} rounds, lowest–highest); all are shown {:.1} s after their files are there, of which the files must be the same for 2 to 4",
        stalled.most, stalled.p99, quiet.most, quiet.p99, read.median(),
    ));
    board.line(format!(
        "a certificate of a door takes {bytes:.0} bytes of resident memory ({MANY} of them, {:.0} MiB of the process; {:.0} at the most while all are replaced, {:.0} afterwards; {:.0} with one)",
        few / 1024.0 + bytes * MANY as f64 / 1_048_576.0, peak / 1024.0, after / 1024.0, few / 1024.0,
    ));
}

/// What connections took in windows of several rounds.
#[derive(Default)]
struct Windows {
    most: Sample,
    p99: Sample,
    rate: Sample,
}

impl Windows {
    fn push(&mut self, mut accepts: Vec<f64>, length: Duration) {
        self.rate.push(accepts.len() as f64 / length.as_secs_f64());
        self.p99.push(quantile(&mut accepts, 0.99));
        self.most.push(quantile(&mut accepts, 1.0));
    }
}

/// One connection.
struct Took {
    ended: Instant,
    /// Milliseconds from connecting until somebody had accepted it and said so.
    accept: f64,
    resumed: bool,
}

/// Connections by all clients until it is enough, to each of these in turn. Each connection comes from another block of addresses: how fast
/// one block may come is not what is measured.
fn load(callers: &[Caller], goes_on: impl Fn() -> bool + Sync) -> Vec<Took> {
    let (callers, goes_on) = (&callers, &goes_on);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || {
                    let mut took = Vec::new();
                    while goes_on() {
                        let caller = callers[took.len() % callers.len()].clone();
                        let [.., block] = took.len().to_be_bytes();
                        let thread = u8::try_from(client).expect("few");
                        let from = Ipv4Addr::new(127, 100 + thread, block, 1);
                        let made = caller.from(IpAddr::V4(from)).connect();
                        let made = made.expect("an open door");
                        let steps = made.steps();
                        let accept =
                            steps[Step::Connected as usize] + steps[Step::Accepted as usize];
                        let resumed = made.resumed();
                        made.turn_back();
                        took.push(Took {
                            ended: Instant::now(),
                            accept,
                            resumed,
                        });
                    }
                    took
                })
            })
            .collect();
        let all = clients.into_iter();
        all.flat_map(|client| client.join().expect("an open door every time"))
            .collect()
    })
}

fn shown(caller: &Caller) -> Vec<u8> {
    let client = caller.connect().expect("an open door");
    let shown = client.shown();
    client.turn_back();
    shown
}

/// Where handshakes end.
struct End {
    address: SocketAddr,
    authorities: String,
    pid: u32,
    _service: Option<Service>,
}

impl End {
    fn door(gateway: &Gateway, authority: &TestAuthority) -> Self {
        Self {
            address: gateway.address(),
            authorities: format!("{}{}", authority.pem(), gateway.authority().pem()),
            pid: gateway.pid(),
            _service: None,
        }
    }

    fn bare(
        scratch: &Scratch,
        credential: &Credential,
        authority: &TestAuthority,
        resume: bool,
    ) -> Self {
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ports::free());
        let (chain, key) = credential.write(scratch, "bare");
        let mut command = Command::new(ourselves());
        command.arg("bare").arg("--listen").arg(address.to_string());
        command.arg("--chain").arg(chain).arg("--key").arg(key);
        if resume {
            command.arg("--resume");
        }
        let log = scratch.path().join("bare.log");
        let service = Service::start("the bare end", &command, &log, Signal::KILL);
        let up = wait::until(START_LIMIT, || {
            std::net::TcpStream::connect(address).is_ok().then_some(())
        });
        up.expect("the bare end listens");
        Self {
            address,
            authorities: authority.pem(),
            pid: service.pid(),
            _service: Some(service),
        }
    }

    fn caller(&self, name: &'static str, sessions: Sessions) -> Caller {
        let target = Target {
            address: self.address,
            name,
            authorities: self.authorities.clone(),
        };
        Caller::new(Way::Direct, target, sessions)
    }
}

/// A gateway with these certificates beside its own, and nobody's policy: a handshake comes before it.
fn gateway(first: &Credential, others: &[Credential]) -> Gateway {
    let builder = Gateway::builder().listener(Listener::public());
    let all = [first].into_iter().chain(others);
    all.fold(builder, |builder, credential| {
        builder.certificate(credential)
    })
    .names(&["own.test"])
    .start()
}

fn many(authority: &TestAuthority) -> Vec<Credential> {
    (0..MANY)
        .map(|number| authority.server(&[&name(number)]))
        .collect()
}

fn name(number: usize) -> String {
    match number + 1 {
        MANY => LAST.to_owned(),
        _ => format!("e{number}.many.test"),
    }
}

/// Certificates by the names of their files; the gateway's own and the first stay.
fn files(folder: &Path, number: usize) -> [(PathBuf, PathBuf); 2] {
    ["pem", "key"].map(|kind| {
        let name = format!("server-{}.{kind}", number + 2);
        (folder.join(format!("{name}.next")), folder.join(name))
    })
}

fn put_beside(folder: &Path, set: &[Credential]) {
    for (number, credential) in set.iter().enumerate() {
        let [(chain, _), (key, _)] = files(folder, number);
        std::fs::write(chain, &credential.chain_pem).expect("room");
        // Readable to nobody else, or the gateway does not take it.
        let mut file = OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o600);
        let mut file = file.open(key).expect("room");
        file.write_all(credential.key_pem.as_bytes()).expect("room");
    }
}

fn put_in_place(folder: &Path) {
    for (next, place) in (0..MANY).flat_map(|number| files(folder, number)) {
        rename(next, place).expect("it was put beside");
    }
}
