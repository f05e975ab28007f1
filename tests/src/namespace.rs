//! Network namespaces: other hosts, on this machine.
//!
//! They have names (in /run/netns, where the product's dialer looks for them), unique to this
//! process; what a killed test process left is removed by the next. Everything here needs root:
//! begin such a test with `requires_root!()`.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{self, Finished};

/// Where named namespaces are.
pub const NAMESPACES: &str = "/run/netns";

const LIMIT: Duration = Duration::from_secs(30);
/// What our names begin with; the process id follows.
const PREFIX: &str = "pct";

/// A host of its own: its loopback is up and it has no other link. Dropping it removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// A new namespace; `label` is a few letters for a person who looks.
    ///
    /// # Panics
    /// When this process may not.
    #[must_use]
    pub fn new(label: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{label}", std::process::id());
        let _ = ip(&["netns", "add", &name]).ok();
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// Its name, as a policy's `network-namespace` says it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// Runs ip(8) inside: `namespace.ip("addr add 10.0.0.1/16 dev lan")`.
    ///
    /// # Panics
    /// When ip refuses.
    pub fn ip(&self, arguments: &str) -> String {
        let all: Vec<&str> = ["-n", &self.name]
            .into_iter()
            .chain(arguments.split_whitespace())
            .collect();
        ip(&all).ok().to_owned()
    }

    /// Gives one of its links another address: `10.0.0.1/16`.
    pub fn add_address(&self, link: &str, address: &str) {
        // nodad: an IPv6 address can otherwise not be bound for a second or two.
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {link}{nodad}"));
    }

    /// The same command, run inside.
    #[must_use]
    pub fn command(&self, command: &Command) -> Command {
        inside(&self.name, command)
    }

    /// Runs a closure on a thread of its own inside; sockets made there stay there.
    ///
    /// # Panics
    /// When the closure does.
    pub fn within<T: Send + 'static>(&self, run: impl FnOnce() -> T + Send + 'static) -> T {
        within(&self.name, run)
    }

    /// Lays a cable to another namespace: a link `own` here with address `own_address`, and a link
    /// `other` there.
    pub fn cable(&self, own: (&str, &str), other: &Self, other_end: (&str, &str)) {
        self.ip(&format!(
            "link add {} type veth peer name {} netns {}",
            own.0, other_end.0, other.name
        ));
        for (namespace, (link, address)) in [(self, own), (other, other_end)] {
            namespace.add_address(link, address);
            namespace.ip(&format!("link set {link} up"));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.name]);
    }
}

/// A tenant's network: a switch in a namespace of its own, with hosts on it. Two of them may use
/// the very same addresses.
#[derive(Debug)]
pub struct Network {
    switch: Namespace,
    label: String,
    prefix_length: u8,
    ports: AtomicU32,
}

/// The name of the link by which every host is attached.
pub const LINK: &str = "lan";

impl Network {
    /// A network without hosts; `prefix_length` is that of every address in it.
    #[must_use]
    pub fn new(label: &str, prefix_length: u8) -> Self {
        let switch = Namespace::new(&format!("{label}-sw"));
        switch.ip("link add switch type bridge");
        switch.ip("link set switch up");
        Self {
            switch,
            label: label.to_owned(),
            prefix_length,
            ports: AtomicU32::new(0),
        }
    }

    /// A new host with these addresses, all on its one link.
    #[must_use]
    pub fn host(&self, label: &str, addresses: &[IpAddr]) -> Namespace {
        let host = Namespace::new(&format!("{}-{label}", self.label));
        self.attach(&host, LINK, addresses);
        host
    }

    /// The switch: its links are the ports by which hosts are attached.
    #[must_use]
    pub fn switch(&self) -> &Namespace {
        &self.switch
    }

    /// Attaches a namespace by a further link, so that it has a leg in several networks; the name
    /// of the switch's port for it.
    pub fn attach(&self, host: &Namespace, link: &str, addresses: &[IpAddr]) -> String {
        let port = format!("p{}", self.ports.fetch_add(1, Ordering::Relaxed));
        self.switch.ip(&format!(
            "link add {port} type veth peer name {link} netns {}",
            host.name
        ));
        self.switch.ip(&format!("link set {port} master switch up"));
        for address in addresses {
            host.add_address(link, &format!("{address}/{}", self.prefix_length));
        }
        host.ip(&format!("link set {link} up"));
        port
    }
}

/// A command moved into a named namespace; it stays in every other namespace that it is in.
pub(crate) fn inside(name: &str, command: &Command) -> Command {
    let mut moved = Command::new("nsenter");
    moved
        .arg(format!("--net={NAMESPACES}/{name}"))
        .arg("--")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            moved.env(name, value);
        }
    }
    if let Some(folder) = command.get_current_dir() {
        moved.current_dir(folder);
    }
    moved
}

/// Runs a closure on a new thread inside a named namespace: only that thread moves, and it ends.
pub(crate) fn within<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let path = Path::new(NAMESPACES).join(name);
    let thread = std::thread::spawn(move || {
        let namespace =
            File::open(&path).unwrap_or_else(|e| panic!("no namespace {}: {e}", path.display()));
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may");
        run()
    });
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn ip(arguments: &[&str]) -> Finished {
    let mut command = Command::new("ip");
    command.args(arguments);
    process::run(&command, LIMIT)
}

/// Removes namespaces of ours whose process is gone.
fn sweep() {
    for entry in std::fs::read_dir(NAMESPACES)
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut parts = name.split('-');
        let ours = parts.next() == Some(PREFIX);
        let gone = parts
            .next()
            .is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if ours && gone {
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn two_networks_with_the_same_addresses_do_not_meet() {
        crate::requires_root!();
        let database: IpAddr = "10.0.0.10".parse().unwrap();
        let client: IpAddr = "10.0.0.7".parse().unwrap();
        let mut heard = Vec::new();
        let (acme, globex) = (Network::new("acme", 16), Network::new("globex", 16));
        for (network, word) in [(&acme, b"acme  "), (&globex, b"globex")] {
            let (server, caller) = (
                network.host("db", &[database]),
                network.host("client", &[client]),
            );
            let listener = server.within(move || TcpListener::bind((database, 5432)).unwrap());
            let answering =
                std::thread::spawn(move || listener.accept().unwrap().0.write_all(word).unwrap());
            let mut stream = caller.within(move || TcpStream::connect((database, 5432)).unwrap());
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answering.join().unwrap();
            heard.push(answer);
        }
        assert_eq!(heard, ["acme  ", "globex"]);
    }

    #[test]
    fn a_namespace_goes_with_its_owner() {
        crate::requires_root!();
        let namespace = Namespace::new("gone");
        let path = namespace.path();
        assert!(path.exists());
        drop(namespace);
        assert!(!path.exists());
    }
}
