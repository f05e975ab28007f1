//! What each node does while the fleet's authority is exchanged for another: believe whom the state says, hold the key where it issues, show a
//! certificate of who issues, and say so. What the phases are is `policy/src/state/authorities.rs`.

use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_certs::authority::generate_key;
use portcullis_certs::fleet::{Believable, FleetTrust};
use portcullis_certs::schedule::{Action, Terms, next_action};
use portcullis_certs::vault::{Recipient, wrap};
use portcullis_policy::{
    Author, Authority, AuthorityPhase, AuthorityPurpose, AuthorityStep, Command, Digest, NodeId,
    NodeName, Principal, Successor, Timestamp,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::authority::{Fingerprint, Wanted};
use super::home::{Home, Piece};
use super::peers::Identity;
use super::{Fleet, WriteError, Written, words};
use crate::mesh::Refused;
use crate::runtime::clock::{self, Duration, Instant};

/// How often a node looks whether there is something to do.
pub const EXCHANGE_LOOK: Duration = Duration::from_secs(1);
/// A key that could not be had is tried to be had again after so long.
const KEYS_AGAIN: Duration = Duration::from_secs(10);
/// How long this node may take to know what the fleet decided.
const KNOWN_HERE: Duration = Duration::from_secs(2);
/// How long a control node may take to hand a key on.
const HAND_LIMIT: Duration = Duration::from_secs(5);
/// What a node cannot do is said again after so long, and whenever it changes.
pub const EXCHANGE_AGAIN: Duration = Duration::from_secs(30);
/// For so long operators are known by a certificate of the authority before: theirs live as long.
const RETIRED_MS: i64 = Terms::OPERATOR.lifetime.saturating_mul(1_000);

/// A node that has not done what a phase asks.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its name.
    pub node: NodeName,
    /// Why it cannot, as far as it said.
    pub problem: Option<String>,
}

/// What this node last told the fleet about an exchange.
#[derive(Debug, Default)]
pub(super) struct Said(Mutex<Option<(Confirmation, Instant)>>);

/// What a node says of a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Confirmation {
    successor: Digest,
    phase: AuthorityPhase,
    problem: Option<String>,
}

impl Said {
    fn is_due(&self, said: &Confirmation, now: Instant) -> bool {
        match &*self.0.lock() {
            Some((before, at)) if before == said => {
                said.problem.is_some() && now.saturating_duration_since(*at) >= EXCHANGE_AGAIN
            }
            Some(_) | None => true,
        }
    }

    fn keep(&self, said: Confirmation, now: Instant) {
        *self.0.lock() = Some((said, now));
    }
}

/// Asks for the key of an authority, to be wrapped for whoever holds the other half of `recipient`.
#[derive(Serialize, Deserialize)]
struct KeyRequest {
    fingerprint: Fingerprint,
    recipient: Vec<u8>,
}

/// Does this node's part, for as long as it runs.
pub(super) async fn follow(fleet: Arc<Fleet>, home: Home) {
    let Some(identity) = &fleet.identity else {
        return;
    };
    let mut part = Part {
        unwritten: false,
        keys: Ok(()),
        keys_again: clock::instant(),
    };
    loop {
        let step = fleet.follow_authority(&home, identity, &mut part);
        if fleet.stop.run_until_cancelled(step).await.is_none() {
            return;
        }
        if fleet
            .stop
            .run_until_cancelled(sleep(EXCHANGE_LOOK))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// How far this node is with its part.
struct Part {
    /// Whom it believes is not on its disk.
    unwritten: bool,
    /// Whether it holds the keys that it should,
    keys: Result<(), String>,
    /// and when it tries again if not.
    keys_again: Instant,
}

impl Fleet {
    async fn follow_authority(self: &Arc<Self>, home: &Home, identity: &Identity, part: &mut Part) {
        let view = self.source.view();
        let Some(known) = self.known_fleet(&view) else {
            return;
        };
        // None knows another one than the first, which is on its disk.
        let Some(authority) = known.authority(AuthorityPurpose::Fleet) else {
            if self.leads() {
                self.rotate_if_due(identity).await;
            }
            return;
        };
        let believed = self.believe(home, identity, authority, part).await;
        if part.keys.is_ok() || clock::instant() >= part.keys_again {
            part.keys = self.hold_keys(authority).await;
            part.keys_again = clock::instant() + KEYS_AGAIN;
        }
        let problem = believed.and_then(|()| part.keys.clone()).err();
        let Some(successor) = authority.successor() else {
            if problem.is_none() && self.leads() {
                self.rotate_if_due(identity).await;
            }
            return;
        };
        let done = match authority.phase {
            AuthorityPhase::Settled => return,
            AuthorityPhase::Trusting => Some(problem),
            AuthorityPhase::Issuing | AuthorityPhase::Returning => {
                let shows = identity.node.issuer(&identity.trust, clock::unix_seconds());
                (shows == Some(identity.trust.fingerprint())).then_some(None)
            }
        };
        if let Some(problem) = done {
            let said = Confirmation {
                successor,
                phase: authority.phase,
                problem,
            };
            self.confirm(said).await;
        } else {
            self.issued.renew_now();
        }
        let all = self.leads()
            && self
                .source
                .state()
                .is_some_and(|state| state.unconfirmed(AuthorityPurpose::Fleet).is_empty());
        if all {
            let from = authority.phase;
            self.take_step(AuthorityStep::Advance { successor, from })
                .await;
        }
    }

    /// Believes whom the state says, in the next handshake and after the next start.
    async fn believe(
        &self,
        home: &Home,
        identity: &Identity,
        authority: &Authority,
        part: &mut Part,
    ) -> Result<(), String> {
        let trusted = authority.trusted();
        let from = Timestamp::from_millis(clock::now().as_millis().saturating_sub(RETIRED_MS));
        let retired = authority.previous.as_ref().filter(|it| it.retired >= from);
        let believable = Believable {
            issuing: authority.issuing(),
            other: trusted.get(1).copied(),
            retired: retired.map(|it| it.certificate.as_slice()),
        };
        let news = identity.trust.believe(&believable);
        let news =
            news.map_err(|error| format!("an authority that cannot be believed: {error}"))?;
        if news {
            tracing::info!(phase = %authority.phase, "whom this node believes has changed, as the fleet decided");
        }
        if news || part.unwritten {
            part.unwritten = true;
            let (home, text) = (home.clone(), identity.trust.to_pem());
            let write = tokio::task::spawn_blocking(move || home.write(Piece::Authority, &text));
            let written = write.await.map_err(|error| error.to_string())?;
            written.map_err(|error| error.to_string())?;
            part.unwritten = false;
        }
        Ok(())
    }

    /// On a control node: holds the keys of who issues and of who will, and no others.
    async fn hold_keys(self: &Arc<Self>, authority: &Authority) -> Result<(), String> {
        if self.admission.is_none() {
            return Ok(());
        }
        let previous = authority.previous.as_ref();
        let mut wanted = vec![Wanted {
            certificate: authority.certificate.clone(),
            link: previous.map(|it| it.link.clone()),
        }];
        wanted.extend(authority.next.as_ref().map(|next| Wanted {
            certificate: next.certificate.clone(),
            link: Some(next.link.clone()),
        }));
        for one in &wanted {
            self.hold_key(one.clone()).await?;
        }
        self.in_vault(move |held| held.keep_only(&wanted)).await;
        Ok(())
    }

    async fn hold_key(self: &Arc<Self>, wanted: Wanted) -> Result<(), String> {
        let trust = FleetTrust::from_der(&wanted.certificate).map_err(|error| error.to_string())?;
        let fingerprint = trust.fingerprint();
        let looked = wanted.clone();
        if self.in_vault(move |held| held.have(&looked)).await == Some(true) {
            return Ok(());
        }
        let mut last = "no other control node is known".to_owned();
        for node in self.other_control_nodes() {
            match self.ask_for_key(node, fingerprint).await {
                Ok(key) => {
                    let kept = wanted.clone();
                    let kept = self.in_vault(move |held| held.keep(&kept, &key)).await;
                    return kept.unwrap_or_else(|| Err("this node is stopping".to_owned()));
                }
                Err(problem) => last = format!("{}: {problem}", self.name_of(node)),
            }
        }
        Err(last)
    }

    /// Works on the keys where waiting for a disk or a module holds up nothing else; none if that did not end.
    async fn in_vault<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&super::authority::HeldAuthorities) -> T + Send + 'static,
    ) -> Option<T> {
        let fleet = Arc::clone(self);
        let working = tokio::task::spawn_blocking(move || {
            let admission = fleet.admission.as_ref()?;
            Some(work(admission.held()))
        });
        let done = tokio::time::timeout(HAND_LIMIT, working).await;
        done.ok()?.ok()?
    }

    async fn ask_for_key(
        &self,
        node: NodeId,
        fingerprint: Fingerprint,
    ) -> Result<zeroize::Zeroizing<String>, String> {
        let mesh = self.mesh().ok_or("there is no mesh")?;
        let recipient = Recipient::new().map_err(|error| error.to_string())?;
        let request = words::encode(&KeyRequest {
            fingerprint,
            recipient: recipient.public().to_vec(),
        })?;
        let answer = mesh
            .call(node.get(), words::AUTHORITY_KEY, request, HAND_LIMIT)
            .await;
        let wrapped = answer.map_err(|error| error.to_string())?;
        let name = self.wrapped_for(self.me, &fingerprint);
        let key = recipient
            .open(&name, &wrapped)
            .map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(&key).map_err(|error| error.to_string())?;
        Ok(zeroize::Zeroizing::new(text.to_owned()))
    }

    /// Hands a key on to another control node.
    pub(super) fn hand_key(&self, from: NodeId, request: &[u8]) -> Result<Vec<u8>, Refused> {
        let asked: KeyRequest = words::decode(request).map_err(Refused)?;
        let admission = self.admission.as_ref();
        let held = admission.and_then(|it| it.held().get(&asked.fingerprint));
        let held = held.ok_or_else(|| {
            Refused("this node does not hold that key, or its vault is sealed".to_owned())
        })?;
        let name = self.wrapped_for(from, &asked.fingerprint);
        let wrapped = wrap(&asked.recipient, &name, held.key_pem().as_bytes());
        wrapped.map_err(|error| Refused(error.to_string()))
    }

    /// Under what a key is wrapped: for this node of this fleet, and no other key.
    fn wrapped_for(&self, node: NodeId, fingerprint: &Fingerprint) -> String {
        let fleet = self.membership.as_ref().map(|it| it.fleet.to_string());
        let fingerprint = Digest::new(*fingerprint);
        format!("{} {node} {fingerprint}", fleet.unwrap_or_default())
    }

    /// Begins an exchange where nobody did before the authority was due.
    async fn rotate_if_due(self: &Arc<Self>, identity: &Identity) {
        let (validity, now) = (identity.trust.validity(), clock::unix_seconds());
        let action = next_action(
            Terms::AUTHORITY,
            validity,
            &identity.trust.fingerprint(),
            now,
        );
        if let Action::WaitUntil(_) = action {
            return;
        }
        match self.rotate_authority(self.in_its_name()).await {
            Ok(_) => tracing::info!("the fleet's authority is due and is exchanged for another"),
            Err(error) => {
                tracing::debug!(%error, "the fleet's authority is due; it is tried again")
            }
        }
    }

    fn in_its_name(&self) -> Author {
        Author {
            name: self.name.to_string(),
            principal: Principal::Node(self.me),
        }
    }

    async fn confirm(&self, said: Confirmation) {
        if !self.said.is_due(&said, clock::instant()) {
            return;
        }
        let step = AuthorityStep::Confirm {
            node: self.me,
            successor: said.successor,
            phase: said.phase,
            problem: said.problem.clone(),
        };
        if let Some(problem) = &said.problem {
            tracing::warn!(
                problem,
                "this node cannot follow the exchange of the fleet's authority yet; it is tried again"
            );
        }
        if self.take_step(step).await {
            self.said.keep(said, clock::instant());
        }
    }

    /// Has a step written in this node's name; whether it was.
    async fn take_step(&self, step: AuthorityStep) -> bool {
        let author = self.in_its_name();
        match self.write(None, author, of_fleet(step)).await {
            Ok(_) => true,
            // Somebody else was faster, or the fleet is elsewhere by now: looked at again.
            Err(error) => {
                tracing::debug!(%error, "a step of the exchange of the fleet's authority was not made");
                false
            }
        }
    }

    /// Begins to exchange the fleet's authority for another one, whose key is drawn and sealed here first.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn rotate_authority(self: &Arc<Self>, author: Author) -> Result<Written, WriteError> {
        let admission = self.admission.as_ref().ok_or(WriteError::NotControl)?;
        self.may_date()?;
        let told = |error: &dyn std::fmt::Display| WriteError::Storage(error.to_string());
        let issuing = admission.authority().map_err(WriteError::Storage)?;
        let key = generate_key().map_err(|error| told(&error))?;
        let (next, link) = issuing
            .succeed(key, Terms::AUTHORITY.from(clock::unix_seconds()))
            .map_err(|error| told(&error))?;
        let certificate = next.trust().der();
        let wanted = Wanted {
            certificate: certificate.clone(),
            link: Some(link.clone()),
        };
        let step = of_fleet(AuthorityStep::Rotate(Successor { certificate, link }));
        self.know_the_first(admission.held().trust()).await?;
        // Before anything is kept: most that can be wrong is known here.
        self.rehearse_as(author.clone(), step.clone(), clock::now())?;
        let kept = self
            .in_vault(move |held| held.keep(&wanted, next.key_pem()))
            .await;
        kept.unwrap_or_else(|| Err("this node's vault does not answer".to_owned()))
            .map_err(WriteError::Storage)?;
        self.write(None, author, step).await
    }

    /// Has the state know the authority of before the first exchange, and waits until this node's does.
    async fn know_the_first(&self, trust: &FleetTrust) -> Result<(), WriteError> {
        let state = self.known_state().await?;
        let known = state
            .fleet()
            .and_then(|fleet| fleet.authority(AuthorityPurpose::Fleet));
        if known.is_some() {
            return Ok(());
        }
        let certificate = trust.der();
        let step = of_fleet(AuthorityStep::Known { certificate });
        let written = self.write(None, self.in_its_name(), step).await?;
        let deadline = clock::instant() + KNOWN_HERE;
        self.enforcer.reaches(written.revision, deadline).await;
        Ok(())
    }

    /// Goes back to the authority that was.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn return_authority(&self, author: Author) -> Result<Written, WriteError> {
        let state = self.known_state().await?;
        let authority = state
            .fleet()
            .and_then(|fleet| fleet.authority(AuthorityPurpose::Fleet));
        let successor = authority.and_then(Authority::successor);
        let step = AuthorityStep::Return {
            // Of none, the state says that there is no exchange.
            successor: successor.unwrap_or(Digest::new([0; 32])),
        };
        self.write(None, author, of_fleet(step)).await
    }

    /// The fleet's authority as this node knows it, and who has not done what its phase asks, with the reason where one was told.
    #[must_use]
    pub fn authority(&self) -> Option<(Authority, Vec<Waiting>)> {
        let view = self.source.view();
        let known = self.known_fleet(&view)?;
        let authority = match known.authority(AuthorityPurpose::Fleet) {
            Some(authority) => authority.clone(),
            None => Authority {
                certificate: self.identity.as_ref()?.trust.der(),
                next: None,
                phase: AuthorityPhase::Settled,
                previous: None,
            },
        };
        let state = self.source.state();
        let waits = |node: &portcullis_policy::Node| {
            let said = state.as_ref()?.confirmed(AuthorityPurpose::Fleet, node.id);
            match said {
                Some(None) => None,
                Some(Some(problem)) => Some(Waiting {
                    node: node.name.clone(),
                    problem: Some(problem.to_owned()),
                }),
                None => Some(Waiting {
                    node: node.name.clone(),
                    problem: None,
                }),
            }
        };
        let waiting = match authority.phase {
            AuthorityPhase::Settled => Vec::new(),
            AuthorityPhase::Trusting | AuthorityPhase::Issuing | AuthorityPhase::Returning => {
                known.nodes.values().filter_map(waits).collect()
            }
        };
        Some((authority, waiting))
    }
}

fn of_fleet(step: AuthorityStep) -> Command {
    Command::Authority {
        purpose: AuthorityPurpose::Fleet,
        step,
    }
}
