//! What opens the commitments of the audit logs (`portcullis_audit::personal`), kept beside them and in no tree: these files can be let go of.
//!
//! `LOG/001.jsonl` has the openings of the entries 256 to 511, one a line, in the order of index and field; the groups of digits are those
//! of the log's own bundles.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use portcullis_audit::personal::Opening;
use portcullis_audit::tlog::{Level, TILE_WIDTH, Tile};

use super::limits::{OPENINGS_BYTES, OPENINGS_WAITING};
use super::tiles::{LogId, numbered, read};

/// The openings of all logs of a node.
#[derive(Debug)]
pub struct Openings {
    directory: PathBuf,
    held: Mutex<Held>,
}

/// By the entry's index and the field.
type Bundle = BTreeMap<(u64, String), Opening>;

#[derive(Debug, Default)]
struct Held {
    /// What is in no file yet, by the log and the bundle's number.
    waiting: BTreeMap<(LogId, u64), Bundle>,
    count: usize,
    /// Something was written since the last sync.
    unsynced: bool,
}

impl Openings {
    /// Opens (or makes) the directory, 0700.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn open(directory: &Path) -> io::Result<Self> {
        make_folder(directory)?;
        remove_halves(directory)?;
        Ok(Self {
            directory: directory.to_owned(),
            held: Mutex::default(),
        })
    }

    /// Takes openings of a log's entries. Those that are there already are what they are.
    ///
    /// # Errors
    /// The disk's, where many wait already; nothing is lost then.
    pub fn add(&self, log: &LogId, openings: Vec<Opening>) -> io::Result<()> {
        let held = &mut *self.held.lock();
        for opening in openings {
            let bundle = (log.clone(), opening.index / u64::from(TILE_WIDTH));
            let bundle = held.waiting.entry(bundle).or_default();
            let place = (opening.index, opening.field.clone());
            if bundle.insert(place, opening).is_none() {
                held.count = held.count.saturating_add(1);
            }
        }
        match held.count >= OPENINGS_WAITING {
            true => self.write_all(held),
            false => Ok(()),
        }
    }

    /// Writes what waits of one log, so that readers of the files see it.
    ///
    /// # Errors
    /// The disk's; nothing is lost then.
    pub fn write(&self, log: &LogId) -> io::Result<()> {
        let held = &mut *self.held.lock();
        let bundles = held.waiting.keys().filter(|(of, _)| of == log);
        let bundles: Vec<(LogId, u64)> = bundles.cloned().collect();
        bundles
            .into_iter()
            .try_for_each(|bundle| self.write_one(held, &bundle))
    }

    /// Makes everything that was taken so far durable.
    ///
    /// # Errors
    /// The disk's; it may be called again.
    pub fn durable(&self) -> io::Result<()> {
        let held = &mut *self.held.lock();
        self.write_all(held)?;
        if held.unsynced {
            let directory = File::open(&self.directory)?;
            rustix::fs::syncfs(directory)?;
            held.unsynced = false;
        }
        Ok(())
    }

    /// The openings of the entries of one bundle, in the order of index and field.
    ///
    /// # Errors
    /// The disk's.
    pub fn of(&self, log: &LogId, bundle: u64) -> io::Result<Vec<Opening>> {
        let held = self.held.lock();
        let mut all = self.kept(log, bundle)?;
        let waiting = held.waiting.get(&(log.clone(), bundle));
        all.extend(
            waiting
                .into_iter()
                .flatten()
                .map(|(at, it)| (at.clone(), it.clone())),
        );
        Ok(all.into_values().collect())
    }

    /// Lets go of the openings of one bundle that are not to be kept, durably. How many. Lines that open nothing go with the last that does:
    /// names can be read in them all the same.
    ///
    /// # Errors
    /// The disk's; it may be called again.
    pub fn erase(
        &self,
        log: &LogId,
        bundle: u64,
        keep: impl Fn(&Opening) -> bool,
    ) -> io::Result<usize> {
        let held = &mut *self.held.lock();
        self.write_one(held, &(log.clone(), bundle))?;
        let mut kept = self.kept(log, bundle)?;
        let before = kept.len();
        kept.retain(|_, opening| keep(opening));
        let erased = before.saturating_sub(kept.len());
        let path = self.path(log, bundle);
        let gone = match kept.is_empty() {
            true => remove(&beside(&path))? | remove(&path)?,
            false if erased > 0 => put(&path, &kept).map(|()| true)?,
            false => false,
        };
        if gone {
            sync_folder(&path)?;
        }
        Ok(erased)
    }

    /// The numbers of the bundles of which a log has openings in files.
    ///
    /// # Errors
    /// The disk's.
    pub fn bundles(&self, log: &LogId) -> io::Result<Vec<u64>> {
        numbered(&self.directory.join(log.to_string()), ".jsonl")
    }

    fn write_all(&self, held: &mut Held) -> io::Result<()> {
        let bundles: Vec<(LogId, u64)> = held.waiting.keys().cloned().collect();
        bundles
            .into_iter()
            .try_for_each(|bundle| self.write_one(held, &bundle))
    }

    fn write_one(&self, held: &mut Held, bundle: &(LogId, u64)) -> io::Result<()> {
        let Some(waiting) = held.waiting.get(bundle) else {
            return Ok(());
        };
        let (log, number) = bundle;
        let mut all = self.kept(log, *number)?;
        all.extend(waiting.iter().map(|(at, it)| (at.clone(), it.clone())));
        put(&self.path(log, *number), &all)?;
        held.count = held.count.saturating_sub(waiting.len());
        held.waiting.remove(bundle);
        held.unsynced = true;
        Ok(())
    }

    fn kept(&self, log: &LogId, bundle: u64) -> io::Result<Bundle> {
        let bytes = read(&self.path(log, bundle), OPENINGS_BYTES)?.unwrap_or_default();
        Ok(parse(&bytes, bundle))
    }

    fn path(&self, log: &LogId, bundle: u64) -> PathBuf {
        self.directory.join(log.to_string()).join(file_of(bundle))
    }
}

/// The file of a bundle's openings, from its log's folder on.
#[must_use]
pub fn file_of(bundle: u64) -> String {
    let tile = Tile {
        level: Level::Entries,
        index: bundle,
        width: TILE_WIDTH,
    };
    let path = tile.path();
    let groups = path.strip_prefix("tile/entries/").unwrap_or(&path);
    format!("{groups}.jsonl")
}

/// The openings in the bytes of such a file. A line that is none opens nothing.
#[must_use]
pub fn parse(bytes: &[u8], bundle: u64) -> BTreeMap<(u64, String), Opening> {
    let text = String::from_utf8_lossy(bytes);
    let openings = text.lines().filter_map(Opening::parse);
    let openings = openings.filter(|it| it.index / u64::from(TILE_WIDTH) == bundle);
    openings
        .map(|it| ((it.index, it.field.clone()), it))
        .collect()
}

fn put(path: &Path, bundle: &Bundle) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    let lines = bundle.values().map(|opening| opening.line() + "\n");
    let text: String = lines.collect();
    let beside = beside(path);
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&beside)?;
    file.write_all(text.as_bytes())?;
    // A crash must find the one or the other, whole.
    file.sync_data()?;
    fs::rename(&beside, path)
}

/// Where a file is written before it takes its place.
fn beside(path: &Path) -> PathBuf {
    path.with_extension(HALF)
}

const HALF: &str = "new";

/// Whether it was there.
fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes what was being written when a process ended: nothing else would ever let go of it.
fn remove_halves(directory: &Path) -> io::Result<()> {
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == HALF) {
                fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_audit::personal::Salt;
    use serde_json::json;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory that is removed again.
    struct Home(PathBuf);

    impl Home {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("portcullis-openings-{}-{number}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&directory);
            Self(directory)
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn opening(index: u64, field: &str) -> Opening {
        Opening {
            index,
            field: field.to_owned(),
            at_ms: i64::try_from(index).unwrap() * 1_000,
            salt: Salt([1; 16]),
            value: json!(format!("{field} of {index}")),
        }
    }

    #[test]
    fn openings_are_found_before_and_after_they_are_written_and_once_each() {
        let home = Home::new();
        let log = LogId::Tenant("acme".parse().unwrap());
        let openings = Openings::open(&home.0).unwrap();
        let far = 1_234_u64 * 256 + 3;
        for _ in 0..2 {
            for index in [300, 5, far] {
                openings
                    .add(&log, vec![opening(index, "by"), opening(index, "address")])
                    .unwrap();
            }
            let found = openings.of(&log, 0).unwrap();
            assert_eq!(found, [opening(5, "address"), opening(5, "by")]);
            openings.write(&log).unwrap();
        }
        openings.durable().unwrap();
        drop(openings);
        let openings = Openings::open(&home.0).unwrap();
        assert_eq!(openings.bundles(&log).unwrap(), [0, 1, 1_234]);
        assert!(home.0.join("tenants/acme/x001/234.jsonl").is_file());
        assert_eq!(openings.of(&log, 1_234).unwrap().len(), 2);
        assert_eq!(openings.of(&LogId::Fleet, 0).unwrap(), []);
    }

    #[test]
    fn what_is_erased_is_in_no_file_and_the_rest_is() {
        let home = Home::new();
        let openings = Openings::open(&home.0).unwrap();
        let log = LogId::Fleet;
        for index in 0..10 {
            openings.add(&log, vec![opening(index, "by")]).unwrap();
        }
        let erased = openings.erase(&log, 0, |it| it.at_ms >= 7_000).unwrap();
        assert_eq!(erased, 7);
        let text = fs::read_to_string(home.0.join("fleet/000.jsonl")).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(!text.contains("by of 6") && text.contains("by of 7"));
        assert_eq!(openings.erase(&log, 0, |_| false).unwrap(), 3);
        assert_eq!(openings.bundles(&log).unwrap(), [0_u64; 0]);
        assert_eq!(openings.erase(&log, 0, |_| false).unwrap(), 0);
    }

    #[test]
    fn a_half_written_file_and_lines_that_open_nothing_go_too() {
        let home = Home::new();
        let openings = Openings::open(&home.0).unwrap();
        let log = LogId::Tenant("acme".parse().unwrap());
        openings.add(&log, vec![opening(1, "by")]).unwrap();
        openings.durable().unwrap();
        let path = home.0.join("tenants/acme/000.jsonl");
        let half = path.with_extension("new");
        fs::write(&half, "{\"value\":\"somebody").unwrap();
        drop(openings);
        let openings = Openings::open(&home.0).unwrap();
        assert!(!half.exists() && path.exists());
        fs::write(&path, "{\"value\":\"somebody else").unwrap();
        fs::write(&half, "").unwrap();
        assert_eq!(openings.bundles(&log).unwrap(), [0]);
        assert_eq!(openings.erase(&log, 0, |_| true).unwrap(), 0);
        assert!(!half.exists() && !path.exists());
        assert_eq!(openings.bundles(&log).unwrap(), [0_u64; 0]);
    }

    #[test]
    fn a_damaged_line_opens_nothing_and_the_others_do() {
        let home = Home::new();
        let openings = Openings::open(&home.0).unwrap();
        for index in 0..3 {
            openings
                .add(&LogId::Fleet, vec![opening(index, "by")])
                .unwrap();
        }
        openings.durable().unwrap();
        let path = home.0.join("fleet/000.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("\"index\":1", "\"index\":x", 1)).unwrap();
        let left: Vec<u64> = openings
            .of(&LogId::Fleet, 0)
            .unwrap()
            .iter()
            .map(|it| it.index)
            .collect();
        assert_eq!(left, [0, 2]);
    }

    #[test]
    fn a_disk_that_takes_nothing_loses_nothing() {
        let home = Home::new();
        let openings = Openings::open(&home.0).unwrap();
        openings.add(&LogId::Fleet, vec![opening(1, "by")]).unwrap();
        // A file where the folder should be.
        fs::write(home.0.join("fleet"), "").unwrap();
        openings.durable().unwrap_err();
        fs::remove_file(home.0.join("fleet")).unwrap();
        openings.durable().unwrap();
        assert_eq!(openings.of(&LogId::Fleet, 0).unwrap().len(), 1);
    }
}
