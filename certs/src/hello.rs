//! What a stranger says first: a TLS client's ClientHello, before a configuration is chosen for it.
//!
//! Bytes in, the hello out: no socket, no time. Which identity and configuration it deserves is the caller's to say.

use std::fmt;
use std::io;

use rustls::server::{Accepted, Acceptor};

/// Takes a ClientHello in, however its bytes are cut.
pub struct Hearing {
    acceptor: Acceptor,
    room: usize,
}

/// Nothing heard yet.
impl Default for Hearing {
    fn default() -> Self {
        Self {
            acceptor: Acceptor::default(),
            room: MAX_HELLO,
        }
    }
}

impl Hearing {
    /// How many more bytes may be taken before the hello is complete. Whoever reads a socket reads no more than this at once.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Takes the next bytes of the stream; `None` asks for more. Not to be called again after a hello or an error.
    ///
    /// # Errors
    /// [`Unheard`]: not TLS, not a hello that can be answered, or one of more than [`MAX_HELLO`] bytes.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<Option<Hello>, Unheard> {
        self.room = self
            .room
            .checked_sub(bytes.len())
            .ok_or_else(Unheard::too_long)?;
        while !bytes.is_empty() {
            // Less than MAX_HELLO bytes always fit in; were it not so, to go round again would not end.
            match self.acceptor.read_tls(&mut bytes) {
                Ok(1..) => {}
                Ok(0) => return Err(Unheard::stuck(&io::ErrorKind::WriteZero.into())),
                Err(error) => return Err(Unheard::stuck(&error)),
            }
        }
        match self.acceptor.accept() {
            Ok(Some(accepted)) => Ok(Some(Hello::of(accepted))),
            Ok(None) if self.room == 0 => Err(Unheard::too_long()),
            Ok(None) => Ok(None),
            Err((error, mut alert)) => {
                let mut farewell = Vec::new();
                // Writing to memory does not fail.
                drop(alert.write_all(&mut farewell));
                Err(Unheard {
                    story: error.to_string(),
                    farewell,
                })
            }
        }
    }
}

/// Bytes from the first to the end of a ClientHello, record headers included. Those of real clients have 200 to 2,000; rustls alone would
/// hold 64 KiB for everybody who promises to go on.
pub const MAX_HELLO: usize = 16 * 1024;

/// A ClientHello that can be answered.
pub struct Hello {
    accepted: Accepted,
    server_name: Option<String>,
    offers_protocols: bool,
}

impl Hello {
    fn of(accepted: Accepted) -> Self {
        let hello = accepted.client_hello();
        let server_name = hello.server_name().map(str::to_owned);
        let offers_protocols = hello.alpn().is_some();
        Self {
            accepted,
            server_name,
            offers_protocols,
        }
    }

    /// The host that the client says it wants (SNI), as rustls lets it through: a DNS name in any case, not yet in our normal form.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Whether it offers any application protocol (ALPN). Which one is agreed on is the configuration's business.
    pub fn offers_protocols(&self) -> bool {
        self.offers_protocols
    }

    /// The handshake as far as it got, to go on with under a configuration.
    pub fn into_accepted(self) -> Accepted {
        self.accepted
    }
}

/// No ClientHello that could be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unheard {
    story: String,
    farewell: Vec<u8>,
}

impl Unheard {
    /// The alert that tells the client, ready to be sent; empty where there is nothing to say.
    pub fn farewell(&self) -> &[u8] {
        &self.farewell
    }

    fn too_long() -> Self {
        Self {
            story: format!("a ClientHello of more than {MAX_HELLO} bytes"),
            farewell: alert(DECODE_ERROR),
        }
    }

    fn stuck(error: &io::Error) -> Self {
        Self {
            story: format!("the ClientHello cannot be taken in: {error}"),
            farewell: alert(DECODE_ERROR),
        }
    }
}

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.story)
    }
}

impl std::error::Error for Unheard {}

/// The record of a fatal alert before any keys are agreed on (RFC 8446 §5.1, §6).
pub fn alert(description: u8) -> Vec<u8> {
    const ALERT: u8 = 21;
    const FATAL: u8 = 2;
    vec![ALERT, 3, 3, 0, 2, FATAL, description]
}

/// RFC 8446 §6.2.
const DECODE_ERROR: u8 = 50;
/// RFC 7301 §3.2: what a client is told that offers no application protocol where one is needed.
pub const NO_APPLICATION_PROTOCOL: u8 = 120;
