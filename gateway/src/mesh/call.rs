//! The calling side of calls and streams.

use std::sync::Arc;

use quinn::{RecvStream, SendStream};
use tokio::time::timeout_at;

use super::duplex::Duplex;
use super::error::{MeshError, Refused};
use super::frame::{FrameError, encode};
use super::io::{ANSWERED, FrameReader, REFUSED, STREAM_BIT};
use super::limits::FRAME_BYTES;
use super::links::{Link, Way};
use super::{Inner, SERVICES_END, dial};
use crate::runtime::clock::{self, Instant};

/// One call. Whoever times it out leaves a suspicion behind if nothing at all was heard meanwhile.
/// A time that is over before anything was sent says so: whoever called knows that nothing happened.
pub(super) async fn call(
    inner: &Arc<Inner>,
    to: u64,
    service: u8,
    request: Vec<u8>,
    until: Instant,
) -> Result<Vec<u8>, MeshError> {
    known(service)?;
    let bytes = encode(service, &request, FRAME_BYTES)?;
    drop(request);
    let (link, mut send, recv) = timeout_at(until.into(), stream(inner, to))
        .await
        .unwrap_or_else(|_| Err(MeshError::Unreachable("no connection in time".to_owned())))?;
    let mut suspicion = Suspicion::of(inner, &link);
    let answer = async {
        send.write_all(&bytes).await?;
        let _finished = send.finish();
        FrameReader::new(recv, FRAME_BYTES).expect().await
    };
    let Ok(answer) = timeout_at(until.into(), answer).await else {
        return Err(MeshError::TimedOut);
    };
    suspicion.heard = true;
    let frame = answer.map_err(amid)?;
    match frame.tag {
        ANSWERED => Ok(frame.body),
        REFUSED => Err(MeshError::Refused(Refused(
            String::from_utf8_lossy(&frame.body).into_owned(),
        ))),
        other => Err(MeshError::Broken(format!("an answer of kind {other}"))),
    }
}

/// The connection was closed after something was sent: whatever the reason, the peer may have acted.
fn amid(error: MeshError) -> MeshError {
    if let MeshError::Denied(reason) = error {
        return MeshError::Broken(format!("closed: {reason}"));
    }
    error
}

/// A long-lived stream.
pub(super) async fn open(inner: &Arc<Inner>, to: u64, service: u8) -> Result<Duplex, MeshError> {
    known(service)?;
    let (_, mut send, recv) = stream(inner, to).await?;
    send.write_all(&encode(service | STREAM_BIT, &[], FRAME_BYTES)?)
        .await?;
    Ok(Duplex::new(send, FrameReader::new(recv, FRAME_BYTES)))
}

fn known(service: u8) -> Result<(), MeshError> {
    if service < SERVICES_END {
        Ok(())
    } else {
        Err(MeshError::NoService(service))
    }
}

/// A new stream to that peer, over whatever connection there is, or a new one. Nothing has been sent when this fails.
pub(super) async fn stream(
    inner: &Arc<Inner>,
    to: u64,
) -> Result<(Link, SendStream, RecvStream), MeshError> {
    let mut tried = 0;
    loop {
        let link = link(inner, to).await?;
        let mut suspicion = Suspicion::of(inner, &link);
        let opened = link.connection.open_bi().await;
        suspicion.heard = true;
        match opened {
            Ok((send, recv)) => return Ok((link, send, recv)),
            // It ended between our look and our use: once more.
            Err(error) if tried > 0 => return Err(error.into()),
            Err(_) => tried += 1,
        }
    }
}

async fn link(inner: &Arc<Inner>, to: u64) -> Result<Link, MeshError> {
    loop {
        if inner.stopping.is_cancelled() {
            return Err(MeshError::ShutDown);
        }
        let mut wait = match inner.links.way(to, clock::instant())? {
            Way::Link(link) => return Ok(link),
            Way::Wait(wait) => wait,
            Way::Dial(address, tell) => {
                let wait = tell.subscribe();
                tokio::spawn(dial::run(Arc::clone(inner), to, address, tell));
                wait
            }
        };
        match wait.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Err(error))) => return Err(error.clone()),
            Ok(Some(Ok(())) | None) => {}
            Err(_) => return Err(MeshError::ShutDown),
        }
    }
}

/// Dropped before anything was heard (the call was given up), it makes the connection suspect.
struct Suspicion<'a> {
    inner: &'a Inner,
    link: Link,
    received: u64,
    heard: bool,
}

impl<'a> Suspicion<'a> {
    fn of(inner: &'a Inner, link: &Link) -> Self {
        Self {
            inner,
            link: link.clone(),
            received: link.received(),
            heard: false,
        }
    }
}

impl Drop for Suspicion<'_> {
    fn drop(&mut self) {
        if !self.heard {
            self.inner.links.suspect(&self.link, self.received);
        }
    }
}

/// What the peer did wrong, if it did, by an error of reading from it.
pub(super) fn is_breach(error: &MeshError) -> bool {
    matches!(error, MeshError::Frame(FrameError::TooLarge { .. }))
}
