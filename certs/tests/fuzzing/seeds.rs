//! Certificates, requests and tokens, written out byte by byte: what nobody should send. Beside these seeds lie real ones, of openssl and of
//! our own, named after who made them.

use portcullis_certs::fleet::{FleetId, JoinToken};

use crate::replay::Seeds;

const FLEET: &str = "000102030405060708090a0b0c0d0e0f";

pub(crate) fn certificates() -> Seeds {
    let node = format!("spiffe://{FLEET}/node/7");
    let der = |certificate: Vec<u8>| [b"d", &certificate[..]].concat();
    let named = |names: &[Vec<u8>]| der(Made::default().names(names).der());
    let text = |text: &str| [b"n", text.as_bytes()].concat();
    let pem = |text: &str| [b"p", text.as_bytes()].concat();
    let uri = |text: &[u8]| tlv(0x86, text);
    let dns = |text: &[u8]| tlv(0x82, text);
    let whole = Made::default().names(&[uri(node.as_bytes())]).der();
    let times = |from: &[u8], until: &[u8]| {
        let times = tlv(0x30, &[from, until].concat());
        der(Made {
            times,
            ..Made::default()
        }
        .names(&[uri(node.as_bytes())])
        .der())
    };
    let subject = |name: &[u8]| {
        let subject = distinguished(0x0c, name);
        Made {
            subject,
            ..Made::default()
        }
    };
    vec![
        ("member", der(whole.clone())),
        ("member-and-more", der([&whole[..], &[0]].concat())),
        ("member-twice", der([&whole[..], &whole].concat())),
        (
            "member-number-0",
            named(&[uri(node.replace('7', "0").as_bytes())]),
        ),
        (
            "member-number-plus",
            named(&[uri(node.replace('7', "+7").as_bytes())]),
        ),
        (
            "member-number-65-bits",
            named(&[uri(node.replace('7', "18446744073709551616").as_bytes())]),
        ),
        (
            "member-with-nul",
            named(&[uri(format!("{node}\0").as_bytes())]),
        ),
        ("member-not-utf-8", named(&[uri(b"spiffe://\xff\xfe")])),
        (
            "member-and-dns",
            named(&[uri(node.as_bytes()), dns(b"orders.db.example")]),
        ),
        (
            "two-members",
            named(&[uri(node.as_bytes()), uri(node.as_bytes())]),
        ),
        ("no-names", named(&[])),
        ("name-empty", named(&[dns(b"")])),
        (
            "name-with-nul",
            named(&[dns(b"acme.example\0.evil.example")]),
        ),
        ("name-mail", named(&[tlv(0x81, b"Ops@a@ACME.Example")])),
        ("name-address-of-3", named(&[tlv(0x87, &[10, 0, 0])])),
        ("name-unknown-kind", named(&[tlv(0x8f, b"x")])),
        (
            "name-directory",
            named(&[tlv(0xa4, &distinguished(0x0c, b"x"))]),
        ),
        ("names-257", named(&vec![dns(b"a.example"); 257])),
        ("names-1000", named(&vec![dns(b"b"); 1000])),
        (
            "names-too-long",
            der(Made {
                extensions: extension(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
                ..Made::default()
            }
            .der()),
        ),
        (
            "names-endless",
            der(Made {
                extensions: extension(&[0x30, 0x80, 0x82, 1, b'a', 0, 0]),
                ..Made::default()
            }
            .der()),
        ),
        (
            "names-twice",
            der(Made {
                extensions: [names(&[dns(b"a")]), names(&[dns(b"b")])].concat(),
                ..Made::default()
            }
            .der()),
        ),
        (
            "names-nested",
            der(Made {
                extensions: extension(&nested(200)),
                ..Made::default()
            }
            .der()),
        ),
        (
            "subject-nested",
            der(Made {
                subject: nested(1_000),
                ..Made::default()
            }
            .der()),
        ),
        ("subject-with-nul", der(subject(b"a\0b").der())),
        ("subject-not-utf-8", der(subject(b"\xff\xfe\xfd").der())),
        (
            "subject-bmp",
            der(Made {
                subject: distinguished(0x1e, &[0xd8, 0x00, 0x00]),
                ..Made::default()
            }
            .der()),
        ),
        ("subject-long", der(subject(&[b'a'; 9_000]).der())),
        (
            "authority",
            der(subject(format!("Portcullis fleet {FLEET}").as_bytes())
                .authority()
                .der()),
        ),
        (
            "authority-of-none",
            der(subject(b"Portcullis fleet ").authority().der()),
        ),
        (
            "authority-not",
            der(subject(format!("Portcullis fleet {FLEET}").as_bytes()).der()),
        ),
        (
            "serial-negative",
            der(Made {
                serial: tlv(2, &[0x80]),
                ..Made::default()
            }
            .der()),
        ),
        (
            "serial-empty",
            der(Made {
                serial: tlv(2, &[]),
                ..Made::default()
            }
            .der()),
        ),
        (
            "serial-of-2000",
            der(Made {
                serial: tlv(2, &[0x7f; 2_000]),
                ..Made::default()
            }
            .der()),
        ),
        (
            "times-reversed",
            times(&tlv(0x17, b"491231235959Z"), &tlv(0x17, b"500101000000Z")),
        ),
        (
            "times-year-9999",
            times(
                &tlv(0x18, b"00000101000000Z"),
                &tlv(0x18, b"99991231235959Z"),
            ),
        ),
        (
            "times-leap-second",
            times(&tlv(0x17, b"161231235960Z"), &tlv(0x17, b"170229000000Z")),
        ),
        (
            "times-month-13",
            times(&tlv(0x17, b"991301000000Z"), &tlv(0x17, b"000000000000Z")),
        ),
        (
            "times-with-zone",
            times(
                &tlv(0x17, b"2001010000+1400"),
                &tlv(0x18, b"20300101000000.5Z"),
            ),
        ),
        (
            "times-of-nothing",
            times(&tlv(0x17, b""), &tlv(0x18, b"\xff")),
        ),
        (
            "length-huge",
            der(vec![
                0x30, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ]),
        ),
        (
            "length-of-127",
            der([&[0x30, 0xff][..], &[0xff; 127]].concat()),
        ),
        ("nested-5000", der(nested(5_000))),
        ("nothing", der(vec![])),
        (
            "pem-two-kinds",
            pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END PRIVATE KEY-----\n"),
        ),
        (
            "pem-endless",
            pem(&"-----BEGIN CERTIFICATE-----\n".repeat(300)),
        ),
        (
            "pem-many",
            pem(&"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".repeat(70)),
        ),
        (
            "pem-nul",
            pem("-----BEGIN CERTIFICATE-----\nAA\0A\n-----END CERTIFICATE-----\n"),
        ),
        (
            "pem-encrypted",
            pem(
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
            ),
        ),
        ("text-node", text(&node)),
        (
            "text-operator",
            text(&format!("spiffe://{FLEET}/operator/olga")),
        ),
        ("text-number-01", text(&node.replace('7', "07"))),
        ("text-capitals", text(&node.to_uppercase())),
        ("text-fleet", text(FLEET)),
    ]
}

pub(crate) fn join_requests() -> Seeds {
    let with = |key: Vec<u8>, attributes: Vec<u8>| {
        let information = [tlv(2, &[0]), tlv(0x30, &[]), key, attributes].concat();
        let whole = [tlv(0x30, &information), ECDSA.to_vec(), tlv(3, &[0; 71])];
        tlv(0x30, &whole.concat())
    };
    let asked = |names: &[Vec<u8>]| tlv(0xa0, &names.concat());
    vec![
        ("unsigned", with(key(4), asked(&[]))),
        ("key-compressed", with(key(2), asked(&[]))),
        ("key-infinite", with(key(0), asked(&[]))),
        ("key-of-nothing", with(tlv(0x30, &[]), asked(&[]))),
        ("attributes-nested", with(key(4), asked(&[nested(500)]))),
        (
            "attributes-many",
            with(key(4), asked(&vec![tlv(0x30, &[]); 1_900])),
        ),
        ("at-the-edge", vec![0x30; 4096]),
        ("over-the-edge", vec![0x30; 4097]),
        ("length-huge", vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
        ("nothing", vec![]),
    ]
}

pub(crate) fn join_tokens() -> Seeds {
    let fleet = FleetId([7; 16]);
    let with = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|&it| it.to_owned()).collect();
        JoinToken::new(fleet, [8; 32], addresses, [9; 32])
            .unwrap()
            .to_text()
    };
    let one = with(&["10.0.0.1:7440"]);
    let body = |rest: &[u8]| [&[7; 16][..], &[8; 32], &[9; 32], rest].concat();
    let long = "a".repeat(255);
    vec![
        ("one", one.as_bytes().to_vec()),
        ("eight", with(&[long.as_str(); 8]).as_bytes().to_vec()),
        (
            "with-spaces",
            format!("\n {}\t\r\n", one.as_str()).into_bytes(),
        ),
        ("padded", format!("{}==", one.as_str()).into_bytes()),
        ("other-version", one.replace("pcj1", "pcj2").into_bytes()),
        ("changed", one.replace('A', "B").into_bytes()),
        ("body", body(b"\x01a")),
        ("body-of-nobody", body(b"")),
        ("body-address-too-long", body(b"\xffa")),
        ("body-address-empty", body(b"\x00")),
        ("body-address-nul", body(b"\x02a\0")),
        ("body-address-not-utf-8", body(b"\x02\xff\xfe")),
        ("body-nine", body(&b"\x01a".repeat(9))),
        ("long", vec![b'A'; 3 * 1024 + 1]),
        ("nothing", vec![]),
    ]
}

/// A certificate whose signature is nobody's.
struct Made {
    serial: Vec<u8>,
    subject: Vec<u8>,
    times: Vec<u8>,
    extensions: Vec<u8>,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            serial: tlv(2, &[1]),
            subject: distinguished(0x0c, b"x"),
            times: tlv(
                0x30,
                &[tlv(0x17, b"200101000000Z"), tlv(0x17, b"491231235959Z")].concat(),
            ),
            extensions: Vec::new(),
        }
    }
}

impl Made {
    fn names(mut self, all: &[Vec<u8>]) -> Self {
        self.extensions.extend(names(all));
        self
    }

    /// Basic constraints, critical: `CA:TRUE`.
    fn authority(mut self) -> Self {
        let constraints = tlv(4, &tlv(0x30, &tlv(1, &[0xff])));
        let extension = [tlv(6, &[0x55, 0x1d, 0x13]), tlv(1, &[0xff]), constraints];
        self.extensions.extend(tlv(0x30, &extension.concat()));
        self
    }

    fn der(self) -> Vec<u8> {
        let extensions = match self.extensions.is_empty() {
            true => Vec::new(),
            false => tlv(0xa3, &tlv(0x30, &self.extensions)),
        };
        let parts = [
            tlv(0xa0, &tlv(2, &[2])),
            self.serial,
            ECDSA.to_vec(),
            distinguished(0x0c, b"issuer"),
            self.times,
            self.subject,
            key(4),
            extensions,
        ];
        let whole = [tlv(0x30, &parts.concat()), ECDSA.to_vec(), tlv(3, &[0; 71])];
        tlv(0x30, &whole.concat())
    }
}

/// Alternative names, as an extension.
pub(crate) fn names(all: &[Vec<u8>]) -> Vec<u8> {
    extension(&tlv(0x30, &all.concat()))
}

/// A certificate with so many alternative names: too large to be committed.
pub(crate) fn crowded(count: usize) -> Vec<u8> {
    let names = vec![tlv(0x82, b"a.example"); count];
    [b"d", &Made::default().names(&names).der()[..]].concat()
}

fn extension(value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(6, &[0x55, 0x1d, 0x11]), tlv(4, value)].concat())
}

/// One common name in a string of this kind.
fn distinguished(kind: u8, name: &[u8]) -> Vec<u8> {
    let attribute = [tlv(6, &[0x55, 0x04, 0x03]), tlv(kind, name)].concat();
    tlv(0x30, &tlv(0x31, &tlv(0x30, &attribute)))
}

/// A key on P-256 whose point begins so.
fn key(form: u8) -> Vec<u8> {
    let point = [&[0, form][..], &[5; 64]].concat();
    tlv(0x30, &[P256, &tlv(3, &point)].concat())
}

/// ecdsa-with-SHA256.
const ECDSA: &[u8] = &[
    0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02,
];
/// id-ecPublicKey, prime256v1.
const P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
    0xce, 0x3d, 0x03, 0x01, 0x07,
];

/// A sequence in a sequence in a sequence.
fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(Vec::new(), |inner, _| tlv(0x30, &inner))
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len().to_be_bytes();
    let head = match value.len() {
        0..=127 => vec![tag, length[7]],
        128..=255 => vec![tag, 0x81, length[7]],
        256..=65_535 => vec![tag, 0x82, length[6], length[7]],
        _ => vec![tag, 0x83, length[5], length[6], length[7]],
    };
    [head, value.to_vec()].concat()
}
