//! ClientHellos that no TLS library of today would send (RFC 5246 section 7.4.1.2).

/// What an old or broken client offers.
pub(super) struct Hello<'a> {
    /// The version of the hello itself.
    pub(super) version: [u8; 2],
    /// Cipher suites, two bytes each.
    pub(super) suites: &'a [u8],
    /// Compression methods.
    pub(super) compression: &'a [u8],
}

/// Cipher suites of TLS 1.0 and 1.1: ephemeral and static keys, CBC.
pub(super) const OLD_SUITES: &[u8] = &[
    0xc0, 0x0a, 0xc0, 0x09, 0xc0, 0x14, 0xc0, 0x13, 0x00, 0x35, 0x00, 0x2f, 0x00, 0x0a,
];
/// Suites that TLS 1.2 still has and nobody should: CBC, keys encrypted by RSA, 3DES, RC4, anonymous.
pub(super) const WEAK_SUITES: &[u8] = &[
    0xc0, 0x24, 0xc0, 0x23, 0xc0, 0x28, 0xc0, 0x27, 0xc0, 0x0a, 0xc0, 0x09, 0xc0, 0x14, 0xc0, 0x13,
    0x00, 0x9d, 0x00, 0x9c, 0x00, 0x3d, 0x00, 0x3c, 0x00, 0x35, 0x00, 0x2f, 0x00, 0x0a, 0x00, 0x05,
    0x00, 0x34, 0x00, 0x01,
];
/// ECDHE with AES-128-GCM: what is right.
pub(super) const GOOD_SUITES: &[u8] = &[0xc0, 0x2b, 0xc0, 0x2f];

impl Hello<'_> {
    /// The TLS record with it.
    pub(super) fn record(&self) -> Vec<u8> {
        let mut body = self.version.to_vec();
        body.extend([0x5a; 32]);
        // No session to resume.
        body.push(0);
        body.extend(of_two_bytes(self.suites));
        body.push(u8::try_from(self.compression.len()).unwrap_or(u8::MAX));
        body.extend(self.compression);
        body.extend(of_two_bytes(EXTENSIONS));
        let mut record = vec![0x16, 3, 1];
        let mut handshake = vec![1, 0];
        handshake.extend(of_two_bytes(&body));
        record.extend(of_two_bytes(&handshake));
        record
    }
}

/// supported_groups: secp256r1, x25519; ec_point_formats: uncompressed; signature_algorithms:
/// ecdsa_secp256r1_sha256, rsa_pkcs1_sha256; ALPN: postgresql.
const EXTENSIONS: &[u8] =
    b"\0\x0a\0\x06\0\x04\0\x17\0\x1d\0\x0b\0\x02\x01\0\0\x0d\0\x06\0\x04\x04\x03\x04\x01\
      \0\x10\0\x0d\0\x0b\x0apostgresql";

/// The bytes behind their length.
fn of_two_bytes(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_in_a_hello_fits_what_follows() {
        let hello = Hello {
            version: [3, 3],
            suites: GOOD_SUITES,
            compression: &[0],
        };
        let record = hello.record();
        let at = |index: usize| usize::from(u16::from_be_bytes([record[index], record[index + 1]]));
        assert_eq!(at(3), record.len() - 5);
        assert_eq!(at(7), record.len() - 9);
        // Behind version, random, no session, suites and compression.
        assert_eq!(at(9 + 2 + 32 + 1 + 2 + 4 + 2), EXTENSIONS.len());
    }
}
