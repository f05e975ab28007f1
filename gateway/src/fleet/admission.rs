//! Letting nodes in: one-time tokens, and what a stranger with a good one is given.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_certs::fleet::{
    FleetAuthority, JoinRequest as Proof, JoinToken, LogKey, hash_of_secret,
};
use portcullis_policy::{Author, Command, KeyHash, NodeName, NodeRole, Principal, Timestamp, Told};
use zeroize::Zeroizing;

use super::authority::HeldAuthorities;
use super::home::{Home, Piece, Seed};
use super::joining::secret_file;
use super::renewing::valid_from_now;
use super::words::{self, JoinReply, JoinRequest, Welcome};
use super::writes::WriteError;
use super::{Fleet, clock, roles_of};
use crate::config::node::NodeRoles;
use crate::mesh::{Refused, limits};
use crate::runtime::clock::{Duration, Instant};
use crate::runtime::random;

/// What a control node needs to let others in.
pub(super) struct Admission {
    authorities: HeldAuthorities,
    log_key: LogKey,
    /// The secret that is the same on every node.
    secret: Zeroizing<[u8; 32]>,
    guesses: Guesses,
}

impl Admission {
    /// Reads it on a control node.
    pub(super) fn load(
        home: &Home,
        data: &Path,
        authorities: HeldAuthorities,
    ) -> Result<Self, String> {
        let path = secret_file(data);
        let secret = std::fs::read(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?
            .try_into()
            .map_err(|_| format!("{}: not 32 bytes", path.display()))?;
        let told = |error: &dyn std::fmt::Display| format!("the audit log's key: {error}");
        let key = home.read(Piece::LogKey).map_err(|error| told(&error))?;
        let log_key = LogKey::from_pem(&key).map_err(|error| told(&error))?;
        Ok(Self {
            authorities,
            log_key,
            secret: Zeroizing::new(secret),
            guesses: Guesses::default(),
        })
    }

    /// Who signs certificates; why nobody does now, in words.
    pub(super) fn authority(&self) -> Result<Arc<FleetAuthority>, String> {
        self.authorities.issuing()
    }

    /// The keys that this node holds.
    pub(super) fn held(&self) -> &HeldAuthorities {
        &self.authorities
    }

    /// Tries to have the authority's key, if it could not be had so far. Waits for the disk.
    pub(super) fn unseal(&self) {
        self.authorities.unseal();
    }
}

impl Fleet {
    /// A token with which one node may join under this name and in these roles, once.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn invite(
        &self,
        author: Author,
        name: NodeName,
        roles: BTreeSet<NodeRole>,
        lasting: Duration,
    ) -> Result<(JoinToken, Timestamp), WriteError> {
        let admission = self.admission.as_ref().ok_or(WriteError::NotControl)?;
        self.may_date()?;
        let state = self.known_state().await?;
        let fleet = state.fleet().ok_or(WriteError::NotControl)?;
        let addresses = fleet.control().filter_map(|node| node.address.clone());
        let trust = admission.authorities.trust();
        let secret: [u8; 32] = random::bytes();
        let token = JoinToken::new(
            trust.fleet(),
            trust.fingerprint(),
            addresses
                .take(portcullis_certs::fleet::MAX_JOIN_ADDRESSES)
                .collect(),
            secret,
        )
        .map_err(|error| WriteError::Storage(error.to_string()))?;
        let lasting = i64::try_from(lasting.as_millis()).unwrap_or(i64::MAX);
        // The state's time may be ahead of this clock, after a leader whose clock was: what is asked
        // for now is good for as long as it says all the same.
        let from = clock::now().max(state.at());
        let expires = Timestamp::from_millis(from.as_millis().saturating_add(lasting));
        let command = Command::Invite {
            token: KeyHash::new(token.hash()),
            name,
            roles,
            expires,
        };
        self.write(None, author, command).await?;
        Ok((token, expires))
    }

    /// Answers a stranger who asks to join.
    pub(super) async fn welcome(self: &Arc<Self>, request: &[u8]) -> Result<Vec<u8>, Refused> {
        let request: JoinRequest = words::decode(request).map_err(Refused)?;
        let reply = self.admit(&request).await.unwrap_or_else(|refused| refused);
        words::encode(&reply).map_err(Refused)
    }

    async fn admit(&self, request: &JoinRequest) -> Result<JoinReply, JoinReply> {
        let admission = self
            .admission
            .as_ref()
            .ok_or_else(|| later("not_a_control_node", "this node lets nobody in"))?;
        let authority = admission
            .authority()
            .map_err(|problem| later("sealed", &problem))?;
        let proof = Proof::from_der(&request.request)
            .map_err(|error| never("malformed", &error.to_string()))?;
        let name: NodeName = request
            .name
            .parse()
            .map_err(|error| never("malformed", &format!("the name: {error}")))?;
        let roles = NodeRoles {
            control: request.control,
            gateway: request.gateway,
        };
        let token = hash_of_secret(&request.secret);
        let command = Command::Admit {
            token: KeyHash::new(token),
            name,
            roles: roles_of(roles),
            key: KeyHash::new(proof.key().hash()),
            view_key: request.view_key,
            address: request.address.clone(),
        };
        // Its certificate would be dated by this clock.
        self.may_date()
            .map_err(|error| later("clock_wrong", &error.to_string()))?;
        let author = Author {
            name: format!("join {}", request.name),
            principal: Principal::Node(self.me),
        };
        // What this node's own state would refuse may be good all the same, where it is behind. The
        // fleet is asked then, but not by every stranger who makes tokens up.
        let rehearsed = self.rehearse_as(author.clone(), command.clone(), clock::now());
        if rehearsed.is_err() && !admission.guesses.another(clock::instant()) {
            return Err(later(
                "too_many_guesses",
                "too many tokens that do not hold were shown to this node",
            ));
        }
        let written = self
            // A repetition finds its invitation used by its own key.
            .write(None, author, command)
            .await
            .map_err(|error| match error {
                WriteError::Rejected { code, message, .. } => never(&code, &message),
                error @ (WriteError::NoQuorum
                | WriteError::Unknown
                | WriteError::NotControl
                | WriteError::Storage(_)
                | WriteError::Fenced(_)
                | WriteError::Joining) => later("not_now", &error.to_string()),
            })?;
        let Told::Admitted(node) = written.told else {
            return Err(later("not_now", "the fleet did not say which node this is"));
        };
        let deadline = clock::instant() + APPLIED_HERE;
        if !self.enforcer.reaches(written.revision, deadline).await {
            return Err(later("not_now", "this control node has not caught up"));
        }
        let certificate = authority
            .issue_node(node.get(), proof.key(), valid_from_now())
            .map_err(|error| later("not_now", &error.to_string()))?;
        let view = self.source.view();
        let fleet = view
            .fleet()
            .ok_or_else(|| later("not_now", "this node knows no fleet"))?;
        let seeds = fleet.nodes.values().map(|node| Seed {
            node: node.id,
            key: node.key,
            address: node.address.clone(),
            view_key: node.view_key.filter(|_| node.is_control()),
        });
        Ok(JoinReply::Welcome(Box::new(Welcome {
            node,
            certificate,
            authority: admission.authorities.trust().to_pem(),
            authority_key: request.control.then(|| authority.key_pem().to_owned()),
            log_key: request
                .control
                .then(|| admission.log_key.to_pem().as_str().to_owned()),
            secret: *admission.secret,
            epoch: fleet.epoch,
            recovery_key: fleet.recovery_key,
            seeds: seeds.collect(),
        })))
    }
}

/// Tokens that did not hold, lately: each that is asked about costs an entry of the log.
#[derive(Default)]
struct Guesses(Mutex<Option<(Instant, u32)>>);

impl Guesses {
    /// Whether one more is asked about at `now`.
    fn another(&self, now: Instant) -> bool {
        let mut window = self.0.lock();
        let (since, count) = window
            .filter(|(since, _)| {
                now.saturating_duration_since(*since) < limits::STRANGER_GUESSES_IN
            })
            .unwrap_or((now, 0));
        let another = count < limits::STRANGER_GUESSES;
        *window = Some((since, count.saturating_add(u32::from(another))));
        another
    }
}

/// How long this node may take to apply what the leader did.
const APPLIED_HERE: Duration = Duration::from_secs(5);

fn never(code: &str, message: &str) -> JoinReply {
    JoinReply::Refused {
        code: code.to_owned(),
        message: message.to_owned(),
        again: false,
    }
}

fn later(code: &str, message: &str) -> JoinReply {
    JoinReply::Refused {
        code: code.to_owned(),
        message: message.to_owned(),
        again: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_tokens_that_do_not_hold_are_asked_about_in_a_window_and_no_more() {
        let guesses = Guesses::default();
        let start = clock::instant();
        let end = start + limits::STRANGER_GUESSES_IN;
        for _ in 0..limits::STRANGER_GUESSES {
            assert!(guesses.another(start));
        }
        assert!(!guesses.another(start));
        assert!(!guesses.another(end.checked_sub(Duration::from_millis(1)).unwrap()));
        assert!(guesses.another(end));
    }
}
