use portcullis_wire::cancel::CancelRequest;
use proptest::prelude::*;

#[test]
fn the_key_of_protocol_3_0_has_eight_bytes() {
    let request = CancelRequest::decode(b"\0\0\x30\x39\xDE\xAD\xBE\xEF").unwrap();
    assert_eq!(request.pid(), 12345);
    assert_eq!(request.secret(), b"\xDE\xAD\xBE\xEF");
    assert_eq!(
        request.encode(),
        b"\0\0\0\x10\x04\xD2\x16\x2E\0\0\x30\x39\xDE\xAD\xBE\xEF"
    );
}

#[test]
fn a_secret_has_4_to_256_bytes() {
    for length in [4, 32, 256] {
        assert!(CancelRequest::new(1, &vec![7; length]).is_ok());
        assert!(CancelRequest::decode(&vec![7; 4 + length]).is_ok());
    }
    for length in [0, 3, 257, 100_000] {
        let complaint = CancelRequest::decode(&vec![7; 4 + length]).unwrap_err();
        assert_eq!(complaint.reason(), "cancel_length");
        assert!(CancelRequest::new(1, &vec![7; length]).is_err());
    }
    for length in 0..4 {
        assert_eq!(
            CancelRequest::decode(&vec![7; length])
                .unwrap_err()
                .reason(),
            "cancel_length"
        );
    }
}

#[test]
fn the_secret_stays_out_of_debug_output() {
    let request = CancelRequest::new(7, b"hush").unwrap();
    assert_eq!(format!("{request:?}"), "CancelRequest { pid: 7, .. }");
}

proptest! {
    #[test]
    fn any_key_survives_the_journey(pid: u32, secret in proptest::collection::vec(any::<u8>(), 4..=256)) {
        let packet = CancelRequest::new(pid, &secret).unwrap().encode();
        let again = CancelRequest::decode(&packet[8..]).unwrap();
        prop_assert_eq!((again.pid(), again.secret()), (pid, &secret[..]));
        prop_assert_eq!(again.encode(), packet);
    }
}
