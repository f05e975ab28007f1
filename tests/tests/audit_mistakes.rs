//! What `portcullis audit` says to a new operator who makes a usual mistake: where, what, and what to do.

use std::process::Command;
use std::time::Duration;

use portcullis_tests::gateway::binary;
use portcullis_tests::{Scratch, process};

#[test]
fn every_usual_mistake_is_told_with_what_to_do() {
    let scratch = Scratch::new("mistakes");
    scratch.write("empty.policy", "");
    std::fs::create_dir(scratch.path().join("logs")).unwrap();
    scratch.write("typed.policy", "log portcullis/7f3a\nquorum none\n");
    let trust = "`portcullis audit trust` prints it";
    let period = "2027-01-01T00:00:00Z";
    for (line, code, parts) in [
        ("verify logs --trust gone.policy", 1, ["gone.policy", trust]),
        (
            "verify logs --trust empty.policy",
            1,
            ["empty.policy: it has no line", trust],
        ),
        (
            "verify logs --trust typed.policy",
            1,
            ["line 1: a key is written NAME+NUMBER+KEY", trust],
        ),
        ("verify logs", 2, ["--trust <FILE>", "--help"]),
        (
            "check event.tlog-proof --trust gone.policy",
            1,
            ["gone.policy", trust],
        ),
        (
            "prove logs --log acme --index 1 --out p",
            1,
            ["logs: there is no log", "`fleet/checkpoint`"],
        ),
        (
            "trust --socket gone.sock",
            1,
            ["gone.sock", "is `portcullis serve` running?"],
        ),
        (
            "open --log acme --index 41 --socket gone.sock",
            1,
            ["gone.sock", "--socket"],
        ),
        (
            "export logs --trust t --from 2027-01-01 --to 2027-04-01 --out q1",
            2,
            ["is not a moment in UTC", period],
        ),
        (
            "search --kind policy.applied",
            2,
            ["--index-url <URL>|--config <FILE>", "--help"],
        ),
        (
            "search --config gone.toml",
            1,
            ["gone.toml", "cannot be opened"],
        ),
        (
            "search --index-url postgresql://tess@db.example/audit",
            1,
            ["db.example is not this machine", "--index-ca"],
        ),
    ] {
        let mut command = Command::new(binary());
        command.arg("audit").args(line.split(' '));
        command.current_dir(scratch.path());
        let told = process::run(&command, Duration::from_secs(60));
        assert_eq!(told.status.code(), Some(code), "{line}: {told}");
        for part in parts {
            assert!(told.to_string().contains(part), "{line}: {part}: {told}");
        }
    }
}
