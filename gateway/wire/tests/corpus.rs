//! Replays the committed corpora of the protocols' fuzz targets; their seeds are made from the cases of the other tests.
//! `UPDATE_CORPUS=1 cargo test -p portcullis-wire --test corpus` writes seeds anew.

#[cfg(test)]
#[path = "wire/packets.rs"]
mod packets;
#[cfg(test)]
#[path = "wire/peer.rs"]
#[expect(dead_code, reason = "the cases need more than the seeds do")]
mod peer;
#[cfg(test)]
#[path = "../../../tests/fuzz/replay.rs"]
mod replay;
#[cfg(test)]
#[path = "corpus/seeds.rs"]
mod seeds;

#[cfg(test)]
mod tests {
    use crate::replay::{replay, replay_cut};
    use crate::seeds::cases;

    #[test]
    fn every_committed_input_passes_its_target() {
        replay(&cases());
    }

    #[test]
    fn every_seed_cut_anywhere_passes_its_target() {
        replay_cut(&cases());
    }
}
