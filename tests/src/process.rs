//! Children that cannot outlive the tests.
//!
//! A child is started by one thread that lives as long as the process, with the parent-death
//! signal set by setpriv(1): the kernel sends that signal when the *thread* that forked the child
//! ends, so a test's own thread must never be the one.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to stop once it was told to.
const FREEZE_LIMIT: Duration = Duration::from_secs(10);

/// How a command ended and what it said.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How it ended; killed by a signal when its time was up.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// The standard output, trimmed, of a command that must have succeeded.
    ///
    /// # Panics
    /// When it did not, with everything it said.
    #[must_use]
    pub fn ok(&self) -> &str {
        assert!(self.status.success(), "{self}");
        self.stdout.trim()
    }

    /// The standard error, trimmed, of a command that must have failed.
    ///
    /// # Panics
    /// When it succeeded.
    #[must_use]
    pub fn refused(&self) -> &str {
        assert!(!self.status.success(), "should have been refused: {self}");
        self.stderr.trim()
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.status, self.stdout, self.stderr
        )
    }
}

/// Runs a command to its end, without standard input; kills it once `limit` has passed.
///
/// # Panics
/// When the program is not there.
#[must_use]
pub fn run(command: &Command, limit: Duration) -> Finished {
    finished(piped(command, Stdio::null()), limit)
}

/// The same with these bytes as standard input, which then stays open: some programs leave at its end.
///
/// # Panics
/// As [`run`].
#[must_use]
pub fn run_with(command: &Command, input: &[u8], limit: Duration) -> Finished {
    let mut child = piped(command, Stdio::piped());
    let mut open = child.stdin.take().expect("piped");
    // Who has left already hears nothing: its end says why.
    let _ = open.write_all(input).and_then(|()| open.flush());
    finished(child, limit)
}

fn piped(command: &Command, input: Stdio) -> Child {
    let mut bound = bound_to_us(command, Signal::KILL);
    bound
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    spawn(bound)
}

fn finished(mut child: Child, limit: Duration) -> Finished {
    let stdout = reader(child.stdout.take().expect("piped"));
    let stderr = reader(child.stderr.take().expect("piped"));
    let status = ended_within(&mut child, limit).unwrap_or_else(|| {
        let _ = child.kill();
        child.wait().expect("our own child")
    });
    let text = |thread: std::thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&thread.join().expect("reads only")).into_owned()
    };
    Finished {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

/// A server process with its output in a file. Dropping it stops it.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    log: PathBuf,
    stop: Signal,
}

/// How long a server may take to stop before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(10);

impl Service {
    /// Starts `command` with both outputs appended to the file `log`. `stop` ends it, and is also
    /// what it gets if this process dies.
    ///
    /// # Panics
    /// When the program or the file's folder is not there.
    #[must_use]
    pub fn start(name: &str, command: &Command, log: &Path, stop: Signal) -> Self {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log can be opened");
        let mut bound = bound_to_us(command, stop);
        bound
            .stdin(Stdio::null())
            .stderr(output.try_clone().expect("a file can be shared"))
            .stdout(output);
        Self {
            name: name.to_owned(),
            child: spawn(bound),
            log: log.to_owned(),
            stop,
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        let _ = kill_process(pid, signal);
    }

    /// Stops all of it (SIGSTOP), and returns once none of its threads runs any more: the signal
    /// alone only asks for that.
    ///
    /// # Panics
    /// When one goes on running.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        let asked = Instant::now();
        while !all_stopped(Path::new(&tasks)) {
            assert!(asked.elapsed() < FREEZE_LIMIT, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Stops it and waits for its end.
    ///
    /// # Errors
    /// When it had to be killed after all.
    pub fn stop(&mut self) -> Result<ExitStatus, String> {
        self.stop_by(self.stop)
    }

    /// Stops it by another signal than its own.
    ///
    /// # Errors
    /// As [`Service::stop`].
    pub fn stop_by(&mut self, signal: Signal) -> Result<ExitStatus, String> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        self.signal(Signal::CONT);
        self.signal(signal);
        ended_within(&mut self.child, STOP_LIMIT).ok_or_else(|| {
            self.kill();
            format!(
                "{} did not stop within {STOP_LIMIT:?} and was killed",
                self.name
            )
        })
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How much of a server's log a failed test shows.
const SHOWN_LINES: usize = 60;

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!(
                "--- the last of {}'s log\n{}\n---",
                self.name,
                shown.join("\n")
            );
        }
        if let Err(told) = self.stop() {
            eprintln!("{told}");
        }
    }
}

/// The same command under setpriv, so that it gets `signal` when this process dies.
fn bound_to_us(command: &Command, signal: Signal) -> Command {
    let mut bound = Command::new("setpriv");
    // A change of user clears the signal, so a setpriv that makes one must set both.
    let is_setpriv = command.get_program() == "setpriv";
    if !is_setpriv || command.get_args().all(|argument| argument != "--pdeathsig") {
        bound.arg("--pdeathsig").arg(name(signal));
    }
    if !is_setpriv {
        bound.arg("--").arg(command.get_program());
    }
    bound.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        bound.current_dir(folder);
    }
    bound
}

/// setpriv knows signals by name only.
fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::INT => "INT",
        Signal::KILL => "KILL",
        Signal::QUIT => "QUIT",
        Signal::TERM => "TERM",
        other => panic!("no name for {other:?} here"),
    }
}

type Order = (Command, Sender<std::io::Result<Child>>);

fn spawn(command: Command) -> Child {
    static NURSERY: OnceLock<Sender<Order>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (orders, receiver) = channel::<Order>();
        std::thread::Builder::new()
            .name("nursery".to_owned())
            .spawn(move || {
                for (mut command, answer) in receiver {
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a thread can be started");
        orders
    });
    let told = format!("{command:?}");
    let (answer, child) = channel();
    nursery
        .send((command, answer))
        .expect("the nursery never ends");
    child
        .recv()
        .expect("the nursery answers")
        .unwrap_or_else(|e| panic!("cannot start {told}: {e}"))
}

fn ended_within(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait().expect("our own child") {
            Some(status) => return Some(status),
            None if Instant::now() >= deadline => return None,
            None => std::thread::sleep(Duration::from_millis(3)),
        }
    }
}

fn reader(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = pipe.read_to_end(&mut all);
        all
    })
}

/// Whether the kernel has stopped every one of a process's threads (proc_pid_stat(5), state `T`).
fn all_stopped(tasks: &Path) -> bool {
    let Ok(mut tasks) = std::fs::read_dir(tasks) else {
        return true;
    };
    tasks.all(|task| {
        let stat = task.and_then(|task| std::fs::read_to_string(task.path().join("stat")));
        // After the command's name, which is in parentheses and may hold some itself. A thread
        // that is gone runs no more.
        stat.map_or(true, |stat| {
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
            matches!(state, Some(b'T' | b'Z' | b'X'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_command_is_heard_on_both_outputs() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $GREETING; echo no >&2; exit 3"])
            .env("GREETING", "yes");
        let finished = run(&command, Duration::from_secs(10));
        assert_eq!(
            (
                finished.status.code(),
                finished.stdout.as_str(),
                finished.stderr.as_str()
            ),
            (Some(3), "yes\n", "no\n")
        );
    }

    #[test]
    fn a_command_hears_what_it_is_told_and_no_end_of_it() {
        let mut command = Command::new("sh");
        command.args(["-c", "read word; echo $word; timeout 1 cat; echo $?"]);
        let finished = run_with(&command, b"word\n", Duration::from_secs(20));
        // 124: it waited for more until its time was up.
        assert_eq!(finished.ok(), "word\n124");
    }

    #[test]
    fn a_command_that_hangs_is_killed_at_its_limit() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let start = Instant::now();
        assert!(!run(&command, Duration::from_millis(50)).status.success());
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_service_outlives_the_thread_that_started_it_and_ends_when_dropped() {
        let scratch = Scratch::new("service");
        let log = scratch.path().join("log");
        let mut sleep = Command::new("sh");
        sleep.args(["-c", "echo here; exec sleep 60"]);
        let mut service =
            std::thread::spawn(move || Service::start("sleep", &sleep, &log, Signal::TERM))
                .join()
                .unwrap();
        crate::wait::wait_for("its word", Duration::from_secs(5), || {
            service.log() == "here\n"
        });
        assert_eq!(service.ended(), None);
        let process = Path::new("/proc").join(service.pid().to_string());
        assert!(process.exists());
        drop(service);
        assert!(!process.exists());
    }
    #[test]
    fn a_frozen_service_does_nothing_until_it_is_thawed() {
        let scratch = Scratch::new("frozen");
        let mut counting = Command::new("sh");
        counting.args(["-c", "while :; do echo .; done"]);
        let service = Service::start(
            "counting",
            &counting,
            &scratch.path().join("log"),
            Signal::KILL,
        );
        for _ in 0..20 {
            service.freeze();
            let said = service.log().len();
            std::thread::sleep(Duration::from_millis(5));
            assert_eq!(service.log().len(), said);
            service.thaw();
            crate::wait::wait_for("more", Duration::from_secs(10), || {
                service.log().len() > said
            });
        }
    }
}
