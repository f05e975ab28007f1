//! The bundle's files.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::populations::Population;
use super::sheet::Sheet;
use super::{ExportError, all};

/// The directory that the bundle is written into.
pub(super) struct Folder {
    path: PathBuf,
    /// The hash of each file, in hex; none while it is being written.
    files: BTreeMap<String, Option<String>>,
}

const SUMS: &str = "SHA256SUMS";

impl Folder {
    pub(super) fn make(path: &Path) -> Result<Self, ExportError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(ExportError::io(path))?;
        let mut there = fs::read_dir(path).map_err(ExportError::io(path))?;
        if there.next().is_some() {
            return Err(ExportError::NotEmpty(path.to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            files: BTreeMap::new(),
        })
    }

    pub(super) fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), ExportError> {
        let mut file = self.begin(name)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        written.map_err(ExportError::io(&self.path.join(name)))?;
        self.files
            .insert(name.to_owned(), Some(hex(&Sha256::digest(bytes))));
        Ok(())
    }

    /// A file that is written bit by bit.
    pub(super) fn begin(&mut self, name: &str) -> Result<File, ExportError> {
        let path = self.path.join(name);
        if let Some(folder) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(ExportError::io(folder))?;
        }
        self.files.insert(name.to_owned(), None);
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        options.open(&path).map_err(ExportError::io(&path))
    }

    /// Writes the sums of all files: the last thing that a whole bundle has.
    pub(super) fn seal(mut self) -> Result<(), ExportError> {
        let mut sums = String::new();
        for (name, hash) in &self.files {
            let path = self.path.join(name);
            let hash = match hash {
                Some(hash) => hash.clone(),
                None => hash_of(&path).map_err(ExportError::io(&path))?,
            };
            sums.push_str(&format!("{hash}  {name}\n"));
        }
        self.put(SUMS, sums.as_bytes())?;
        let folder = File::open(&self.path).and_then(|folder| folder.sync_all());
        folder.map_err(ExportError::io(&self.path))
    }
}

fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            file.sync_data()?;
            return Ok(hex(&hash.finalize()));
        }
        hash.update(buffer.get(..read).unwrap_or_default());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The populations, being written.
pub(super) struct Sheets(pub(super) Vec<(&'static Population, Sheet)>);

impl Sheets {
    pub(super) fn begin(folder: &mut Folder) -> Result<Self, ExportError> {
        let mut sheets = Vec::new();
        for population in all() {
            let name = population.name;
            let json = folder.begin(&format!("populations/{name}.json"))?;
            let csv = folder.begin(&format!("populations/{name}.csv"))?;
            let sheet = Sheet::begin(json, csv, population);
            sheets.push((population, sheet.map_err(ExportError::io(Path::new(name)))?));
        }
        Ok(Self(sheets))
    }

    /// What the manifest says of each.
    pub(super) fn end(self) -> Result<Vec<(&'static str, Value)>, ExportError> {
        let sheets = self.0.into_iter().map(|(population, sheet)| {
            let told = sheet.end();
            let told = told.map_err(ExportError::io(Path::new(population.name)))?;
            Ok((population.name, told))
        });
        sheets.collect()
    }
}
