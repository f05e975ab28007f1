//! What a witness answered (C2SP tlog-witness): nothing of it is believed but a signature that its key made.

use portcullis_audit::tlog::{MAX_SIZE, Note, NoteKey, NoteSignature, Said};

/// What an answer is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It cosigned the checkpoint, at this time, Unix seconds.
    Cosigned {
        /// Its lines.
        lines: Vec<NoteSignature>,
        /// When.
        at: u64,
    },
    /// It cosigned another size last, as it says.
    OtherSize(u64),
    /// The proof does not show to it that the log only grew.
    NotGrown,
    /// It does not cosign this log, or not under this key; the status.
    Refused(u16),
    /// It cannot now; the status.
    NotNow(u16),
    /// Not what a witness answers.
    Garbage(&'static str),
}

/// Reads an answer to a request to cosign `text`.
pub(super) fn read(key: &NoteKey, text: &str, status: u16, body: &[u8]) -> Answer {
    match status {
        200 => cosigned(key, text, body),
        409 => size(body).map_or(
            Answer::Garbage("a 409 without the size that it cosigned last"),
            Answer::OtherSize,
        ),
        422 => Answer::NotGrown,
        403 | 404 => Answer::Refused(status),
        429 | 500..=599 => Answer::NotNow(status),
        _ => Answer::Garbage("a status that no witness answers"),
    }
}

fn cosigned(key: &NoteKey, text: &str, body: &[u8]) -> Answer {
    const NONE: Answer = Answer::Garbage("no cosignature under its key");
    let Ok(body) = std::str::from_utf8(body) else {
        return NONE;
    };
    // There may be lines under other keys, of which nothing is known here.
    let lines = body.lines().filter_map(NoteSignature::parse);
    let own = lines.filter(|line| line.name == key.name() && line.key_id == key.id());
    let note = Note {
        text: text.to_owned(),
        signatures: own.collect(),
    };
    match key.check(&note) {
        Said::Yes { at: Some(at) } if at > 0 => Answer::Cosigned {
            lines: note.signatures,
            at,
        },
        Said::Yes { .. } | Said::Nothing | Said::Wrong => NONE,
    }
}

/// A size and the newline that ends it.
fn size(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?.strip_suffix('\n')?;
    let size: u64 = text.parse().ok()?;
    (size <= MAX_SIZE && size.to_string() == text).then_some(size)
}

/// The checkpoint with everybody's signatures: those that it was shown with, those that `kept` has of the same, and these. None if `kept` is
/// of a larger tree.
pub(super) fn merged(
    shown: &Note,
    size: u64,
    kept: Option<(&Note, u64)>,
    lines: &[NoteSignature],
) -> Option<Note> {
    if kept.is_some_and(|(_, kept)| kept > size) {
        return None;
    }
    let same = kept.filter(|(kept, _)| kept.text == shown.text);
    let mut signatures = shown.signatures.clone();
    let known = same.iter().flat_map(|(kept, _)| &kept.signatures);
    for line in lines.iter().chain(known) {
        // The first is the newer.
        let there = |it: &NoteSignature| it.name == line.name && it.key_id == line.key_id;
        if !signatures.iter().any(there) {
            signatures.push(line.clone());
        }
    }
    Some(Note {
        text: shown.text.clone(),
        signatures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_audit::tlog::KeyKind;
    use portcullis_certs::fleet::ViewKey;

    const TEXT: &str = "portcullis/test\n5\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";

    fn witness(seed: u8) -> (NoteKey, ViewKey) {
        let own = ViewKey::from_seed([seed; 32]).unwrap();
        let key = NoteKey::new("w.example", KeyKind::Cosigner, own.public()).unwrap();
        (key, own)
    }

    fn line(seed: u8, text: &str, at: u64) -> NoteSignature {
        let (key, own) = witness(seed);
        key.cosign(text, at, |message| own.cosign(message).unwrap())
    }

    #[test]
    fn a_cosignature_is_believed_if_the_witness_made_it_over_this_text() {
        let (key, _) = witness(1);
        let good = line(1, TEXT, 1_000);
        let body = good.to_string();
        let believed = Answer::Cosigned {
            lines: vec![good],
            at: 1_000,
        };
        assert_eq!(read(&key, TEXT, 200, body.as_bytes()), believed);
        // Beside others' lines.
        let mut more = line(2, TEXT, 1_000).to_string();
        more.push_str(&body);
        assert_eq!(read(&key, TEXT, 200, more.as_bytes()), believed);
        let other = TEXT.replace("\n5\n", "\n6\n");
        for wrong in [
            line(2, TEXT, 1_000).to_string(),
            line(1, &other, 1_000).to_string(),
            line(1, TEXT, 0).to_string(),
            "garbage".to_owned(),
            String::new(),
        ] {
            let read = read(&key, TEXT, 200, wrong.as_bytes());
            assert!(matches!(read, Answer::Garbage(_)), "{wrong}");
        }
        // One line under its name and number that it did not make spoils the answer.
        let mut forged = line(1, TEXT, 1_000);
        forged.bytes[20] ^= 1;
        let both = format!("{body}{forged}");
        assert!(matches!(
            read(&key, TEXT, 200, both.as_bytes()),
            Answer::Garbage(_)
        ));
    }

    #[test]
    fn a_size_has_one_spelling_and_a_bound() {
        let (key, _) = witness(1);
        let check =
            |body: &str, expected| assert_eq!(read(&key, TEXT, 409, body.as_bytes()), expected);
        check("0\n", Answer::OtherSize(0));
        check("17\n", Answer::OtherSize(17));
        for body in [
            "",
            "17",
            "+17\n",
            "017\n",
            "-1\n",
            "17\n\n",
            "x\n",
            "18446744073709551615\n",
        ] {
            check(
                body,
                Answer::Garbage("a 409 without the size that it cosigned last"),
            );
        }
        for (status, expected) in [
            (422, Answer::NotGrown),
            (403, Answer::Refused(403)),
            (404, Answer::Refused(404)),
            (429, Answer::NotNow(429)),
            (503, Answer::NotNow(503)),
        ] {
            assert_eq!(read(&key, TEXT, status, b"17\n"), expected);
        }
        for status in [100, 204, 301, 400] {
            assert!(matches!(read(&key, TEXT, status, b""), Answer::Garbage(_)));
        }
    }

    #[test]
    fn what_is_kept_has_the_newest_of_each_and_never_goes_back() {
        let shown = Note {
            text: TEXT.to_owned(),
            signatures: vec![line(9, TEXT, 1)],
        };
        let [old, new, other] = [line(1, TEXT, 10), line(1, TEXT, 20), line(2, TEXT, 10)];
        let kept = Note {
            text: TEXT.to_owned(),
            signatures: vec![old, other.clone()],
        };
        let made = merged(&shown, 5, Some((&kept, 5)), std::slice::from_ref(&new)).unwrap();
        assert_eq!(
            made.signatures,
            [shown.signatures[0].clone(), new.clone(), other]
        );
        // Of another size nothing is taken over, and a larger one stays.
        let mut smaller = kept.clone();
        smaller.text = TEXT.replace("\n5\n", "\n4\n");
        let made = merged(&shown, 5, Some((&smaller, 4)), std::slice::from_ref(&new)).unwrap();
        assert_eq!(made.signatures, [shown.signatures[0].clone(), new.clone()]);
        assert_eq!(merged(&shown, 5, Some((&kept, 6)), &[new]), None);
    }
}
