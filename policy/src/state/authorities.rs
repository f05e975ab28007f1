//! The fleet's authorities, and how one is exchanged for another.
//!
//! ```text
//!              rotate             all can            all do
//!   Settled ───────────► Trusting ───────► Issuing ───────────► Settled (the new one)
//!      ▲                    │ return          │ return
//!      ├────────────────────┘                 ▼          all do
//!      └─────────────────────────────────── Returning ◄───┘
//! ```
//!
//! In each phase every node has something to do, and says when it has done it, or that it cannot. The next phase begins when all have:
//! a node that cannot use the new key keeps the old one trusted. What a certificate says is nothing to this crate; keys are not here.

use super::apply::{Done, State};
use super::fleet::Fleet;
use super::rejection::Rejection;
use super::root::{hash_of, sha256};
use crate::fleet_id::{Digest, NodeId};
use crate::id::NodeName;
use crate::limits::{MAX_AUTHORITY_CERTIFICATE, MAX_AUTHORITY_PROBLEM};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What an authority issues certificates for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthorityPurpose {
    /// The fleet's nodes, and those who command it.
    Fleet,
}

impl fmt::Display for AuthorityPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fleet => "fleet",
        })
    }
}

/// The authorities of a fleet, by purpose. None where every node knows the only one from its own disk.
pub type Authorities = BTreeMap<AuthorityPurpose, Authority>;

/// The authority of one purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Authority {
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// The one that is to take its place.
    pub next: Option<Successor>,
    /// How far that is.
    pub phase: AuthorityPhase,
    /// The one in whose place this one came.
    pub previous: Option<PreviousAuthority>,
}

/// An authority that takes the place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Successor {
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// A certificate for the same name and key that the other one signed, DER (RFC 4210 section 4.4.1, new with old): whoever was away
    /// finds from the one to the other.
    pub link: Vec<u8>,
}

/// An authority that is one no longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PreviousAuthority {
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// [`Successor::link`] from it to the present one.
    pub link: Vec<u8>,
    /// Since when.
    pub retired: Timestamp,
}

/// How far an exchange is: who issues, and what every node has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthorityPhase {
    /// There is one authority, and nothing to do.
    Settled,
    /// The old one issues. Nodes are to trust the new one, too, and those that issue to have its key.
    Trusting,
    /// The new one issues. Nodes are to show a certificate of it.
    Issuing,
    /// The old one issues again. Nodes are to show a certificate of it, and the new one is trusted until they do.
    Returning,
}

impl fmt::Display for AuthorityPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settled => "settled",
            Self::Trusting => "trusting",
            Self::Issuing => "issuing",
            Self::Returning => "returning",
        })
    }
}

/// A step of an exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum AuthorityStep {
    /// This is the one that all have trusted since the fleet was founded. Whoever proposes it has it from its own disk.
    Known {
        /// Its certificate, DER.
        certificate: Vec<u8>,
    },
    /// Another one is to take its place.
    Rotate(Successor),
    /// A node has done what the phase asks of it, or cannot.
    #[serde(rename_all = "kebab-case")]
    Confirm {
        /// The node.
        node: NodeId,
        /// The successor's certificate, SHA-256.
        successor: Digest,
        /// The phase that it speaks of.
        phase: AuthorityPhase,
        /// Why it cannot.
        problem: Option<String>,
    },
    /// The phase after this one begins.
    Advance {
        /// The successor's certificate, SHA-256.
        successor: Digest,
        /// The phase that ends.
        from: AuthorityPhase,
    },
    /// The old one is to stay.
    Return {
        /// The successor's certificate, SHA-256.
        successor: Digest,
    },
}

/// What nodes said of the phase that is: why not, or that they have done it.
pub(super) type Confirmed = BTreeMap<(AuthorityPurpose, NodeId), Option<String>>;

impl Authority {
    /// Who issues now: its certificate, DER.
    #[must_use]
    pub fn issuing(&self) -> &[u8] {
        match (self.phase, &self.next) {
            (AuthorityPhase::Issuing, Some(next)) => &next.certificate,
            (
                AuthorityPhase::Settled
                | AuthorityPhase::Trusting
                | AuthorityPhase::Issuing
                | AuthorityPhase::Returning,
                _,
            ) => &self.certificate,
        }
    }

    /// Whose certificates are believed now, DER; who issues is the first.
    #[must_use]
    pub fn trusted(&self) -> Vec<&[u8]> {
        let next = self.next.as_ref().map(|next| next.certificate.as_slice());
        let all = [Some(self.certificate.as_slice()), next];
        let issuing = self.issuing();
        let others = all.into_iter().flatten().filter(|it| *it != issuing);
        [issuing].into_iter().chain(others).collect()
    }

    /// What leads to who issues now from whom it came after; until `from_retired` the one before is too long ago.
    #[must_use]
    pub fn link(&self, from_retired: Timestamp) -> Option<&[u8]> {
        match (self.phase, &self.next, &self.previous) {
            (AuthorityPhase::Issuing, Some(next), _) => Some(&next.link),
            (_, _, Some(previous)) if previous.retired >= from_retired => Some(&previous.link),
            (
                AuthorityPhase::Settled
                | AuthorityPhase::Trusting
                | AuthorityPhase::Issuing
                | AuthorityPhase::Returning,
                _,
                _,
            ) => None,
        }
    }

    /// The one that is to take its place, as steps name it.
    #[must_use]
    pub fn successor(&self) -> Option<Digest> {
        self.next.as_ref().map(|next| sha256(&next.certificate))
    }

    fn without_successor(self) -> Self {
        Self {
            next: None,
            phase: AuthorityPhase::Settled,
            ..self
        }
    }

    fn check(&self) -> Result<(), Rejection> {
        check_certificate(&self.certificate)?;
        if let Some(next) = &self.next {
            next.check()?;
        }
        if let Some(previous) = &self.previous {
            check_certificate(&previous.certificate)?;
            check_certificate(&previous.link)?;
        }
        match self.next.is_some() == (self.phase != AuthorityPhase::Settled) {
            true => Ok(()),
            false => Err(Rejection::Snapshot("an authority's phase has no successor")),
        }
    }
}

impl Successor {
    fn check(&self) -> Result<(), Rejection> {
        check_certificate(&self.certificate)?;
        check_certificate(&self.link)
    }
}

fn check_certificate(certificate: &[u8]) -> Result<(), Rejection> {
    match (1..=MAX_AUTHORITY_CERTIFICATE).contains(&certificate.len()) {
        true => Ok(()),
        false => Err(Rejection::AuthorityCertificate),
    }
}

impl Fleet {
    /// The authority of this purpose, once the state knows it.
    #[must_use]
    pub fn authority(&self, purpose: AuthorityPurpose) -> Option<&Authority> {
        self.authorities.get(&purpose)
    }

    pub(super) fn check_authorities(&self) -> Result<(), Rejection> {
        self.authorities.values().try_for_each(Authority::check)
    }
}

impl State {
    /// What a node last said of the phase that is: nothing, or why it cannot do what that asks, or that it has.
    #[must_use]
    pub fn confirmed(&self, purpose: AuthorityPurpose, node: NodeId) -> Option<Option<&str>> {
        let said = self.confirmed.get(&(purpose, node))?;
        Some(said.as_deref())
    }

    /// The nodes that have not done what the phase asks.
    #[must_use]
    pub fn unconfirmed(&self, purpose: AuthorityPurpose) -> Vec<NodeName> {
        let nodes = self.fleet().map(|fleet| fleet.nodes.values());
        let lacks = |id: NodeId| self.confirmed(purpose, id) != Some(None);
        let nodes = nodes.into_iter().flatten().filter(|node| lacks(node.id));
        nodes.map(|node| node.name.clone()).collect()
    }

    pub(super) fn authority_step(
        &mut self,
        purpose: AuthorityPurpose,
        step: &AuthorityStep,
    ) -> Result<Done, Rejection> {
        if let AuthorityStep::Confirm {
            node,
            successor,
            phase,
            problem,
        } = step
        {
            return self.confirm(purpose, *node, *successor, *phase, problem.as_deref());
        }
        let (at, waiting) = (self.at, self.unconfirmed(purpose));
        let (done, ()) = self.change_fleet(|fleet| {
            let authorities = &mut fleet.authorities;
            let known = authorities.get(&purpose).cloned();
            let next = match (known, step) {
                (None, AuthorityStep::Known { certificate }) => Authority {
                    certificate: certificate.clone(),
                    next: None,
                    phase: AuthorityPhase::Settled,
                    previous: None,
                },
                (None, _) => return Err(Rejection::NoAuthority(purpose)),
                (Some(known), step) => stepped(known, purpose, step, &waiting, at)?,
            };
            next.check()?;
            authorities.insert(purpose, next);
            Ok(())
        })?;
        if done.changed {
            self.forget_confirmed(|of, _| of == purpose);
        }
        Ok(done)
    }

    fn confirm(
        &mut self,
        purpose: AuthorityPurpose,
        node: NodeId,
        successor: Digest,
        phase: AuthorityPhase,
        problem: Option<&str>,
    ) -> Result<Done, Rejection> {
        let fleet = self.fleet().ok_or(Rejection::NoFleet)?;
        if !fleet.nodes.contains_key(&node) {
            return Err(Rejection::NoSuchNode(node));
        }
        if problem.is_some_and(|it| it.len() > MAX_AUTHORITY_PROBLEM) {
            return Err(Rejection::AuthorityProblem);
        }
        let authority = fleet.authority(purpose);
        let authority = authority.ok_or(Rejection::NoAuthority(purpose))?;
        // What is said of a phase that is over says nothing of this one.
        if authority.phase == phase && authority.successor() == Some(successor) {
            let said = problem.map(str::to_owned);
            self.confirmed.insert((purpose, node), said);
        }
        Ok(Done::quietly(false))
    }

    pub(super) fn forget_confirmed(&mut self, of: impl Fn(AuthorityPurpose, NodeId) -> bool) {
        self.confirmed
            .retain(|(purpose, node), _| !of(*purpose, *node));
    }

    pub(super) fn restore_confirmed(&mut self, said: Vec<Said>) -> Result<(), Rejection> {
        for Said {
            purpose,
            node,
            problem,
        } in said
        {
            let known = self
                .fleet()
                .is_some_and(|fleet| fleet.nodes.contains_key(&node));
            let fits = problem
                .as_ref()
                .is_none_or(|it| it.len() <= MAX_AUTHORITY_PROBLEM);
            if !known || !fits {
                return Err(Rejection::Snapshot("an authority was confirmed by nobody"));
            }
            self.confirmed.insert((purpose, node), problem);
        }
        Ok(())
    }

    pub(super) fn said(&self) -> Vec<Said> {
        let all = self.confirmed.iter();
        all.map(|((purpose, node), problem)| Said {
            purpose: *purpose,
            node: *node,
            problem: problem.clone(),
        })
        .collect()
    }

    /// None while nobody said anything: as it was before this could be said.
    pub(super) fn confirmed_root(&self) -> Option<Digest> {
        (!self.confirmed.is_empty()).then(|| hash_of(b"confirmed", &self.said()))
    }
}

/// What a node said, in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Said {
    purpose: AuthorityPurpose,
    node: NodeId,
    problem: Option<String>,
}

fn stepped(
    known: Authority,
    purpose: AuthorityPurpose,
    step: &AuthorityStep,
    waiting: &[NodeName],
    at: Timestamp,
) -> Result<Authority, Rejection> {
    let phase = known.phase;
    let elsewhere = Err(Rejection::AuthorityPhase { purpose, phase });
    match step {
        AuthorityStep::Known { certificate } => match *certificate == known.certificate {
            true => Ok(known),
            false => Err(Rejection::AuthorityKnown(purpose)),
        },
        AuthorityStep::Rotate(next) => match phase {
            AuthorityPhase::Settled if next.certificate == known.certificate => {
                Err(Rejection::AuthorityCertificate)
            }
            AuthorityPhase::Settled => Ok(Authority {
                next: Some(next.clone()),
                phase: AuthorityPhase::Trusting,
                ..known
            }),
            AuthorityPhase::Trusting | AuthorityPhase::Issuing | AuthorityPhase::Returning => {
                elsewhere
            }
        },
        AuthorityStep::Advance { successor, from } => {
            if known.successor() != Some(*successor) || *from != phase {
                return elsewhere;
            }
            if !waiting.is_empty() {
                let nodes = waiting.to_vec();
                return Err(Rejection::AuthorityUnconfirmed { purpose, nodes });
            }
            match (phase, known.next.clone()) {
                (AuthorityPhase::Trusting, Some(_)) => Ok(Authority {
                    phase: AuthorityPhase::Issuing,
                    ..known
                }),
                (AuthorityPhase::Issuing, Some(next)) => Ok(Authority {
                    certificate: next.certificate,
                    next: None,
                    phase: AuthorityPhase::Settled,
                    previous: Some(PreviousAuthority {
                        certificate: known.certificate,
                        link: next.link,
                        retired: at,
                    }),
                }),
                (AuthorityPhase::Returning, Some(_)) => Ok(known.without_successor()),
                (AuthorityPhase::Settled, _)
                | (
                    AuthorityPhase::Trusting | AuthorityPhase::Issuing | AuthorityPhase::Returning,
                    None,
                ) => elsewhere,
            }
        }
        AuthorityStep::Return { successor } => match phase {
            _ if known.successor() != Some(*successor) => elsewhere,
            AuthorityPhase::Trusting => Ok(known.without_successor()),
            AuthorityPhase::Issuing => Ok(Authority {
                phase: AuthorityPhase::Returning,
                ..known
            }),
            AuthorityPhase::Settled | AuthorityPhase::Returning => elsewhere,
        },
        // Said before it comes to this.
        AuthorityStep::Confirm { .. } => elsewhere,
    }
}

/// A fleet with its authorities, as views travel: what a fleet without any always was, and another form for one with them, which nobody
/// uses before every node reads it.
pub(super) mod travelling {
    use super::{Authorities, Fleet};
    use crate::text::unique;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// The first two are what an `Option` is in postcard.
    #[derive(Serialize)]
    enum Out<'a> {
        Same,
        Plain(&'a Fleet),
        WithAuthorities(&'a Fleet, &'a Authorities),
    }

    #[derive(Deserialize)]
    enum In {
        Same,
        Plain(Fleet),
        WithAuthorities(Fleet, Listed),
    }

    #[derive(Deserialize)]
    struct Listed(#[serde(deserialize_with = "unique::map")] Authorities);

    pub(crate) fn serialize<S: Serializer>(
        fleet: &Option<Fleet>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match fleet {
            None => Out::Same,
            Some(fleet) if fleet.authorities.is_empty() => Out::Plain(fleet),
            Some(fleet) => Out::WithAuthorities(fleet, &fleet.authorities),
        }
        .serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Fleet>, D::Error> {
        Ok(match In::deserialize(from)? {
            In::Same => None,
            In::Plain(fleet) => Some(fleet),
            In::WithAuthorities(fleet, Listed(authorities)) => Some(Fleet {
                authorities,
                ..fleet
            }),
        })
    }
}
