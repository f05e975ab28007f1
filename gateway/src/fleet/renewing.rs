//! The certificates of nodes: each node has its own renewed long before it is over, and control nodes issue them.
//!
//! A control node issues its own, since it holds the authority's key: a fleet that was off for longer than its certificates live comes up
//! again by itself. Any other node asks control nodes, as a member while its certificate holds. Once it does not, the node is a stranger
//! to them, who shows that it holds a key that the state knows as a member's: the request is signed with it. What is issued is public;
//! only whoever has the key can use it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_audit::{kinds, moment};
use portcullis_certs::Validity;
use portcullis_certs::fleet::{JoinRequest, NodeIdentity, Renewed, recover_client_config};
use portcullis_certs::schedule::{Action, Pace, Terms, days_left, next_action};
use portcullis_policy::NodeId;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::Fleet;
use super::admission::Admission;
use super::authority::Fingerprint;
use super::home::{Home, Piece};
use super::peers::Identity;
use crate::mesh::{self, Refused};
use crate::runtime::clock::{self, Duration, Instant};
use crate::runtime::random;

/// How often a node looks whether its certificate is due: its clock may be set.
const LOOK: Duration = Duration::from_secs(10);
/// How long the vault may take to open before the certificate is looked at all the same.
const UNSEAL_LIMIT: Duration = Duration::from_secs(5);
/// How long a control node may take to issue one.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// For so long the same node is given the same one, and refusals of one who asks are one event.
pub const ISSUED_AGAIN: Duration = Duration::from_secs(60);
/// A node that has started does not act by its clock before others' were compared with it, while its certificate holds.
const SETTLED: Duration = Duration::from_secs(10);

/// The shortest pause between two looks.
const AT_LEAST: Duration = Duration::from_secs(1);

/// What was issued and refused lately. Bounded by the nodes of the fleet.
#[derive(Debug, Default)]
pub(super) struct Issued {
    chains: Mutex<BTreeMap<(NodeId, Fingerprint), (Instant, String)>>,
    refused: Mutex<BTreeMap<Option<NodeId>, Instant>>,
    /// Told when this node's own is to be of another authority.
    due: Notify,
}

impl Issued {
    /// What this node was given a moment ago: whoever asks in its name, with a request that was heard before, keeps nothing from it.
    fn chain(&self, node: NodeId, of: Fingerprint, now: Instant) -> Option<String> {
        let mut chains = self.chains.lock();
        chains.retain(|_, (at, _)| now.saturating_duration_since(*at) < ISSUED_AGAIN);
        chains.get(&(node, of)).map(|(_, chain)| chain.clone())
    }

    fn keep(&self, node: NodeId, of: Fingerprint, now: Instant, chain: &str) {
        let mut chains = self.chains.lock();
        chains.insert((node, of), (now, chain.to_owned()));
    }

    /// Has this node's own certificate looked at now.
    pub(super) fn renew_now(&self) {
        self.due.notify_one();
    }

    /// Waits so long, or until there is something to do, but not less than a second.
    async fn paused(&self, pause: Duration) {
        sleep(pause.min(AT_LEAST)).await;
        let rest = sleep(pause.saturating_sub(AT_LEAST));
        tokio::select! {
            () = rest => {}
            () = self.due.notified() => {}
        }
    }

    /// Whether a refusal of this one, or of a stranger, is told.
    fn tells(&self, whose: Option<NodeId>, now: Instant) -> bool {
        let mut refused = self.refused.lock();
        refused.retain(|_, at| now.saturating_duration_since(*at) < ISSUED_AGAIN);
        let tells = !refused.contains_key(&whose);
        if tells {
            refused.insert(whose, now);
        }
        tells
    }
}

/// Keeps this node's certificate, for as long as the node runs.
pub(super) async fn keep(fleet: Arc<Fleet>, home: Home) {
    let Some(identity) = &fleet.identity else {
        return;
    };
    let began = clock::instant();
    let mut attempts = Attempts::new(began);
    // Shown, and not on the disk.
    let mut unwritten = None;
    loop {
        let now = clock::unix_seconds();
        show_days_left(&identity.node, now);
        fleet.unseal().await;
        if let Some(chain) = unwritten.take() {
            unwritten = fleet.keep_certificate(&home, chain).await;
        }
        let own = &identity.node;
        let mut action = next_action(Terms::NODE, own.validity(), &own.fingerprint(), now);
        let issuing = Some(identity.trust.fingerprint());
        if matches!(action, Action::WaitUntil(_)) && own.issuer(&identity.trust, now) != issuing {
            // It holds, and is to be one of who issues now.
            action = Action::Renew;
        }
        let instant = clock::instant();
        let settled = instant.saturating_duration_since(began) >= SETTLED;
        if attempts.are_due(action, instant) && (settled || action == Action::Recover) {
            let renewing = fleet.renew(&home, identity, action);
            let Some(renewed) = fleet.stop.run_until_cancelled(renewing).await else {
                return;
            };
            match renewed {
                Ok((chain, validity)) => {
                    let until = until(validity);
                    tracing::info!(until, "this node's certificate was renewed");
                    fleet.say_certificate(
                        kinds::CERTIFICATE_RENEWED,
                        fleet.name.as_str(),
                        validity,
                    );
                    unwritten = fleet.keep_certificate(&home, chain).await;
                }
                Err(problem) => {
                    fleet.overdue(until(own.validity()), &problem);
                    let random = u64::from_be_bytes(random::bytes());
                    attempts.failed(action, clock::instant(), random);
                }
            }
        }
        let pause = attempts.pause(action, clock::instant());
        let paused = fleet.issued.paused(pause);
        if fleet.stop.run_until_cancelled(paused).await.is_none() {
            return;
        }
    }
}

/// Attempts in a row that failed, at the same thing.
struct Attempts {
    recovering: bool,
    failures: u32,
    next: Instant,
}

impl Attempts {
    fn new(now: Instant) -> Self {
        Self {
            recovering: false,
            failures: 0,
            next: now,
        }
    }

    /// Whether it is tried now. What became worse begins anew.
    fn are_due(&mut self, action: Action, now: Instant) -> bool {
        let recovering = action == Action::Recover;
        if matches!(action, Action::WaitUntil(_)) || recovering != self.recovering {
            (self.failures, self.next) = (0, now);
        }
        self.recovering = recovering;
        !matches!(action, Action::WaitUntil(_)) && now >= self.next
    }

    fn failed(&mut self, action: Action, now: Instant, random: u64) {
        self.failures = self.failures.saturating_add(1);
        let pause = Pace::of(action).pause_ms(self.failures, random);
        self.next = now + Duration::from_millis(pause);
    }

    /// Until it is looked again: never long, since clocks are set.
    fn pause(&self, action: Action, now: Instant) -> Duration {
        let left = match action {
            Action::WaitUntil(at) => {
                let left = at.saturating_sub(clock::unix_seconds());
                Duration::from_secs(u64::try_from(left).unwrap_or_default())
            }
            Action::Renew | Action::Recover => self.next.saturating_duration_since(now),
        };
        left.clamp(Duration::from_secs(1), LOOK)
    }
}

impl Fleet {
    /// Has the authority's key opened, if it is not.
    async fn unseal(self: &Arc<Self>) {
        let Some(admission) = &self.admission else {
            return;
        };
        if admission.authority().is_err() {
            let fleet = Arc::clone(self);
            let opening = move || {
                if let Some(admission) = &fleet.admission {
                    admission.unseal();
                }
            };
            // A module that hangs is waited for; the node's certificate is renewed meanwhile by others, or not at all.
            let opening = tokio::task::spawn_blocking(opening);
            let _ended_or_too_slow = tokio::time::timeout(UNSEAL_LIMIT, opening).await;
        }
        let sealed = admission.authority().is_err();
        metrics::gauge!("portcullis_vault_sealed").set(f64::from(u8::from(sealed)));
    }
}

fn show_days_left(own: &NodeIdentity, now: i64) {
    metrics::gauge!("portcullis_certificate_days_left", "purpose" => NODE)
        .set(days_left(own.validity(), now));
}

fn until(validity: Validity) -> String {
    moment::to_text(validity.not_after.saturating_mul(1_000))
}

impl Fleet {
    /// Has another certificate issued for this node's key, and shows it from then on; the chain.
    async fn renew(
        &self,
        home: &Home,
        identity: &Identity,
        action: Action,
    ) -> Result<(String, Validity), String> {
        let (own, trust) = (&identity.node, &identity.trust);
        let key = home.read(Piece::Key).map_err(|error| error.to_string())?;
        let key = portcullis_certs::authority::Key::from_pem(&key);
        let key = key.map_err(|error| error.to_string())?;
        let request = JoinRequest::new(&key).map_err(|error| error.to_string())?;
        let checked = |chain: &str| -> Result<Renewed, String> {
            let renewed = own.renewed(chain, trust, clock::unix_seconds());
            let renewed = renewed.map_err(|error| error.to_string())?;
            match renewed.issuer() == trust.fingerprint() {
                true => Ok(renewed),
                false => Err("issued by the authority that issues no longer".to_owned()),
            }
        };
        let authority = self.admission.as_ref().map(Admission::authority);
        let (chain, renewed) = match authority {
            Some(Ok(authority)) => {
                self.may_date().map_err(|error| error.to_string())?;
                let chain = authority
                    .issue_node(self.me.get(), request.key(), valid_from_now())
                    .map_err(|error| error.to_string())?;
                let renewed = checked(&chain)?;
                self.say_certificate(
                    kinds::CERTIFICATE_ISSUED,
                    self.name.as_str(),
                    renewed.validity(),
                );
                (chain, renewed)
            }
            Some(Err(sealed)) => self
                .ask_to_renew(identity, &request, action, checked)
                .await
                .map_err(|problem| format!("{sealed}; {problem}"))?,
            None => {
                self.ask_to_renew(identity, &request, action, checked)
                    .await?
            }
        };
        let validity = renewed.validity();
        // Better one that is gone with the process than none.
        own.show(renewed);
        Ok((chain, validity))
    }

    /// Writes the chain that is shown; it, where that failed.
    async fn keep_certificate(&self, home: &Home, chain: String) -> Option<String> {
        let (home, text) = (home.clone(), chain.clone());
        let write = move || home.write(Piece::Certificate, &text);
        let written = tokio::task::spawn_blocking(write).await;
        match written {
            Ok(Ok(())) => None,
            Ok(Err(error)) => {
                tracing::error!(%error, "this node's new certificate is shown and could not be written; it is tried again");
                Some(chain)
            }
            Err(_) => Some(chain),
        }
    }

    /// Asks one control node after the other, until one issues what holds.
    async fn ask_to_renew(
        &self,
        identity: &Identity,
        request: &JoinRequest,
        action: Action,
        checked: impl Fn(&str) -> Result<Renewed, String>,
    ) -> Result<(String, Renewed), String> {
        let mut last = "this node knows no control node that it could ask".to_owned();
        for (node, address) in self.control_nodes() {
            let asked = match action {
                Action::Recover => {
                    let Some(address) = &address else { continue };
                    let tls = recover_client_config(&identity.trust);
                    let tls = tls.map_err(|error| error.to_string())?;
                    let asked =
                        mesh::ask_as_stranger(address, tls, mesh::RENEW, request.der(), ASK_LIMIT);
                    asked.await.map(|answered| answered.answer)
                }
                Action::Renew | Action::WaitUntil(_) => {
                    let Some(mesh) = self.mesh() else { continue };
                    let request = request.der().to_vec();
                    mesh.call(node.get(), mesh::RENEW, request, ASK_LIMIT).await
                }
            };
            let answered = asked
                .map_err(|error| error.to_string())
                .and_then(|answer| String::from_utf8(answer).map_err(|error| error.to_string()))
                .and_then(|chain| Ok((checked(&chain)?, chain)));
            match answered {
                Ok((renewed, chain)) => return Ok((chain, renewed)),
                Err(problem) => last = format!("{}: {problem}", self.name_of(node)),
            }
        }
        Err(last)
    }

    /// The control nodes with their addresses, as this node knows them, beginning anywhere: not all ask the same one.
    fn control_nodes(&self) -> Vec<(NodeId, Option<String>)> {
        let view = self.source.view();
        let mut all: Vec<_> = match (self.known_fleet(&view), &self.membership) {
            (Some(fleet), _) => fleet
                .control()
                .map(|node| (node.id, node.address.clone()))
                .collect(),
            (None, Some(membership)) => membership
                .seeds
                .iter()
                .filter(|seed| seed.view_key.is_some())
                .map(|seed| (seed.node, seed.address.clone()))
                .collect(),
            (None, None) => Vec::new(),
        };
        all.retain(|(node, _)| *node != self.me);
        if !all.is_empty() {
            let first = usize::try_from(self.start).unwrap_or_default() % all.len();
            all.rotate_left(first);
        }
        all
    }

    /// Issues a certificate for the key of a member, who proves by the request that it holds it. `from` is the member that asks; a stranger
    /// is whoever's key it shows.
    pub(super) fn issue(&self, from: Option<NodeId>, request: &[u8]) -> Result<Vec<u8>, Refused> {
        self.issued_to(from, request).map_err(|problem| {
            if self.issued.tells(from, clock::instant()) {
                let whose = from.map_or_else(|| "a stranger".to_owned(), |it| self.name_of(it));
                self.record(kinds::CERTIFICATE_REFUSED, |event| {
                    let event = event.with("purpose", NODE).with("name", whose);
                    event.with("story", problem.as_str())
                });
            }
            Refused(problem)
        })
    }

    fn issued_to(&self, from: Option<NodeId>, request: &[u8]) -> Result<Vec<u8>, String> {
        let admission = self
            .admission
            .as_ref()
            .ok_or("this node issues no certificates: it is no control node")?;
        let proof = JoinRequest::from_der(request).map_err(|error| error.to_string())?;
        // Who belongs to the fleet is known by whoever has a quorum behind it; and a wrong clock dates wrongly.
        if self.is_out() || !self.has_lease() {
            return Err("this control node has no quorum behind it".to_owned());
        }
        self.may_date().map_err(|error| error.to_string())?;
        let view = self.source.view();
        let hash = proof.key().hash();
        let node = view
            .fleet()
            .and_then(|fleet| fleet.nodes.values().find(|it| *it.key.as_bytes() == hash))
            .filter(|node| from.is_none_or(|from| from == node.id))
            .ok_or("the key is not that of a node of this fleet")?;
        let now = clock::instant();
        let authority = admission.authority()?;
        let of = authority.trust().fingerprint();
        if let Some(chain) = self.issued.chain(node.id, of, now) {
            return Ok(chain.into_bytes());
        }
        let validity = valid_from_now();
        let chain = authority
            .issue_node(node.id.get(), proof.key(), validity)
            .map_err(|error| error.to_string())?;
        self.issued.keep(node.id, of, now, &chain);
        self.say_certificate(kinds::CERTIFICATE_ISSUED, node.name.as_str(), validity);
        Ok(chain.into_bytes())
    }

    fn say_certificate(&self, kind: &'static str, name: &str, validity: Validity) {
        self.record(kind, |event| {
            let event = event.with("purpose", NODE).with("name", name);
            event.with("until", until(validity))
        });
    }

    /// By which this node is known; none on a node that is a fleet by itself.
    #[must_use]
    pub fn own_certificate(&self) -> Option<OwnCertificate> {
        let identity = self.identity.as_ref()?;
        Some(OwnCertificate {
            until: identity.node.validity().not_after,
            issuer: identity.node.issuer(&identity.trust, clock::unix_seconds()),
        })
    }

    fn overdue(&self, until: String, problem: &str) {
        tracing::warn!(
            until,
            problem,
            "this node's certificate is due and could not be renewed; it is tried again"
        );
        self.record(kinds::CERTIFICATE_OVERDUE, |event| {
            let event = event.with("purpose", NODE);
            let event = event.with("name", self.name.as_str());
            event.with("until", until).with("story", problem)
        });
    }
}

/// A node's certificate.
#[derive(Clone, Copy, Debug)]
pub struct OwnCertificate {
    /// When it ends, Unix seconds.
    pub until: i64,
    /// SHA-256 of the certificate of who issued it; none if that one is not believed, or it does not hold.
    pub issuer: Option<[u8; 32]>,
}

/// What the certificates here are for, in events and metrics.
const NODE: &str = "node";

/// The life of a node's certificate that is issued now.
pub(super) fn valid_from_now() -> Validity {
    Terms::NODE.from(clock::unix_seconds())
}
