//! A report that another node passes on, signed by the node that it is of.
//!
//! Whoever passes it on can neither make it up nor alter it: a receipt counts what the node itself
//! said. It is signed with the key of the node's certificate, for one fleet, node, epoch and start
//! of its process.

use portcullis_certs::fleet::{FleetId, NodeIdentity, Statement};
use portcullis_policy::{KeyHash, NodeId};
use serde::{Deserialize, Serialize};

use super::report::Report;
use super::words;

/// A report on its way through another node: versions are added at the end.
#[derive(Serialize, Deserialize)]
enum Passed {
    /// As older versions pass reports on, a [`Report`] behind it: believed of nobody.
    Unsigned,
    /// Signed by its node.
    Signed {
        /// How often the node had been started.
        started: u64,
        /// The report, as the node itself sends it.
        report: Vec<u8>,
        /// See [`NodeIdentity::sign`].
        signature: Vec<u8>,
    },
}

/// A report as its node signed it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Vouched {
    /// How often the node had been started.
    pub(super) started: u64,
    /// What it said.
    pub(super) report: Report,
}

/// Whose report it is, and where it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Of {
    pub(super) fleet: FleetId,
    pub(super) node: NodeId,
    pub(super) epoch: u64,
}

impl Of {
    /// This node's own report, ready to be passed on.
    ///
    /// # Errors
    /// In words: it cannot be signed or encoded.
    pub(super) fn sign(
        &self,
        identity: &NodeIdentity,
        started: u64,
        report: Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        let message = self.message(started, &report);
        let signature = identity.sign(Statement::Report, &message);
        words::encode(&Passed::Signed {
            started,
            report,
            signature: signature.ok_or("this node's key cannot sign")?,
        })
    }

    /// What that node, which is known by this key, has said.
    ///
    /// # Errors
    /// In words: it has not, or not here and now.
    pub(super) fn read(&self, key: &KeyHash, bytes: &[u8]) -> Result<Vouched, String> {
        let Passed::Signed {
            started,
            report,
            signature,
        } = words::decode(bytes)?
        else {
            return Err(UNSIGNED.to_owned());
        };
        let message = self.message(started, &report);
        if !Statement::Report.verify(key.as_bytes(), &message, &signature) {
            return Err(UNSIGNED.to_owned());
        }
        let report = Report::from_bytes(&report)?;
        Ok(Vouched { started, report })
    }

    fn message(&self, started: u64, report: &[u8]) -> Vec<u8> {
        [
            &self.fleet.0[..],
            &self.node.get().to_be_bytes(),
            &self.epoch.to_be_bytes(),
            &started.to_be_bytes(),
            report,
        ]
        .concat()
    }
}

const UNSIGNED: &str = "a report that is not signed by its node";

#[cfg(test)]
mod tests {
    use portcullis_certs::Validity;
    use portcullis_certs::authority::generate_key;
    use portcullis_certs::fleet::{FleetAuthority, PublicKey};
    use portcullis_certs::schedule::Terms;

    use super::super::report::sample;
    use super::*;

    const FLEET: FleetId = FleetId([1; 16]);

    fn identity(node: u64) -> NodeIdentity {
        let always = Validity {
            not_before: 1_700_000_000,
            not_after: 2_000_000_000,
        };
        let authority = FleetAuthority::new(FLEET, generate_key().unwrap(), always).unwrap();
        let key = generate_key().unwrap();
        let public = PublicKey::of(&key).unwrap();
        let week = Terms::NODE.from(1_800_000_000);
        let chain = authority.issue_node(node, &public, week).unwrap();
        NodeIdentity::from_pem(&chain, &key.to_pem()).unwrap()
    }

    fn of(node: u64, epoch: u64) -> Of {
        Of {
            fleet: FLEET,
            node: NodeId::new(node).unwrap(),
            epoch,
        }
    }

    #[test]
    fn only_what_the_node_itself_said_here_and_now_is_read() {
        let (own, other) = (identity(4), identity(5));
        let report = sample(9, &[9]);
        let bytes = report.to_bytes().unwrap();
        let key = KeyHash::new(own.key());
        let good = of(4, 2).sign(&own, 7, bytes.clone()).unwrap();
        let started = 7;
        let meant = Vouched { started, report };
        assert_eq!(of(4, 2).read(&key, &good), Ok(meant));
        // Of another node, of another epoch, of another fleet, by another key.
        assert!(of(5, 2).read(&key, &good).is_err());
        assert!(of(4, 3).read(&key, &good).is_err());
        let elsewhere = Of {
            fleet: FleetId([2; 16]),
            ..of(4, 2)
        };
        assert!(elsewhere.read(&key, &good).is_err());
        let forged = of(4, 2).sign(&other, 7, bytes.clone()).unwrap();
        assert!(of(4, 2).read(&key, &forged).is_err());
        // As it is sent by the node itself, and as it was passed on before.
        assert!(of(4, 2).read(&key, &bytes).is_err());
        let unsigned = words::encode(&Passed::Unsigned).unwrap();
        assert!(of(4, 2).read(&key, &unsigned).is_err());
        for position in 0..good.len() {
            let mut bytes = good.clone();
            bytes[position] ^= 1;
            assert!(of(4, 2).read(&key, &bytes).is_err(), "{position}");
            assert!(of(4, 2).read(&key, &good[..position]).is_err());
        }
    }

    #[test]
    fn a_passed_report_is_read_as_it_was_first_written() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/mesh/passed.v1.bin");
        let meant = Vouched {
            started: 7,
            report: sample(9, &[9]),
        };
        if std::env::var_os("BLESS").is_some() && !path.exists() {
            let own = identity(4);
            let report = meant.report.to_bytes().unwrap();
            let signed = of(4, 2).sign(&own, meant.started, report).unwrap();
            std::fs::write(&path, [&own.key()[..], &signed].concat()).unwrap();
        }
        let written = std::fs::read(&path).unwrap();
        let (key, signed) = written.split_first_chunk().unwrap();
        let read = of(4, 2).read(&KeyHash::new(*key), signed);
        assert_eq!(read, Ok(meant));
    }
}
