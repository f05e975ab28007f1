//! psql, as we run it ourselves: quiet, and deaf to whoever's settings.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::runtime::clock::Duration;

/// psql that reads nobody's settings.
pub(super) fn psql(program: &Path) -> Command {
    let mut psql = Command::new(program);
    psql.args([
        "--no-psqlrc",
        "--quiet",
        "--tuples-only",
        "--no-align",
        "--no-password",
    ]);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PG") {
            psql.env_remove(name);
        }
    }
    // libpq also looks for certificates and revocation lists below the home directory.
    psql.env("HOME", "/nonexistent");
    psql.env("LC_ALL", "C").current_dir("/").kill_on_drop(true);
    psql
}

/// Runs a command with this on its standard input; what it printed, or what it complained of.
pub(super) async fn run(mut command: Command, input: &str) -> Result<String, String> {
    let work = async {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input.as_bytes()).await {
                // It stopped reading early: its own words say why.
                Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        child.wait_with_output().await
    };
    let output = timeout(RUN_LIMIT, work)
        .await
        .map_err(|_| format!("no end after {} s", RUN_LIMIT.as_secs()))?;
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// How long psql may take.
const RUN_LIMIT: Duration = Duration::from_secs(30);
