//! A control node's key of the fleet lies sealed on its disk: under a file, a passphrase, or a key in a module that speaks PKCS #11.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use portcullis::fleet::home::{Home, Piece};
use portcullis_tests::fleet::{Fleet, Guests, Node};
use portcullis_tests::vault::{only_key, sealed_files};
use portcullis_tests::{process, wait};

const SOON: Duration = Duration::from_secs(30);
const BOTH: &str = "control,gateway";

/// The root keys go away under a whole fleet, as when a module is out of reach.
#[test]
fn a_fleet_whose_vaults_are_sealed_serves_customers_and_lets_nobody_in() {
    let mut fleet = Fleet::of(3);
    let reply = fleet.nodes[0].apply(&[fleet.policy(Guests::Welcome)]).ok();
    assert_eq!(reply["nodes_in_force"], 3, "{reply}");
    for node in &mut fleet.nodes {
        let data = node.data();
        let sealed = sealed_files(&data);
        assert_eq!(sealed.len(), 1, "{sealed:?}");
        assert!(sealed[0].to_string_lossy().contains("fleet-authority-"));
        let plain = Home::of(&data).find(Piece::AuthorityKey).unwrap();
        assert!(plain.is_none(), "in plain on {}", node.name());
        wait::wait_for("the vault to be open", SOON, || {
            is_sealed(node) == Some(false)
        });
        node.stop();
        fs::rename(data.join("root.key"), data.join("elsewhere.key")).unwrap();
    }
    for node in &mut fleet.nodes {
        node.start();
    }
    for node in &fleet.nodes {
        wait::wait_for("the vault to be sealed", SOON, || {
            is_sealed(node) == Some(true)
        });
    }
    let mut guest = fleet.connect(2, fleet.guest());
    assert_eq!(guest.query("select 1").unwrap().len(), 1);
    wait::wait_for("a change to be in force", SOON, || {
        let reply = fleet.nodes[1].apply(&[fleet.policy(Guests::Unwelcome)]);
        reply.status == 200 && reply.body["nodes_in_force"] == 3
    });
    assert_eq!(guest.refusal().sqlstate(), "57P01");

    // An operator's certificate: refused before anything is changed about them.
    let socket = fleet.nodes[0].socket().display().to_string();
    let identity = fleet.nodes[0].folder().join("alice").display().to_string();
    let add = |node: &Node| {
        node.portcullis(&[
            "operator",
            "add",
            "alice",
            "--roles",
            "fleet-operator",
            "--out",
            &identity,
            "--socket",
            &socket,
        ])
    };
    let told = add(&fleet.nodes[0]);
    assert!(told.refused().contains("vault is sealed"), "{told}");

    let late = fleet.unmade("late", "[\"control\", \"gateway\"]");
    let token = fleet.nodes[0].invite("late", BOTH);
    let told = fleet.nodes[late].join(&token);
    assert!(told.refused().contains("vault is sealed"), "{told}");

    for node in &fleet.nodes[..3] {
        let data = node.data();
        let told = node.portcullis(&["vault", "check", "--config", &config(node)]);
        assert!(told.refused().contains("root.key"), "{told}");
        fs::rename(data.join("elsewhere.key"), data.join("root.key")).unwrap();
        let opens = node.portcullis(&["vault", "check", "--config", &config(node)]);
        assert!(opens.ok().contains("lies beside what it opens"), "{opens}");
    }
    for node in &fleet.nodes[..3] {
        wait::wait_for("the vault to be open", SOON, || {
            is_sealed(node) == Some(false)
        });
    }
    let _ = fleet.nodes[late].join(&token).ok();
    fleet.nodes[late].start();
    wait::wait_for("the new node to open its own", SOON, || {
        is_sealed(&fleet.nodes[late]) == Some(false)
    });
    assert_eq!(sealed_files(&fleet.nodes[late].data()).len(), 1);
    let _ = add(&fleet.nodes[0]).ok();
}

/// What an earlier version left is sealed, and nothing stays of it.
#[test]
fn a_key_in_plain_of_an_earlier_version_is_sealed_at_the_next_start() {
    let mut fleet = Fleet::of(1);
    let node = &mut fleet.nodes[0];
    node.stop();
    let (data, home) = (node.data(), Home::of(&node.data()));
    let [sealed] = sealed_files(&data).try_into().unwrap();
    let before = only_key(&data);
    for both in [true, false] {
        home.write(Piece::AuthorityKey, &before.1).unwrap();
        if !both {
            fs::remove_dir_all(data.join("vault")).unwrap();
        }
        node.start();
        wait::wait_for("the key to be sealed", SOON, || {
            is_sealed(node) == Some(false) && home.find(Piece::AuthorityKey).unwrap().is_none()
        });
        assert_eq!(sealed_files(&data), std::slice::from_ref(&sealed));
        node.stop();
    }
    assert_eq!(only_key(&data), before);
}

#[test]
fn a_vault_is_sealed_under_a_key_that_never_leaves_its_module() {
    if !Path::new(MODULE).exists() {
        portcullis_tests::skip::skipped(module_path!(), line!(), "needs softhsm2 and opensc");
        return;
    }
    let mut fleet = Fleet::of(1);
    let second = fleet.unmade("n2", "[\"control\", \"gateway\"]");
    let folder = fleet.nodes[second].folder().to_owned();
    let environment = token(&folder);
    let environment = [("SOFTHSM2_CONF", environment.as_str())];
    fleet.nodes[second].environment(&environment);
    let pin = secret(&folder, "pin", "1234");
    let wrong = secret(&folder, "wrong-pin", "4321");
    let section = |pin: &Path, key: &str| {
        format!(
            "[vault.pkcs11]\nmodule = \"{MODULE}\"\ntoken = \"fleet\"\nkey = \"{key}\"\npin = \"{}\"\n",
            pin.display()
        )
    };
    let with = |node: &Node, section: &str| {
        let text = fs::read_to_string(node.configuration()).unwrap();
        let text = match text.find("[vault") {
            Some(at) => text[..at].to_owned(),
            None => text,
        };
        fs::write(node.configuration(), format!("{text}\n{section}")).unwrap();
    };
    let invitation = fleet.nodes[0].invite("n2", BOTH);
    for (pin, key, says) in [
        (&wrong, "root", "PIN"),
        (&pin, "other", "no AES key labelled \"other\""),
    ] {
        with(&fleet.nodes[second], &section(pin, key));
        let told = fleet.nodes[second].join(&invitation);
        let told = told.refused();
        assert!(
            told.contains("vault is sealed") && told.contains(says),
            "{told}"
        );
        assert!(!told.contains("1234") && !told.contains("4321"), "{told}");
    }
    with(&fleet.nodes[second], &section(&pin, "root"));
    let _ = fleet.nodes[second].join(&invitation).ok();
    fleet.nodes[second].start();
    wait::wait_for("the vault to be open", SOON, || {
        is_sealed(&fleet.nodes[second]) == Some(false)
    });
    assert!(!fleet.nodes[second].data().join("root.key").exists());

    // The first node's moves there, while it runs, and then under a passphrase.
    fleet.nodes[0].environment(&environment);
    let to_module = fleet.nodes[0].folder().join("module.toml");
    let before = fs::read_to_string(fleet.nodes[0].configuration()).unwrap();
    fs::write(&to_module, format!("{before}\n{}", section(&pin, "root"))).unwrap();
    let passphrase = secret(&folder, "passphrase", "correct horse battery staple\n");
    let to_passphrase = fleet.nodes[0].folder().join("passphrase.toml");
    let text = format!(
        "{before}\n[vault]\npassphrase = \"{}\"\n",
        passphrase.display()
    );
    fs::write(&to_passphrase, text).unwrap();
    let first = config(&fleet.nodes[0]);
    let reseal = |from: &str, to: &Path| {
        let to = to.display().to_string();
        fleet.nodes[0].portcullis(&["vault", "reseal", "--config", from, "--to", &to])
    };
    let same = reseal(&first, Path::new(&first));
    assert!(same.refused().contains("the same root key"), "{same}");
    let _ = reseal(&first, &to_module).ok();
    let again = reseal(&first, &to_module);
    assert!(again.refused().contains("vault reseal"), "{again}");
    let _ = reseal(&to_module.display().to_string(), &to_passphrase).ok();
    fs::remove_file(fleet.nodes[0].data().join("root.key")).unwrap();
    fleet.nodes[0].stop();
    fs::rename(&to_passphrase, &first).unwrap();
    fleet.nodes[0].start();
    wait::wait_for("the vault to be open", SOON, || {
        is_sealed(&fleet.nodes[0]) == Some(false)
    });
}

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// Makes a token with one key that cannot leave it; the library's configuration.
fn token(folder: &Path) -> String {
    let tokens = folder.join("tokens");
    fs::create_dir(&tokens).unwrap();
    let configuration = folder.join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nlog.level = ERROR\n",
        tokens.display()
    );
    fs::write(&configuration, text).unwrap();
    let run = |tool: &str, arguments: &[&str]| {
        let mut command = Command::new(tool);
        command.args(arguments).env("SOFTHSM2_CONF", &configuration);
        let _ = process::run(&command, SOON).ok();
    };
    run(
        "softhsm2-util",
        &[
            "--init-token",
            "--free",
            "--label",
            "fleet",
            "--so-pin",
            "9999",
            "--pin",
            "1234",
        ],
    );
    run(
        "pkcs11-tool",
        &[
            "--module",
            MODULE,
            "--token-label",
            "fleet",
            "--login",
            "--pin",
            "1234",
            "--keygen",
            "--key-type",
            "aes:32",
            "--label",
            "root",
            "--sensitive",
        ],
    );
    configuration.display().to_string()
}

fn secret(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    portcullis::runtime::files::write_private(&path, text.as_bytes()).unwrap();
    path
}

fn config(node: &Node) -> String {
    node.configuration().display().to_string()
}

fn is_sealed(node: &Node) -> Option<bool> {
    let metrics = node.metrics();
    let mut sealed = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("portcullis_vault_sealed "));
    sealed.next().map(|value| value == "1")
}
