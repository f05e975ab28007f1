//! The socket, and QUIC's settings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use socket2::{Domain, Protocol, Socket, Type};
use tokio_rustls::rustls;

use super::error::StartError;
use super::limits;

/// The endpoint; without `listen` it takes no connection.
pub(super) fn endpoint(
    listen: Option<SocketAddr>,
    server: Option<Arc<rustls::ServerConfig>>,
) -> Result<quinn::Endpoint, StartError> {
    let server = match (listen, server) {
        (None, _) => None,
        (Some(_), Some(tls)) => Some(server_config(tls)?),
        (Some(_), None) => return Err(StartError::Tls("none, though the node listens".into())),
    };
    let endpoint = quinn::Endpoint::new(
        quinn::EndpointConfig::default(),
        server,
        socket(listen)?,
        Arc::new(quinn::TokioRuntime),
    )?;
    Ok(endpoint)
}

/// The socket: where others call, or any that reaches both families of addresses.
pub(super) fn socket(listen: Option<SocketAddr>) -> std::io::Result<UdpSocket> {
    let Some(listen) = listen else {
        let any = |address: IpAddr| bind(SocketAddr::new(address, 0));
        return any(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| any(Ipv4Addr::UNSPECIFIED.into()));
    };
    bind(listen)
}

fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn server_config(tls: Arc<rustls::ServerConfig>) -> Result<quinn::ServerConfig, StartError> {
    let crypto =
        QuicServerConfig::try_from(tls).map_err(|error| StartError::Tls(error.to_string()))?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    config.max_incoming(limits::HANDSHAKES_WAITING);
    Ok(config)
}

/// How a peer is dialled.
pub(super) fn client_config(
    tls: Arc<rustls::ClientConfig>,
) -> Result<quinn::ClientConfig, StartError> {
    let crypto =
        QuicClientConfig::try_from(tls).map_err(|error| StartError::Tls(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

/// QUIC's first guess of the round trip stays as it is: a smaller one made storms of handshakes fail.
fn transport() -> quinn::TransportConfig {
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(limits::STREAMS_PER_CONNECTION.into())
        .max_concurrent_uni_streams(0_u32.into())
        .stream_receive_window(limits::STREAM_WINDOW_BYTES.into())
        .receive_window(limits::CONNECTION_WINDOW_BYTES.into())
        .send_window(limits::SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(limits::KEEP_ALIVE))
        .max_idle_timeout(limits::IDLE.try_into().ok());
    transport
}
