//! Children that cannot outlive us.
//!
//! ```text
//!   dev ──stdin (the leash)──► sh ──► node, postgres      each child under a shell of its own
//!    │                         │ stderr
//!    └───────── write end ─────┴────► janitor             reads until nobody is left to write
//! ```
//!
//! When the leash's write end closes, because we drop it or because we were killed, the shell
//! interrupts its child and waits. The shells hold the janitor's pipe as long as their children
//! live, so the janitor comes last. The kernel's parent-death signal would not do: it is tied to
//! the thread that forked, lost when a process changes its user, and removes no directory.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdin, Command};
use tokio::time::timeout;

use super::home::write_private;
use super::installation::Account;
use super::janitor::Janitor;
use crate::runtime::clock::Duration;

/// A child on its leash. Dropping it lets go: the child is told to end, and nobody waits for it
/// but the janitor.
#[derive(Debug)]
pub(super) struct Child {
    name: String,
    pid: u32,
    log: PathBuf,
    shell: tokio::process::Child,
    leash: Option<ChildStdin>,
}

/// What to run.
#[derive(Debug)]
pub(super) struct Launch {
    /// Its name in messages.
    pub(super) name: String,
    /// The program, and its arguments: no secrets.
    pub(super) command: Vec<OsString>,
    /// Where both its outputs go; made anew, for its account alone.
    pub(super) log: PathBuf,
    /// Whom it runs as, if not as us.
    pub(super) account: Option<Account>,
}

impl Child {
    /// Starts it; it has its process id, and that is all that is known about it yet.
    pub(super) async fn start(launch: Launch, janitor: &Janitor) -> Result<Self, String> {
        let fail = |problem: String| format!("{} could not be started: {problem}", launch.name);
        write_private(&launch.log, "", launch.account)?;
        let after = janitor.after_us().map_err(&fail)?;
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(LEASH)
            .arg("leash")
            .arg(STOP_SECONDS.to_string())
            .arg(&launch.log)
            .args(&launch.command);
        shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(after);
        shell
            .current_dir("/")
            .env("LC_ALL", "C")
            .process_group(OWN_GROUP);
        if let Some(account) = launch.account {
            shell.uid(account.uid).gid(account.gid);
        }
        let mut shell = shell.spawn().map_err(|error| fail(error.to_string()))?;
        let leash = shell.stdin.take();
        let stdout = shell
            .stdout
            .take()
            .ok_or_else(|| fail("no pipe to its shell".to_owned()))?;
        let told = BufReader::new(stdout).lines().next_line().await;
        let pid = told.ok().flatten().and_then(|line| line.parse().ok());
        let pid = pid.ok_or_else(|| fail("its shell did not say its process id".to_owned()))?;
        Ok(Self {
            name: launch.name,
            pid,
            log: launch.log,
            shell,
            leash,
        })
    }

    /// Its process id: the program's own, not the shell's.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its log.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until it ends by itself, which it should not; what to say about that.
    pub(super) async fn ended(&mut self) -> String {
        match self.shell.wait().await {
            Ok(status) => self.told(&format!(
                "{} ended by itself ({})",
                self.name,
                in_words(status)
            )),
            Err(error) => format!("{} cannot be waited for: {error}", self.name),
        }
    }

    /// Waits until it has done its work.
    pub(super) async fn finished(mut self) -> Result<(), String> {
        match self.shell.wait().await {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(self.told(&format!("{} failed ({})", self.name, in_words(status)))),
            Err(error) => Err(format!("{} cannot be waited for: {error}", self.name)),
        }
    }

    /// Ends it: SIGINT, and after [`STOP_SECONDS`] SIGKILL.
    pub(super) async fn stop(mut self) {
        drop(self.leash.take());
        // The shell waits no longer than it says; if it were gone there is nothing to wait for.
        drop(timeout(STOP_LIMIT, self.shell.wait()).await);
    }

    /// `problem` with the last words of its log.
    pub(super) fn told(&self, problem: &str) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.len().saturating_sub(SHOWN_LINES);
        let shown = lines.get(last..).unwrap_or_default().join("\n");
        format!("{problem}; the last of its log:\n{shown}")
    }
}

/// Lines of a log that an error shows.
const SHOWN_LINES: usize = 20;

/// A process group of its own: Ctrl-C at the terminal is ours to pass on, in the right order.
pub(super) const OWN_GROUP: i32 = 0;

/// How long a child may take to end before it is killed; the shell counts.
const STOP_SECONDS: u64 = 15;
/// When we stop waiting for the shell.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(STOP_SECONDS + 5);

/// `sh -c … leash SECONDS LOG PROGRAM ARGUMENT…`. The loop is there because a shell starts what it
/// puts in the background with SIGINT ignored: one that comes before the program has its handler
/// is lost. The id is told by a subshell: if we are gone by then, writing kills it and not the
/// shell. The last kill is for what is left of our own group: the sleep of that loop.
const LEASH: &str = r#"
exec 3<&0
limit=$1 log=$2
shift 2
"$@" </dev/null >>"$log" 2>&1 3<&- &
child=$!
{
    read -r line
    tries=0
    while kill -s INT "$child"; do
        sleep 1
        tries=$((tries + 1))
        [ "$tries" -lt "$limit" ] || kill -s KILL "$child"
    done
} <&3 >/dev/null 2>&1 &
exec 3<&-
(echo "$child")
exec >/dev/null
wait "$child"
status=$?
trap '' TERM
kill -s TERM -- -$$
exit "$status"
"#;

/// Shells put a signal's number on top of this to say how their child ended.
const BY_SIGNAL: i32 = 128;

/// How a shell's child ended.
pub(super) fn in_words(status: ExitStatus) -> String {
    match status.code() {
        Some(code) if code > BY_SIGNAL => format!("signal {}", code - BY_SIGNAL),
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::home::make_private;
    use super::super::janitor::Leftovers;
    use super::*;

    #[tokio::test]
    async fn a_child_let_go_is_interrupted_and_the_directory_goes_after_it() {
        let (directory, janitor) = started("let-go", Leftovers::Remove);
        let child = Child::start(launch(&directory, PATIENT), &janitor)
            .await
            .unwrap();
        let process = PathBuf::from(format!("/proc/{}", child.pid()));
        assert!(process.exists());
        drop(child);
        janitor.finish().await.unwrap();
        assert!(!process.exists() && !directory.exists());
    }

    #[tokio::test]
    async fn what_a_child_said_is_told_when_it_ends_by_itself() {
        let (directory, janitor) = started("alone", Leftovers::Remove);
        let mut child = Child::start(launch(&directory, "echo last words >&2; exit 7"), &janitor)
            .await
            .unwrap();
        let told = child.ended().await;
        assert_eq!(
            told,
            "the child ended by itself (exit code 7); the last of its log:\nlast words"
        );
        janitor.finish().await.unwrap();
    }

    #[tokio::test]
    async fn a_directory_to_be_kept_is_kept() {
        let (directory, janitor) = started("kept", Leftovers::Keep);
        janitor.finish().await.unwrap();
        std::fs::remove_dir(directory).unwrap();
    }

    #[tokio::test]
    async fn a_child_is_let_go_even_before_it_said_its_id() {
        let (directory, janitor) = started("early", Leftovers::Remove);
        let start = Child::start(launch(&directory, PATIENT), &janitor);
        // Polled once: its shell is there and has said nothing yet.
        drop(timeout(Duration::ZERO, start).await);
        janitor.finish().await.unwrap();
        assert!(!directory.exists());
    }

    /// Ends when interrupted, as shells do not let what they start in the background do.
    const PATIENT: &str = "exec env --default-signal=INT sleep 600";

    fn started(name: &str, leftovers: Leftovers) -> (PathBuf, Janitor) {
        let directory =
            std::env::temp_dir().join(format!("portcullis-children-{}-{name}", std::process::id()));
        make_private(&directory, None).unwrap();
        let janitor = Janitor::start(&directory, leftovers).unwrap();
        (directory, janitor)
    }

    fn launch(directory: &Path, script: &str) -> Launch {
        let command = ["/bin/sh", "-c", script].map(Into::into).to_vec();
        Launch {
            name: "the child".to_owned(),
            command,
            log: directory.join("log"),
            account: None,
        }
    }
}
