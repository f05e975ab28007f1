//! What the ledger promises, tried on real files.

use std::fs;
use std::path::PathBuf;

use super::*;

const REFERENCE: u64 = 0x123_4567_89ab_cdef;

#[test]
fn what_is_recorded_is_found_by_its_reference_in_order() {
    let directory = directory("order");
    let ledger = Ledger::open(&directory, "gw1").unwrap();
    for number in 0..3 {
        ledger.record(event("connection.denied", Some(REFERENCE), number));
        ledger.record(event("connection.denied", Some(REFERENCE + 1), number));
    }
    ledger.flush_and_close();
    let found = ledger.find(&Reference::from_bits(REFERENCE)).unwrap();
    assert_eq!(numbers(&found), [0, 1, 2]);
}

#[test]
fn what_was_just_recorded_is_found_at_once() {
    let directory = directory("at-once");
    let ledger = Ledger::open(&directory, "gw1").unwrap();
    for bits in 1..200 {
        ledger.record(event("connection.denied", Some(bits), 0));
        let found = ledger.find(&Reference::from_bits(bits)).unwrap();
        assert_eq!(
            found.len(),
            1,
            "the reference that was told last is not found"
        );
    }
}

#[test]
fn files_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = directory("modes");
    Ledger::open(&directory, "gw1").unwrap().flush_and_close();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(directory.clone()), 0o700);
    assert_eq!(mode(directory.join("events.jsonl")), 0o600);
}

#[test]
fn a_second_process_cannot_open_the_same_ledger() {
    let directory = directory("lock");
    let first = Ledger::open(&directory, "gw1").unwrap();
    assert_eq!(
        Ledger::open(&directory, "gw1").unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    drop(first);
    Ledger::open(&directory, "gw1").unwrap();
}

#[tokio::test]
async fn a_durable_event_is_in_the_file_when_its_recorder_returns() {
    let directory = directory("durable");
    let ledger = Ledger::open(&directory, "gw1").unwrap();
    ledger
        .record_durable(event("policy.applied", Some(REFERENCE), 7))
        .await
        .unwrap();
    let text = fs::read_to_string(directory.join("events.jsonl")).unwrap();
    assert!(
        text.ends_with('\n') && text.contains("policy.applied"),
        "{text}"
    );
    ledger.flush_and_close();
    let late = ledger
        .record_durable(event("policy.applied", None, 8))
        .await;
    assert_eq!(late.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn what_finds_no_room_is_counted_exactly_by_kind() {
    let queue = Queue::new(Limits {
        queue_events: 3,
        ..Limits::ORDINARY
    });
    for number in 0..5 {
        queue.push(event("connection.denied", None, number));
    }
    queue.push(event("connection.opened", None, 5));
    let batch = queue.take(None);
    assert_eq!(batch.events.len(), 3);
    assert_eq!(
        batch.shed.into_iter().collect::<Vec<_>>(),
        [
            ("connection.denied".to_owned(), 2),
            ("connection.opened".to_owned(), 1)
        ]
    );
    queue.push(event("connection.denied", None, 6));
    let batch = queue.take(None);
    assert_eq!(
        (batch.events.len(), batch.shed.len()),
        (1, 0),
        "room again, and the count begins anew"
    );
}

#[test]
fn written_and_shed_events_add_up_to_what_was_recorded() {
    let directory = directory("shed");
    let ledger = Ledger::open_within(
        &directory,
        "gw1",
        Limits {
            queue_events: 4,
            ..Limits::ORDINARY
        },
    )
    .unwrap();
    for number in 0..5000 {
        ledger.record(event("connection.denied", None, number));
    }
    ledger.flush_and_close();
    let (mut written, mut shed) = (0, 0);
    for event in events(&directory) {
        match &*event.kind {
            "limit.shed" => {
                shed += event
                    .field("total")
                    .and_then(serde_json::Value::as_u64)
                    .unwrap()
            }
            _ => written += 1,
        }
    }
    assert_eq!(written + shed, 5000);
}

#[test]
fn more_kinds_than_are_counted_apart_are_counted_together() {
    let queue = Queue::new(Limits {
        queue_events: 0,
        ..Limits::ORDINARY
    });
    for number in 0..100 {
        let mut one = event("kind", None, number);
        one.kind = format!("kind.{number}").into();
        queue.push(one);
    }
    queue.close();
    let shed = queue.take(None).shed;
    assert_eq!(shed.len(), limits::MAX_SHED_KINDS + 1);
    assert_eq!(shed.values().sum::<u64>(), 100);
}

#[test]
fn a_torn_last_line_is_set_aside_and_the_next_line_is_whole() {
    let directory = directory("torn");
    let ledger = Ledger::open(&directory, "gw1").unwrap();
    ledger.record(event("connection.denied", Some(REFERENCE), 1));
    drop(ledger);
    let path = directory.join("events.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{whole}{{\"at_ms\":12,\"ki")).unwrap();

    let ledger = Ledger::open(&directory, "gw1").unwrap();
    ledger.record(event("connection.denied", Some(REFERENCE), 2));
    ledger.flush_and_close();
    assert_eq!(
        numbers(&ledger.find(&Reference::from_bits(REFERENCE)).unwrap()),
        [1, 2]
    );
    assert_eq!(
        fs::read_to_string(directory.join("torn.jsonl")).unwrap(),
        "{\"at_ms\":12,\"ki\n"
    );
    let kinds: Vec<String> = events(&directory)
        .into_iter()
        .map(|event| event.kind.into_owned())
        .collect();
    assert_eq!(
        kinds,
        ["connection.denied", "ledger.torn", "connection.denied"]
    );
}

#[test]
fn rotation_keeps_the_named_number_of_files_and_every_policy_change() {
    let directory = directory("rotate");
    let limits = Limits {
        file_bytes: 400,
        kept_files: 2,
        ..Limits::ORDINARY
    };
    let ledger = Ledger::open_within(&directory, "gw1", limits).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for number in 0..60 {
        let kind = if number % 10 == 0 {
            "policy.applied"
        } else {
            "connection.denied"
        };
        runtime
            .block_on(ledger.record_durable(event(kind, Some(REFERENCE), number)))
            .unwrap();
    }
    ledger.flush_and_close();
    let rotated = fs::read_dir(&directory).unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("events-")
    });
    assert_eq!(rotated.count(), 2);
    let found = ledger.find(&Reference::from_bits(REFERENCE)).unwrap();
    let changes: Vec<u64> = numbers(&found)
        .into_iter()
        .filter(|number| number % 10 == 0)
        .collect();
    assert_eq!(
        changes,
        [0, 10, 20, 30, 40, 50],
        "a flood pushes no policy change out"
    );
    assert!(found.len() < 60, "other events of removed files are gone");
}

#[test]
fn policy_changes_that_outgrow_their_file_are_still_found_in_the_older_one() {
    let directory = directory("changes");
    let limits = Limits {
        file_bytes: 1,
        kept_files: 0,
        changes_bytes: 1000,
        ..Limits::ORDINARY
    };
    let ledger = Ledger::open_within(&directory, "gw1", limits).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for number in 0..10 {
        runtime
            .block_on(ledger.record_durable(event("policy.applied", Some(REFERENCE), number)))
            .unwrap();
    }
    ledger.flush_and_close();
    assert!(directory.join("changes-older.jsonl").exists());
    let found = numbers(&ledger.find(&Reference::from_bits(REFERENCE)).unwrap());
    assert_eq!(found, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_search_returns_the_newest_and_no_more_than_its_limit() {
    let directory = directory("found");
    let ledger = Ledger::open(&directory, "gw1").unwrap();
    let all = u64::try_from(limits::MAX_FOUND + 5).unwrap();
    for number in 0..all {
        ledger.record(event("connection.denied", Some(REFERENCE), number));
    }
    ledger.flush_and_close();
    let found = numbers(&ledger.find(&Reference::from_bits(REFERENCE)).unwrap());
    assert_eq!(
        (found.len(), found.first(), found.last()),
        (limits::MAX_FOUND, Some(&5), Some(&(all - 1)))
    );
}

#[test]
fn a_foreign_or_endless_line_does_not_hide_what_follows() {
    let directory = directory("foreign");
    let ledger = Ledger::open(&directory, "gw1").unwrap();
    ledger.record(event("connection.denied", Some(REFERENCE), 1));
    drop(ledger);
    let path = directory.join("events.jsonl");
    let whole = fs::read_to_string(&path).unwrap();
    let endless = "x".repeat(3 * limits::MAX_LINE + 17);
    fs::write(
        &path,
        format!(
            "not json {}\n{endless}\n{whole}",
            Reference::from_bits(REFERENCE)
        ),
    )
    .unwrap();
    let ledger = Ledger::open(&directory, "gw1").unwrap();
    assert_eq!(
        numbers(&ledger.find(&Reference::from_bits(REFERENCE)).unwrap()),
        [1]
    );
}

fn directory(name: &str) -> PathBuf {
    let directory =
        std::env::temp_dir().join(format!("portcullis-ledger-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    directory
}

fn event(kind: &'static str, reference: Option<u64>, number: u64) -> Event {
    let mut event = Event::new(1_800_000_000_000, kind, "gw1").with("number", number);
    event.reference = reference.map(|bits| Reference::from_bits(bits).to_string());
    event
}

fn numbers(events: &[Event]) -> Vec<u64> {
    events
        .iter()
        .filter_map(|event| event.field("number")?.as_u64())
        .collect()
}

fn events(directory: &std::path::Path) -> Vec<Event> {
    let text = fs::read_to_string(directory.join("events.jsonl")).unwrap();
    text.lines()
        .map(|line| Event::parse(line).unwrap())
        .collect()
}
