//! Policies in the simulation's own words, and what they say: written without a look at how
//! `portcullis_policy` says it, so that the two can be compared.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_policy::{
    Addresses, Authentication, Backend, Cluster, Endpoint, Engine, Entry, Origin, Prefix,
    Replication, ServerName, Tenant, Timestamp, UpstreamTls,
};

use crate::dice::Dice;

/// A tenant's id.
pub(crate) type Name = &'static str;

/// All tenants that there may be.
pub(crate) const NAMES: [Name; 6] = ["acme", "globex", "hooli", "initech", "stark", "umbrella"];
/// Endpoints that a tenant may have.
const PLACES: u8 = 2;
/// Two windows of addresses, so that entries and attempts meet.
const WINDOWS: [u32; 2] = [0x0a00_0000, 0xcb00_7100];
const WIDTH: u64 = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) name: Name,
    suspended: bool,
    places: BTreeMap<u8, Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    suspended: bool,
    doors: BTreeSet<Door>,
    lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Door {
    Public,
    /// The tenant's own network.
    Own,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    block: Block,
    except: Option<Block>,
    door: Door,
    /// In milliseconds.
    until: Option<i64>,
}

/// The addresses whose first `length` bits are those of `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    first: u32,
    length: u8,
}

/// What somebody tries.
#[derive(Clone, Debug)]
pub(crate) struct Try {
    tenant: Name,
    place: u8,
    /// Through whose network; none: from the internet.
    through: Option<Name>,
    address: u32,
    /// In milliseconds.
    pub(crate) at: i64,
}

/// Whether these policies let somebody in.
pub(crate) fn admits(policy: &BTreeMap<Name, Plan>, ask: &Try) -> bool {
    let Some(plan) = policy.get(ask.tenant) else {
        return false;
    };
    let Some(place) = plan.places.get(&ask.place) else {
        return false;
    };
    let door = match ask.through {
        None => Door::Public,
        Some(whose) if whose == ask.tenant => Door::Own,
        Some(_) => return false,
    };
    let mut admitted = false;
    for line in &place.lines {
        let meant = line.block.has(ask.address)
            && !line.except.is_some_and(|except| except.has(ask.address));
        let holds = match line.until {
            None => true,
            Some(until) => ask.at < until,
        };
        admitted |= meant && holds && line.door == door;
    }
    admitted && !plan.suspended && !place.suspended && place.doors.contains(&door)
}

impl Block {
    fn has(self, address: u32) -> bool {
        (0..u32::from(self.length)).all(|bit| {
            let mask = 1 << (31 - bit);
            address & mask == self.first & mask
        })
    }

    fn any(dice: &mut Dice) -> Self {
        let length = 26 + u8::try_from(dice.below(7)).unwrap();
        let first = some_address(dice) & (u32::MAX << (32 - length));
        Self { first, length }
    }

    /// A part of this one.
    fn part(self, dice: &mut Dice) -> Self {
        let length = (self.length + 1 + u8::try_from(dice.below(3)).unwrap()).min(32);
        let inside = dice.below(1 << (32 - self.length));
        let first = (self.first + u32::try_from(inside).unwrap()) & (u32::MAX << (32 - length));
        Self { first, length }
    }

    fn prefix(self) -> Prefix {
        let [a, b, c, d] = self.first.to_be_bytes();
        let text = format!("{a}.{b}.{c}.{d}/{}", self.length);
        text.parse().unwrap()
    }
}

fn some_address(dice: &mut Dice) -> u32 {
    dice.one(&WINDOWS) + u32::try_from(dice.below(WIDTH)).unwrap()
}

impl Plan {
    /// Any policy for a tenant, about this moment; `long` has many lines.
    pub(crate) fn any(dice: &mut Dice, name: Name, now: i64, long: bool) -> Self {
        let mut places = BTreeMap::new();
        for place in 0..PLACES {
            if dice.percent(80) {
                places.insert(place, Place::any(dice, now, long));
            }
        }
        Self {
            name,
            suspended: dice.percent(5),
            places,
        }
    }

    pub(crate) fn document(&self) -> Tenant {
        let mut tenant = Tenant::new(self.name.parse().unwrap());
        tenant.suspended = self.suspended;
        tenant.networks = [network(self.name).parse().unwrap()].into();
        let cluster = Cluster {
            engine: Engine::Postgresql,
            backends: vec![Backend {
                host: "10.9.0.1".to_owned(),
                port: 5432,
            }],
            tls: UpstreamTls::Unencrypted,
            via: None,
            service: None,
        };
        tenant.clusters.insert("main".parse().unwrap(), cluster);
        for (number, place) in &self.places {
            let endpoint = Endpoint {
                cluster: "main".parse().unwrap(),
                names: vec![server_name(self.name, *number)],
                suspended: place.suspended,
                replication: Replication::Refused,
                authentication: Authentication::Scram,
                doors: place.doors.iter().map(|door| self.origin(*door)).collect(),
                allow: place.lines.iter().map(|line| self.entry(line)).collect(),
            };
            let id = format!("e{number}").parse().unwrap();
            tenant.endpoints.insert(id, endpoint);
        }
        tenant
    }

    fn entry(&self, line: &Line) -> Entry {
        let addresses = Addresses::Prefix(line.block.prefix());
        Entry {
            except: line.except.iter().map(|except| except.prefix()).collect(),
            expires: line.until.map(Timestamp::from_millis),
            ..Entry::new(addresses, self.origin(line.door))
        }
    }

    fn origin(&self, door: Door) -> Origin {
        match door {
            Door::Public => Origin::Public,
            Door::Own => Origin::Network(network(self.name).parse().unwrap()),
        }
    }
}

impl Place {
    fn any(dice: &mut Dice, now: i64, long: bool) -> Self {
        let doors = match dice.below(4) {
            0 => [Door::Public].into(),
            1 => [Door::Own].into(),
            _ => [Door::Public, Door::Own].into(),
        };
        let count = if long { 40 } else { dice.below(8) };
        let lines = (0..count).map(|_| {
            let block = Block::any(dice);
            let splits = block.length < 32 && dice.percent(30);
            Line {
                block,
                except: splits.then(|| block.part(dice)),
                door: dice.one(&[Door::Public, Door::Own]),
                until: dice.percent(50).then(|| now + 1 + dice.skew(40_000)),
            }
        });
        let lines = lines.collect();
        Self {
            suspended: dice.percent(5),
            doors,
            lines,
        }
    }
}

impl Try {
    /// Anybody's, about this moment or at the very one at which something of these policies ends.
    pub(crate) fn any(dice: &mut Dice, policy: &BTreeMap<Name, Plan>, now: i64) -> Self {
        let tenant = dice.one(&NAMES);
        let place = u8::try_from(dice.below(u64::from(PLACES))).unwrap();
        let through = match dice.below(10) {
            0..5 => None,
            5..9 => Some(tenant),
            _ => Some(dice.one(&NAMES)),
        };
        let lines = policy.get(tenant).and_then(|plan| plan.places.get(&place));
        let lines = lines.map_or(&[][..], |place| &place.lines);
        let (mut address, mut at) = (some_address(dice), now);
        if !lines.is_empty() && dice.percent(70) {
            let line = &lines[dice.index(lines.len())];
            let inside = dice.below(1 << (32 - line.block.length));
            address = line.block.first + u32::try_from(inside).unwrap();
            if let Some(until) = line.until.filter(|_| dice.percent(40)) {
                at = until + dice.skew(1);
            }
        }
        Self {
            tenant,
            place,
            through,
            address,
            at,
        }
    }

    pub(crate) fn origin(&self) -> Origin {
        match self.through {
            None => Origin::Public,
            Some(whose) => Origin::Network(network(whose).parse().unwrap()),
        }
    }

    pub(crate) fn server_name(&self) -> ServerName {
        server_name(self.tenant, self.place)
    }

    pub(crate) fn address(&self) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::from_bits(self.address)
    }
}

fn server_name(tenant: Name, place: u8) -> ServerName {
    format!("{tenant}-{place}.db.example.net").parse().unwrap()
}

fn network(tenant: Name) -> String {
    format!("{tenant}-vpc")
}
