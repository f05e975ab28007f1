//! The path of a connection, top to bottom: arrive, greet, admit (or refuse), authenticate, dial,
//! splice. Every branch that can end a connection is here or has a name that says so.

use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_audit::{Event, kinds};
use portcullis_policy::Reference;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::Connection;
use tokio_util::task::TaskTracker;

use super::admit::{admit, confirm};
use super::authenticate::{Credential, authenticate};
use super::cancel::{Bringer, cancel};
use super::dial::{Dialed, dial};
use super::front::Front;
use super::greet::{Client, Greeting, arrive, greet};
use super::io::send;
use super::leg::Leg;
use super::listener::Door;
use super::live::{Arrival, Claim, Facts, Lapse, LiveGuard, LiveHandle, Receipt};
use super::refuse::{Evidence, Refusal};
use super::splice::{End, Splice};
use super::throttle::{Limit, Ticket};
use crate::database::UpstreamStream;
use crate::database::backend::see_gone;
use crate::runtime::clock::{self, Duration, Instant};
use crate::runtime::limits::HANDOVER;
use crate::runtime::random;
use crate::runtime::sockets::abort_on_close;

/// Serves one accepted connection until it is refused or open; an open one goes on in a task of
/// its own, which is a fraction of this one's size.
pub(super) async fn connection(
    front: Arc<Front>,
    door: Arc<Door>,
    mut tcp: TcpStream,
    peer: SocketAddr,
    ticket: Ticket,
    tasks: TaskTracker,
) {
    let attempt = Attempt {
        front,
        reference: random::reference(),
        began: clock::instant(),
    };
    let deadlines = &attempt.front.limits().deadlines;
    let arriving = arrive(&door, deadlines, &ticket, &mut tcp, peer, attempt.reference);
    let arrival = match attempt.in_time(&ticket, arriving).await {
        Ok(arrival) => arrival,
        Err(refusal) => return attempt.record(&refusal, Known::Peer(peer)),
    };
    let greeting = greet(&attempt.front, &arrival, tcp);
    let client = match attempt.in_time(&ticket, greeting).await {
        Ok(Greeting::Client(client)) => client,
        Ok(Greeting::Cancel(request, name, asker)) => {
            if attempt.in_time(&ticket, attempt.awake()).await.is_ok()
                && let Some(done) = cancel(&attempt.front, arrival, &request, name, Bringer::Client)
            {
                // Its sender may have gone; then there is nothing to wait for either.
                let told = async { Ok(done.await.is_ok()) };
                drop(attempt.in_time(&ticket, told).await);
            }
            return asker.close().await;
        }
        Err(refusal) => return attempt.record(&refusal, Known::Arrival(&arrival)),
    };
    if let Err(refusal) = attempt.in_time(&ticket, attempt.awake()).await {
        return attempt.record(&refusal, Known::Arrival(&arrival));
    }
    let facts = attempt.facts(&arrival, &client);
    let (permit, mut guard) = match admit(&attempt.front, facts.clone(), &ticket) {
        Ok(admitted) => admitted,
        Err(refusal) => return attempt.refuse(&refusal, client, &facts, &ticket).await,
    };
    let mut client = client;
    let handle = Arc::clone(guard.handle());
    let entering = attempt.enter(permit, &mut client, &mut guard, &ticket);
    let entered = tokio::select! {
        biased;
        lapse = handle.lapsed() => Err(Refusal::lapsed(lapse)),
        entered = entering => entered,
    };
    match entered {
        Ok(entered) => attempt.open(*client, entered, guard, &tasks).await,
        Err(refusal) => {
            attempt.withdraw(&guard);
            drop(guard);
            attempt.refuse(&refusal, client, &facts, &ticket).await;
        }
    }
}

/// One attempt, under its reference.
struct Attempt {
    front: Arc<Front>,
    reference: Reference,
    began: Instant,
}

/// What is known of an attempt that ended early.
enum Known<'a> {
    Peer(SocketAddr),
    Arrival(&'a Arrival),
    Facts(&'a Facts),
}

/// A client that proved who it is, with a database that is ready for it.
struct Entered {
    dialed: Dialed,
    how: String,
    claim: Claim,
}

impl Attempt {
    /// Everything before authentication has one absolute deadline, whatever arrives meanwhile.
    /// And whoever has to give its place away ends at once, whatever it waits for.
    async fn in_time<T>(
        &self,
        ticket: &Ticket,
        step: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let whole = self.front.limits().deadlines.pre_authentication.value;
        let passed = clock::instant().saturating_duration_since(self.began);
        tokio::select! {
            biased;
            limit = ticket.displaced() => Err(Refusal::shed(limit)),
            outcome = timeout(whole.saturating_sub(passed), step) => {
                outcome.unwrap_or_else(|_| Err(Refusal::late(
                    Limit::PreAuthentication,
                    format!("not authenticated within {whole:?} of the accept"),
                )))
            }
        }
    }

    /// After this process slept nobody is decided on by what it knew before.
    async fn awake(&self) -> Result<(), Refusal> {
        self.front.vigil().awake().await;
        Ok(())
    }

    fn facts(&self, arrival: &Arrival, client: &Client) -> Facts {
        Facts {
            arrival: arrival.clone(),
            server_name: client.server_name.clone(),
            user: client.startup.user.clone(),
            database: client.startup.database.clone(),
            replication: client.startup.replication != portcullis_wire::startup::Replication::No,
            certificate: client.certificate(),
        }
    }

    /// Authenticates, looks at policy again, takes its place among the authenticated, and dials.
    async fn enter(
        &self,
        permit: portcullis_policy::Permit,
        client: &mut Client,
        guard: &mut LiveGuard,
        ticket: &Ticket,
    ) -> Result<Entered, Refusal> {
        let until = self.began + self.front.limits().deadlines.pre_authentication.value;
        let facts = &guard.handle().facts;
        let proof = authenticate(&self.front, client, &permit, facts, until);
        let credential = self.in_time(ticket, proof).await?;
        self.in_time(ticket, self.awake()).await?;
        let permit = confirm(&self.front, permit, guard)?;
        let how = credential.describe();
        // In relay the client is still to prove itself, yet it takes its place now: the proof is
        // given on a connection of the database, and of these there must not be more than the caps
        // say. Those who have not given it hold a part of the places, shared fairly, and none for
        // longer than anybody on the way in.
        let claim = self
            .front
            .claims
            .claim(guard.handle(), permit.limits())
            .map_err(|full| Refusal::full(&full, permit.tenant(), &self.reference))?;
        let dialed = match &credential {
            Credential::Relay(_) => {
                let dialing = dial(&self.front, permit, credential, client, guard);
                self.in_time(ticket, dialing).await?
            }
            // A place among the unauthenticated is held no longer than that: a database that is
            // slow to answer must not shut the door for others.
            Credential::Vouched { expires, .. } => {
                ticket.give_back();
                self.front.live.proof_lasts_until(guard.handle(), *expires);
                dial(&self.front, permit, credential, client, guard).await?
            }
            Credential::Scram { .. } => {
                ticket.give_back();
                dial(&self.front, permit, credential, client, guard).await?
            }
        };
        ticket.give_back();
        Ok(Entered { dialed, how, claim })
    }

    /// Hands the client over to its database and moves bytes until one side ends.
    async fn open(self, client: Client, entered: Entered, guard: LiveGuard, tasks: &TaskTracker) {
        let Entered {
            dialed: Dialed { upstream, owed },
            how,
            claim,
        } = entered;
        let Client { mut stream, .. } = client;
        let handle = Arc::clone(guard.handle());
        self.permitted(&handle, &how);
        let handing_over = async {
            self.front.vigil().awake().await;
            send(&mut stream, &owed).await
        };
        let sent = tokio::select! {
            biased;
            _ = handle.lapsed() => Err(std::io::Error::other("the permit lapsed")),
            sent = timeout(HANDOVER, handing_over) => sent.unwrap_or_else(|late| Err(late.into())),
        };
        if let Err(error) = sent {
            if let Some(lapse) = handle.take_unreported() {
                // What was owed may stand half in the kernel's buffer.
                if let Err(error) = abort_on_close(stream.get_ref().0) {
                    tracing::warn!(%error, "a socket could not be set to reset");
                }
                drop((stream, upstream));
                return self.lapsed(&handle, lapse, false);
            }
            return self.closed(&handle, "client_broken", error.to_string());
        }
        handle.opened();
        let (tcp, tls) = stream.into_inner();
        let vigil = self.front.vigil();
        let client = Leg::new(tcp, Some(Connection::from(tls)), vigil);
        let upstream = match upstream {
            UpstreamStream::Tls(stream) => {
                let (tcp, tls) = stream.into_inner();
                Leg::new(tcp, Some(Connection::from(tls)), vigil)
            }
            UpstreamStream::Plain(tcp) => Leg::new(tcp, None, vigil),
        };
        drop(owed);
        let splice = Splice::new(client, upstream, handle, Arc::clone(vigil));
        tasks.spawn(self.carry(splice, guard, claim));
    }

    async fn carry(self, mut splice: Splice, guard: LiveGuard, claim: Claim) {
        metrics::gauge!("portcullis_connections_open").increment(1.0);
        let end = (&mut splice).await;
        metrics::gauge!("portcullis_connections_open").decrement(1.0);
        let handle = Arc::clone(guard.handle());
        let (code, story) = match end {
            End::Lapsed { told } => {
                let client = splice.cut(told);
                if let Some(lapse) = handle.take_unreported() {
                    self.lapsed(&handle, lapse, told);
                }
                drop(guard);
                if let Some(client) = client {
                    client.linger().await;
                }
                drop(claim);
                return;
            }
            End::ClientClosed => ("client_closed", String::new()),
            End::UpstreamClosed => ("database_closed", String::new()),
            End::Broken { side, error } => (side.broken(), error.to_string()),
        };
        drop(splice);
        match handle.take_unreported() {
            // It ended by itself at the moment at which it was stopped.
            Some(lapse) => self.lapsed(&handle, lapse, false),
            None => self.closed(&handle, code, story),
        }
        drop(guard);
        drop(claim);
    }

    /// Tells a client no and records why.
    async fn refuse(&self, refusal: &Refusal, client: Box<Client>, facts: &Facts, ticket: &Ticket) {
        self.record(refusal, Known::Facts(facts));
        let telling = refusal.tell(client.stream, &self.reference);
        let told = tokio::select! {
            biased;
            _ = ticket.displaced() => false,
            told = telling => told,
        };
        tracing::debug!(reference = %self.reference, code = refusal.code, told, "refused");
    }

    /// A connection that lapsed on its way in reports to whoever waits for it.
    fn withdraw(&self, guard: &LiveGuard) {
        if let Some(lapse) = guard.handle().take_unreported() {
            self.lapsed(guard.handle(), lapse, false);
        }
    }

    /// Reports and records that no byte passes any more, then sees the backend gone.
    fn lapsed(&self, handle: &Arc<LiveHandle>, lapse: Lapse, told: bool) {
        let after = clock::instant().saturating_duration_since(lapse.since);
        metrics::counter!("portcullis_lapsed_total", "code" => lapse.code).increment(1);
        count_bytes(handle);
        let key = self.reference.to_string();
        let backend = handle.backend().cloned();
        if let Some(receipts) = &lapse.receipts {
            let closed = Receipt::Closed {
                reference: key.clone(),
                after,
                told,
                has_backend: backend.is_some(),
            };
            drop(receipts.try_send(closed));
        }
        let event = describe(self.front.event(kinds::CONNECTION_LAPSED), handle)
            .with("code", lapse.code)
            .with("story", lapse.story.clone())
            .with("told", told)
            .with("after_ms", whole_milliseconds(after));
        self.front.ledger.record(under(event, &self.reference));
        let Some(backend) = backend else { return };
        let (front, reference, handle) =
            (Arc::clone(&self.front), self.reference, Arc::clone(handle));
        self.front.after(async move {
            let seen = see_gone(&front.services, &backend).await;
            let after = clock::instant().saturating_duration_since(lapse.since);
            let ending = seen.ending.reason();
            if let Some(receipts) = &lapse.receipts {
                drop(receipts.try_send(Receipt::Backend {
                    reference: key,
                    after,
                    ending,
                }));
            }
            let event = describe(front.event(kinds::BACKEND_ENDED), &handle)
                .with("backend", ending)
                .with("after_ms", whole_milliseconds(after));
            front.ledger.record(under(event, &reference));
        });
    }

    fn permitted(&self, handle: &LiveHandle, how: &str) {
        metrics::counter!("portcullis_connections_total", "outcome" => "permitted", "code" => "permitted").increment(1);
        let took = clock::instant().saturating_duration_since(self.began);
        metrics::histogram!("portcullis_connection_setup_seconds").record(took.as_secs_f64());
        let event = describe(self.front.event(kinds::CONNECTION_PERMITTED), handle)
            .with("entry", handle.describe().entry)
            .with("authenticated_by", how)
            .with("took_ms", whole_milliseconds(took));
        self.front.ledger.record(under(event, &self.reference));
    }

    fn closed(&self, handle: &LiveHandle, code: &'static str, story: String) {
        let (bytes_in, bytes_out) = count_bytes(handle);
        let lasted = clock::instant().saturating_duration_since(self.began);
        let event = describe(self.front.event(kinds::CONNECTION_CLOSED), handle)
            .with("code", code)
            .with("story", story)
            .with("bytes_in", bytes_in)
            .with("bytes_out", bytes_out)
            .with("lasted_ms", whole_milliseconds(lasted));
        self.front.ledger.record(under(event, &self.reference));
    }

    /// The audit event of an attempt that ended before it was open.
    fn record(&self, refusal: &Refusal, known: Known<'_>) {
        metrics::counter!("portcullis_connections_total", "outcome" => refusal.kind, "code" => refusal.code).increment(1);
        if let Some(limit) = refusal.limit {
            self.front.sheds.count(limit);
        }
        match refusal.evidence {
            Evidence::Own => {}
            // Whoever lapsed it is told, and the event written, by `lapsed`.
            Evidence::Lapse | Evidence::Counted => return,
        }
        let mut event = self
            .front
            .event(refusal.kind)
            .with("code", refusal.code)
            .with("story", refusal.story.clone());
        event.revision = Some(self.front.view().revision().get());
        event = match known {
            Known::Peer(peer) => event
                .with("address", peer.ip().to_string())
                .with("port", peer.port()),
            Known::Arrival(arrival) => arrived(event, arrival),
            Known::Facts(facts) => with_facts(event, facts),
        };
        if let Some(tenant) = &refusal.tenant {
            event.tenant = Some(tenant.to_string());
        }
        for (name, value) in &refusal.facts {
            event = event.with(name, value.clone());
        }
        self.front.ledger.record(under(event, &self.reference));
    }
}

/// Adds what passed to the metrics; answers it: from the client, to the client.
fn count_bytes(handle: &LiveHandle) -> (u64, u64) {
    let (bytes_in, bytes_out) = handle.counted();
    metrics::counter!("portcullis_bytes_total", "direction" => "in").increment(bytes_in);
    metrics::counter!("portcullis_bytes_total", "direction" => "out").increment(bytes_out);
    (bytes_in, bytes_out)
}

fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `event` under `reference`.
pub(super) fn under(mut event: Event, reference: &Reference) -> Event {
    event.reference = Some(reference.to_string());
    event
}

fn describe(mut event: Event, handle: &LiveHandle) -> Event {
    let live = handle.describe();
    event.tenant = Some(live.tenant);
    event.revision = Some(live.revision);
    with_facts(event, &handle.facts).with("endpoint", live.endpoint)
}

/// `event` with where the attempt came from, and through which load balancer.
pub(super) fn arrived(event: Event, arrival: &Arrival) -> Event {
    let event = event
        .with("origin", arrival.origin.to_string())
        .with("address", arrival.address.to_string())
        .with("port", arrival.port);
    match arrival.balancer {
        Some(balancer) => event.with("balancer", balancer.to_string()),
        None => event,
    }
}

fn with_facts(event: Event, facts: &Facts) -> Event {
    let event = arrived(event, &facts.arrival)
        .with("user", facts.user.clone())
        .with("database", facts.database.clone());
    match &facts.server_name {
        Some(name) => event.with("server_name", name.to_string()),
        None => event,
    }
}
