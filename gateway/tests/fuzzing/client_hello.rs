//! The body of the fuzz target `client_hello`: what our front door does with a stranger's TLS bytes.
//!
//! The first byte chooses whether a client certificate is asked for, the second how the stream is cut; the rest is the
//! stream. As in production a hello is heard, its server name normalised, an identity and configuration chosen, and the
//! handshake gone on with. What was written down beforehand can never finish it: the keys are ours and fresh.

use std::sync::{Arc, LazyLock};

use portcullis_certs::authority::{Authority, LeafRequest, Purpose};
use portcullis_certs::hello::{Hearing, Hello, MAX_HELLO, Unheard};
use portcullis_certs::{
    ALPN_POSTGRESQL, ClientCertificates, Identity, Resumption, ServerIdentities, Validity,
    generate_key, server_config,
};
use portcullis_policy::ServerName;

pub(crate) fn client_hello(data: &[u8]) {
    let [choices, piece, stream @ ..] = data else {
        return;
    };
    let stream = stream.get(..MAX_STREAM).unwrap_or(stream);
    let (at_once, _) = hear(stream, READ_SIZE);
    let (heard, rest) = hear(stream, usize::from(*piece).max(1));
    assert_eq!(said(&at_once), said(&heard), "cut in pieces of {piece}");
    match heard {
        Ok(Some(hello)) => answer(hello, rest, choices & 1 == 1),
        Ok(None) => assert!(stream.len() < MAX_HELLO),
        Err(unheard) => {
            assert!(!unheard.to_string().is_empty());
            assert!(unheard.farewell().len() <= MAX_FAREWELL);
        }
    }
}

type Heard = Result<Option<Hello>, Unheard>;

/// Feeds pieces until there is a hello or none can come of it; what follows is left.
fn hear(mut stream: &[u8], piece: usize) -> (Heard, &[u8]) {
    let mut hearing = Hearing::default();
    while !stream.is_empty() {
        assert!(hearing.room() > 0, "without room it has said no");
        let next = piece.min(hearing.room()).min(stream.len());
        let (next, rest) = stream.split_at(next);
        stream = rest;
        match hearing.take(next) {
            Ok(None) => {}
            heard => return (heard, stream),
        }
    }
    (Ok(None), stream)
}

/// What can be compared of what was heard.
fn said(heard: &Heard) -> Result<Option<(Option<&str>, bool)>, &Unheard> {
    match heard {
        Ok(Some(hello)) => Ok(Some((hello.server_name(), hello.offers_protocols()))),
        Ok(None) => Ok(None),
        Err(unheard) => Err(unheard),
    }
}

fn answer(hello: Hello, mut rest: &[u8], asks: bool) {
    let asked = hello.server_name().map(str::to_owned);
    let normal = asked
        .as_deref()
        .and_then(|name| ServerName::parse(name).ok());
    let identity = choose(normal.as_ref());
    let clients = match asks {
        true => ClientCertificates::Asked {
            authorities_pem: &HOUSE.authorities,
        },
        false => ClientCertificates::NotAsked,
    };
    let configuration = server_config(identity, clients, Resumption::Off).unwrap();

    let mut written = Vec::new();
    let mut connection = match hello.into_accepted().into_connection(configuration) {
        Ok(connection) => connection,
        Err((_, mut alert)) => return alert.write_all(&mut written).unwrap(),
    };
    loop {
        // The first time round, what came right behind the hello.
        let processed = connection.process_new_packets();
        while connection.wants_write() {
            connection.write_tls(&mut written).unwrap();
        }
        assert!(written.len() <= MAX_WRITTEN, "{} bytes", written.len());
        assert!(connection.is_handshaking());
        let agreed = connection.alpn_protocol();
        assert!(agreed.is_none() || agreed == Some(ALPN_POSTGRESQL));
        // Also after a retry: the identity was chosen by the name in the first hello.
        let named = connection.server_name();
        assert!(named.is_none() || named == asked.as_deref());
        match processed {
            Ok(state) => assert_eq!(state.plaintext_bytes_to_read(), 0),
            Err(_) => return,
        }
        if rest.is_empty() || !matches!(connection.read_tls(&mut rest), Ok(1..)) {
            return;
        }
    }
}

/// The identity for a name, as production chooses it: the one that carries the name, else one whose wildcard stands for
/// its first label, else the first.
fn choose(name: Option<&ServerName>) -> &'static Identity {
    let all = HOUSE.identities.all();
    let carrying = |wanted: &str| {
        let carries = |it: &&Arc<Identity>| it.names().dns.iter().any(|dns| dns == wanted);
        all.iter().find(carries)
    };
    let expected = name.map(ServerName::as_str).and_then(|name| {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        carrying(name).or_else(|| carrying(&format!("*.{}", parent?)))
    });
    let chosen = HOUSE.identities.choose(name.map(ServerName::as_str));
    assert!(Arc::ptr_eq(chosen, expected.unwrap_or(&all[0])));
    chosen
}

struct House {
    identities: ServerIdentities,
    authorities: String,
}

static HOUSE: LazyLock<House> = LazyLock::new(|| {
    let validity = Validity {
        not_before: 1_577_836_800,
        not_after: 4_733_510_400,
    };
    let authority = Authority::new("fuzzing", generate_key().unwrap(), validity).unwrap();
    let identity = |dns: &str| {
        let leaf = LeafRequest {
            common_name: "server".to_owned(),
            dns: vec![dns.to_owned()],
            uris: vec![],
            ips: vec![],
            purpose: Purpose::Server,
            validity,
        };
        let issued = authority.issue(&leaf, &generate_key().unwrap()).unwrap();
        Identity::from_pem(&issued.chain_pem, &issued.key_pem).unwrap()
    };
    let others = vec![identity("orders.db.example"), identity("*.db.example")];
    House {
        identities: ServerIdentities::new(identity("first.example"), others).unwrap(),
        authorities: authority.authority_pem().to_owned(),
    }
});

/// What a stranger may send here: four times what a hello may have.
const MAX_STREAM: usize = 64 * 1024;
/// As much as the front door reads at once.
const READ_SIZE: usize = 4096;
/// The one alert.
const MAX_FAREWELL: usize = 16;
/// A retry, our hello, one certificate and what signs it.
const MAX_WRITTEN: usize = 8 * 1024;
