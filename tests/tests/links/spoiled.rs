//! Headers from a trusted balancer with something wrong about each, and what it is called.

use portcullis_tests::balancer::{aws_link, azure_link, gcp_link, proxy_v2};

use super::{AWS, AZURE, GCP, HERE, PUBLIC, consumer};

/// A header, and what must come of it.
pub(crate) struct Spoiled {
    pub(crate) listener: usize,
    pub(crate) what: &'static str,
    pub(crate) code: &'static str,
    pub(crate) header: Vec<u8>,
}

/// The header that all of them are made of, without and with a checksum.
pub(crate) fn sound() -> [Vec<u8>; 2] {
    let (kind, value) = aws_link("vpce-1");
    [consumer(&[(kind, &value)]), checked(&[(kind, &value)], 0)]
}

pub(crate) fn headers() -> Vec<Spoiled> {
    [
        absent_links(),
        impossible_links(),
        layouts(),
        headers_of_others(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn absent_links() -> Vec<Spoiled> {
    let (azure, gcp) = (azure_link(123), gcp_link(123));
    let others: [Tlv<'_>; 2] = [(azure.0, &azure.1), (gcp.0, &gcp.1)];
    let absent = |listener, what, tlvs: &[Tlv<'_>]| {
        row(listener, what, "private_link_absent", consumer(tlvs))
    };
    vec![
        absent(AWS, "no TLV", &[]),
        absent(AWS, "other clouds' links", &others),
        absent(AZURE, "another cloud's link", &others[1..]),
        absent(GCP, "another cloud's link", &others[..1]),
    ]
}

fn impossible_links() -> Vec<Spoiled> {
    let long = [b"\x01", [b'a'; 65].as_slice()].concat();
    let one = |listener, what, kind, value: &[u8]| {
        row(listener, what, MALFORMED, consumer(&[(kind, value)]))
    };
    let (aws, gcp) = ((0xEA, &b"\x01vpce-1"[..]), (0xE0, &[0; 8][..]));
    let twice = |what, tlvs: &[Tlv<'_>]| row(AWS, what, "proxy_duplicate", consumer(tlvs));
    vec![
        one(AWS, "an empty link", 0xEA, b""),
        one(AWS, "a subtype alone", 0xEA, b"\x01"),
        one(AWS, "another subtype", 0xEA, b"\x02vpce-1"),
        one(AWS, "a link with a blank", 0xEA, b"\x01vpce 1"),
        one(AWS, "a link with a NUL", 0xEA, b"\x01vpce-1\0"),
        one(AWS, "a link of 65 characters", 0xEA, &long),
        one(AZURE, "an empty link", 0xEE, b""),
        one(AZURE, "a link of three bytes", 0xEE, b"\x01\x7b\0\0"),
        one(AZURE, "a link of five bytes", 0xEE, b"\x01\x7b\0\0\0\0"),
        one(GCP, "a link of seven bytes", 0xE0, &[0; 7]),
        one(GCP, "a link with a subtype", 0xE0, &[1; 9]),
        twice("the same link twice", &[aws, aws]),
        twice("two links", &[aws, (0xEA, b"\x01vpce-2")]),
        twice("another cloud's link twice", &[aws, gcp, gcp]),
    ]
}

fn layouts() -> Vec<Spoiled> {
    let [good, _] = sound();
    let with = |at: usize, byte: u8| {
        let mut header = good.clone();
        header[at] = byte;
        header
    };
    let aws = (0xEA, &b"\x01vpce-1"[..]);
    let nobody = proxy_v2(
        "0.0.0.0:1111".parse().unwrap(),
        HERE.parse().unwrap(),
        &[aws],
    );
    vec![
        row(AWS, "a TLV past the end", MALFORMED, with(30, 0x40)),
        row(AWS, "a TLV without length", MALFORMED, cut(&good, 9)),
        row(AWS, "a TLV cut short", MALFORMED, cut(&good, 2)),
        row(AWS, "no room for addresses", MALFORMED, cut(&good, 18)),
        row(
            AWS,
            "a wrong checksum",
            "proxy_checksum",
            checked(&[aws], 1),
        ),
        row(
            AWS,
            "a short checksum",
            MALFORMED,
            consumer(&[aws, (3, b"\0\0\0")]),
        ),
        row(AWS, "UNSPEC", UNUSABLE, with(13, 0x00)),
        row(AWS, "UDP", UNUSABLE, with(13, 0x12)),
        row(AWS, "UNIX", UNUSABLE, with(13, 0x31)),
        row(AWS, "no such family", MALFORMED, with(13, 0x44)),
        row(AWS, "no address", UNUSABLE, nobody),
        row(AWS, "version 3", "proxy_version", with(12, 0x31)),
        row(AWS, "no such command", MALFORMED, with(12, 0x22)),
        row(
            AWS,
            "65,535 bytes",
            "proxy_length",
            [&good[..14], b"\xff\xff"].concat(),
        ),
    ]
}

fn headers_of_others() -> Vec<Spoiled> {
    let [good, _] = sound();
    let local = [&good[..12], b"\x20", &good[13..]].concat();
    let bare = [&good[..12], b"\x20\0\0\0"].concat();
    let version_1 = |listener, text: &str| row(listener, "version 1", "proxy_version", text.into());
    vec![
        version_1(AWS, "PROXY TCP4 10.0.0.7 10.9.0.1 1111 5433\r\n"),
        version_1(AWS, "PROXY TCP4 10.0.0.7 10.9.0.1 1111 5433\n"),
        version_1(AWS, "PROXY UNKNOWN 10.0.0.7 10.9.0.1 1 2\r\n"),
        version_1(AWS, &format!("PROXY TCP4 {}", "1".repeat(200))),
        version_1(PUBLIC, "PROXY TCP4 10.0.0.7 10.9.0.1 1111 5433\r\n"),
        row(AWS, "no header", "proxy_missing", Vec::new()),
        row(PUBLIC, "no header", "proxy_missing", Vec::new()),
        row(AWS, "LOCAL", "proxy_local", local.clone()),
        row(GCP, "LOCAL and nothing else", "proxy_local", bare),
        row(PUBLIC, "LOCAL", "proxy_local", local),
    ]
}

type Tlv<'a> = (u8, &'a [u8]);

const MALFORMED: &str = "proxy_malformed";
const UNUSABLE: &str = "proxy_unusable";

fn row(listener: usize, what: &'static str, code: &'static str, header: Vec<u8>) -> Spoiled {
    Spoiled {
        listener,
        what,
        code,
        header,
    }
}

/// The header without its last bytes, its length put right.
fn cut(header: &[u8], away: usize) -> Vec<u8> {
    let mut header = header[..header.len() - away].to_vec();
    header[15] = u8::try_from(header.len() - 16).unwrap();
    header
}

/// The consumer's header with a CRC32C that is so much too large.
fn checked(tlvs: &[(u8, &[u8])], error: u32) -> Vec<u8> {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    let mut header = consumer(&[tlvs, &[(3, &[0; 4])]].concat());
    let crc = crc32c(&header).wrapping_add(error);
    let at = header.len() - 4;
    header[at..].copy_from_slice(&crc.to_be_bytes());
    header
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0x82F6_3B78
            } else {
                crc >> 1
            }
        })
    })
}
