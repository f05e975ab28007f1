//! Frames: a length of four bytes (big endian), a tag of one byte, and a body of that length.

use std::fmt;

/// Length and tag.
pub const HEADER_BYTES: usize = 5;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the body is: a service, an answer's outcome, or nothing in particular.
    pub tag: u8,
    /// The body.
    pub body: Vec<u8>,
}

/// A frame as bytes.
///
/// # Errors
/// [`FrameError::TooLarge`]
pub fn encode(tag: u8, body: &[u8], limit: usize) -> Result<Vec<u8>, FrameError> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if body.len() > limit || length == u32::MAX {
        return Err(FrameError::TooLarge {
            bytes: length,
            limit,
        });
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.push(tag);
    bytes.extend_from_slice(body);
    Ok(bytes)
}

/// Puts one frame after the other together from pieces of any size. It asks for no byte beyond the frame it is at, so that it never holds
/// more than one.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    header: Vec<u8>,
    body: Vec<u8>,
}

impl Decoder {
    /// For bodies of up to `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            header: Vec::with_capacity(HEADER_BYTES),
            body: Vec::new(),
        }
    }

    /// How many bytes may be pushed next: until the header or the frame is complete. Zero when it is.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`], before any byte of such a body is taken.
    pub fn wanted(&self) -> Result<usize, FrameError> {
        match self.announced()? {
            None => Ok(HEADER_BYTES - self.header.len()),
            Some((length, _)) => Ok(length.saturating_sub(self.body.len())),
        }
    }

    /// The length of the body that is arriving, once it is known.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`]
    pub fn length(&self) -> Result<Option<usize>, FrameError> {
        Ok(self.announced()?.map(|(length, _)| length))
    }

    /// Takes at most as many bytes as are [wanted](Self::wanted); says how many that were.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let Ok(wanted) = self.wanted() else { return 0 };
        let taken = bytes.get(..wanted).unwrap_or(bytes);
        if self.header.len() < HEADER_BYTES {
            self.header.extend_from_slice(taken);
        } else {
            self.body.extend_from_slice(taken);
        }
        taken.len()
    }

    /// The frame, if it is complete; the next one begins thereafter.
    pub fn take(&mut self) -> Option<Frame> {
        let (length, tag) = self.announced().ok()??;
        if self.body.len() < length {
            return None;
        }
        self.header.clear();
        let body = std::mem::take(&mut self.body);
        Some(Frame { tag, body })
    }

    /// Whether a frame has begun and is not complete.
    #[must_use]
    pub fn is_amid(&self) -> bool {
        !self.header.is_empty()
    }

    fn announced(&self) -> Result<Option<(usize, u8)>, FrameError> {
        let Ok([a, b, c, d, tag]) = <[u8; HEADER_BYTES]>::try_from(self.header.as_slice()) else {
            return Ok(None);
        };
        let bytes = u32::from_be_bytes([a, b, c, d]);
        let limit = self.limit;
        match usize::try_from(bytes) {
            Ok(length) if length <= limit => Ok(Some((length, tag))),
            Ok(_) | Err(_) => Err(FrameError::TooLarge { bytes, limit }),
        }
    }
}

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameError {
    /// The body is larger than allowed.
    TooLarge {
        /// Its announced length.
        bytes: u32,
        /// The most that is taken.
        limit: usize,
    },
    /// The stream ended amid a frame, or before one that must come.
    Truncated,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes, limit } => {
                write!(f, "a frame of {bytes} bytes, where {limit} are allowed")
            }
            Self::Truncated => f.write_str("the stream ended amid a frame"),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1000;

    /// What comes out of `bytes`, pushed in pieces of `step`.
    fn decode(bytes: &[u8], step: usize) -> (Vec<Frame>, Option<FrameError>) {
        let mut decoder = Decoder::new(LIMIT);
        let mut frames = Vec::new();
        for mut piece in bytes.chunks(step) {
            while !piece.is_empty() {
                let taken = decoder.push(piece);
                piece = &piece[taken..];
                frames.extend(decoder.take());
                match decoder.wanted() {
                    Ok(wanted) => assert!(wanted > 0 && wanted <= LIMIT.max(HEADER_BYTES)),
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
        (frames, None)
    }

    #[test]
    fn a_body_over_the_limit_is_refused_by_its_header_alone() {
        assert!(encode(1, &[0; LIMIT + 1], LIMIT).is_err());
        let mut decoder = Decoder::new(LIMIT);
        assert_eq!(decoder.push(&[0, 0, 3, 0xe9, 7]), HEADER_BYTES);
        let (bytes, limit) = (1001, LIMIT);
        assert_eq!(decoder.wanted(), Err(FrameError::TooLarge { bytes, limit }));
        assert_eq!(decoder.push(&[1, 2, 3]), 0);
        assert_eq!(decoder.take(), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_however_it_is_cut(
            sent in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..200)), 0..8),
            step in 1_usize..300,
        ) {
            let frames: Vec<Frame> = sent.into_iter().map(|(tag, body)| Frame { tag, body }).collect();
            let bytes: Vec<u8> = frames.iter().flat_map(|it| encode(it.tag, &it.body, LIMIT).unwrap()).collect();
            prop_assert_eq!(decode(&bytes, step), (frames, None));
        }

        #[test]
        fn any_bytes_make_frames_within_the_limit_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..4000),
            step in 1_usize..300,
        ) {
            let (frames, _) = decode(&bytes, step);
            prop_assert!(frames.iter().all(|frame| frame.body.len() <= LIMIT));
        }
    }
}
