//! Frames from and to QUIC's streams.

use super::error::MeshError;
use super::frame::{Decoder, Frame, FrameError};
use super::limits::READ_CHUNK_BYTES;

/// Set in a stream's first tag when it is a long-lived one rather than a call.
pub(super) const STREAM_BIT: u8 = 0x80;
/// The first tag of the first stream: a greeting.
pub(super) const HELLO: u8 = 0x7F;
/// The tag of an answer,
pub(super) const ANSWERED: u8 = 0;
/// of a handler's no,
pub(super) const REFUSED: u8 = 1;
/// and of a frame on a long-lived stream.
pub(super) const DATA: u8 = 2;

/// Reads frames. Giving up a read between two polls loses nothing.
#[derive(Debug)]
pub(super) struct FrameReader {
    stream: quinn::RecvStream,
    decoder: Decoder,
}

impl FrameReader {
    pub(super) fn new(stream: quinn::RecvStream, limit: usize) -> Self {
        let decoder = Decoder::new(limit);
        Self { stream, decoder }
    }

    /// The length of the next frame's body, or nothing at the stream's end.
    pub(super) async fn length(&mut self) -> Result<Option<usize>, MeshError> {
        loop {
            if let Some(length) = self.decoder.length()? {
                return Ok(Some(length));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The next frame, or nothing at the stream's end.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, MeshError> {
        loop {
            if let Some(frame) = self.decoder.take() {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The frame that must come.
    pub(super) async fn expect(&mut self) -> Result<Frame, MeshError> {
        let frame = self.next().await?;
        frame.ok_or(MeshError::Frame(FrameError::Truncated))
    }

    /// Whether there was more.
    async fn fill(&mut self) -> Result<bool, MeshError> {
        let wanted = self.decoder.wanted()?.min(READ_CHUNK_BYTES);
        if wanted == 0 {
            return Ok(true);
        }
        let Some(chunk) = self.stream.read_chunk(wanted, true).await? else {
            if self.decoder.is_amid() {
                return Err(FrameError::Truncated.into());
            }
            return Ok(false);
        };
        self.decoder.push(&chunk.bytes);
        Ok(true)
    }
}

/// A text to tell, cut to what is told.
pub(super) fn cut(text: &str, most: usize) -> &[u8] {
    let bytes = text.as_bytes();
    let end = (0..=most).rev().find(|&at| text.is_char_boundary(at));
    bytes
        .get(..end.unwrap_or(0).min(bytes.len()))
        .unwrap_or(bytes)
}
