//! Who cleans up: a shell that reads a pipe which we and all children's shells hold, and removes
//! the directory when nobody is left to hold it, in whatever way we ended.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::children::{OWN_GROUP, STOP_LIMIT, in_words};

/// What becomes of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// It stays.
    Keep,
    /// It goes.
    Remove,
}

/// The last of the children: waits for the end of all others, then removes the directory.
#[derive(Debug)]
pub(super) struct Janitor {
    shell: tokio::process::Child,
    pipe: std::io::PipeWriter,
}

impl Janitor {
    /// Starts it. `directory` is removed with everything in it, however we end.
    pub(super) fn start(directory: &Path, leftovers: Leftovers) -> Result<Self, String> {
        let fail = |error: std::io::Error| format!("the clean-up could not be prepared: {error}");
        let (reader, pipe) = std::io::pipe().map_err(fail)?;
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(JANITOR).arg("janitor");
        if leftovers == Leftovers::Remove {
            shell.arg(directory);
        }
        shell
            .stdin(reader)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        shell.current_dir("/").process_group(OWN_GROUP);
        let shell = shell.spawn().map_err(fail)?;
        Ok(Self { shell, pipe })
    }

    /// Waits until all children have ended and the directory is gone.
    pub(super) async fn finish(self) -> Result<(), String> {
        let Self { mut shell, pipe } = self;
        drop(pipe);
        match timeout(STOP_LIMIT, shell.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!(
                "the directory could not be removed ({})",
                in_words(status)
            )),
            Ok(Err(error)) => Err(format!("the clean-up cannot be waited for: {error}")),
            Err(_) => {
                Err("not everything ended in time; the directory goes when it does".to_owned())
            }
        }
    }

    /// An end of its pipe for a child's shell: the janitor waits as long as it is held.
    pub(super) fn after_us(&self) -> Result<std::io::PipeWriter, String> {
        self.pipe.try_clone().map_err(|error| error.to_string())
    }
}

const JANITOR: &str = r#"
trap '' HUP INT TERM
cat >/dev/null
[ -z "$1" ] || rm -rf -- "$1"
"#;
