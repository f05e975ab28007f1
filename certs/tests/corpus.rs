//! Replays the committed corpora of the fuzz targets of certificates, requests and join tokens.
//! `UPDATE_CORPUS=1 cargo test -p portcullis-certs --test corpus` writes their seeds anew.

#[cfg(test)]
#[path = "fuzzing/certificates.rs"]
mod certificates;
#[cfg(test)]
#[path = "../../tests/fuzz/replay.rs"]
mod replay;
#[cfg(test)]
#[path = "fuzzing/seeds.rs"]
mod seeds;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::replay::{Case, replay, replay_cut};
    use crate::{certificates, seeds};

    #[test]
    fn every_committed_input_passes_its_target() {
        replay(&cases());
    }

    #[test]
    fn every_seed_cut_anywhere_passes_its_target() {
        replay_cut(&cases());
    }

    #[test]
    fn every_seed_with_a_byte_changed_passes_its_target() {
        for case in cases() {
            for (_, mut seed) in case.seeds {
                let step = seed.len().div_ceil(200).max(1);
                for place in (0..seed.len()).step_by(step) {
                    for change in [0x01, 0x80, 0xff] {
                        seed[place] ^= change;
                        (case.target)(&seed);
                        seed[place] ^= change;
                    }
                }
            }
        }
    }

    /// More than a handshake can carry takes no longer than it takes to read.
    #[test]
    fn a_certificate_with_a_hundred_thousand_names_is_refused_soon() {
        let crowded = seeds::crowded(100_000);
        let began = Instant::now();
        certificates::certificates(&crowded);
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    }

    fn cases() -> [Case; 3] {
        [
            Case {
                name: "certificates",
                target: certificates::certificates,
                seeds: seeds::certificates(),
            },
            Case {
                name: "join_requests",
                target: certificates::join_requests,
                seeds: seeds::join_requests(),
            },
            Case {
                name: "join_tokens",
                target: certificates::join_tokens,
                seeds: seeds::join_tokens(),
            },
        ]
    }
}
