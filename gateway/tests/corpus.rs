//! Replays the committed corpora of the fuzz targets that need more than one package: ClientHellos and files.
//! `UPDATE_CORPUS=1 cargo test -p portcullis --test corpus` writes their seeds anew.

#[cfg(test)]
#[path = "fuzzing/client_hello.rs"]
mod client_hello;
#[cfg(test)]
#[path = "fuzzing/file_seeds.rs"]
mod file_seeds;
#[cfg(test)]
#[path = "fuzzing/files.rs"]
mod files;
#[cfg(test)]
#[path = "fuzzing/hello_seeds.rs"]
mod hello_seeds;
#[cfg(test)]
#[path = "../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
use portcullis::config;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::replay::{Case, replay, replay_cut};
    use crate::{client_hello, file_seeds, files, hello_seeds};

    #[test]
    fn every_committed_input_passes_its_target() {
        replay(&cases());
    }

    #[test]
    fn every_seed_cut_anywhere_passes_its_target() {
        replay_cut(&cases());
    }

    #[test]
    fn every_policy_file_of_the_other_tests_passes_its_target() {
        let mut count = 0;
        for folder in ["policy-good", "policy-bad"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("testdata")
                .join(folder);
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|it| it == "yaml") {
                    files::policy_files(&fs::read(&path).unwrap());
                    count += 1;
                }
            }
        }
        assert!(count > 60, "{count} files");
    }

    fn cases() -> [Case; 3] {
        [
            Case {
                name: "client_hello",
                target: client_hello::client_hello,
                seeds: hello_seeds::hellos(),
            },
            Case {
                name: "policy_files",
                target: files::policy_files,
                seeds: file_seeds::policies(),
            },
            Case {
                name: "node_file",
                target: files::node_file,
                seeds: file_seeds::nodes(),
            },
        ]
    }
}
