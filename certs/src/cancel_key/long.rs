//! Protocol 3.2: a secret of up to 256 bytes, so the key is sealed and carries its own proof.
//!
//! AES-256-GCM-SIV (RFC 8452) over node, run and serial number, 8 bytes each, with the process id bound to it: 12 bytes of nonce, 24 sealed,
//! 16 of tag. A forgery opens with probability 2^-128. SIV, because the key lives as long as the fleet's secret and nonces are random: a
//! nonce that came twice would show no more than that two keys are of one connection, where plain GCM would give the tag's key away.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::{CancelKey, Issuer, SealError, Unopened};

pub(super) struct Long {
    key: LessSafeKey,
    node: [u8; 8],
    run: [u8; 8],
}

/// Nonce, node, run, serial number and tag.
pub(super) const SECRET: usize = NONCE_LEN + 3 * 8 + 16;

impl Long {
    pub(super) fn new(key: &[u8; 32], node: u64, run: [u8; 8]) -> Result<Self, SealError> {
        let key = UnboundKey::new(&AES_256_GCM_SIV, key).map_err(|_| SealError)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            node: node.to_be_bytes(),
            run,
        })
    }

    pub(super) fn seal(
        &self,
        serial: u64,
        pid: [u8; 4],
        nonce: [u8; NONCE_LEN],
    ) -> Result<CancelKey, SealError> {
        let pid = (u32::from_be_bytes(pid) & 0x7FFF_FFFF).max(1);
        let mut sealed = [self.node, self.run, serial.to_be_bytes()].concat();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(pid.to_be_bytes()),
                &mut sealed,
            )
            .map_err(|_| SealError)?;
        let secret = [&nonce[..], &sealed].concat();
        Ok(CancelKey { pid, secret })
    }

    pub(super) fn open(&self, pid: u32, secret: &[u8]) -> Result<u64, Unopened> {
        let (nonce, sealed) = match secret.split_first_chunk::<NONCE_LEN>() {
            Some(parts) if secret.len() == SECRET => parts,
            Some(_) | None => return Err(Unopened::Unknown),
        };
        let mut sealed = sealed.to_vec();
        let opened = self
            .key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(pid.to_be_bytes()),
                &mut sealed,
            )
            .map_err(|_| Unopened::Unknown)?;
        let (fields, _) = opened.as_chunks::<8>();
        match fields {
            [node, _, _] if *node != self.node => {
                Err(Unopened::OtherNode(Issuer::long(u64::from_be_bytes(*node))))
            }
            [_, run, serial] if *run == self.run => Ok(u64::from_be_bytes(*serial)),
            _ => Err(Unopened::Unknown),
        }
    }
}
