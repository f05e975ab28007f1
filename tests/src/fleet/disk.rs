//! A small disk for one node, so that it can be filled (needs root).
//!
//! It is a tmpfs in a mount namespace that a process of ours keeps, and goes with it: nothing is
//! left mounted when a test is killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::process::Service;
use crate::scratch::Scratch;
use crate::wait;

/// A tmpfs over one directory, for the processes that are told of it.
#[derive(Debug)]
pub struct Disk {
    keeper: Service,
    over: PathBuf,
}

impl Disk {
    /// A tmpfs of so many MiB over this directory.
    #[must_use]
    pub fn new(scratch: &Scratch, over: &Path, mebibytes: u32) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--", "sh", "-c"]);
        command.arg(format!(
            "mount -t tmpfs -o size={mebibytes}m,mode=700 none \"$0\" && exec sleep 3600"
        ));
        command.arg(over);
        let log = scratch.path().join("disk.log");
        let disk = Self {
            keeper: Service::start("the disk's keeper", &command, &log, Signal::KILL),
            over: over.to_owned(),
        };
        // It is there once the keeper does nothing but sleep.
        let comm = Path::new("/proc")
            .join(disk.keeper.pid().to_string())
            .join("comm");
        wait::wait_for("the disk", Duration::from_secs(10), || {
            std::fs::read_to_string(&comm).is_ok_and(|name| name.trim() == "sleep")
        });
        disk
    }

    /// The directory, as the tests see it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.seen(&self.over)
    }

    /// Any absolute path as the processes on this disk see it, as the tests see that.
    #[must_use]
    pub fn seen(&self, path: &Path) -> PathBuf {
        let root = Path::new("/proc")
            .join(self.keeper.pid().to_string())
            .join("root");
        root.join(path.strip_prefix("/").expect("an absolute path"))
    }

    /// Fills it to the last byte; how many bytes that took.
    ///
    /// # Panics
    /// When it cannot be written at all.
    pub fn fill(&self) -> u64 {
        use std::io::Write;
        let mut file = std::fs::File::create(self.ballast()).expect("the disk can be written");
        let mut written = 0;
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0_u8; size];
            while let Ok(count) = file.write(&piece) {
                written += count as u64;
            }
        }
        written
    }

    /// Makes room again.
    pub fn make_room(&self) {
        let _ = std::fs::remove_file(self.ballast());
    }

    /// The same command, on this disk.
    pub(super) fn command(&self, command: &Command) -> Command {
        let mut moved = Command::new("nsenter");
        moved.arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.pid()));
        moved
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                moved.env(name, value);
            }
        }
        moved
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}
