//! Syslog messages (RFC 5424) over TLS (RFC 5425) or plain TCP, each after its length (RFC 6587, 3.4.1).

use std::sync::Arc;

use portcullis_audit::moment;
use portcullis_certs::{Identity, client_config};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::limits::{SHIP_SYSLOG_AGAIN, SHIP_SYSLOG_BUFFER, SHIP_SYSLOG_TIME};
use super::ocsf::{Severity, severity};
use super::{Failed, Item, Sink, Taken};
use crate::config::node::{IdentityFiles, SyslogTarget, SyslogTransport};
use crate::runtime::clock::Duration;
use crate::runtime::sockets;

/// A receiver of syslog. It does not say what it has: a message is given to the system, and may be lost after that.
pub struct Syslog {
    target: SyslogTarget,
    node: String,
    stream: Option<Box<dyn Stream>>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Syslog {
    /// Nothing is connected yet.
    #[must_use]
    pub fn new(target: SyslogTarget, node: String) -> Self {
        if target.transport == SyslogTransport::Tcp {
            tracing::warn!(
                host = target.host,
                "entries of the audit logs are sent without encryption, to whoever answers: [audit.syslog] has transport = \"tcp\""
            );
        }
        Self {
            target,
            node,
            stream: None,
        }
    }

    async fn connect(target: &SyslogTarget) -> Result<Box<dyn Stream>, String> {
        let SyslogTarget { host, port, .. } = target;
        let stream = TcpStream::connect((host.as_str(), *port)).await;
        let stream = stream.map_err(|error| format!("could not connect: {error}"))?;
        let socket = socket2::SockRef::from(&stream);
        let bounded = sockets::tune(&stream)
            .and_then(|()| socket.set_send_buffer_size(SHIP_SYSLOG_BUFFER))
            .and_then(|()| socket.set_tcp_user_timeout(Some(SHIP_SYSLOG_TIME)));
        bounded.map_err(|error| format!("the socket cannot be bounded: {error}"))?;
        let SyslogTransport::Tls {
            ca,
            server_name,
            identity,
        } = &target.transport
        else {
            return Ok(Box::new(stream));
        };
        let in_file = |why: &dyn std::fmt::Display| format!("{}: {why}", ca.display());
        let text = tokio::fs::read_to_string(ca).await;
        let text = text.map_err(|error| in_file(&error))?;
        let identity = match identity.clone() {
            Some(files) => Some(read_identity(files).await?),
            None => None,
        };
        let tls = client_config(&text, identity.as_ref()).map_err(|error| in_file(&error))?;
        let name = ServerName::try_from(server_name.clone())
            .map_err(|_| format!("audit.syslog.server-name {server_name} is not a name"))?;
        let stream = TlsConnector::from(tls).connect(name, stream).await;
        let stream = stream.map_err(|error| format!("the TLS handshake failed: {error}"))?;
        Ok(Box::new(stream))
    }

    async fn give(&mut self, text: &[u8]) -> Result<(), String> {
        if self.stream.is_none() {
            self.stream = Some(Self::connect(&self.target).await?);
        }
        let stream = self.stream.as_mut().ok_or("not connected")?;
        still_there(stream).await?;
        let broke = |error: std::io::Error| format!("the connection broke: {error}");
        stream.write_all(text).await.map_err(broke)?;
        stream.flush().await.map_err(broke)
    }

    fn failed(&mut self, why: &str) -> Failed {
        self.stream = None;
        let SyslogTarget { host, port, .. } = &self.target;
        Failed::new(format!("{host}:{port}: {why}"))
    }
}

impl Sink for Syslog {
    const NAME: &'static str = "syslog";

    const UNCONFIRMED: usize = SHIP_SYSLOG_AGAIN;

    async fn send(&mut self, items: Arc<[Item]>) -> Result<Taken, Failed> {
        let mut text = Vec::new();
        for item in items.iter() {
            let message = message(item, &self.node, self.target.enterprise);
            text.extend_from_slice(message.len().to_string().as_bytes());
            text.push(b' ');
            text.extend_from_slice(&message);
        }
        match timeout(SHIP_SYSLOG_TIME, self.give(&text)).await {
            Ok(Ok(())) => Ok(Taken::default()),
            Ok(Err(why)) => Err(self.failed(&why)),
            Err(_) => Err(self.failed("it takes nothing, or too slowly")),
        }
    }

    async fn look(&mut self) -> Result<(), Failed> {
        let there = match &mut self.stream {
            Some(stream) => still_there(stream).await,
            None => Ok(()),
        };
        there.map_err(|why| self.failed(&why))
    }
}

async fn read_identity(files: IdentityFiles) -> Result<Identity, String> {
    let chain = files.chain.display().to_string();
    let read = tokio::task::spawn_blocking(move || files.read());
    let pair = read.await.map_err(|error| error.to_string())?;
    let pair = pair.map_err(|error| error.to_string())?;
    Identity::from_pem(&pair.chain, &pair.key).map_err(|error| format!("{chain}: {error}"))
}

/// Notices that the receiver hung up; what it says is of no interest.
async fn still_there(stream: &mut Box<dyn Stream>) -> Result<(), String> {
    let mut said = [0; 256];
    match timeout(Duration::ZERO, stream.read(&mut said)).await {
        Ok(Ok(0)) => Err("it hung up".to_owned()),
        Ok(Err(error)) => Err(format!("the connection broke: {error}")),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// One message of RFC 5424, without its length.
fn message(item: &Item, node: &str, enterprise: u32) -> Vec<u8> {
    let event = &item.event;
    let severity = match severity(&event.kind) {
        Severity::Informational => 6,
        Severity::Medium => 4,
        Severity::High => 3,
    };
    let at = moment::to_text(event.at_ms);
    let (host, kind) = (name(node, 255), name(&event.kind, 32));
    let mut text = format!(
        "<{}>1 {at} {host} portcullis - {kind} [portcullis@{enterprise}",
        LOG_AUDIT * 8 + severity
    );
    let (index, last) = (item.first.to_string(), item.last.to_string());
    let data = [
        ("log", Some(&item.origin)),
        ("index", Some(&index)),
        ("last", item.is_gap().then_some(&last)),
        ("node", Some(&event.node)),
        ("tenant", event.tenant.as_ref()),
        ("reference", event.reference.as_ref()),
    ];
    for (name, value) in data {
        if let Some(value) = value {
            text.push_str(&format!(" {name}=\""));
            escape(value, &mut text);
            text.push('"');
        }
    }
    text.push_str("] ");
    // Section 6.4: text that is not ASCII begins with this mark.
    if !item.line.is_ascii() {
        text.push('\u{feff}');
    }
    // As it stands in the log, so that it can be proved; JSON has no line breaks or other controls in it.
    text.push_str(&item.line);
    text.into_bytes()
}

/// The facility "log audit".
const LOG_AUDIT: u32 = 13;

/// A field of the header: printable ASCII without spaces, at most so many of it.
fn name(text: &str, most: usize) -> String {
    let printable = |it: char| if it.is_ascii_graphic() { it } else { '?' };
    let name: String = text.chars().take(most).map(printable).collect();
    match name.is_empty() {
        true => "-".to_owned(),
        false => name,
    }
}

/// A value of structured data (section 6.3.3). Controls are nothing that anybody should see in one.
fn escape(value: &str, text: &mut String) {
    for it in value.chars() {
        match it {
            '"' | '\\' | ']' => text.extend(['\\', it]),
            it if it.is_control() => text.push(char::REPLACEMENT_CHARACTER),
            it => text.push(it),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use portcullis_audit::{Event, kinds};

    #[test]
    fn a_message_is_what_the_rfc_says_and_nobody_breaks_out_of_it() {
        let mut event = Event::new(1_700_000_000_123, kinds::POLICY_REJECTED, "n1")
            .with("story", "a\n<13>1 b ]");
        event.tenant = Some("a\"] [x@1 b=\"\\\n".to_owned());
        let line = event.line();
        let item = Item::entry("fleet", "portcullis/7f3a", 5, line.as_bytes()).unwrap();
        let text = String::from_utf8(message(&item, "n 1", 32_473)).unwrap();
        let expected = format!(
            "<108>1 2023-11-14T22:13:20.123Z n?1 portcullis - policy.rejected [portcullis@32473 log=\"portcullis/7f3a\" index=\"5\" node=\"n1\" tenant=\"a\\\"\\] [x@1 b=\\\"\\\\\u{fffd}\"] {line}"
        );
        assert_eq!(text, expected);
        assert!(!text.contains('\n'));
    }

    #[test]
    fn text_that_is_not_ascii_is_marked_and_names_are_cut() {
        let mut event = Event::new(0, "x", "n1").with("user", "Zo\u{eb}");
        event.kind = format!("{}\n", "k".repeat(40)).into();
        let item = Item::entry("fleet", "o", 0, event.line().as_bytes()).unwrap();
        let text = String::from_utf8(message(&item, "", 1)).unwrap();
        let header = format!(
            "<110>1 1970-01-01T00:00:00.000Z - portcullis - {} [",
            "k".repeat(32)
        );
        assert!(text.starts_with(&header), "{text}");
        assert!(text.ends_with(&format!("] \u{feff}{}", event.line())));
    }
}
