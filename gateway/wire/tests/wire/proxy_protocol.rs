use std::net::SocketAddr;

use portcullis_wire::Step;
use portcullis_wire::first::FirstBytes;
use portcullis_wire::proxy_protocol::{CloudTlv, LinkTlv, ProxyHeader, read};
use proptest::prelude::*;

use crate::packets::{
    PROXY_SIGNATURE, TCP4, proxied4, proxy_header, tlv, with_crc, with_crc_first,
};

const AWS: u8 = 0xEA;
const AZURE: u8 = 0xEE;
const GCP: u8 = 0xE0;
const VPCE: &[u8] = b"\x01vpce-08d2bf15fac5001c9";

fn accepted(bytes: &[u8], cloud: Option<CloudTlv>) -> ProxyHeader {
    match read(bytes, cloud) {
        Ok(Step::Done(header, consumed)) if consumed == bytes.len() => header,
        other => panic!("{other:?}"),
    }
}

fn link(tlvs: &[Vec<u8>], cloud: Option<CloudTlv>) -> Option<LinkTlv> {
    match accepted(&proxied4(tlvs), cloud) {
        ProxyHeader::Proxied { link, .. } => link,
        ProxyHeader::Local => panic!("not a client"),
    }
}

fn check(bytes: &[u8], expected: &str) {
    for cloud in [
        None,
        Some(CloudTlv::Aws),
        Some(CloudTlv::Azure),
        Some(CloudTlv::Gcp),
    ] {
        check_at(bytes, cloud, expected);
    }
}

fn check_at(bytes: &[u8], cloud: Option<CloudTlv>, expected: &str) {
    match read(bytes, cloud) {
        Err(complaint) => assert_eq!(complaint.reason(), expected, "{complaint}"),
        Ok(step) => panic!("{} gave {step:?}", bytes.escape_ascii()),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Source and destination, then 40000 to 5433.
fn tcp6(source: &str, destination: &str) -> Vec<u8> {
    let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    [
        &octets(source)[..],
        &octets(destination),
        b"\x9C\x40\x15\x39",
    ]
    .concat()
}

#[test]
fn a_client_behind_the_balancer_is_named_by_address_and_port() {
    assert_eq!(
        accepted(&proxied4(&[]), None),
        ProxyHeader::Proxied {
            source: address("198.51.100.7:51000"),
            destination: address("10.0.0.5:5433"),
            link: None,
        }
    );
    let header = proxy_header(0x21, 0x21, &tcp6("2001:db8::7", "2001:db8::1"));
    assert_eq!(
        accepted(&header, None),
        ProxyHeader::Proxied {
            source: address("[2001:db8::7]:40000"),
            destination: address("[2001:db8::1]:5433"),
            link: None,
        }
    );
}

#[test]
fn a_mapped_address_is_folded_before_anyone_can_match_it() {
    let header = proxy_header(0x21, 0x21, &tcp6("::ffff:127.0.2.1", "::ffff:10.0.0.5"));
    assert_eq!(
        accepted(&header, None),
        ProxyHeader::Proxied {
            source: address("127.0.2.1:40000"),
            destination: address("10.0.0.5:5433"),
            link: None,
        }
    );
}

#[test]
fn a_local_header_is_nobodys_client_whatever_it_carries() {
    for block in [&b""[..], &TCP4, b"\xFF\xFF\xFF", &[0; 1008]] {
        for family in [0x00, 0x11, 0xFF] {
            let header = proxy_header(0x20, family, block);
            assert_eq!(accepted(&header, Some(CloudTlv::Aws)), ProxyHeader::Local);
        }
    }
}

#[test]
fn the_link_is_read_from_the_tlv_of_the_listeners_cloud_and_no_other() {
    let all = [
        tlv(AWS, VPCE),
        tlv(AZURE, b"\x01\x7B\0\0\0"),
        tlv(GCP, b"\0\0\0\0\0\0\x01\xC8"),
    ];
    let vpce = LinkTlv::Aws("vpce-08d2bf15fac5001c9".to_owned());
    assert_eq!(link(&all, Some(CloudTlv::Aws)), Some(vpce));
    assert_eq!(link(&all, Some(CloudTlv::Azure)), Some(LinkTlv::Azure(123)));
    assert_eq!(link(&all, Some(CloudTlv::Gcp)), Some(LinkTlv::Gcp(456)));
    assert_eq!(link(&all, None), None);
    assert_eq!(link(&all[1..], Some(CloudTlv::Aws)), None);
    assert_eq!(link(&[], Some(CloudTlv::Gcp)), None);
}

#[test]
fn azure_is_little_endian_and_google_big_endian() {
    let azure = [tlv(AZURE, b"\x01\x01\x02\x03\x04")];
    assert_eq!(
        link(&azure, Some(CloudTlv::Azure)),
        Some(LinkTlv::Azure(0x0403_0201))
    );
    let gcp = [tlv(GCP, b"\x01\x02\x03\x04\x05\x06\x07\x08")];
    assert_eq!(
        link(&gcp, Some(CloudTlv::Gcp)),
        Some(LinkTlv::Gcp(0x0102_0304_0506_0708))
    );
}

#[test]
fn impossible_link_ids_are_refused_where_they_are_believed() {
    for value in [
        &b""[..],
        b"\x01",
        b"\x02vpce-1",
        b"vpce-1",
        b"\x01vpce_1",
        b"\x01vpce 1",
        b"\x01vpce-\xC3\xA9",
        b"\x01vpce-1\0",
        &[&b"\x01"[..], &[b'a'; 65]].concat(),
    ] {
        check_at(
            &proxied4(&[tlv(AWS, value)]),
            Some(CloudTlv::Aws),
            "proxy_malformed",
        );
        assert_eq!(link(&[tlv(AWS, value)], Some(CloudTlv::Gcp)), None);
    }
    let longest = [&b"\x01"[..], &[b'a'; 64]].concat();
    assert_eq!(
        link(&[tlv(AWS, &longest)], Some(CloudTlv::Aws)),
        Some(LinkTlv::Aws("a".repeat(64)))
    );
    for value in [
        &b""[..],
        b"\x01",
        b"\x01\0\0\0",
        b"\x02\0\0\0\0",
        b"\x01\0\0\0\0\0",
    ] {
        check_at(
            &proxied4(&[tlv(AZURE, value)]),
            Some(CloudTlv::Azure),
            "proxy_malformed",
        );
    }
    for value in [&b""[..], b"\x01", &[0; 7], &[0; 9]] {
        check_at(
            &proxied4(&[tlv(GCP, value)]),
            Some(CloudTlv::Gcp),
            "proxy_malformed",
        );
    }
}

#[test]
fn no_tlv_stands_twice_except_padding() {
    for kind in [
        0x01, 0x02, 0x05, 0x20, 0x30, AWS, AZURE, GCP, 0xE1, 0xF0, 0xFF,
    ] {
        let value = match kind {
            AWS => VPCE.to_vec(),
            AZURE => b"\x01\0\0\0\0".to_vec(),
            GCP => vec![0; 8],
            _ => b"x".to_vec(),
        };
        check(
            &proxied4(&[tlv(kind, &value), tlv(4, b""), tlv(kind, &value)]),
            "proxy_duplicate",
        );
    }
    assert_eq!(link(&[tlv(4, b"padding"), tlv(4, b"")], None), None);
}

#[test]
fn a_checksum_is_verified_wherever_it_stands() {
    let first = with_crc(&[tlv(AWS, VPCE)]);
    assert!(read(&first, Some(CloudTlv::Aws)).is_ok());
    // Its own type byte is the exception: without it there is no checksum to verify.
    let own_type = first.len() - 7;
    for at in (0..first.len()).filter(|&at| at != own_type) {
        let mut flipped = first.clone();
        flipped[at] ^= 1;
        assert!(
            !matches!(
                read(&flipped, Some(CloudTlv::Aws)),
                Ok(Step::Done(ProxyHeader::Proxied { .. }, _))
            ),
            "bit flipped in byte {at}"
        );
    }
    check(&proxied4(&[tlv(3, &[0; 4])]), "proxy_checksum");
    check(&proxied4(&[tlv(3, &[0; 3])]), "proxy_malformed");
    check(&proxied4(&[tlv(3, &[0; 5])]), "proxy_malformed");
    check(&proxied4(&[tlv(3, b"")]), "proxy_malformed");
}

#[test]
fn a_checksum_in_front_of_other_tlvs_covers_them_too() {
    let mut header = with_crc_first(&[tlv(AWS, VPCE)]);
    assert!(read(&header, None).is_ok());
    let last = header.len() - 1;
    header[last] ^= 1;
    check(&header, "proxy_checksum");
}

#[test]
fn families_without_a_tcp_client_are_unusable() {
    for family in [0x00, 0x12, 0x22, 0x31, 0x32] {
        check(&proxy_header(0x21, family, &[1; 216]), "proxy_unusable");
    }
    let nowhere = [&[0; 4][..], &TCP4[4..]].concat();
    check(&proxy_header(0x21, 0x11, &nowhere), "proxy_unusable");
    check(
        &proxy_header(0x21, 0x21, &tcp6("::", "::1")),
        "proxy_unusable",
    );
    check(
        &proxy_header(0x21, 0x21, &tcp6("::ffff:0.0.0.0", "::1")),
        "proxy_unusable",
    );
}

#[test]
fn malformed_headers_are_refused() {
    for family in [0x01, 0x10, 0x13, 0x20, 0x23, 0x33, 0x41, 0xFF] {
        check(&proxy_header(0x21, family, &[1; 216]), "proxy_malformed");
    }
    for command in [0x22, 0x2F] {
        check(&proxy_header(command, 0x11, &TCP4), "proxy_malformed");
    }
    check(&proxy_header(0x21, 0x11, &TCP4[..11]), "proxy_malformed");
    check(&proxy_header(0x21, 0x11, b""), "proxy_malformed");
    check(&proxy_header(0x21, 0x21, &[1; 35]), "proxy_malformed");
    for overrun in [
        &b"\x04"[..],
        b"\x04\0",
        b"\x04\0\x01",
        b"\x04\xFF\xFFx",
        b"\x04\0\x02xx\x04",
    ] {
        check(&proxied4(&[overrun.to_vec()]), "proxy_malformed");
    }
}

#[test]
fn a_unique_id_has_128_bytes_and_no_more() {
    assert_eq!(link(&[tlv(5, &[7; 128])], None), None);
    check(&proxied4(&[tlv(5, &[7; 129])]), "proxy_malformed");
}

#[test]
fn a_header_has_1024_bytes_and_no_more() {
    let padded = |total: usize| proxied4(&[tlv(4, &vec![0; total - 16 - 12 - 3])]);
    assert_eq!(padded(1024).len(), 1024);
    assert!(matches!(read(&padded(1024), None), Ok(Step::Done(_, 1024))));
    // Told from the length alone, before the rest is read.
    check(&padded(1025)[..16], "proxy_length");
    check(
        &[PROXY_SIGNATURE, b"\x21\x11\xFF\xFF"].concat(),
        "proxy_length",
    );
    check(
        &[PROXY_SIGNATURE, b"\x20\x00\xFF\xFF"].concat(),
        "proxy_length",
    );
}

#[test]
fn only_version_2_is_spoken() {
    for line in [
        "PROXY UNKNOWN 127.0.1.7 1.1.1.1 1 2\r\n",
        "PROXY TCP4 127.0.1.7 1.1.1.1 1 2\r\n",
        "PROXY TCP4 127.0.1.7 1.1.1.1 1 2\n",
        "PROXY",
    ] {
        check(line.as_bytes(), "proxy_version");
    }
    for version_command in [0x11, 0x31, 0x01, 0xFF] {
        check(&proxy_header(version_command, 0x11, &TCP4), "proxy_version");
    }
}

#[test]
fn bytes_that_do_not_begin_like_a_header_are_refused_at_once() {
    for bytes in [
        &b"\x16\x03\x01"[..],
        b"\0\0\0\x08\x04\xD2\x16\x2F",
        b"GET / HTTP/1.1",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\n",
        b"PRO\0",
    ] {
        check(bytes, "proxy_missing");
    }
}

#[test]
fn a_second_header_is_no_startup_packet() {
    let header = proxied4(&[]);
    let twice = [header.clone(), header.clone()].concat();
    let Ok(Step::Done(_, consumed)) = read(&twice, None) else {
        panic!("the first is good");
    };
    let complaint = FirstBytes::read(&twice[consumed..]).unwrap_err();
    assert_eq!(complaint.reason(), "proxy_unexpected");
}

#[test]
fn reading_only_what_is_needed_never_reads_past_the_header() {
    let header = with_crc(&[tlv(AWS, VPCE)]);
    let stream = [header.clone(), b"the client's own bytes".to_vec()].concat();
    let mut have = 0;
    let mut reads = 0;
    while let Ok(Step::Need(more)) = read(&stream[..have], None) {
        have += more;
        reads += 1;
    }
    assert_eq!(have, header.len());
    assert_eq!(reads, 2);
}

proptest! {
    #[test]
    fn any_client_survives_the_journey(source: [u8; 4], destination: [u8; 4], from: u16, to: u16) {
        prop_assume!(source != [0; 4]);
        let block = [&source[..], &destination, &from.to_be_bytes(), &to.to_be_bytes()].concat();
        let expected = ProxyHeader::Proxied {
            source: SocketAddr::from((source, from)),
            destination: SocketAddr::from((destination, to)),
            link: None,
        };
        prop_assert_eq!(accepted(&proxy_header(0x21, 0x11, &block), None), expected);
    }

    #[test]
    fn no_tlvs_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for cloud in [None, Some(CloudTlv::Aws), Some(CloudTlv::Azure), Some(CloudTlv::Gcp)] {
            let _ = read(&proxied4(std::slice::from_ref(&bytes)), cloud);
            let _ = read(&bytes, cloud);
        }
    }
}
