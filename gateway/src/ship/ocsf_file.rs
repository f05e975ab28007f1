//! OCSF events in a file, a line each, which is rotated by size.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_audit::canonical;

use super::limits::{SHIP_FILE_BYTES, SHIP_FILES};
use super::ocsf::encode;
use super::{Failed, Item, Sink, Taken};

/// The file at this path; rotated ones beside it end in `.1` (the newest), `.2` and so on.
#[derive(Clone, Debug)]
pub struct OcsfFile {
    path: PathBuf,
    rotate_at: u64,
}

impl OcsfFile {
    /// Nothing is opened yet.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            rotate_at: SHIP_FILE_BYTES,
        }
    }

    fn write(&self, items: &[Item]) -> io::Result<()> {
        let mut text = Vec::new();
        for item in items {
            text.extend_from_slice(canonical::text(&encode(item)).as_bytes());
            text.push(b'\n');
        }
        let (mut file, length) = self.open()?;
        let written = file
            .write_all(&text)
            .and_then(|()| file.sync_data())
            .and_then(|()| match length {
                // It is new: its name has to last, too.
                0 => self.sync_folder(),
                _ => Ok(()),
            });
        if let Err(error) = written {
            // Readers expect whole lines; all of it is written again.
            drop(file.set_len(length));
            return Err(error);
        }
        Ok(())
    }

    /// Opened anew each time: whoever moved the file away meanwhile gets a new one.
    fn open(&self) -> io::Result<(File, u64)> {
        let mut file = open(&self.path)?;
        let length = whole_lines(&mut file)?;
        // Half a line of a process that was killed is written anew.
        file.set_len(length)?;
        if length < self.rotate_at {
            file.seek(SeekFrom::Start(length))?;
            return Ok((file, length));
        }
        for number in (1..SHIP_FILES).rev() {
            rename(
                &self.numbered(number),
                &self.numbered(number.saturating_add(1)),
            )?;
        }
        rename(&self.path, &self.numbered(1))?;
        Ok((open(&self.path)?, 0))
    }

    fn sync_folder(&self) -> io::Result<()> {
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        PathBuf::from(name)
    }
}

impl Sink for OcsfFile {
    const NAME: &'static str = "ocsf";

    async fn send(&mut self, items: Arc<[Item]>) -> Result<Taken, Failed> {
        let this = self.clone();
        let path = self.path.display().to_string();
        let written = tokio::task::spawn_blocking(move || this.write(&items));
        match written.await {
            Ok(Ok(())) => Ok(Taken::default()),
            Ok(Err(error)) => Err(Failed::new(format!("{path}: {error}"))),
            Err(error) => Err(Failed::new(error)),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true);
    options.truncate(false).mode(0o600).open(path)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

/// Where the last whole line ends: after a crash half a line may follow, which is sent again whole.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(4096);
        let length = usize::try_from(end - start).unwrap_or_default();
        let Some(part) = block.get_mut(..length) else {
            break;
        };
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + u64::try_from(at).unwrap_or_default() + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_audit::{Event, kinds};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_rotated_by_its_size_and_a_torn_line_is_written_anew() {
        let folder = std::env::temp_dir().join(format!("portcullis-ocsf-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        let mut sink = OcsfFile::new(folder.join("events.jsonl"));
        sink.rotate_at = 1;
        let item = |index| {
            let line = Event::new(0, kinds::NODE_STARTED, "n1").line();
            Item::entry("fleet", "here", index, line.as_bytes()).unwrap()
        };
        for index in 0..6 {
            sink.write(&[item(index)]).unwrap();
        }
        let indexes = |name: &str| {
            let text = fs::read_to_string(folder.join(name)).unwrap();
            let lines = text.lines().map(|line| {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                event["metadata"]["sequence"].as_u64().unwrap()
            });
            lines.collect::<Vec<_>>()
        };
        let kept = ["", ".1", ".2", ".3", ".4"].map(|end| indexes(&format!("events.jsonl{end}")));
        assert_eq!(kept, [[5], [4], [3], [2], [1]]);
        assert!(!folder.join("events.jsonl.5").exists());

        // Longer than what is read at once when looking for the last whole line.
        sink.rotate_at = SHIP_FILE_BYTES;
        let file = folder.join("events.jsonl");
        let mut torn = fs::read(&file).unwrap();
        torn.extend_from_slice(&vec![b'x'; 10_000]);
        fs::write(&file, torn).unwrap();
        sink.write(&[item(6)]).unwrap();
        assert_eq!(indexes("events.jsonl"), [5, 6]);
        // Also where the file is put aside.
        let mut torn = fs::read(&file).unwrap();
        torn.extend_from_slice(b"{\"half\":");
        fs::write(&file, torn).unwrap();
        sink.rotate_at = 1;
        sink.write(&[item(7)]).unwrap();
        assert_eq!(indexes("events.jsonl.1"), [5, 6]);
        // Whatever an entry says is one line, for every reader of lines.
        let acts = "a\u{85}b\u{2028}c\u{202e}d\u{1b}e";
        let line = Event::new(0, kinds::SHIP_STALLED, "n1")
            .with("why", acts)
            .line();
        sink.write(&[Item::entry("fleet", "here", 8, line.as_bytes()).unwrap()])
            .unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.is_ascii() && text.lines().count() == 1, "{text}");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(folder).unwrap();
    }
}
