use portcullis_wire::boundary::Boundary;
use proptest::prelude::*;

use crate::packets::message;

fn stream() -> Vec<u8> {
    [
        message(b'T', &[1; 30]),
        message(b'D', &[2; 300]),
        message(b'C', b"SELECT 1\0"),
        message(b'I', b""),
        message(b'Z', b"I"),
    ]
    .concat()
}

#[test]
fn it_stands_at_a_start_before_the_first_and_after_each_message() {
    let mut boundary = Boundary::new();
    assert!(boundary.at_start());
    for part in [
        message(b'D', &[0; 10]),
        message(b'I', b""),
        message(b'Z', b"I"),
    ] {
        boundary.advance(&part).unwrap();
        assert!(boundary.at_start());
    }
}

#[test]
fn it_stands_at_no_start_anywhere_inside_a_message() {
    let whole = message(b'D', &[0; 10]);
    for length in 1..whole.len() {
        let mut boundary = Boundary::new();
        boundary.advance(&whole[..length]).unwrap();
        assert!(!boundary.at_start(), "after {length} bytes");
        boundary.advance(&whole[length..]).unwrap();
        assert!(boundary.at_start());
    }
}

#[test]
fn an_empty_chunk_moves_nothing() {
    let mut boundary = Boundary::new();
    boundary.advance(b"").unwrap();
    assert!(boundary.at_start());
    boundary.advance(b"D").unwrap();
    boundary.advance(b"").unwrap();
    assert!(!boundary.at_start());
}

#[test]
fn a_length_below_four_is_refused() {
    for length in 0..4_u8 {
        let mut boundary = Boundary::new();
        let complaint = boundary.advance(&[b'D', 0, 0, 0, length]).unwrap_err();
        assert_eq!(complaint.reason(), "message_length");
        assert!(!boundary.at_start());
    }
}

#[test]
fn a_body_has_one_gigabyte_and_no_more() {
    let header = |body: u32| [&b"d"[..], &(body + 4).to_be_bytes()].concat();
    assert!(Boundary::new().advance(&header(1 << 30)).is_ok());
    let complaint = Boundary::new().advance(&header((1 << 30) + 1)).unwrap_err();
    assert_eq!(complaint.reason(), "message_length");
    assert!(Boundary::new().advance(b"d\xFF\xFF\xFF\xFF").is_err());
}

#[test]
fn a_complaint_is_final() {
    let mut boundary = Boundary::new();
    let complaint = boundary.advance(b"D\0\0\0\0").unwrap_err();
    assert_eq!(boundary.advance(&stream()), Err(complaint));
    assert!(!boundary.at_start());
}

#[test]
fn a_bad_length_is_found_behind_good_messages_and_across_chunks() {
    let bytes = [stream(), b"D\0\0\0\x03".to_vec()].concat();
    for cut in 0..bytes.len() {
        let mut boundary = Boundary::new();
        let (before, after) = bytes.split_at(cut);
        boundary.advance(before).unwrap();
        assert!(boundary.advance(after).is_err(), "cut at {cut}");
    }
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_the_starts_are_the_same(
        bodies in proptest::collection::vec(0..40_usize, 1..20),
        chunks in proptest::collection::vec(1..30_usize, 1..400),
    ) {
        let mut bytes = Vec::new();
        let mut starts = vec![0];
        for body in bodies {
            bytes.extend(message(b'D', &vec![0xFF; body]));
            starts.push(bytes.len());
        }
        let mut boundary = Boundary::new();
        let mut at = 0;
        for length in chunks.into_iter().cycle() {
            let end = (at + length).min(bytes.len());
            boundary.advance(&bytes[at..end]).unwrap();
            at = end;
            prop_assert_eq!(boundary.at_start(), starts.contains(&at));
            if at == bytes.len() {
                break;
            }
        }
    }
}
