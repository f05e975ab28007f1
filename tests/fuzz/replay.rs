//! Committed corpora, replayed with the ordinary toolchain by the tests of the packages that own the fuzz targets.
//!
//! Seeds are made by those tests, each with a name that says what it is; `UPDATE_CORPUS=1` writes them to `corpus/`.
//! A finding of `make fuzz` is committed the same way: as a seed with a name, along with its mend.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Inputs by name.
pub(crate) type Seeds = Vec<(&'static str, Vec<u8>)>;

/// A fuzz target: the name of its corpus, its body, and what it begins with.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) target: fn(&[u8]),
    pub(crate) seeds: Seeds,
}

/// Every committed input passes; every seed is committed as it is made.
pub(crate) fn replay(cases: &[Case]) {
    for case in cases {
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            write(case);
        }
        let committed = committed(case.name);
        for (name, seed) in &case.seeds {
            assert!(
                committed.get(*name) == Some(seed),
                "{}/{name} is not committed as it is made: UPDATE_CORPUS=1 writes it",
                case.name
            );
        }
        assert!(
            (1..=MAX_FILES).contains(&committed.len()),
            "{}: {} files",
            case.name,
            committed.len()
        );
        for (name, input) in &committed {
            assert!(input.len() <= MAX_BYTES, "{}/{name} is large", case.name);
            (case.target)(input);
        }
    }
}

/// Every seed passes wherever it ends.
pub(crate) fn replay_cut(cases: &[Case]) {
    for case in cases {
        for (_, seed) in &case.seeds {
            let step = seed.len().div_ceil(MAX_CUTS).max(1);
            for length in (0..seed.len()).step_by(step) {
                (case.target)(&seed[..length]);
            }
        }
    }
}

fn write(case: &Case) {
    let folder = corpus(case.name);
    fs::create_dir_all(&folder).unwrap();
    for (name, seed) in &case.seeds {
        fs::write(folder.join(name), seed).unwrap();
    }
}

fn committed(name: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(corpus(name)).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, fs::read(entry.path()).unwrap())
    });
    entries.collect()
}

fn corpus(name: &str) -> PathBuf {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("tests/fuzz"))
        .find(|folder| folder.join("corpus").is_dir());
    fuzz.unwrap().join("corpus").join(name)
}

/// A corpus is read by people: what explores more lives in target/fuzz.
const MAX_FILES: usize = 60;
const MAX_BYTES: usize = 20 * 1024;
/// A long seed is cut at about this many places.
const MAX_CUTS: usize = 400;
