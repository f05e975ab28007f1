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
        wires.nft("add table bridge cut");
        wires.nft("add chain bridge cut forward { type filter hook forward priority 0; }");
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
        self.nft(&format!(
            "add rule bridge cut forward iifname {} oifname {} drop",
            from.port, to.port
        ));
    }

    /// Nothing gets through between these two.
    pub fn part(&self, one: &Host, other: &Host) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Everything gets through again.
    pub fn heal(&self) {
        self.nft("flush chain bridge cut forward");
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

    fn nft(&self, words: &str) {
        let mut command = Command::new("nft");
        command.arg(words);
        let inside = self.network.switch().command(&command);
        let _ = process::run(&inside, LIMIT).ok();
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
