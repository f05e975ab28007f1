//! OpenSSL's client, for what a TLS library of today would not send: odd server names, renegotiation,
//! weak keys.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::gateway::Gateway;
use crate::{ports, process};

/// Where it calls from, so that its events can be told from others.
const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 6, 1));
/// How long a call may last.
const LIMIT: Duration = Duration::from_secs(15);

/// One call of it.
#[derive(Debug)]
pub struct OpenSsl {
    command: Command,
    from: SocketAddr,
}

/// What came of it.
#[derive(Debug)]
pub struct Told {
    /// Everything that it printed: what was sent to it, and its own words.
    pub heard: String,
    /// Where it called from.
    pub from: SocketAddr,
}

impl OpenSsl {
    /// A client of the gateway's first listener with further arguments of s_client; it prints what is
    /// sent to it, and its own complaints.
    #[must_use]
    pub fn new(gateway: &Gateway, arguments: &[&str]) -> Self {
        let mut client = Self::loud(gateway, arguments);
        client.command.arg("-quiet");
        client
    }

    /// The same, but it also takes commands at the beginning of a line (`R`, `Q`), and tells of the handshake.
    #[must_use]
    pub fn loud(gateway: &Gateway, arguments: &[&str]) -> Self {
        let from = SocketAddr::new(CALLER, ports::free());
        let mut command = Command::new("openssl");
        command.args(["s_client", "-starttls", "postgres"]);
        command.args([
            "-bind",
            &from.to_string(),
            "-connect",
            &gateway.address().to_string(),
        ]);
        command
            .args(["-cipher", "DEFAULT@SECLEVEL=0"])
            .args(arguments);
        Self { command, from }
    }

    /// Sends these bytes inside TLS, and waits for the end.
    ///
    /// # Panics
    /// When nobody ends it.
    #[must_use]
    pub fn send(self, bytes: &[u8]) -> Told {
        let finished = process::run_with(&self.command, bytes, LIMIT);
        assert!(
            finished.status.code().is_some(),
            "nobody ended it: {finished}"
        );
        Told {
            heard: finished.stdout + &finished.stderr,
            from: self.from,
        }
    }
}

impl Told {
    /// Kind and code of the events about this connection.
    #[must_use]
    pub fn found(&self, gateway: &Gateway) -> Vec<(String, String)> {
        let port = self.from.port();
        let of_it = |event: &&Value| event["port"] == port;
        gateway.event("openssl's connection", |event| of_it(&event));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events = gateway.events();
        events
            .iter()
            .filter(of_it)
            .map(|event| (text(&event["kind"]), text(&event["code"])))
            .collect()
    }
}
