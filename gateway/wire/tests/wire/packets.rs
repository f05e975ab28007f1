//! Packets as others build them, byte by byte, without help from the code under test.

/// The body of a startup packet with these parameters and the terminator.
pub(crate) fn startup_body(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in parameters {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    body
}

/// A whole startup packet.
pub(crate) fn startup_packet(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let body = startup_body(parameters);
    let length = u32::try_from(body.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &version.to_be_bytes()[..], &body].concat()
}

/// A length and a code.
pub(crate) fn eight(length: u32, code: u32) -> Vec<u8> {
    [length.to_be_bytes(), code.to_be_bytes()].concat()
}

/// A whole message with a type byte.
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind][..], &length.to_be_bytes()[..], body].concat()
}

/// The signature of PROXY v2.
pub(crate) const PROXY_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A PROXY v2 header with this command and family and everything behind the length.
pub(crate) fn proxy_header(version_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [PROXY_SIGNATURE, &[version_command, family], &length, block].concat()
}

/// 198.51.100.7:51000 to 10.0.0.5:5433.
pub(crate) const TCP4: [u8; 12] = [198, 51, 100, 7, 10, 0, 0, 5, 0xC7, 0x38, 0x15, 0x39];

/// A TLV of PROXY v2.
pub(crate) fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind][..], &length, value].concat()
}

/// A PROXY v2 header for TCP over IPv4 with these TLVs.
pub(crate) fn proxied4(tlvs: &[Vec<u8>]) -> Vec<u8> {
    proxy_header(0x21, 0x11, &[&TCP4[..], &tlvs.concat()].concat())
}

/// The same with a right CRC32C as its last TLV.
pub(crate) fn with_crc(tlvs: &[Vec<u8>]) -> Vec<u8> {
    let header = proxied4(&[tlvs, &[tlv(3, &[0; 4])]].concat());
    let at = header.len() - 4;
    checksummed(header, at)
}

/// The same with a right CRC32C as its first TLV.
pub(crate) fn with_crc_first(tlvs: &[Vec<u8>]) -> Vec<u8> {
    let header = proxied4(&[&[tlv(3, &[0; 4])], tlvs].concat());
    checksummed(header, 16 + TCP4.len() + 3)
}

fn checksummed(mut header: Vec<u8>, at: usize) -> Vec<u8> {
    let crc = crc32c(&header).to_be_bytes();
    header[at..at + 4].copy_from_slice(&crc);
    header
}

/// CRC-32C by long division, most significant bit first on reflected bytes; slow and unlike the code under test.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut remainder = 0xFFFF_FFFF_u32;
    for byte in bytes {
        remainder ^= u32::from(byte.reverse_bits()) << 24;
        for _ in 0..8 {
            let carry = remainder >> 31 == 1;
            remainder <<= 1;
            if carry {
                remainder ^= 0x1EDC_6F41;
            }
        }
    }
    !remainder.reverse_bits()
}

#[test]
fn the_checksum_is_the_one_of_rfc_3720() {
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
}
