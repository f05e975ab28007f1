use portcullis_wire::negotiate::{ProtocolVersion, negotiate};

fn check(requested: u32, options: &[&str], version: &str, reply: Option<&[u8]>) {
    let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
    let negotiation = negotiate(ProtocolVersion::from_u32(requested), &options).unwrap();
    assert_eq!(negotiation.version.to_string(), version);
    assert_eq!(negotiation.reply.as_deref(), reply);
}

#[test]
fn known_versions_need_no_reply() {
    check(0x0003_0000, &[], "3.0", None);
    check(0x0003_0002, &[], "3.2", None);
}

#[test]
fn other_minor_versions_are_answered_with_the_full_version() {
    check(
        0x0003_0001,
        &[],
        "3.0",
        Some(b"v\0\0\0\x0C\0\x03\0\0\0\0\0\0"),
    );
    for later in [3, 99, 9999, 0xFFFF] {
        let reply = b"v\0\0\0\x0C\0\x03\0\x02\0\0\0\0";
        check(0x0003_0000 + later, &[], "3.2", Some(reply));
    }
}

#[test]
fn the_grease_of_libpq_19_is_answered_with_every_unknown_option() {
    check(
        206_607,
        &["_pq_.test_protocol_negotiation"],
        "3.2",
        Some(b"v\0\0\0\x2B\0\x03\0\x02\0\0\0\x01_pq_.test_protocol_negotiation\0"),
    );
}

#[test]
fn unknown_options_are_named_even_for_a_version_that_is_spoken() {
    check(
        0x0003_0000,
        &["_pq_.a", "_pq_.b"],
        "3.0",
        Some(b"v\0\0\0\x1A\0\x03\0\0\0\0\0\x02_pq_.a\0_pq_.b\0"),
    );
    check(
        0x0003_0002,
        &["_pq_.a"],
        "3.2",
        Some(b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.a\0"),
    );
}

#[test]
fn another_major_version_is_refused_in_postgresqls_words() {
    for (requested, text) in [(0x0002_0000, "2.0"), (0x0004_0000, "4.0"), (0, "0.0")] {
        let complaint = negotiate(ProtocolVersion::from_u32(requested), &[]).unwrap_err();
        assert_eq!(complaint.reason(), "unsupported_version");
        assert_eq!(complaint.sqlstate().as_str(), "0A000");
        assert_eq!(
            complaint.to_string(),
            format!("unsupported frontend protocol {text}: server supports 3.0 to 3.2")
        );
    }
}
