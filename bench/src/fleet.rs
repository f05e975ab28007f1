//! Policy of any size, regular enough to know which addresses it admits.
//!
//! A tenant has one endpoint, one door and entries of one family. Entry `n` is the lower part of
//! block `n`, so that the upper part of every block is a miss in the midst of the hits.

use std::net::{Ipv4Addr, Ipv6Addr};

use portcullis_policy::{
    Address, Addresses, Backend, Cluster, Command, Endpoint, Engine, Entry, Family, Origin, Prefix,
    Replication, ServerName, Tenant, UpstreamTls,
};

/// How large a policy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fleet {
    /// Of what addresses its entries are made.
    pub(crate) family: Family,
    /// Tenants, with one endpoint each.
    pub(crate) tenants: u32,
    /// Entries of each; at most 2^20.
    pub(crate) entries_each: u32,
}

impl Fleet {
    /// Entries of all tenants together.
    pub(crate) fn entries(&self) -> u32 {
        self.tenants * self.entries_each
    }

    /// The name by which clients ask for a tenant's endpoint.
    pub(crate) fn server_name(&self, tenant: u32) -> ServerName {
        ServerName::parse(&format!("orders.tenant-{tenant}.db.example.net")).expect("a host name")
    }

    /// A tenant's document.
    pub(crate) fn tenant(&self, number: u32) -> Tenant {
        let mut tenant = Tenant::new(format!("tenant-{number}").parse().expect("a label"));
        let cluster = "orders".parse().expect("a label");
        tenant.clusters.insert(cluster, behind());
        let allow = (0..self.entries_each).map(|entry| self.entry(entry, 0));
        let endpoint = Endpoint {
            cluster: "orders".parse().expect("a label"),
            names: vec![self.server_name(number)],
            suspended: false,
            replication: Replication::Refused,
            authentication: portcullis_policy::Authentication::Scram,
            doors: [Origin::Public].into(),
            allow: allow.collect(),
        };
        let id = "orders".parse().expect("a label");
        tenant.endpoints.insert(id, endpoint);
        tenant
    }

    /// The same with one entry in the middle halved.
    pub(crate) fn tenant_with_a_change(&self, number: u32) -> Tenant {
        let mut tenant = self.tenant(number);
        let middle = self.entries_each / 2;
        for endpoint in tenant.endpoints.values_mut() {
            let position = usize::try_from(middle).expect("32 bits fit");
            endpoint.allow[position] = self.entry(middle, 1);
        }
        tenant
    }

    /// An address that entry `entry` admits; `host` chooses which.
    pub(crate) fn admitted(&self, entry: u32, host: u8) -> Address {
        self.address(entry, host, Half::Lower)
    }

    /// An address beside it that nobody admits.
    pub(crate) fn not_admitted(&self, entry: u32, host: u8) -> Address {
        self.address(entry, host, Half::Upper)
    }

    /// The entries as ranges in ascending order, as numbers: for a search written without the law.
    pub(crate) fn ranges(&self) -> Vec<(u128, u128)> {
        let free = match self.family {
            Family::V4 => V4_HOST_BITS,
            Family::V6 => V6_HOST_BITS,
        };
        let range = |entry| {
            let first = bits(self.admitted(entry, 0));
            (first, first + (1 << free) - 1)
        };
        (0..self.entries_each).map(range).collect()
    }

    /// `longer` makes the prefix by so many bits smaller.
    fn entry(&self, entry: u32, longer: u8) -> Entry {
        let length = match self.family {
            Family::V4 => 32 - V4_HOST_BITS,
            Family::V6 => 128 - V6_HOST_BITS,
        };
        let prefix = Prefix::new(self.admitted(entry, 0), length + longer).expect("no host bits");
        Entry {
            note: format!("branch office {entry}"),
            owner: "network-operations@tenant.example".to_owned(),
            ..Entry::new(Addresses::Prefix(prefix), Origin::Public)
        }
    }

    fn address(&self, entry: u32, host: u8, half: Half) -> Address {
        match self.family {
            Family::V4 => {
                let upper = if half == Half::Upper {
                    1 << V4_HOST_BITS
                } else {
                    0
                };
                let bits = (entry << V4_BLOCK_BITS) | upper | u32::from(host);
                Address::from(Ipv4Addr::from_bits(bits))
            }
            Family::V6 => {
                let upper = if half == Half::Upper {
                    1 << V6_HOST_BITS
                } else {
                    0
                };
                let block = u128::from(entry) << V6_BLOCK_BITS;
                Address::from(Ipv6Addr::from_bits(
                    V6_NETWORK | block | upper | u128::from(host),
                ))
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Lower,
    Upper,
}

/// A /24 in each /20: 2^20 of them fill IPv4.
const V4_BLOCK_BITS: u8 = 12;
const V4_HOST_BITS: u8 = 8;
/// A /64 in each /63 of 2001:db8::/32.
const V6_BLOCK_BITS: u8 = 65;
const V6_HOST_BITS: u8 = 64;
const V6_NETWORK: u128 = 0x2001_0db8 << 96;

/// An address as a number.
pub(crate) fn bits(address: Address) -> u128 {
    match address.ip() {
        std::net::IpAddr::V4(v4) => v4.to_bits().into(),
        std::net::IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// A command that puts these documents.
pub(crate) fn put(tenants: Vec<Tenant>) -> Command {
    Command::Apply {
        base: None,
        put: tenants,
        remove: Vec::new(),
        expected: std::collections::BTreeMap::new(),
    }
}

fn behind() -> Cluster {
    Cluster {
        engine: Engine::Postgresql,
        backends: vec![Backend {
            host: "10.0.0.10".to_owned(),
            port: 5432,
        }],
        tls: UpstreamTls::Unencrypted,
        via: None,
        service: None,
    }
}
