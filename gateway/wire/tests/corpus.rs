//! Replays the committed fuzz corpora with the ordinary toolchain, and keeps the seeds among them in step with the
//! cases that they are made from. `UPDATE_CORPUS=1 cargo test -p portcullis-wire --test corpus` writes seeds anew.

#[cfg(test)]
#[path = "wire/packets.rs"]
mod packets;
#[cfg(test)]
#[path = "wire/peer.rs"]
#[expect(dead_code, reason = "the cases need more than the seeds do")]
mod peer;
#[cfg(test)]
#[path = "corpus/seeds.rs"]
mod seeds;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::PathBuf;

    use portcullis_wire::fuzzing;

    use crate::seeds;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 5] = [
        ("startup", fuzzing::startup),
        ("proxy_header", fuzzing::proxy_header),
        ("messages", fuzzing::messages),
        ("scram_server", fuzzing::scram_server),
        ("scram_client", fuzzing::scram_client),
    ];

    #[test]
    fn every_committed_input_passes_its_target() {
        for (name, target) in TARGETS {
            let inputs = committed(name);
            assert!(!inputs.is_empty(), "{name} has a corpus");
            for input in inputs.values() {
                target(input);
            }
        }
    }

    #[test]
    fn every_seed_cut_anywhere_passes_its_target() {
        let targets = BTreeMap::from(TARGETS);
        for (name, seeds) in seeds::all() {
            for (_, seed) in seeds {
                for length in 0..seed.len() {
                    targets[name](&seed[..length]);
                }
            }
        }
    }

    #[test]
    fn every_seed_is_committed_as_the_cases_make_it() {
        for (target, seeds) in seeds::all() {
            if std::env::var_os("UPDATE_CORPUS").is_some() {
                fs::create_dir_all(corpus(target)).unwrap();
                for (name, seed) in &seeds {
                    fs::write(corpus(target).join(name), seed).unwrap();
                }
            }
            let committed = committed(target);
            for (name, seed) in seeds {
                assert_eq!(committed.get(name), Some(&seed), "{target}/{name}");
            }
        }
    }

    fn corpus(target: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/fuzz/corpus")
            .join(target)
    }

    fn committed(target: &str) -> BTreeMap<String, Vec<u8>> {
        fs::read_dir(corpus(target))
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                (name, fs::read(entry.path()).unwrap())
            })
            .collect()
    }
}
