//! The doors' certificates as files: looked at again and again, put in use once they are whole, and missed aloud long before they end.
//!
//! Everything or nothing: where one of the files is not as it should be, handshakes go on showing what they show, and an event says why.
//! Deliberately absent: how a certificate comes to lie there (whoever operates the node, or their own client of an authority).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use portcullis_audit::{Event, kinds, moment};
use portcullis_certs::schedule::{days_left, is_late};
use portcullis_certs::{Identity, ServerIdentities};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::node::{IdentityFiles, PemPair};
use crate::ledger::Ledger;
use crate::proxy::Front;
use crate::runtime::clock::{self, Duration, Instant};

/// How often the files are looked at. What changed is read once it is the same twice.
pub const LOOK: Duration = Duration::from_secs(2);
/// How often one that ends soon is told.
const TELL_AGAIN: Duration = Duration::from_secs(86_400);

/// The certificates of PEM files, in their order.
///
/// # Errors
/// In words: which, and why.
pub fn understand(pairs: &[PemPair]) -> Result<ServerIdentities, String> {
    let mut identities = Vec::new();
    for (index, pair) in pairs.iter().enumerate() {
        let identity = Identity::from_pem(&pair.chain, &pair.key)
            .map_err(|error| format!("certificate {} of node.toml: {error}", index + 1))?;
        identities.push(identity);
    }
    if identities.is_empty() {
        return Err("node.toml names no certificate".to_owned());
    }
    let first = identities.remove(0);
    ServerIdentities::new(first, identities).map_err(|error| error.to_string())
}

/// Keeps what the doors show as the files have it, until the node stops.
pub async fn keep(
    front: Arc<Front>,
    ledger: Arc<Ledger>,
    files: Vec<IdentityFiles>,
    stop: CancellationToken,
) {
    if files.is_empty() {
        return;
    }
    let bot = Bot {
        front,
        ledger,
        files,
    };
    let (mut shown, mut before) = (bot.look().await, Seen::new());
    let mut told = BTreeMap::new();
    loop {
        bot.tell(&mut told);
        if stop.run_until_cancelled(sleep(LOOK)).await.is_none() {
            return;
        }
        let now = bot.look().await;
        // Whoever writes them is done.
        if now != shown && now == before {
            bot.reload().await;
            shown.clone_from(&now);
        }
        before = now;
    }
}

/// What the system says of each file: its time, size and number; nothing of one that is not there.
type Seen = Vec<Option<(i64, i64, u64, u64)>>;

struct Bot {
    front: Arc<Front>,
    ledger: Arc<Ledger>,
    files: Vec<IdentityFiles>,
}

impl Bot {
    async fn look(&self) -> Seen {
        let files = self.files.clone();
        let seen = move || {
            let paths = files.iter().flat_map(|it| [&it.chain, &it.key]);
            paths.map(|path| of_file(path)).collect()
        };
        // A look that fails is one at which nothing was there.
        tokio::task::spawn_blocking(seen).await.unwrap_or_default()
    }

    /// Puts the files in use, or says why not.
    async fn reload(&self) {
        let (front, files) = (Arc::clone(&self.front), self.files.clone());
        let before = front.shows();
        let work = move || -> Result<(), String> {
            let pairs: Result<Vec<PemPair>, _> = files.iter().map(IdentityFiles::read).collect();
            let identities = understand(&pairs.map_err(|error| error.to_string())?)?;
            check(&identities, &front.shows(), clock::unix_seconds())?;
            front.show(identities).map_err(|error| error.to_string())
        };
        let done = tokio::task::spawn_blocking(work).await;
        match done.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(()) => {
                let known: BTreeSet<_> = before.iter().map(|it| it.fingerprint()).collect();
                for new in self.front.shows() {
                    if known.contains(&new.fingerprint()) {
                        continue;
                    }
                    let (name, until) = (name_of(&new), until(&new));
                    tracing::info!(name, until, "a certificate was replaced");
                    self.record(kinds::CERTIFICATE_RENEWED, |event| {
                        event.with("name", name).with("until", until)
                    });
                }
            }
            Err(problem) => {
                tracing::error!(
                    problem,
                    "certificates on disk changed and are not put in use; the ones before are shown"
                );
                self.record(kinds::CERTIFICATE_REFUSED, |event| {
                    event.with("story", problem)
                });
            }
        }
    }

    /// Shows how long each lasts, and tells once a day of those that somebody should have replaced.
    fn tell(&self, told: &mut BTreeMap<[u8; 32], Instant>) {
        let (now, instant) = (clock::unix_seconds(), clock::instant());
        told.retain(|_, at| instant.saturating_duration_since(*at) < TELL_AGAIN);
        for shown in self.front.shows() {
            let (name, validity) = (name_of(&shown), shown.validity());
            metrics::gauge!("portcullis_certificate_days_left", "purpose" => ENDPOINT, "name" => name.clone())
                .set(days_left(validity, now));
            if !is_late(validity, now) || told.contains_key(&shown.fingerprint()) {
                continue;
            }
            told.insert(shown.fingerprint(), instant);
            let until = until(&shown);
            tracing::warn!(
                name,
                until,
                "a certificate ends soon and nobody has replaced it: put the new chain and key in the place of its files"
            );
            self.record(kinds::CERTIFICATE_OVERDUE, |event| {
                let event = event.with("name", name).with("until", until);
                event.with("story", "nobody has replaced it")
            });
        }
    }

    fn record(&self, kind: &'static str, with: impl FnOnce(Event) -> Event) {
        let event = Event::new(clock::now().as_millis(), kind, self.ledger.node());
        self.ledger.record(with(event.with("purpose", ENDPOINT)));
    }
}

/// What the certificates here are for, in events and metrics.
const ENDPOINT: &str = "endpoint";

fn of_file(path: &Path) -> Option<(i64, i64, u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.mtime(), file.mtime_nsec(), file.len(), file.ino()))
}

/// Whether these may take the place of those before.
fn check(identities: &ServerIdentities, before: &[Arc<Identity>], now: i64) -> Result<(), String> {
    for (index, identity) in identities.all().iter().enumerate() {
        let refuse = |problem: &str| {
            let (number, name) = (index + 1, name_of(identity));
            Err(format!(
                "certificate {number} of node.toml ({name}): {problem}"
            ))
        };
        if !identity.validity().contains(now) {
            return refuse("it is not valid now");
        }
        if !identity.is_in_order() {
            return refuse("its chain is out of order: leaf first, then each one's issuer");
        }
    }
    let names = |all: &[Arc<Identity>]| -> BTreeSet<String> {
        all.iter().flat_map(|it| it.names().dns.clone()).collect()
    };
    let (now, then) = (names(identities.all()), names(before));
    match then.difference(&now).next() {
        None => Ok(()),
        Some(lost) => Err(format!(
            "no certificate carries {lost} any more; if that is meant, start the node again"
        )),
    }
}

fn name_of(identity: &Identity) -> String {
    let names = identity.names();
    let name = names.dns.first().or(names.common_name.as_ref());
    name.cloned().unwrap_or_default()
}

fn until(identity: &Identity) -> String {
    moment::to_text(identity.validity().not_after.saturating_mul(1_000))
}
