//! Where one message ends and the next begins in a stream of an established session.
//!
//! An ErrorResponse of ours may stand between two messages of the server and nowhere else, so the splice needs to know
//! where it is. This is on the path of every byte: bodies are skipped, never looked at.

use crate::Complaint;
use crate::limits::MAX_MESSAGE;
use crate::message::{HEADER, Header};

/// Walks the messages of one direction. Begins at the start of a message.
#[derive(Debug, Clone, Default)]
pub struct Boundary {
    /// Bytes of the current body that are still to come.
    body: usize,
    /// The part of a header that came at the end of a chunk.
    partial: [u8; HEADER],
    partial_len: usize,
    /// A complaint is final: behind a length that is not believed, nothing has a place.
    broken: Option<Complaint>,
}

impl Boundary {
    /// A walker that stands at the start of a message.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of `chunk`, the next bytes of the stream, cut anywhere.
    ///
    /// # Errors
    /// [`Complaint::MessageLength`] for a length below 4 or a body over [`MAX_MESSAGE`]; every later call repeats it.
    pub fn advance(&mut self, chunk: &[u8]) -> Result<(), Complaint> {
        if let Some(complaint) = &self.broken {
            return Err(complaint.clone());
        }
        self.walk(chunk)
            .inspect_err(|complaint| self.broken = Some(complaint.clone()))
    }

    /// Whether the bytes so far end with a whole message, so that another may be put in here.
    pub fn at_start(&self) -> bool {
        self.body == 0 && self.partial_len == 0 && self.broken.is_none()
    }

    fn walk(&mut self, mut chunk: &[u8]) -> Result<(), Complaint> {
        loop {
            let skipped = self.body.min(chunk.len());
            self.body -= skipped;
            chunk = chunk.get(skipped..).unwrap_or_default();
            if chunk.is_empty() {
                return Ok(());
            }
            if self.partial_len == 0
                && let Some((header, rest)) = chunk.split_first_chunk::<HEADER>()
            {
                self.body = Header::parse(*header, MAX_MESSAGE)?.len;
                chunk = rest;
            } else {
                chunk = self.fill(chunk)?;
            }
        }
    }

    /// Puts bytes to the partial header; at least one is taken. Returns the rest of the chunk.
    fn fill<'a>(&mut self, chunk: &'a [u8]) -> Result<&'a [u8], Complaint> {
        let missing = self.partial.get_mut(self.partial_len..).unwrap_or_default();
        let count = missing.len().min(chunk.len());
        for (slot, byte) in missing.iter_mut().zip(chunk) {
            *slot = *byte;
        }
        self.partial_len += count;
        if self.partial_len == HEADER {
            self.partial_len = 0;
            self.body = Header::parse(self.partial, MAX_MESSAGE)?.len;
        }
        Ok(chunk.get(count..).unwrap_or_default())
    }
}
