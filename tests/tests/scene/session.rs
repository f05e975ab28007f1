//! A session that knows its cancel key, and cancel requests made by hand.

use portcullis_tests::client::{Binding, startup};
use portcullis_tests::{Dial, Ending, Gateway, Message, Postgres, RawClient, wait};

use super::{NAME, SOON};

/// A raw session that knows its cancel key and its backend.
pub(crate) struct Session {
    pub(crate) client: RawClient,
    /// Process id and secret.
    pub(crate) key: Vec<u8>,
    /// The backend's own process id.
    pub(crate) pid: String,
}

impl Session {
    pub(crate) fn open(gateway: &Gateway, protocol: u32) -> Self {
        Self::by(&gateway.dial(NAME), protocol)
    }

    pub(crate) fn by(dial: &Dial, protocol: u32) -> Self {
        let mut client = dial.connect().unwrap();
        let parameters = [("user", "app"), ("database", "postgres")];
        client.send(&startup(protocol, &parameters)).unwrap();
        let messages = client.authenticate("app", "secret", Binding::None).unwrap();
        let key = |message: &&Message| message.kind == b'K';
        let key = messages.iter().find(key).unwrap().body.clone();
        let pid = client.query("select pg_backend_pid()").unwrap()[0][0]
            .clone()
            .unwrap();
        Self { client, key, pid }
    }

    /// Sleeps, and has arrived: a cancel request that comes before the query hits nothing.
    pub(crate) fn sleep(&mut self, server: &Postgres) {
        self.client.send_query("select pg_sleep(60)").unwrap();
        wait::wait_for("the query runs", SOON, || self.is_running(server));
    }

    pub(crate) fn is_running(&self, server: &Postgres) -> bool {
        let pid = &self.pid;
        let sql = format!(
            "select state from pg_stat_activity where pid = {pid} and query like '%pg_sleep%'"
        );
        server.sql(&sql) == "active"
    }

    /// Sends the session's own key on a connection of its own; what came back.
    pub(crate) fn request(&self, dial: &Dial) -> (Vec<Message>, Ending) {
        let mut client = dial.connect().unwrap();
        client.send(&packet(&self.key)).unwrap();
        client.read_to_end()
    }

    pub(crate) fn outcome(&mut self) -> String {
        let messages = self.client.read_until(b'Z').unwrap();
        messages
            .iter()
            .find(|message| message.kind == b'E')
            .unwrap()
            .sqlstate()
    }

    pub(crate) fn stop(mut self, gateway: &Gateway) {
        let _ = self.request(&Dial::plain(gateway.address()));
        assert_eq!(self.outcome(), "57014");
    }
}

/// A cancel request with this key.
pub(crate) fn packet(key: &[u8]) -> Vec<u8> {
    let length = u32::try_from(key.len() + 8).unwrap();
    [
        &length.to_be_bytes()[..],
        &80_877_102_u32.to_be_bytes(),
        key,
    ]
    .concat()
}
