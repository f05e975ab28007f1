//! Reading exactly what was asked for, and writing whole messages, during the opening of a
//! connection. The splice has its own.

use std::io;

use portcullis_wire::{Complaint, Step};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why reading from a peer ended.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The peer closed or the socket failed.
    Io(io::Error),
    /// What it sent is not what may stand here.
    Complaint(Complaint),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Complaint> for ReadError {
    fn from(complaint: Complaint) -> Self {
        Self::Complaint(complaint)
    }
}

/// Feeds `codec` with exactly as many bytes as it asks for, never one more: what follows stays in
/// the socket for whoever reads next. The codec sees each piece as it arrives: what cannot become
/// right is refused at once, not when its time is up. Returns the fact and its bytes.
pub(super) async fn read_unit<S, T>(
    stream: &mut S,
    mut codec: impl FnMut(&[u8]) -> Result<Step<T>, Complaint>,
) -> Result<(T, Vec<u8>), ReadError>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = Vec::new();
    loop {
        match codec(&bytes)? {
            Step::Done(fact, _) => return Ok((fact, bytes)),
            Step::Need(more) => {
                let have = bytes.len();
                bytes.resize(have + more, 0);
                let arrived = match bytes.get_mut(have..) {
                    Some(room) => stream.read(room).await?,
                    None => 0,
                };
                if arrived == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                bytes.truncate(have + arrived);
            }
        }
    }
}

/// Reads exactly `len` bytes; `len` has been checked against its maximum before.
pub(super) async fn read_exactly<S: AsyncRead + Unpin>(
    stream: &mut S,
    len: usize,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Writes `bytes` and makes sure that they left.
pub(super) async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_bytes(bytes: &[u8]) -> Result<Step<()>, Complaint> {
        match bytes.len() {
            _ if bytes.contains(&b'!') => Err(Complaint::ProxyMissing),
            3 => Ok(Step::Done((), 3)),
            have => Ok(Step::Need(3 - have)),
        }
    }

    #[tokio::test]
    async fn what_cannot_become_right_is_refused_though_more_was_asked_for() {
        let (mut peer, mut ours) = tokio::io::duplex(16);
        peer.write_all(b"a!").await.unwrap();
        let refused = read_unit(&mut ours, three_bytes).await;
        assert!(matches!(
            refused,
            Err(ReadError::Complaint(Complaint::ProxyMissing))
        ));
    }

    #[tokio::test]
    async fn a_unit_that_comes_in_pieces_is_read_to_its_end_and_no_further() {
        let (mut peer, mut ours) = tokio::io::duplex(1);
        let sending = tokio::spawn(async move { peer.write_all(b"abcd").await });
        let ((), bytes) = read_unit(&mut ours, three_bytes).await.unwrap();
        assert_eq!(bytes, b"abc");
        assert_eq!(read_exactly(&mut ours, 1).await.unwrap(), b"d");
        sending.await.unwrap().unwrap();
        assert!(read_unit(&mut ours, three_bytes).await.is_err());
    }
}
