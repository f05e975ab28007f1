//! The attacker: makes the connections, and sees what comes of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use portcullis_certs::{ServerNameIndication, probe_client_config};
use portcullis_wire::first::SSL_REQUEST;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{self, ClientConfig, ClientConnection, pki_types::ServerName};

use super::attack::{ANSWER, Act, Attack, DEADLINE, Must, Name, Outcome, Verdict};
use super::before_tls::{USER, VERSION_3, startup};
use super::judge::{End, Heard};
use crate::runtime::clock::{Duration, instant};
use crate::runtime::random;

/// Connecting, and a whole handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Between the bytes of one who drips.
const DRIP: Duration = Duration::from_secs(1);
/// Past this nobody listens any more: no refusal is so long.
const MAX_HEARD: usize = 64 * 1024;

/// Who attacks: one target, and a TLS for it or why there is none.
pub(super) struct Attacker {
    target: SocketAddr,
    tls: Result<Tls, String>,
}

/// What TLS with the target needs.
pub(super) struct Tls {
    authorities: String,
    /// A name that its certificate carries.
    known: ServerName<'static>,
    /// The zone of its endpoints: what follows the first label.
    zone: String,
}

impl Tls {
    /// With these authorities, for a gateway one of whose names is `known`. The inner error says
    /// what a person can do about TLS that cannot be.
    pub(super) fn new(authorities: &str, known: &str) -> Result<Result<Self, String>, String> {
        probe_client_config(authorities, &[], ServerNameIndication::Sent)
            .map_err(|error| error.to_string())?;
        let zone = known.split_once('.').map(|(_, zone)| zone.to_owned());
        Ok(match (ServerName::try_from(known.to_owned()), zone) {
            (Ok(name @ ServerName::DnsName(_)), Some(zone)) => Ok(Self {
                authorities: authorities.to_owned(),
                known: name,
                zone,
            }),
            _ => Err(format!(
                "{known} is no name in a certificate: give an endpoint's by --server-name"
            )),
        })
    }

    fn configuration(
        &self,
        alpn: &[&[u8]],
        indication: ServerNameIndication,
    ) -> Result<Arc<ClientConfig>, Stopped> {
        probe_client_config(&self.authorities, alpn, indication)
            .map_err(|error| Stopped::Failed(error.to_string()))
    }

    /// One label under the zone, as endpoints have, that nobody has.
    fn unknown(&self) -> Result<ServerName<'static>, Stopped> {
        let label = u64::from_be_bytes(random::bytes());
        ServerName::try_from(format!("pc-{label:016x}.{}", self.zone))
            .map_err(|error| Stopped::Failed(error.to_string()))
    }
}

/// Why nothing was heard.
enum Stopped {
    /// It cannot be tried from here.
    NotRun(String),
    /// It should have worked.
    Failed(String),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Attacker {
    pub(super) fn new(target: SocketAddr, tls: Result<Tls, String>) -> Self {
        Self { target, tls }
    }

    /// Whether anything is there.
    pub(super) async fn reach(&self) -> io::Result<()> {
        self.connect().await.map(drop)
    }

    /// Makes the attack, and judges.
    pub(super) async fn carry_out(&self, attack: Attack) -> Outcome {
        let (verdict, happened) = match self.seen(&attack).await {
            Ok((true, happened)) => (Verdict::Refused, happened),
            Ok((false, happened)) => (Verdict::NotRefused, happened),
            Err(Stopped::NotRun(why)) => (Verdict::NotRun, why),
            Err(Stopped::Failed(why)) => (Verdict::Failed, why),
        };
        Outcome {
            attack,
            verdict,
            happened,
        }
    }

    /// Whether it was refused as it must be, and what was seen.
    async fn seen(&self, attack: &Attack) -> Result<(bool, String), Stopped> {
        let heard = match &attack.act {
            Act::Clear(bytes) => {
                let mut stream = self.connect().await?;
                // Whoever is refused at the first bytes need not take the rest.
                drop(stream.write_all(bytes).await);
                listen(&mut stream, attack.must.patience(), never).await
            }
            Act::Drip(bytes) => drip(self.connect().await?, bytes).await,
            Act::Direct(alpn) => self.direct(alpn).await?,
            Act::Inside(name, bytes) => self.inside(name, bytes, attack.must).await?,
            Act::EarlyData(bytes) => return self.early(bytes).await,
            Act::Compare(one, other, bytes) => return self.compare(one, other, bytes).await,
        };
        Ok((heard.fits(attack.must), heard.describe()))
    }

    async fn direct(&self, alpn: &[&[u8]]) -> Result<Heard, Stopped> {
        let tls = self.tls()?;
        let configuration = tls.configuration(alpn, ServerNameIndication::Sent)?;
        let began = instant();
        match shake(configuration, tls.known.clone(), self.connect().await?).await {
            // With TLS 1.3 the refusal may come after the client's side is done.
            Ok(mut stream) => {
                drop(
                    stream
                        .write_all(&startup(VERSION_3, &[("user", USER)]))
                        .await,
                );
                Ok(listen(&mut stream, ANSWER, is_question).await)
            }
            Err(error) => match not_verified(&error) {
                Some(why) => Err(Stopped::Failed(why)),
                None => Ok(Heard {
                    bytes: Vec::new(),
                    end: End::NoHandshake(error.to_string()),
                    took: instant().saturating_duration_since(began),
                }),
            },
        }
    }

    async fn inside(&self, name: &Name, bytes: &[u8], must: Must) -> Result<Heard, Stopped> {
        let mut stream = self.enter(name).await?;
        drop(stream.write_all(bytes).await);
        drop(stream.flush().await);
        let enough = match must == Must::NoSession {
            true => never,
            false => is_question,
        };
        Ok(listen(&mut stream, must.patience(), enough).await)
    }

    /// The same for two names: neither may be told from the other.
    async fn compare(
        &self,
        one: &Name,
        other: &Name,
        bytes: &[u8],
    ) -> Result<(bool, String), Stopped> {
        let first = self.inside(one, bytes, Must::Alike).await?;
        let second = self.inside(other, bytes, Must::Alike).await?;
        if let Name::Given(name) = other
            && second.only_error().is_none()
            && !second.bytes.is_empty()
        {
            return Err(Stopped::NotRun(format!(
                "{name} lets this address in, so it may be known here; run it from an address on no list"
            )));
        }
        let alike = first.end == second.end
            && first.only_error().is_some()
            && first.but_for_references() == second.but_for_references();
        let happened = match alike {
            true => format!("alike: {}", first.describe()),
            false => format!("{}; {}", first.describe(), second.describe()),
        };
        Ok((alike, happened))
    }

    /// A first connection for the ticket, a second with early data if the ticket allows any.
    async fn early(&self, bytes: &[u8]) -> Result<(bool, String), Stopped> {
        let tls = self.tls()?;
        let configuration = tls.configuration(&[], ServerNameIndication::Sent)?;
        let name = tls.unknown()?;
        let mut first = self
            .secured(Arc::clone(&configuration), name.clone())
            .await?;
        drop(first.write_all(bytes).await);
        let _ = listen(&mut first, ANSWER, is_question).await;

        let mut offered = false;
        let mut socket = self.asked_for_tls().await?;
        let connector = TlsConnector::from(configuration);
        let handshake =
            connector.connect_with(name, &mut socket, |connection: &mut ClientConnection| {
                if let Some(mut early) = connection.early_data() {
                    offered = io::Write::write_all(&mut early, bytes).is_ok();
                }
            });
        let stream = timeout(CONNECT, handshake)
            .await
            .map_err(|_| Stopped::Failed("the handshake did not end".to_owned()))??;
        let taken = stream.get_ref().1.is_early_data_accepted();
        Ok(match (offered, taken) {
            (false, _) => (true, "no ticket allows early data".to_owned()),
            (true, false) => (true, "early data was rejected".to_owned()),
            (true, true) => (false, "early data was taken".to_owned()),
        })
    }

    /// SSLRequest and TLS for a name.
    async fn enter(&self, name: &Name) -> Result<TlsStream<TcpStream>, Stopped> {
        let tls = self.tls()?;
        let (name, indication) = match name {
            Name::Unknown => (tls.unknown()?, ServerNameIndication::Sent),
            Name::Withheld => (tls.known.clone(), ServerNameIndication::Withheld),
            Name::Given(name) => {
                let name = ServerName::try_from(name.clone())
                    .map_err(|error| Stopped::Failed(format!("{name}: {error}")))?;
                (name, ServerNameIndication::Sent)
            }
        };
        self.secured(tls.configuration(&[], indication)?, name)
            .await
    }

    async fn secured(
        &self,
        configuration: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<TlsStream<TcpStream>, Stopped> {
        let socket = self.asked_for_tls().await?;
        shake(configuration, name, socket).await.map_err(|error| {
            let why = not_verified(&error).unwrap_or_else(|| format!("no TLS: {error}"));
            Stopped::Failed(why)
        })
    }

    async fn asked_for_tls(&self) -> Result<TcpStream, Stopped> {
        let mut socket = self.connect().await?;
        socket.write_all(&SSL_REQUEST).await?;
        let answer = timeout(ANSWER, socket.read_u8())
            .await
            .map_err(|_| Stopped::Failed("SSLRequest is not answered".to_owned()))?;
        match answer {
            Ok(b'S') => Ok(socket),
            Ok(other) => Err(Stopped::Failed(format!(
                "SSLRequest is answered \"{}\"",
                [other].escape_ascii()
            ))),
            Err(error) => Err(Stopped::Failed(format!(
                "SSLRequest is not answered: {error}"
            ))),
        }
    }

    fn tls(&self) -> Result<&Tls, Stopped> {
        self.tls
            .as_ref()
            .map_err(|why| Stopped::NotRun(why.clone()))
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        timeout(CONNECT, TcpStream::connect(self.target)).await?
    }
}

async fn shake(
    configuration: Arc<ClientConfig>,
    name: ServerName<'static>,
    socket: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(configuration);
    timeout(CONNECT, connector.connect(name, socket)).await?
}

/// What to do if it was us who ended a handshake: the certificate is not what `--ca` and the name
/// promise.
fn not_verified(error: &io::Error) -> Option<String> {
    let told = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(why) = told else {
        return None;
    };
    Some(format!(
        "its certificate is not verified ({why}); name its authority by --ca, and one of its names by --server-name"
    ))
}

/// Listens until the end, or until patience is at its end or what was heard is enough.
async fn listen(
    stream: &mut (impl AsyncRead + Unpin),
    patience: Duration,
    enough: fn(&[u8]) -> bool,
) -> Heard {
    let began = instant();
    let deadline = began + patience;
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 4096];
    let end = loop {
        match timeout_at(deadline.into(), stream.read(&mut chunk)).await {
            Ok(Ok(0) | Err(_)) => break End::Closed,
            Ok(Ok(count)) => bytes.extend(chunk.get(..count).unwrap_or_default()),
            Err(_) => break End::Open,
        }
        if bytes.len() > MAX_HEARD || enough(&bytes) {
            break End::Open;
        }
    };
    Heard {
        bytes,
        end,
        took: instant().saturating_duration_since(began),
    }
}

fn never(_: &[u8]) -> bool {
    false
}

/// A server that asks for a credential waits for it: nothing more will come.
fn is_question(bytes: &[u8]) -> bool {
    matches!(bytes, [b'R', _, _, _, _, 0, 0, 0, code, ..] if *code > 0)
}

/// Sends a byte now and then, and listens meanwhile.
async fn drip(mut stream: TcpStream, bytes: &[u8]) -> Heard {
    let (mut reader, mut writer) = stream.split();
    let dripping = async {
        for byte in bytes {
            sleep(DRIP).await;
            if writer.write_all(&[*byte]).await.is_err() {
                break;
            }
        }
        // How it ends, the listener says.
        std::future::pending::<Heard>().await
    };
    // The dripping never ends by itself.
    tokio::select! {
        heard = listen(&mut reader, DEADLINE, never) => heard,
        heard = dripping => heard,
    }
}
