//! The answering side of calls and streams.

use std::sync::Arc;

use quinn::{RecvStream, SendStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::call::is_breach;
use super::closing::Closing;
use super::duplex::Duplex;
use super::error::{MeshError, Refused};
use super::frame::encode;
use super::io::{ANSWERED, FrameReader, REFUSED, STREAM_BIT, cut};
use super::links::Link;
use super::{Caller, Denied, Inner, SERVICES_END, limits};

/// Answers what the peer asks over this connection until it ends.
pub(super) async fn run(inner: Arc<Inner>, link: Link) {
    metrics::gauge!("portcullis_mesh_connections").increment(1.0);
    // A stream that the peer has given up makes room for another while its handler still runs: the handlers are counted apart.
    let handlers = Arc::new(Semaphore::new(
        usize::try_from(limits::STREAMS_PER_CONNECTION).unwrap_or(1),
    ));
    while let Ok(permit) = Arc::clone(&handlers).acquire_owned().await {
        let Ok((send, recv)) = link.connection.accept_bi().await else {
            break;
        };
        tokio::spawn(stream(Arc::clone(&inner), link.clone(), send, recv, permit));
    }
    inner.links.sweep();
    metrics::gauge!("portcullis_mesh_connections").decrement(1.0);
}

async fn stream(
    inner: Arc<Inner>,
    link: Link,
    send: SendStream,
    recv: RecvStream,
    _handler: OwnedSemaphorePermit,
) {
    let mut reader = FrameReader::new(recv, limits::FRAME_BYTES);
    let read = tokio::time::timeout(limits::REQUEST_READ, request(&inner, &mut reader)).await;
    let (tag, body, held) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(error)) if is_breach(&error) => {
            link.close(Closing::Protocol);
            return inner.deny(Denied {
                reason: Closing::Protocol,
                address: link.connection.remote_address(),
                claimed: Some(link.peer),
                detail: error.to_string(),
            });
        }
        // Given up, or too slow: the stream ends by being dropped.
        Ok(Err(_)) | Err(_) => return,
    };
    let service = tag & !STREAM_BIT;
    if tag & STREAM_BIT != 0 {
        drop(held);
        let handling = inner
            .handler
            .stream(link.peer, service, Duplex::new(send, reader));
        tokio::select! {
            () = handling => {}
            _ = link.connection.closed() => {}
            () = inner.stopping.cancelled() => {}
        }
        return;
    }
    if inner.stopping.is_cancelled() {
        return;
    }
    let caller = Caller::Node(link.peer);
    let answering = async {
        let answer = if service < SERVICES_END {
            inner.handler.call(caller, service, body).await
        } else {
            Err(Refused(MeshError::NoService(service).to_string()))
        };
        drop(held);
        answer_with(send, answer).await;
    };
    inner.calls.track_future(answering).await;
}

/// The first frame, once there is room for it on the node.
async fn request(
    inner: &Inner,
    reader: &mut FrameReader,
) -> Result<(u8, Vec<u8>, Option<OwnedSemaphorePermit>), MeshError> {
    let length = reader.length().await?.unwrap_or(0);
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let held = Arc::clone(&inner.requests).acquire_many_owned(length).await;
    let frame = reader.expect().await?;
    Ok((frame.tag, frame.body, held.ok()))
}

/// Sends an answer; whoever does not take it in time loses it.
pub(super) async fn answer_with(mut send: SendStream, answer: Result<Vec<u8>, Refused>) {
    let (tag, body) = match &answer {
        Ok(body) => (ANSWERED, body.as_slice()),
        Err(Refused(reason)) => (REFUSED, cut(reason, limits::REASON_BYTES)),
    };
    let bytes = encode(tag, body, limits::FRAME_BYTES)
        .or_else(|error| encode(REFUSED, error.to_string().as_bytes(), limits::FRAME_BYTES))
        .unwrap_or_default();
    let written = async {
        if send.write_all(&bytes).await.is_ok() {
            let _finished = send.finish();
            // Until the peer has it all, dropping the connection would lose it.
            let _taken = send.stopped().await;
        }
    };
    let _late = tokio::time::timeout(limits::ANSWER_WRITE, written).await;
}
