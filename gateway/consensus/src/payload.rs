//! A proposal on its way through the log of consensus, with the salt of what it leaves in the audit logs.
//!
//! The salt is drawn once, by the leader: every node makes the same commitments of it. While the audit logs have not begun, a payload is
//! the proposal alone, as versions write it that keep none.

use portcullis_audit::personal::{SALT_BYTES, Salt};
use portcullis_policy::{CodecError, Proposal, decode_proposal};

/// No format of proposals begins with this byte.
const SALTED: u8 = 0x80;

/// With a salt: that byte, sixteen of the salt, the proposal's.
pub(crate) fn encode(salt: Option<&Salt>, proposal: Vec<u8>) -> Vec<u8> {
    match salt {
        None => proposal,
        Some(salt) => [&[SALTED], salt.0.as_slice(), &proposal].concat(),
    }
}

/// # Errors
/// Those of [`decode_proposal`]
pub(crate) fn decode(bytes: &[u8]) -> Result<(Option<Salt>, Proposal), CodecError> {
    let salted = bytes.strip_prefix(&[SALTED]);
    match salted.and_then(|rest| rest.split_first_chunk::<SALT_BYTES>()) {
        None => Ok((None, decode_proposal(bytes)?)),
        Some((salt, proposal)) => Ok((Some(Salt(*salt)), decode_proposal(proposal)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_policy::{Command, Timestamp, encode_proposal};

    #[test]
    fn a_payload_is_read_with_and_without_its_salt() {
        let proposal = Proposal::local("test", Timestamp::from_millis(1), Command::Seal);
        let bytes = encode_proposal(&proposal).unwrap();
        assert!(bytes[0] < SALTED);
        let salt = Salt([7; SALT_BYTES]);
        for salt in [None, Some(salt)] {
            let payload = encode(salt.as_ref(), bytes.clone());
            let (found, read) = decode(&payload).unwrap();
            assert!(found == salt && read == proposal);
        }
        let payload = encode(Some(&salt), bytes);
        for cut in 0..payload.len() {
            assert!(decode(&payload[..cut]).is_err(), "{cut}");
        }
    }
}
