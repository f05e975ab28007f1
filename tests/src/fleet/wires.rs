//! Hosts on one switch, and the means to cut them off from each other (needs root).

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use crate::Namespace;
use crate::namespace::{LINK, Network};
use crate::process;

const LIMIT: Duration = Duration::from_secs(10);

/// A network whose links can be cut, each direction by itself. What is cut is silent: nobody is
/// told.
#[derive(Debug)]
pub struct Wires {
    network: Network,
}

/// A host on it.
#[derive(Debug)]
pub struct Host {
    /// Where its processes run.
    pub namespace: Namespace,
    /// Its first address.
    pub address: IpAddr,
    port: String,
}

impl Wires {
    /// A network without hosts.
    #[must_use]
    pub fn new() -> Self {
        let network = Network::new("fleet", 16);
        let wires = Self { network };
        let _ = wires.nft("add table bridge cut");
        let _ = wires.nft("add chain bridge cut forward { type filter hook forward priority 0; }");
        wires
    }

    /// A host with these addresses.
    #[must_use]
    pub fn host(&self, label: &str, numbers: &[u8]) -> Host {
        let addresses: Vec<IpAddr> = numbers.iter().map(|number| address(*number)).collect();
        let namespace = Namespace::new(label);
        let port = self.network.attach(&namespace, LINK, &addresses);
        Host {
            namespace,
            address: *addresses.first().expect("a host has an address"),
            port,
        }
    }

    /// From now on nothing gets from `from` to `to`; the other way it does.
    pub fn cut(&self, from: &Host, to: &Host) {
        let _ = self.nft(&format!(
            "add rule bridge cut forward iifname {} oifname {} drop",
            from.port, to.port
        ));
    }

    /// Nothing gets through between these two.
    pub fn part(&self, one: &Host, other: &Host) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// From now on so many of a hundred datagrams are lost, whoever sends them: what nodes say to
    /// each other, and nothing that customers say.
    pub fn lose(&self, percent: u8) {
        let _ = self.nft(&format!(
            "add rule bridge cut forward ip protocol udp numgen random mod 100 < {percent} counter drop"
        ));
    }

    /// How many datagrams were lost since.
    ///
    /// # Panics
    /// When none are to be lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let told = self.nft("list chain bridge cut forward");
        let count = told.split_once("counter packets ").and_then(|(_, rest)| {
            let (count, _) = rest.split_once(' ')?;
            count.parse().ok()
        });
        count.unwrap_or_else(|| panic!("no counter in {told}"))
    }

    /// Everything gets through again.
    pub fn heal(&self) {
        let _ = self.nft("flush chain bridge cut forward");
    }

    /// Pulls a host's plug: nothing gets in or out, and its own side sees no carrier.
    pub fn unplug(&self, host: &Host) {
        let _ = self
            .network
            .switch()
            .ip(&format!("link set {} down", host.port));
    }

    /// Puts the plug back.
    pub fn plug_in(&self, host: &Host) {
        let _ = self
            .network
            .switch()
            .ip(&format!("link set {} up", host.port));
    }

    fn nft(&self, words: &str) -> String {
        let mut command = Command::new("nft");
        command.arg(words);
        let inside = self.network.switch().command(&command);
        process::run(&inside, LIMIT).ok().to_owned()
    }
}

impl Default for Wires {
    fn default() -> Self {
        Self::new()
    }
}

/// 10.77.0.`number`.
#[must_use]
pub fn address(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, 0, number))
}
