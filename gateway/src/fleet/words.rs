//! What nodes say to each other over the mesh, in postcard, and the number of each service. Strangers
//! ask to join ([`JoinRequest`], [`JoinReply`]) under the mesh's own number for that.
//!
//! The mesh's protocol version covers all of it: an enum here grows at its end, and a change that
//! an older node would misread needs a new version there.

use portcullis_policy::NodeId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::home::Seed;

/// Consensus among control nodes; what the bytes mean is `portcullis-consensus`' affair.
pub(super) const RAFT: u8 = 1;
/// A control node's signature under a view, answered by the called node's own (`Vec<Vouched>`).
pub(super) const SIGN: u8 = 2;
/// A command for the leader (`ProposeReply`).
pub(super) const PROPOSE: u8 = 3;
/// A node says what it enforces (`Report`).
pub(super) const REPORT: u8 = 4;
/// How long the called node's own lease lasts and what it knows: what it may lend
/// ([`Lent`](super::lease::Lent)).
pub(super) const CONFIRM: u8 = 5;
/// A subscription to the view.
pub(super) const VIEW: u8 = 6;
/// What a node holds and which sign-ins failed there (`Soft`).
pub(super) const SOFT: u8 = 7;
/// A cancel request whose key the called node issued (`PassedCancel`).
pub(super) const CANCEL: u8 = 8;
/// Which view is the latest, by a quorum that is asked now (`Option<(epoch, revision)>`); the request
/// says whether the called node may ask the leader.
pub(super) const LATEST: u8 = 9;
/// Whether the calling node, whose state differs, may let go of it, as the called one sees it
/// (`Option<LetGo>`).
pub(super) const LET_GO: u8 = 10;
/// A report for a control node that its node does not reach (`(NodeId, Vec<u8>)`: for whom).
pub(super) const PASS_ON: u8 = 11;
/// The same, passed on, signed by its node (`(NodeId, Vec<u8>)`: whose).
pub(super) const PASSED: u8 = 12;
/// The events under a reference (`Sought`, answered by `Told`).
pub(super) const FIND: u8 = 13;
/// What a control node signed of the audit logs' heads, answered by what the called one did
/// (`Vec<Cosigned>`).
pub(super) const SEAL: u8 = 14;
/// Leaves of an audit log (`(AuditLog, u64)`: from which index on; answered by `Vec<Vec<u8>>`).
pub(super) const LEAVES: u8 = 15;
/// The hashes of a whole bundle of an audit log whose leaves were let go of (`(AuditLog, u64)`: from which index on; answered by
/// `Vec<[u8; 32]>`, empty where the leaves can be had).
pub(super) const HASHES: u8 = 16;

/// The key of an authority, for a control node (`KeyRequest`), answered wrapped for it alone.
pub(super) const AUTHORITY_KEY: u8 = 17;

/// A stranger with a token asks to be admitted.
#[derive(Serialize, Deserialize, Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct JoinRequest {
    /// The token's secret.
    pub secret: [u8; 32],
    /// The name that it joins under; the token says the same.
    pub name: String,
    /// The roles of its node.toml; the token says the same.
    pub control: bool,
    /// See `control`.
    pub gateway: bool,
    /// A PKCS#10 request, DER, signed with the node's own key.
    pub request: Vec<u8>,
    /// The key with which it will sign views, if it is to vote.
    pub view_key: Option<[u8; 32]>,
    /// Where others reach it.
    pub address: Option<String>,
}

/// The answer to a stranger.
#[derive(Serialize, Deserialize, Clone)]
pub(super) enum JoinReply {
    /// It is a node now.
    Welcome(Box<Welcome>),
    /// It is not, and nothing changed.
    Refused {
        /// Stable.
        code: String,
        /// What is wrong.
        message: String,
        /// Whether the same may work later.
        again: bool,
    },
}

/// All that makes a stranger a node. Secrets in it travel inside the mesh's TLS alone.
#[derive(Serialize, Deserialize, Clone)]
pub(super) struct Welcome {
    /// Its id.
    pub node: NodeId,
    /// Its certificate, PEM.
    pub certificate: String,
    /// The authority's certificate, PEM.
    pub authority: String,
    /// For one that is to vote: the authority's key, PEM.
    pub authority_key: Option<String>,
    /// For one that is to vote: the key of the fleet's audit logs, PEM.
    pub log_key: Option<String>,
    /// The secret that is the same on every node: mock verifiers and cancel keys.
    pub secret: [u8; 32],
    /// The fleet's epoch.
    pub epoch: u64,
    /// Whose holder may begin a new epoch.
    pub recovery_key: [u8; 32],
    /// The nodes that it can dial.
    pub seeds: Vec<Seed>,
}

impl Drop for Welcome {
    fn drop(&mut self) {
        self.secret.zeroize();
        self.authority_key.zeroize();
        self.log_key.zeroize();
    }
}

/// The bytes of a message.
///
/// # Errors
/// What could not be written: a message beyond what postcard can hold.
pub(super) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, String> {
    postcard::to_stdvec(message).map_err(|error| error.to_string())
}

/// The message in these bytes, all of them.
///
/// # Errors
/// In words: what is wrong with them.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err("bytes after its end".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
