//! The doors' certificates as files: looked at again and again, put in use once they are whole, and missed aloud long before they end.
//!
//! Everything or nothing: where one of the files is not as it should be, handshakes go on showing what they show, and an event says why.
//! Deliberately absent: how a certificate comes to lie there (whoever operates the node, or their own client of an authority).

use std::collections::{BTreeMap, BTreeSet, HashSet};
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
/// What was refused is read again after this.
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// How often it is looked at how long each lasts, where none was replaced: of thousands that takes milliseconds.
const TELL: Duration = Duration::from_secs(60);
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
    let bot = Arc::new(Bot {
        front,
        ledger,
        files,
    });
    // What was changed while the node started is read, too.
    let (mut shown, mut before) = (Seen::new(), Seen::new());
    let (mut told, mut refused) = (Told::new(), None::<Refused>);
    let mut due = clock::instant();
    loop {
        if clock::instant() >= due {
            told = bot.tell(told).await;
            due = clock::instant() + TELL;
        }
        if stop.run_until_cancelled(sleep(LOOK)).await.is_none() {
            return;
        }
        let now = bot.look().await;
        // Whoever writes them is done.
        let whole = now != shown && now == before;
        let again = |it: &Refused| it.seen != now || clock::instant() >= it.again;
        if whole && refused.as_ref().is_none_or(again) {
            match bot.reload().await {
                Ok(()) => {
                    shown.clone_from(&now);
                    refused = None;
                    due = clock::instant();
                }
                Err(story) => {
                    let known = refused.take().is_some_and(|it| it.story == story);
                    if !known {
                        bot.refuse(&story);
                    }
                    refused = Some(Refused {
                        seen: now.clone(),
                        again: clock::instant() + TRY_AGAIN,
                        story,
                    });
                }
            }
        }
        before = now;
    }
}

/// What the system says of each file: its times, size and number; nothing of one that is not there.
type Seen = Vec<Option<[i128; 6]>>;

/// When each that ends soon was told, by its fingerprint.
type Told = BTreeMap<[u8; 32], Instant>;

/// Files that were not put in use.
struct Refused {
    seen: Seen,
    /// The reason may go away by itself: a certificate that begins soon.
    again: Instant,
    story: String,
}

struct Bot {
    front: Arc<Front>,
    ledger: Arc<Ledger>,
    files: Vec<IdentityFiles>,
}

impl Bot {
    async fn look(self: &Arc<Self>) -> Seen {
        let bot = Arc::clone(self);
        let seen = move || {
            let paths = bot.files.iter().flat_map(|it| [&it.chain, &it.key]);
            paths.map(|path| of_file(path)).collect()
        };
        // A look that fails is one at which nothing was there.
        tokio::task::spawn_blocking(seen).await.unwrap_or_default()
    }

    /// Puts the files in use, or says why not.
    async fn reload(self: &Arc<Self>) -> Result<(), String> {
        let bot = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || bot.replace()).await;
        done.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Shows how long each lasts, and tells once a day of those that somebody should have replaced.
    async fn tell(self: &Arc<Self>, mut told: Told) -> Told {
        let bot = Arc::clone(self);
        let work = move || {
            bot.tell_all(&mut told);
            told
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_default()
    }

    /// Not for a thread of a runtime: where there are thousands, reading, recording and letting go of them takes long.
    fn replace(&self) -> Result<(), String> {
        let pairs: Result<Vec<PemPair>, _> = self.files.iter().map(IdentityFiles::read).collect();
        let identities = understand(&pairs.map_err(|error| error.to_string())?)?;
        let before = self.front.shows();
        check(&identities, &before, clock::unix_seconds())?;
        let shown = self.front.show(identities);
        shown.map_err(|error| error.to_string())?;
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
        Ok(())
    }

    fn refuse(&self, story: &str) {
        tracing::error!(
            story,
            "certificates on disk changed and are not put in use; the ones before are shown"
        );
        self.record(kinds::CERTIFICATE_REFUSED, |event| {
            event.with("story", story)
        });
    }

    fn tell_all(&self, told: &mut Told) {
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

fn of_file(path: &Path) -> Option<[i128; 6]> {
    let file = fs::metadata(path).ok()?;
    let (written, changed) = (file.mtime(), file.ctime());
    let (written_ns, changed_ns) = (file.mtime_nsec(), file.ctime_nsec());
    let times = [written, written_ns, changed, changed_ns].map(i128::from);
    let [written, written_ns, changed, changed_ns] = times;
    let (length, number) = (file.len().into(), file.ino().into());
    Some([written, written_ns, changed, changed_ns, length, number])
}

/// Whether these may take the place of those before. What is shown already is not judged again: it would keep the others from being replaced.
fn check(identities: &ServerIdentities, before: &[Arc<Identity>], now: i64) -> Result<(), String> {
    let shown: HashSet<_> = before.iter().map(|it| it.chain()).collect();
    let all = identities.all().iter().enumerate();
    for (index, identity) in all.filter(|(_, it)| !shown.contains(it.chain())) {
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
