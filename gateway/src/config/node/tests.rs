//! Good and bad `node.toml`, and the files that it names.

use super::*;
use portcullis_policy::{Cloud, Origin, Prefix, Via};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

#[test]
fn everything_that_a_node_can_say_is_understood() {
    let config = parse(
        r#"
name = "gw1"
data = "/var/lib/portcullis"
workers = 2
policy = "policy"
[admin]
socket = "/run/portcullis/admin.sock"
allowed-uids = [1000, 0]
[metrics]
listen = "127.0.0.1:9187"
[dialer]
socket = "dialer.sock"
[[certificate]]
chain = "server.pem"
key = "/etc/keys/server.key"
[[database-client]]
tenant = "acme"
chain = "acme.pem"
key = "acme.key"
[[listener]]
address = "0.0.0.0:5433"
origin = "public"
[[listener]]
address = "0.0.0.0:5433"
origin = "network:acme-vpc"
network-namespace = "acme"
[[listener]]
address = "[::]:5433"
origin = "network:globex/vpc"
interface = "eth7"
[[listener]]
address = "0.0.0.0:5434"
origin = "private-links"
cloud = "aws"
trusted = ["10.9.0.0/24"]
[[listener]]
address = "192.0.2.1:5435"
origin = "public"
proxy-protocol = true
trusted = ["10.9.0.0/24", "2001:db8::/64"]
"#,
    )
    .unwrap();
    assert_eq!(config.name, "gw1");
    assert_eq!(config.workers, NonZeroUsize::new(2));
    assert_eq!(
        config.policy.as_deref(),
        Some(Path::new("/etc/portcullis/policy"))
    );
    assert_eq!(
        config.dialer.as_deref(),
        Some(Path::new("/etc/portcullis/dialer.sock"))
    );
    assert_eq!(config.admin.allowed_uids, BTreeSet::from([0, 1000]));
    assert_eq!(
        config.certificates[0].chain,
        Path::new("/etc/portcullis/server.pem")
    );
    assert_eq!(
        config.certificates[0].key,
        Path::new("/etc/keys/server.key")
    );
    assert_eq!(config.database_clients.len(), 1);
    let doors: Vec<(Option<Via>, ListenerDoor)> = config
        .listeners
        .iter()
        .map(|listener| (listener.via.clone(), listener.door.clone()))
        .collect();
    let network = |id: &str| ListenerDoor::Direct(Origin::Network(id.parse().unwrap()));
    let prefix = |text: &str| Prefix::parse(text).unwrap();
    assert_eq!(
        doors,
        [
            (None, ListenerDoor::Direct(Origin::Public)),
            (
                Some(Via::NetworkNamespace("acme".to_owned())),
                network("acme-vpc")
            ),
            (
                Some(Via::Interface("eth7".to_owned())),
                network("globex/vpc")
            ),
            (
                None,
                ListenerDoor::PrivateLinks {
                    cloud: Cloud::Aws,
                    trusted: vec![prefix("10.9.0.0/24")]
                }
            ),
            (
                None,
                ListenerDoor::Balanced {
                    origin: Origin::Public,
                    trusted: vec![prefix("10.9.0.0/24"), prefix("2001:db8::/64")]
                }
            ),
        ]
    );
}

#[test]
fn what_is_optional_can_be_left_out() {
    let config = parse(&with("", PUBLIC)).unwrap();
    assert_eq!(config.workers, None);
    assert_eq!(config.metrics, None);
    assert_eq!(config.policy, None);
    assert_eq!(config.dialer, None);
}

#[test]
fn operators_are_heard_on_control_nodes_of_a_fleet_only() {
    let fleet = |more: &str| {
        format!(
            "{}\n[fleet]\nlisten = \"10.0.0.1:7443\"\n{more}[api]\nlisten = \"10.0.0.1:7444\"\n",
            with("", PUBLIC)
        )
    };
    let config = parse(&fleet("")).unwrap();
    assert_eq!(config.api, Some("10.0.0.1:7444".parse().unwrap()));
    for text in [
        fleet("roles = [\"gateway\"]\n"),
        with("api = {listen = \"10.0.0.1:7444\"}", PUBLIC),
    ] {
        let errors = parse(&text).map(|_| "accepted").unwrap_err();
        let told = errors.first().unwrap().to_string();
        assert!(told.contains("[api] needs a [fleet]"), "{told}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    check(
        "name = 3",
        "1:8: invalid type: integer `3`, expected a string",
    );
    check(
        "nme = \"x\"",
        "1:1: unknown field `nme`, expected one of `name`, `data`, `workers`, `policy`, `admin`, `metrics`, `dialer`, `limits`, `fleet`, `api`, `vault`, `audit`, `certificate`, `database-client`, `listener`",
    );
    check("name = \"a\"\nname = \"b\"", "2:1: duplicate key");
    check(
        "name = \"a\u{202e}\"",
        "1:10: the invisible character U+202E; remove it",
    );
    check(
        "name = ",
        "1:8: string values must be quoted, expected literal string",
    );

    check(
        &with("workers = 0", PUBLIC),
        "1:11: workers 0: write 1 to 1024, or leave it out for one per core",
    );
    check(
        &with("workers = 1025", PUBLIC),
        "1:11: workers 1025: write 1 to 1024, or leave it out for one per core",
    );
    check(
        &with("policy = \"\"", PUBLIC),
        "1:10: policy is empty; write a path",
    );
    check(
        &with("metrics = {listen = \"localhost:9187\"}", PUBLIC),
        "1:21: metrics.listen \"localhost:9187\": write an IP address and a port, like \"192.0.2.1:5433\" or \"[2001:db8::1]:5433\"",
    );
    let long = format!("dialer = {{socket = \"/{}\"}}", "x".repeat(107));
    check(
        &with(&long, PUBLIC),
        "1:20: dialer.socket: the socket's path is 108 bytes long; Unix sockets take 107",
    );
}

#[test]
fn metrics_are_never_served_where_data_is() {
    for metrics in ["192.0.2.1:5433", "0.0.0.0:5433"] {
        let metrics_line = format!("metrics = {{listen = \"{metrics}\"}}");
        check(
            &with(
                &metrics_line,
                "address = \"192.0.2.1:5433\"\norigin = \"public\"",
            ),
            &format!(
                "1:21: metrics.listen {metrics} is a data listener's address; metrics are never served there"
            ),
        );
    }
    check(
        &with("metrics = {listen = \"127.0.0.1:5433\"}", PUBLIC),
        "1:21: metrics.listen 127.0.0.1:5433 is a data listener's address; metrics are never served there",
    );
    // In another namespace the same numbers are another address.
    let elsewhere = "address = \"0.0.0.0:5433\"\norigin = \"network:a\"\nnetwork-namespace = \"a\"";
    let first = "metrics = {listen = \"127.0.0.1:5433\"}\ndialer = {socket = \"d\"}";
    assert!(parse(&with(first, elsewhere)).is_ok());
}

#[test]
fn a_node_needs_a_certificate_and_a_listener() {
    let errors = parse("name = \"n\"\ndata = \"d\"\n[admin]\nsocket = \"s\"\n").unwrap_err();
    let messages: Vec<String> = errors.iter().map(FileError::to_string).collect();
    assert_eq!(
        messages,
        [
            "/etc/portcullis/node.toml: no [[certificate]]: clients are met with TLS only; write one with `chain` and `key`",
            "/etc/portcullis/node.toml: no [[listener]]: nobody could connect; write one with `address` and `origin`",
        ]
    );
}

#[test]
fn a_tenant_has_one_database_client_certificate() {
    let client = "[[database-client]]\ntenant = \"acme\"\nchain = \"c\"\nkey = \"k\"\n";
    let text = with("", &format!("{PUBLIC}\n{client}{client}"));
    check(
        &text,
        "15:10: tenant \"acme\" already has a [[database-client]]; one certificate per tenant",
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = with(
        "workers = 0\npolicy = \"\"",
        "address = \"x\"\norigin = \"y\"",
    );
    assert_eq!(parse(&text).unwrap_err().len(), 4);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let directory = Directory::new("keys");
    let files = IdentityFiles {
        chain: directory.write("chain.pem", "chain", 0o644),
        key: directory.write("server.key", "key", 0o600),
    };
    let pair = files.read().unwrap();
    assert_eq!((pair.chain.as_str(), pair.key.as_str()), ("chain", "key"));
    assert_eq!(format!("{pair:?}"), "PemPair { .. }");

    for mode in [0o640, 0o604, 0o610, 0o601, 0o620, 0o666] {
        fs::set_permissions(&files.key, fs::Permissions::from_mode(mode)).unwrap();
        let error = files.read().unwrap_err();
        assert!(
            error.message.contains("others than its owner"),
            "{mode:o}: {error}"
        );
    }
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o400)).unwrap();
    assert!(files.read().is_ok());

    // What counts is the file at the end of a link, not the link.
    let link = directory.0.join("link.key");
    symlink(&files.key, &link).unwrap();
    let linked = IdentityFiles {
        key: link,
        ..files.clone()
    };
    assert!(linked.read().is_ok());
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o444)).unwrap();
    assert!(linked.read().is_err());
}

#[test]
fn what_is_not_a_plain_small_file_is_refused() {
    let directory = Directory::new("shapes");
    let key = directory.write("k", "key", 0o600);
    let read = |chain: PathBuf| {
        let files = IdentityFiles {
            chain,
            key: key.clone(),
        };
        files.read().map(|_| ()).map_err(|error| error.message)
    };
    assert_eq!(
        read(directory.0.clone()),
        Err("is not a regular file".to_owned())
    );
    assert_eq!(
        read(PathBuf::from("/dev/zero")),
        Err("is not a regular file".to_owned())
    );
    assert!(
        read(directory.0.join("none"))
            .unwrap_err()
            .starts_with("cannot be opened: No such file")
    );
    let large = directory.write("large", &"x".repeat(256 * 1024 + 1), 0o644);
    assert_eq!(read(large), Err("is larger than 262144 bytes".to_owned()));
    let edge = directory.write("edge", &"x".repeat(256 * 1024), 0o644);
    assert_eq!(read(edge), Ok(()));
    let mixed = directory.write("mixed", "-----BEGIN PRIVATE KEY-----\n", 0o644);
    assert_eq!(
        read(mixed),
        Err("holds a private key; a chain is certificates only".to_owned())
    );
}

#[test]
fn every_identity_that_cannot_be_read_is_named() {
    let directory = Directory::new("load");
    directory.write("server.pem", "chain", 0o644);
    directory.write("server.key", "key", 0o600);
    let path = directory.0.join("node.toml");
    let text = with("", PUBLIC);
    let config = NodeConfig::parse(&text, &path).unwrap();
    let identities = config.load_identities().unwrap();
    assert_eq!(identities.certificates.len(), 1);

    fs::remove_file(directory.0.join("server.pem")).unwrap();
    let errors = config.load_identities().unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].file.ends_with("/server.pem"), "{}", errors[0]);

    fs::write(&path, &text).unwrap();
    assert!(NodeConfig::read(&path).is_ok());
    assert!(NodeConfig::read(&directory.0.join("other.toml")).is_err());
}

pub(super) const PUBLIC: &str = "address = \"0.0.0.0:5433\"\norigin = \"public\"";

/// A whole file; its listener's first line is line 8, or later by the lines of `first`.
pub(super) fn with(first: &str, listener: &str) -> String {
    let first = if first.is_empty() {
        String::new()
    } else {
        format!("{first}\n")
    };
    format!(
        "{first}name = \"n\"\ndata = \"d\"\nadmin = {{socket = \"s\"}}\n[[certificate]]\nchain = \"server.pem\"\nkey = \"server.key\"\n[[listener]]\n{listener}\n"
    )
}

pub(super) fn parse(text: &str) -> Result<NodeConfig, Vec<FileError>> {
    NodeConfig::parse(text, Path::new("/etc/portcullis/node.toml"))
}

#[track_caller]
pub(super) fn check(text: &str, expected: &str) {
    let errors = parse(text).map(|_| "accepted").unwrap_err();
    let first = errors[0].to_string();
    let line = first.lines().next().unwrap();
    assert_eq!(
        line,
        format!("/etc/portcullis/node.toml:{expected}"),
        "{text}"
    );
}

/// A directory that goes away with the test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("portcullis-node-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
