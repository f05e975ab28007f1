//! A stream on which a database cannot ask for the password itself.
//!
//! The library answers whatever is asked for. A proof by SCRAM shows nothing to whoever only listens; a password in the clear, or its MD5
//! hash, is a gift to any process that took the database's port.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of the first message that say how the server wants to know who it is: `R`, a length of four bytes, a code of four.
const ASKED: usize = 9;
/// `AuthenticationCleartextPassword`.
const CLEARTEXT: [u8; 4] = [0, 0, 0, 3];
/// `AuthenticationMD5Password`.
const MD5: [u8; 4] = [0, 0, 0, 5];

/// A stream that fails where its first message asks for the password or its MD5 hash. The library answers that request in no later place.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    first: [u8; ASKED],
    known: usize,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            first: [0; ASKED],
            known: 0,
        }
    }

    pub(super) fn get_ref(&self) -> &S {
        &self.stream
    }

    fn hear(&mut self, bytes: &[u8]) -> io::Result<()> {
        let missing = self.first.iter_mut().skip(self.known);
        for (place, byte) in missing.zip(bytes) {
            *place = *byte;
            self.known += 1;
        }
        let asks = self.first.ends_with(&CLEARTEXT) || self.first.ends_with(&MD5);
        if self.known == ASKED && self.first.starts_with(b"R") && asks {
            return Err(io::Error::other(
                "the server asks for the password itself or its MD5 hash, which is not shown to it: let it ask for SCRAM (scram-sha-256 in pg_hba.conf)",
            ));
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let heard = this.hear(buf.filled().get(before..).unwrap_or_default());
                if heard.is_err() {
                    // A read that fails hands over nothing.
                    buf.set_filled(before);
                }
                Poll::Ready(heard)
            }
            other @ (Poll::Ready(Err(_)) | Poll::Pending) => other,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use zeroize::Zeroizing;

    use super::super::{Index, Purpose};
    use crate::config::index::{INDEX_SCHEMA, IndexFiles, IndexPlace};

    #[tokio::test]
    async fn a_server_that_asks_for_the_password_itself_is_sent_none() {
        let requests: [&[u8]; 2] = [b"R\0\0\0\x08\0\0\0\x03", b"R\0\0\0\x0c\0\0\0\x05salt"];
        // Whole, and byte by byte.
        for (request, at_once) in requests.into_iter().flat_map(|it| [(it, 99), (it, 1)]) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let length = usize::try_from(stream.read_u32().await.unwrap()).unwrap();
                let mut startup = vec![0; length - 4];
                stream.read_exact(&mut startup).await.unwrap();
                for bytes in request.chunks(at_once) {
                    // It may have hung up before the salt.
                    if stream.write_all(bytes).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                let mut sent = Vec::new();
                // Whether it is closed or reset, what came before counts.
                let _ended = stream.read_to_end(&mut sent).await;
                sent
            });
            let place = IndexPlace {
                url: format!("postgresql://tess@127.0.0.1:{port}/audit")
                    .parse()
                    .unwrap(),
                ca: None,
                password: None,
                schema: INDEX_SCHEMA.parse().unwrap(),
            };
            let files = IndexFiles {
                ca: None,
                password: Some(Zeroizing::new("s3cret".to_owned())),
            };
            let refused = Index::connect(&place, &files, Purpose::Search).await;
            let why = refused.unwrap_err().to_string();
            let sent = server.await.unwrap();
            assert_eq!(sent, b"", "{request:?}");
            assert!(why.contains("let it ask for SCRAM"), "{why}");
        }
    }
}
