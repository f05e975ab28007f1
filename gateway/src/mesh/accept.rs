//! Taking connections: handshake, greeting, and strangers who want to join.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_certs::fleet::{Caller as Certified, admit};
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, Incoming, SendStream};
use tokio::sync::Semaphore;

use super::closing::Closing;
use super::dial::certificates;
use super::error::{MeshError, Refused};
use super::hello::Hello;
use super::io::{FrameReader, HELLO};
use super::links::{Link, Opened, close};
use super::{Caller, Denied, Inner, JOIN, RENEW, limits, serve};

/// Takes connections until the node stops.
pub(super) async fn run(inner: Arc<Inner>) {
    let handshakes = Arc::new(Semaphore::new(limits::HANDSHAKES));
    let addresses = Arc::new(Addresses::default());
    loop {
        // Whoever finds no place waits with the operating system's and QUIC's bounded queues.
        let Ok(place) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let incoming = tokio::select! {
            () = inner.stopping.cancelled() => return,
            incoming = inner.endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        let running = limits::HANDSHAKES.saturating_sub(handshakes.available_permits());
        if running > limits::HANDSHAKES_UNPROVEN && incoming.may_retry() {
            // Costs nothing to remember, and an address that does not receive costs nothing more.
            let _retried = incoming.retry();
            continue;
        }
        let address = incoming.remote_address();
        let Some(counted) = Addresses::enter(&addresses, address.ip()) else {
            busy(&inner, incoming, "too many handshakes from one address");
            continue;
        };
        if inner.endpoint.open_connections() >= limits::CONNECTIONS {
            busy(&inner, incoming, "too many connections");
            continue;
        }
        let inner = Arc::clone(&inner);
        tokio::spawn(async move {
            let admitted = tokio::time::timeout(limits::HANDSHAKE, arrive(&inner, incoming)).await;
            drop((place, counted));
            match admitted {
                Ok(Ok(Arrived::Node(link))) => serve::run(inner, link).await,
                Ok(Ok(Arrived::Stranger(connection))) => stranger(&inner, connection).await,
                Ok(Err(denied)) => inner.deny(denied),
                Err(_) => inner.deny(denied(Closing::TooSlow, address, None, "")),
            }
        });
    }
}

enum Arrived {
    Node(Link),
    Stranger(Connection),
}

fn busy(inner: &Inner, incoming: Incoming, detail: &str) {
    let address = incoming.remote_address();
    incoming.refuse();
    inner.deny(denied(Closing::Busy, address, None, detail));
}

fn denied(reason: Closing, address: SocketAddr, claimed: Option<u64>, detail: &str) -> Denied {
    let detail = detail.to_owned();
    Denied {
        reason,
        address,
        claimed,
        detail,
    }
}

async fn arrive(inner: &Inner, incoming: Incoming) -> Result<Arrived, Denied> {
    let address = incoming.remote_address();
    let broken = |error: quinn::ConnectionError| {
        denied(Closing::Certificate, address, None, &error.to_string())
    };
    let connection = incoming.accept().map_err(broken)?.await.map_err(broken)?;
    let handshake = connection.handshake_data();
    let handshake = handshake.and_then(|it| it.downcast::<HandshakeData>().ok());
    let protocol = handshake.and_then(|it| it.protocol);
    let shown = certificates(&connection);
    match admit(protocol.as_deref(), Some(&shown), inner.fleet) {
        Ok(Certified::Stranger) => Ok(Arrived::Stranger(connection)),
        Ok(Certified::Node { node, key, .. }) => {
            let greeted = greet(inner, node, key, &connection).await;
            greeted.map(Arrived::Node).map_err(|(reason, detail)| {
                close(&connection, reason);
                denied(reason, address, Some(node), &detail)
            })
        }
        Err(problem) => {
            close(&connection, Closing::Certificate);
            let detail = problem.to_string();
            Err(denied(Closing::Certificate, address, None, &detail))
        }
    }
}

/// Hears who they say they are, says who we are, and takes the connection in.
async fn greet(
    inner: &Inner,
    node: u64,
    key: [u8; 32],
    connection: &Connection,
) -> Result<Link, (Closing, String)> {
    let broken = |error: MeshError| (Closing::Protocol, error.to_string());
    let plain = |reason: Closing| (reason, String::new());
    let opened = connection.accept_bi().await;
    let (mut send, recv) = opened.map_err(|error| broken(error.into()))?;
    let mut reader = FrameReader::new(recv, limits::HELLO_BYTES);
    let frame = reader.expect().await.map_err(broken)?;
    let theirs = Hello::decode(&frame.body).filter(|_| frame.tag == HELLO);
    let theirs = theirs.ok_or_else(|| plain(Closing::Protocol))?;
    let ours = inner.hello();
    let hello = inner.greeting(&ours, &[]).map_err(broken)?;
    let checked = ours.check(&theirs, node);
    match checked {
        // It may be of the fleet no longer, and must hear so before it is turned away.
        Err(Closing::OlderEpoch) => tell(&mut send, &hello).await,
        Err(Closing::NewerEpoch) => inner.hear_of_newer(&frame.body),
        Ok(()) | Err(_) => {}
    }
    inner.links.belongs(node, &key).map_err(plain)?;
    checked.map_err(|reason| (reason, format!("{theirs:?}")))?;
    let said = inner.start_of(&frame.body, node, &key);
    let told = said.as_ref().map(|said| said.start.to_string());
    let (epoch, opened) = (theirs.epoch, Opened::ByThem);
    let link = Link::new(connection.clone(), node, key, epoch, opened, said);
    if let Err(reason) = inner.links.insert(link.clone(), &ours) {
        // Nor does it know that another process is this node by now.
        let later = inner.links.latest(node);
        if let Some(later) = later.filter(|_| reason == Closing::StartedTwice) {
            let hello = inner.greeting(&ours, &later).map_err(broken)?;
            tell(&mut send, &hello).await;
        }
        return Err((reason, told.unwrap_or_default()));
    }
    let written = send.write_all(&hello).await;
    written.map_err(|error| broken(error.into()))?;
    // Nothing more goes over this stream.
    let _finished = send.finish();
    Ok(link)
}

/// Says the last that is said on a connection, and waits until it was heard.
async fn tell(send: &mut SendStream, hello: &[u8]) {
    if send.write_all(hello).await.is_ok() && send.finish().is_ok() {
        let _taken = send.stopped().await;
    }
}

/// One call, to join or to renew, in a short time; then the connection ends.
async fn stranger(inner: &Inner, connection: Connection) {
    let address = connection.remote_address();
    let refuse = |reason: Closing, detail: &str| {
        close(&connection, reason);
        inner.deny(denied(reason, address, None, detail));
    };
    let Ok(_place) = inner.strangers.try_acquire() else {
        return refuse(Closing::Busy, "too many strangers");
    };
    let asked = tokio::time::timeout(limits::STRANGER, join(inner, &connection, address));
    match asked.await {
        Ok(Ok(())) => close(&connection, Closing::JoinOver),
        Ok(Err((reason, detail))) => refuse(reason, &detail),
        Err(_) => refuse(Closing::TooSlow, "a stranger"),
    }
}

async fn join(
    inner: &Inner,
    connection: &Connection,
    address: SocketAddr,
) -> Result<(), (Closing, String)> {
    let broken = |error: MeshError| (Closing::Protocol, error.to_string());
    let opened = connection.accept_bi().await;
    let (send, recv) = opened.map_err(|error| broken(error.into()))?;
    let mut reader = FrameReader::new(recv, limits::JOIN_FRAME_BYTES);
    let frame = reader.expect().await.map_err(broken)?;
    if !matches!(frame.tag, JOIN | RENEW) {
        return Err((Closing::JoinOnly, format!("service {}", frame.tag)));
    }
    let answer: Result<Vec<u8>, Refused> = inner
        .handler
        .call(Caller::Stranger(address), frame.tag, frame.body)
        .await;
    serve::answer_with(send, answer).await;
    Ok(())
}

/// Handshakes that run, by address.
#[derive(Default)]
struct Addresses(Mutex<BTreeMap<IpAddr, usize>>);

impl Addresses {
    fn enter(all: &Arc<Self>, address: IpAddr) -> Option<Counted> {
        let mut counts = all.0.lock();
        let count = counts.entry(address).or_default();
        if *count >= limits::HANDSHAKES_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Counted {
            all: Arc::clone(all),
            address,
        })
    }
}

/// One handshake's place; given back when dropped.
struct Counted {
    all: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.all.0.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
