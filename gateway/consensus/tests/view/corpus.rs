//! Every message that was ever written decodes, to what it meant.
//!
//! `UPDATE_CORPUS=1` writes files for messages that have none yet; it changes none.

use std::fmt::Debug;
use std::path::PathBuf;

use portcullis_consensus::view::{
    Asked, Frame, Kept, Recovery, Signature, Succession, Vouched, decode, encode,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::world::{
    FLEET, History, NOW, feeds, follower, published, recovery_key, signed, voters, whole,
};

#[test]
fn every_message_decodes() {
    let mut history = History::new([1, 2, 3]);
    history.add(&[("acme", false), ("globex", true)], &[], false);
    history.add(&[("acme", true)], &["globex"], false);
    let view = history.last();
    check("whole", &whole(view, &[1, 2]));
    let feeds = feeds(&history);
    check("changes", &feeds[&1].since(1, 2).unwrap().frame());
    let signed = signed(view, &[1, 3]);
    check(
        "succeeded",
        &Frame::Succeeded(Succession {
            signed,
            voters: voters([1, 3]),
        }),
    );
    let message = Recovery::message(FLEET, 2, &voters([3]));
    check(
        "recovered",
        &Frame::Recovered(Recovery {
            fleet: FLEET,
            epoch: 2,
            voters: voters([3]),
            signature: Signature::new(recovery_key().sign(&message)),
        }),
    );
    check(
        "alive",
        &Frame::Alive {
            revision: 300,
            confirmed: true,
        },
    );
    check(
        "from",
        &Asked::From {
            epoch: 1,
            revision: 300,
        },
    );
    check("ack", &Asked::Ack { revision: 300 });
    check::<Vouched>("vouched", &feeds[&1].own(3).unwrap());

    let publish = published(follower([1, 2, 3]).take(whole(view, &[1, 2]), NOW));
    let kept = Kept::of(&publish);
    let bytes = file("kept", &kept.to_bytes().unwrap());
    assert_eq!(Kept::from_bytes(&bytes).unwrap(), kept);
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, message: &T) {
    let bytes = file(name, &encode(message).unwrap());
    assert_eq!(decode::<T>(&bytes).as_ref(), Ok(message), "{name}");
    assert_eq!(encode(message).unwrap(), bytes, "{name}");
}

fn file(name: &str, now: &[u8]) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/view");
    let path = folder.join(format!("{name}.v1.bin"));
    if std::env::var_os("UPDATE_CORPUS").is_some() && !path.exists() {
        std::fs::write(&path, now).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
