//! Long-lived streams of frames. Nothing is buffered beyond QUIC's windows and one frame per direction: who reads slowly makes the other
//! side wait.

use super::error::MeshError;
use super::frame::encode;
use super::io::{DATA, FrameReader};
use super::limits::FRAME_BYTES;

/// Both directions.
#[derive(Debug)]
pub struct Duplex {
    sender: DuplexSender,
    receiver: DuplexReceiver,
}

/// One direction: to the peer.
#[derive(Debug)]
pub struct DuplexSender {
    stream: quinn::SendStream,
    pending: Vec<u8>,
    sent: usize,
}

/// One direction: from the peer.
#[derive(Debug)]
pub struct DuplexReceiver {
    reader: FrameReader,
}

impl Duplex {
    pub(super) fn new(stream: quinn::SendStream, reader: FrameReader) -> Self {
        let (pending, sent) = (Vec::new(), 0);
        Self {
            sender: DuplexSender {
                stream,
                pending,
                sent,
            },
            receiver: DuplexReceiver { reader },
        }
    }

    /// As [`DuplexSender::send`].
    ///
    /// # Errors
    /// [`MeshError`]
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), MeshError> {
        self.sender.send(frame).await
    }

    /// As [`DuplexReceiver::recv`].
    ///
    /// # Errors
    /// [`MeshError`]
    pub async fn recv(&mut self) -> Result<Option<Vec<u8>>, MeshError> {
        self.receiver.recv().await
    }

    /// The directions, for two tasks.
    #[must_use]
    pub fn split(self) -> (DuplexSender, DuplexReceiver) {
        (self.sender, self.receiver)
    }
}

impl DuplexSender {
    /// Sends a frame; waits while the peer does not read. Given up amid, the rest goes out with the next call.
    ///
    /// # Errors
    /// [`MeshError`]
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), MeshError> {
        self.flush().await?;
        self.pending = encode(DATA, frame, FRAME_BYTES)?;
        self.sent = 0;
        self.flush().await
    }

    /// Tells the peer that nothing more follows.
    ///
    /// # Errors
    /// [`MeshError`]
    pub async fn finish(mut self) -> Result<(), MeshError> {
        self.flush().await?;
        // Only a stream that is finished or reset already cannot be finished.
        let _finished = self.stream.finish();
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), MeshError> {
        while let Some(rest) = self
            .pending
            .get(self.sent..)
            .filter(|rest| !rest.is_empty())
        {
            self.sent += self.stream.write(rest).await?;
        }
        self.pending = Vec::new();
        self.sent = 0;
        Ok(())
    }
}

impl DuplexReceiver {
    /// The next frame, or nothing when the peer has finished. May be given up and called again.
    ///
    /// # Errors
    /// [`MeshError`]
    pub async fn recv(&mut self) -> Result<Option<Vec<u8>>, MeshError> {
        Ok(self.reader.next().await?.map(|frame| frame.body))
    }
}
