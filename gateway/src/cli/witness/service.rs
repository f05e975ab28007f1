//! What a witness answers over HTTP: `POST /add-checkpoint` as C2SP tlog-witness says, and `GET /`, what it has seen.

use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_audit::moment;
use portcullis_audit::tlog::{
    AddCheckpoint, Against, MAX_ADD_CHECKPOINT_BYTES, NoteKey, Proves, Refusal, Witness,
};
use portcullis_certs::fleet::WitnessKey;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::pace::Paces;
use crate::http::limits::REQUEST_TIME;
use crate::http::{Peer, Request, Response, Route, Router, Service};
use crate::ledger::witness::{Home, Kept};
use crate::runtime::clock;

/// A witness at its door.
pub(super) struct Door {
    router: Router<Action>,
    paces: Mutex<Paces>,
    inner: Arc<Inner>,
}

/// What is done for one request after the other.
struct Inner {
    held: Mutex<Held>,
    name: NoteKey,
    key: WitnessKey,
    /// Told when nothing can be kept any more.
    broken: CancellationToken,
}

struct Held {
    witness: Witness,
    home: Home,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    AddCheckpoint,
    Show,
}

impl Door {
    pub(super) fn new(
        witness: Witness,
        home: Home,
        name: NoteKey,
        key: WitnessKey,
        broken: CancellationToken,
    ) -> Self {
        let add = Route::post("/add-checkpoint", Action::AddCheckpoint);
        Self {
            router: Router::new(vec![
                add.within(MAX_ADD_CHECKPOINT_BYTES, REQUEST_TIME),
                Route::get("/", Action::Show),
            ]),
            paces: Mutex::default(),
            inner: Arc::new(Inner {
                held: Mutex::new(Held { witness, home }),
                name,
                key,
                broken,
            }),
        }
    }
}

impl Service for Door {
    type Action = Action;

    fn router(&self) -> &Router<Action> {
        &self.router
    }

    /// Whoever reaches it may ask: the checkpoint's signature is what counts.
    fn admit(&self, _: &Peer) -> Result<(), Response> {
        Ok(())
    }

    async fn answer(&self, action: Action, request: Request) -> Response {
        if let Peer::Remote(peer) = &request.peer
            && !self.paces.lock().admit(peer.ip(), clock::instant())
        {
            return text(429, "too many requests: ask again in a second");
        }
        let inner = Arc::clone(&self.inner);
        // It waits for the disk. Once begun it ends, whoever still waits for the answer.
        let done = tokio::task::spawn_blocking(move || match action {
            Action::AddCheckpoint => inner.add_checkpoint(&request.body),
            Action::Show => inner.show(),
        });
        done.await
            .unwrap_or_else(|_| text(500, "the request broke"))
    }
}

impl Inner {
    fn add_checkpoint(&self, body: &[u8]) -> Response {
        let request = match AddCheckpoint::parse(body) {
            Ok(request) => request,
            Err(error) => return text(400, &error.to_string()),
        };
        let now = u64::try_from(clock::unix_seconds()).unwrap_or_default();
        let held = &mut *self.held.lock();
        let refused = match held.witness.consider(&request, now) {
            Ok(step) => {
                let sign = |message: &[u8]| {
                    // It begins as a cosignature does: `NoteKey::cosign` made it.
                    self.key.cosign(message).unwrap_or([0; 64])
                };
                let home = &mut held.home;
                return match step.cosign(|all| home.keep(all), &self.name, sign) {
                    Ok(line) => {
                        let checkpoint = request.checkpoint();
                        tracing::debug!(
                            origin = checkpoint.origin,
                            size = checkpoint.size,
                            "cosigned"
                        );
                        Response::with_status(200, PLAIN, line.to_string())
                    }
                    Err(error) => {
                        tracing::error!(%error, "nothing is signed any more: what is signed must be remembered first");
                        self.broken.cancel();
                        text(
                            500,
                            "the witness cannot remember checkpoints and signs none",
                        )
                    }
                };
            }
            Err(refused) => refused,
        };
        if let Some(against) = &refused.against {
            tell(&mut held.home, against);
        }
        match refused.why {
            Refusal::OtherSize { size } | Refusal::OtherRoot { size } => {
                Response::with_status(refused.why.status(), SIZE, format!("{size}\n"))
            }
            Refusal::UnknownLog(_)
            | Refusal::NotSigned(_)
            | Refusal::TooManyLogs
            | Refusal::WrongProof(_) => text(refused.why.status(), &refused.why.to_string()),
        }
    }

    fn show(&self) -> Response {
        let held = self.held.lock();
        let logs = held.witness.remembered().values();
        let logs: Vec<Value> = logs
            .map(|it| {
                let checkpoint = it.checkpoint();
                json!({
                    "origin": checkpoint.origin,
                    "size": checkpoint.size,
                    "root": checkpoint.root.to_string(),
                    "at": seconds(it.at()),
                })
            })
            .collect();
        let (contradictions, unproven) = held.home.evidence();
        Response::json(&json!({
            "name": self.name.name(),
            "key": self.name.to_string(),
            "logs": logs,
            "contradictions": contradictions,
            "unproven": unproven,
        }))
    }
}

/// Keeps two checkpoints that do not fit each other, and says so.
fn tell(home: &mut Home, against: &Against) {
    match (home.keep_evidence(against), against.proves) {
        (Ok(Kept::New(older, newer)), Proves::TwoHistories) => {
            tracing::error!(
                ?older,
                ?newer,
                "TWO HISTORIES: a log signed two roots of one size; the two files prove it to anybody"
            );
        }
        (Ok(Kept::New(older, newer)), Proves::Nothing) => {
            tracing::warn!(
                ?older,
                ?newer,
                "a checkpoint came without proof that its log only grew: the log was rewritten, or somebody sent a wrong proof; its files tell"
            );
        }
        (Ok(Kept::Full), _) => {
            tracing::error!(
                "TWO HISTORIES again: a log signed two roots of one size; no more of them are kept"
            );
        }
        (Ok(Kept::Before), _) => {}
        (Err(error), _) => {
            tracing::error!(%error, older = %against.older, newer = %against.newer, "two checkpoints that do not fit each other could not be kept");
        }
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// C2SP tlog-witness, add-checkpoint.
const SIZE: &str = "text/x.tlog.size";

fn text(status: u16, text: &str) -> Response {
    Response::with_status(status, PLAIN, format!("{text}\n"))
}

fn seconds(at: u64) -> String {
    moment::to_text(i64::try_from(at).unwrap_or(i64::MAX).saturating_mul(1_000))
}
