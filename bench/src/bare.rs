//! The bare end of TLS handshakes: what one costs where nothing else is done.
//!
//! TLS is configured by the product's own builder and runs on a thread for each processor, as in the product.

use std::fs;
use std::io;

use portcullis_certs::{ClientCertificates, Identity, Resumption, server_config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::floor::{SSL_REQUEST, listener};
use crate::machine::cores;
use crate::options::Bare;

/// Serves until it is killed.
///
/// # Panics
/// When it cannot begin.
pub(crate) fn serve(bare: &Bare) {
    let read = |path| fs::read_to_string(path).expect("a file that we were given");
    let identity = Identity::from_pem(&read(&bare.chain), &read(&bare.key)).expect("PEM");
    let resumption = match bare.resume {
        true => Resumption::On,
        false => Resumption::Off,
    };
    let config = server_config(&identity, ClientCertificates::NotAsked, resumption);
    let acceptor = TlsAcceptor::from(config.expect("TLS"));
    let workers: Vec<_> = (0..cores())
        .map(|_| {
            let (acceptor, listener) = (acceptor.clone(), listener(bare.listen));
            let listener = listener.expect("a free port");
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(work(acceptor, listener));
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("a worker goes on for ever");
    }
}

async fn work(acceptor: TlsAcceptor, listener: std::net::TcpListener) {
    let listener = TcpListener::from_std(listener).expect("a runtime with sockets");
    loop {
        if let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { drop(connection(acceptor, client).await) });
        }
    }
}

async fn connection(acceptor: TlsAcceptor, mut client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut first = [0; SSL_REQUEST.len()];
    client.read_exact(&mut first).await?;
    if first != SSL_REQUEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    client.write_all(b"S").await?;
    let mut tls = acceptor.accept(client).await?;
    let _ = tls.read(&mut first).await?;
    tls.shutdown().await
}
