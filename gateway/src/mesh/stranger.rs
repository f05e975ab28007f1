//! The side of a stranger: who asks to join, or whose certificate is over.

use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::dial::{certificates, connect};
use super::error::{MeshError, Refused};
use super::frame::encode;
use super::io::{ANSWERED, FrameReader};
use super::{limits, transport};
use crate::runtime::clock::Duration;

/// What a stranger was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The answer.
    pub answer: Vec<u8>,
    /// What the node showed in the handshake: the authority is among it.
    pub shown: Vec<CertificateDer<'static>>,
}

/// Asks the node at `address` for a stranger's `service` ([`super::JOIN`], [`super::RENEW`]), with a configuration by
/// `portcullis_certs::fleet::{join_client_config, recover_client_config}`.
///
/// # Errors
/// [`MeshError`]
pub async fn ask_as_stranger(
    address: &str,
    tls: Arc<ClientConfig>,
    service: u8,
    request: &[u8],
    within: Duration,
) -> Result<Answered, MeshError> {
    let unreachable = |problem: String| MeshError::Unreachable(problem);
    let endpoint =
        transport::endpoint(None, None).map_err(|error| unreachable(error.to_string()))?;
    let config = transport::client_config(tls).map_err(|error| unreachable(error.to_string()))?;
    let asking = async {
        let connection = connect(&endpoint, config, address).await?;
        let shown = certificates(&connection);
        let (mut send, recv) = connection.open_bi().await?;
        let frame = encode(service, request, limits::JOIN_FRAME_BYTES)?;
        send.write_all(&frame).await?;
        let _finished = send.finish();
        let frame = FrameReader::new(recv, limits::FRAME_BYTES).expect().await?;
        let told = || String::from_utf8_lossy(&frame.body).into_owned();
        if frame.tag != ANSWERED {
            return Err(MeshError::Refused(Refused(told())));
        }
        let answer = frame.body;
        Ok(Answered { answer, shown })
    };
    let asked = tokio::time::timeout(within, asking).await;
    asked.unwrap_or(Err(MeshError::TimedOut))
}
