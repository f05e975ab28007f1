//! Opening a connection: resolve, shake hands, greet.

use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_certs::fleet::{FleetName, Peer, SERVER_NAME, peer_of};
use quinn::Connection;
use tokio::sync::watch;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::closing::Closing;
use super::error::MeshError;
use super::hello::{Appended, Hello};
use super::io::{FrameReader, HELLO};
use super::links::{Link, Opened, Outcome, close};
use super::{Denied, Inner, limits, serve, transport};
use crate::runtime::clock::{self, Duration, Instant};

/// Dials `peer`, tells those who wait, and serves what the peer asks over the new connection.
pub(super) async fn run(
    inner: Arc<Inner>,
    peer: u64,
    address: String,
    tell: watch::Sender<Outcome>,
) {
    let dialled = tokio::select! {
        () = inner.stopping.cancelled() => Err(MeshError::ShutDown),
        dialled = tokio::time::timeout(limits::HANDSHAKE, dial(&inner, peer, &address)) => {
            dialled.unwrap_or_else(|_| Err(MeshError::Unreachable(format!("{address}: no answer"))))
        }
    };
    let outcome = dialled.as_ref().map(|_| ()).map_err(Clone::clone);
    let name = if outcome.is_ok() {
        "connected"
    } else {
        "failed"
    };
    metrics::counter!("portcullis_mesh_dials_total", "outcome" => name).increment(1);
    if let Err(error) = &outcome {
        tracing::info!(peer, %address, %error, "a node could not be reached");
    }
    let random = (inner.random)();
    inner
        .links
        .dialled(peer, &outcome, |failures| back_off(failures, random));
    // Nobody may be waiting any more.
    let _waiting = tell.send(Some(outcome));
    if let Ok(link) = dialled {
        serve::run(inner, link).await;
    }
}

/// When a peer may be dialled again: doubling, bounded, and different for everybody.
fn back_off(failures: u32, random: u64) -> Instant {
    clock::instant() + wait(failures, random)
}

fn wait(failures: u32, random: u64) -> Duration {
    let doubled = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    let full = limits::BACK_OFF_FIRST
        .saturating_mul(doubled)
        .min(limits::BACK_OFF_MOST);
    let spread = u64::try_from(full.as_millis() / 2).unwrap_or(u64::MAX);
    full.saturating_sub(Duration::from_millis(random % spread.max(1)))
}

async fn dial(inner: &Inner, peer: u64, address: &str) -> Result<Link, MeshError> {
    let unreachable = |problem: String| MeshError::Unreachable(format!("{address}: {problem}"));
    let tls = (inner.client)(peer).ok_or_else(|| unreachable("no TLS configuration".into()))?;
    let config = transport::client_config(tls).map_err(|error| unreachable(error.to_string()))?;
    let connection = connect(&inner.endpoint, config, address).await?;
    let admitted = greet(inner, peer, &connection).await;
    admitted.inspect_err(|error| {
        if let MeshError::Denied(reason) = error {
            close(&connection, *reason);
            inner.deny(Denied {
                reason: *reason,
                address: connection.remote_address(),
                claimed: Some(peer),
                detail: format!("dialled at {address}"),
            });
        }
    })
}

/// A connection to the first address of that name that answers.
pub(super) async fn connect(
    endpoint: &quinn::Endpoint,
    config: quinn::ClientConfig,
    address: &str,
) -> Result<Connection, MeshError> {
    let unreachable = |problem: String| MeshError::Unreachable(format!("{address}: {problem}"));
    let found = tokio::net::lookup_host(address).await;
    let found: Vec<SocketAddr> = found
        .map_err(|error| unreachable(error.to_string()))?
        .collect();
    let mut last = unreachable("no such name".into());
    for target in found.into_iter().take(limits::ADDRESSES_TRIED) {
        let connecting = endpoint.connect_with(config.clone(), target, SERVER_NAME);
        match connecting {
            Ok(connecting) => match connecting.await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = unreachable(error.to_string()),
            },
            Err(error) => last = unreachable(error.to_string()),
        }
    }
    Err(last)
}

/// Says who we are, hears who they are, and takes the connection in if both agree.
async fn greet(inner: &Inner, peer: u64, connection: &Connection) -> Result<Link, MeshError> {
    let shown = certificates(connection);
    let certified = peer_of(&shown, inner.fleet);
    let Ok(Peer {
        name: FleetName::Node { node, .. },
        key,
        ..
    }) = certified
    else {
        return Err(MeshError::Denied(Closing::Certificate));
    };
    if node.get() != peer {
        return Err(MeshError::Denied(Closing::OtherNode));
    }
    inner.links.belongs(peer, &key).map_err(MeshError::Denied)?;
    let ours = inner.hello();
    let (mut send, recv) = connection.open_bi().await?;
    let hello = inner.greeting(&ours, &[])?;
    send.write_all(&hello).await?;
    let frame = FrameReader::new(recv, limits::HELLO_BYTES).expect().await?;
    let theirs = Hello::decode(&frame.body).filter(|_| frame.tag == HELLO);
    let theirs = theirs.ok_or(MeshError::Denied(Closing::Protocol))?;
    let checked = ours.check(&theirs, peer);
    if checked == Err(Closing::NewerEpoch) {
        inner.hear_of_newer(&frame.body);
    }
    checked.map_err(MeshError::Denied)?;
    let later = Appended::of(&frame.body).later;
    if !later.is_empty() {
        inner.handler.started_again(later);
        return Err(MeshError::Denied(Closing::StartedTwice));
    }
    let said = inner.start_of(&frame.body, peer, &key);
    let (epoch, opened) = (theirs.epoch, Opened::ByUs);
    let link = Link::new(connection.clone(), peer, key, epoch, opened, said);
    inner
        .links
        .insert(link.clone(), &ours)
        .map_err(MeshError::Denied)?;
    Ok(link)
}

/// What the peer showed in the handshake.
pub(super) fn certificates(connection: &Connection) -> Vec<CertificateDer<'static>> {
    let shown = connection.peer_identity();
    let shown = shown.and_then(|it| it.downcast::<Vec<CertificateDer<'static>>>().ok());
    shown.map(|it| *it).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_double_the_wait_up_to_the_most_and_jitter_takes_off_up_to_a_half() {
        assert_eq!(wait(1, 0), limits::BACK_OFF_FIRST);
        assert_eq!(wait(2, 0), limits::BACK_OFF_FIRST * 2);
        for failures in [10, 32, 33, u32::MAX] {
            assert_eq!(wait(failures, 0), limits::BACK_OFF_MOST);
            for random in [1, 77_777, u64::MAX] {
                let waited = wait(failures, random);
                assert!(waited >= limits::BACK_OFF_MOST / 2 && waited <= limits::BACK_OFF_MOST);
            }
        }
    }
}
