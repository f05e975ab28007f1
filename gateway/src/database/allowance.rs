//! A stream that a database may only say so much on. The library that reads it buffers whole
//! messages of up to a gibibyte; a hostile or broken server is cut off long before.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes that may still come, shared between the stream and whoever asks the questions.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    pub(super) fn of(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Allows so many bytes from now on.
    pub(super) fn renew(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Release);
    }

    fn spend(&self, bytes: usize) -> io::Result<()> {
        let enough = |left: usize| left.checked_sub(bytes);
        match self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, enough)
        {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("the database said more than it was asked")),
        }
    }
}

/// A stream whose reads are paid for out of an [`Allowance`].
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    allowance: Allowance,
}

impl<S> Metered<S> {
    pub(super) fn new(stream: S, allowance: Allowance) -> Self {
        Self { stream, allowance }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let paid = this
                    .allowance
                    .spend(buf.filled().len().saturating_sub(before));
                if paid.is_err() {
                    // A read that fails hands over nothing.
                    buf.set_filled(before);
                }
                Poll::Ready(paid)
            }
            other @ (Poll::Ready(Err(_)) | Poll::Pending) => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn one_byte_over_the_allowance_ends_the_stream_and_not_one_earlier() {
        let said: &[u8] = b"0123456789";
        let mut heard = Vec::new();
        let allowance = Allowance::of(10);
        Metered::new(said, allowance.clone())
            .read_to_end(&mut heard)
            .await
            .unwrap();
        assert_eq!(heard, said);
        allowance.renew(9);
        assert!(
            Metered::new(said, allowance)
                .read_to_end(&mut heard)
                .await
                .is_err()
        );
    }
}
