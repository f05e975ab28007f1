//! The limits of this node's front door, settled once at start: from what is built in, what
//! node.toml says, and what the machine has.

use crate::config::node::{Limits as Said, MAX_NODE_CONNECTIONS};
use crate::runtime::clock::Duration;
use crate::runtime::limits as built_in;
use crate::runtime::limits::{
    DESCRIPTORS_PER_CONNECTION, DESCRIPTORS_RESERVED, STAFF_RESERVE_PART, UNAUTHENTICATED_BYTES,
    UNAUTHENTICATED_MEMORY_PART, UNAUTHENTICATED_PART, UNAUTHENTICATED_TENANT_PART,
};
use crate::runtime::machine::Machine;

/// A limit in force, and who set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound<T> {
    /// The limit.
    pub value: T,
    /// Who set it.
    pub set: SetBy,
}

/// Who set a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetBy {
    /// Nobody: it is what is built in.
    BuiltIn,
    /// The node's configuration.
    NodeFile,
    /// A tenant's policy file, or what is built in where it says nothing.
    Policy,
    /// The machine has room for no more.
    Machine,
}

/// The limits in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontLimits {
    /// Connections of the whole node, staff's included.
    pub connections: Bound<usize>,
    /// Of these, what customers leave free for staff.
    pub staff_reserve: usize,
    /// Connections that are not authenticated yet, on the whole node,
    pub unauthenticated: Bound<usize>,
    /// from one address,
    pub unauthenticated_per_address: Bound<usize>,
    /// from one block of addresses,
    pub unauthenticated_per_block: Bound<usize>,
    /// and at one tenant's endpoints.
    pub unauthenticated_per_tenant: Bound<usize>,
    /// How long each step before authentication may take.
    pub deadlines: Deadlines,
    /// What the machine had when this was settled.
    pub machine: Machine,
}

/// How long each step before authentication may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlines {
    /// From accept to a complete PROXY header.
    pub proxy_header: Bound<Duration>,
    /// To the first bytes.
    pub first_bytes: Bound<Duration>,
    /// From our answer to an SSLRequest to the first bytes of the ClientHello.
    pub client_hello: Bound<Duration>,
    /// The TLS handshake.
    pub tls: Bound<Duration>,
    /// The start-up packet.
    pub startup: Bound<Duration>,
    /// The exchange of authentication.
    pub authentication: Bound<Duration>,
    /// All of it.
    pub pre_authentication: Bound<Duration>,
}

impl FrontLimits {
    /// What holds where node.toml says `said`, on this machine, of whose descriptors the
    /// listeners take `listening`.
    ///
    /// # Errors
    /// If the machine gives too few file descriptors to serve anybody.
    pub fn settle(said: &Said, machine: Machine, listening: usize) -> Result<Self, String> {
        let taken = DESCRIPTORS_RESERVED.saturating_add(listening as u64);
        let spare = machine.descriptors.saturating_sub(taken);
        let wanted = or(said.unauthenticated, built_in::UNAUTHENTICATED_TOTAL);
        let by_memory = machine.memory / UNAUTHENTICATED_MEMORY_PART / UNAUTHENTICATED_BYTES;
        // For every four connections that the node holds, one may be on its way in, with one
        // descriptor of its own: nine descriptors for four.
        let four = DESCRIPTORS_PER_CONNECTION * UNAUTHENTICATED_PART as u64 + 1;
        let opening = (wanted.value as u64)
            .min(by_memory)
            .min(spare.div_ceil(four));
        let holds = (spare - opening) / DESCRIPTORS_PER_CONNECTION;
        let holds = usize::try_from(holds).unwrap_or(usize::MAX);
        let connections = Bound {
            value: holds,
            set: SetBy::Machine,
        };
        let connections = connections.at_most(said.connections, SetBy::NodeFile);
        let connections = connections.at_most(Some(MAX_NODE_CONNECTIONS), SetBy::BuiltIn);
        let staff_reserve = connections.value.div_ceil(STAFF_RESERVE_PART);
        if connections.value <= staff_reserve {
            return Err(format!(
                "{} open files are too few: {taken} are for listeners and the node itself, and each connection takes {DESCRIPTORS_PER_CONNECTION}; raise RLIMIT_NOFILE (systemd: LimitNOFILE=), or [limits] connections in node.toml",
                machine.descriptors,
            ));
        }
        let by_memory = usize::try_from(by_memory).unwrap_or(usize::MAX);
        let unauthenticated = wanted
            .at_most(Some(by_memory), SetBy::Machine)
            .at_most(
                Some(connections.value / UNAUTHENTICATED_PART),
                connections.set,
            )
            .at_least_one();
        let a_part = Bound {
            value: unauthenticated.value / UNAUTHENTICATED_TENANT_PART,
            set: unauthenticated.set,
        };
        let within_it = |bound: Bound<usize>| {
            bound
                .at_most(Some(unauthenticated.value), unauthenticated.set)
                .at_least_one()
        };
        Ok(Self {
            connections,
            staff_reserve,
            unauthenticated,
            unauthenticated_per_address: within_it(or(
                said.unauthenticated_per_address,
                built_in::UNAUTHENTICATED_PER_ADDRESS,
            )),
            unauthenticated_per_block: within_it(or(
                said.unauthenticated_per_block,
                built_in::UNAUTHENTICATED_PER_BLOCK,
            )),
            unauthenticated_per_tenant: within_it(match said.unauthenticated_per_tenant {
                None => a_part,
                Some(most) => or(Some(most), most),
            }),
            deadlines: Deadlines::settle(said),
            machine,
        })
    }

    /// The connections that customers may fill.
    #[must_use]
    pub fn customers(&self) -> usize {
        self.connections.value.saturating_sub(self.staff_reserve)
    }
}

impl Deadlines {
    fn settle(said: &Said) -> Self {
        Self {
            proxy_header: or(said.proxy_header, built_in::PROXY_HEADER),
            first_bytes: or(said.first_bytes, built_in::FIRST_BYTES),
            client_hello: or(said.client_hello, built_in::CLIENT_HELLO),
            tls: or(said.tls, built_in::CLIENT_TLS),
            startup: or(said.startup, built_in::STARTUP),
            authentication: or(said.authentication, built_in::AUTHENTICATION),
            pre_authentication: or(said.pre_authentication, built_in::PRE_AUTHENTICATION),
        }
    }
}

fn or<T>(said: Option<T>, otherwise: T) -> Bound<T> {
    match said {
        Some(value) => Bound {
            value,
            set: SetBy::NodeFile,
        },
        None => Bound {
            value: otherwise,
            set: SetBy::BuiltIn,
        },
    }
}

impl Bound<usize> {
    fn at_most(self, most: Option<usize>, set: SetBy) -> Self {
        match most {
            Some(value) if value < self.value => Self { value, set },
            Some(_) | None => self,
        }
    }

    /// A node that lets nobody in at all would be no node.
    fn at_least_one(self) -> Self {
        Self {
            value: self.value.max(1),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: Machine = Machine {
        descriptors: 1 << 20,
        memory: 64 << 30,
    };

    fn settled(said: &Said, machine: Machine) -> FrontLimits {
        FrontLimits::settle(said, machine, 8).unwrap()
    }

    #[test]
    fn on_a_large_machine_the_defaults_hold() {
        let limits = settled(&Said::default(), ROOMY);
        let built_in = |value| Bound {
            value,
            set: SetBy::BuiltIn,
        };
        assert_eq!(limits.unauthenticated, built_in(5_000));
        assert_eq!(limits.unauthenticated_per_address, built_in(256));
        assert_eq!(limits.unauthenticated_per_block, built_in(1_024));
        assert_eq!(limits.unauthenticated_per_tenant, built_in(1_250));
        assert_eq!(limits.connections.set, SetBy::Machine);
        assert_eq!(
            limits.connections.value as u64,
            (ROOMY.descriptors - 512 - 8 - 5_000) / 2
        );
    }

    #[test]
    fn all_sockets_together_fit_into_what_the_process_may_open() {
        for descriptors in [600, 1_024, 4_096, 20_000, 65_536, 1 << 20, u64::MAX] {
            let machine = Machine {
                descriptors,
                ..ROOMY
            };
            let limits = settled(&Said::default(), machine);
            let used = 2 * limits.connections.value as u64 + limits.unauthenticated.value as u64;
            assert!(used + 512 + 8 <= descriptors, "{limits:?}");
            assert!(limits.unauthenticated.value * 4 <= limits.connections.value);
            assert!(limits.staff_reserve * 20 >= limits.connections.value);
            assert_eq!(
                limits.customers() + limits.staff_reserve,
                limits.connections.value
            );
        }
        let small = Machine {
            descriptors: 525,
            ..ROOMY
        };
        assert_eq!(settled(&Said::default(), small).customers(), 1);
        let smaller = Machine {
            descriptors: 524,
            ..ROOMY
        };
        let refused = FrontLimits::settle(&Said::default(), smaller, 8).unwrap_err();
        assert!(refused.contains("RLIMIT_NOFILE"), "{refused}");
    }

    #[test]
    fn a_tenth_of_the_memory_bounds_the_unauthenticated() {
        let machine = Machine {
            memory: 96 * 1024 * 10 * 100,
            ..ROOMY
        };
        let limits = settled(&Said::default(), machine);
        let by_machine = |value| Bound {
            value,
            set: SetBy::Machine,
        };
        assert_eq!(limits.unauthenticated, by_machine(100));
        assert_eq!(limits.unauthenticated_per_address, by_machine(100));
    }

    #[test]
    fn what_is_written_holds_where_the_machine_has_room_for_it() {
        let said = Said {
            connections: Some(40),
            unauthenticated: Some(8),
            unauthenticated_per_address: Some(3),
            tls: Some(Duration::from_secs(1)),
            ..Said::default()
        };
        let limits = settled(&said, ROOMY);
        let written = |value| Bound {
            value,
            set: SetBy::NodeFile,
        };
        assert_eq!(limits.connections, written(40));
        assert_eq!(limits.staff_reserve, 2);
        assert_eq!(limits.unauthenticated, written(8));
        assert_eq!(limits.unauthenticated_per_address, written(3));
        assert_eq!(limits.unauthenticated_per_block, written(8));
        assert_eq!(limits.deadlines.tls.value, Duration::from_secs(1));
        let said = Said {
            connections: Some(1_000_000),
            ..Said::default()
        };
        let machine = Machine {
            descriptors: 4_096,
            ..ROOMY
        };
        assert_eq!(settled(&said, machine).connections.set, SetBy::Machine);
    }

    #[test]
    fn node_toml_can_only_shorten_a_deadline() {
        let file = |line: &str| {
            let text = format!(
                "name=\"n\"\ndata=\"d\"\nadmin={{socket=\"s\"}}\n[limits]\n{line}\n[[certificate]]\nchain=\"c\"\nkey=\"k\"\n[[listener]]\naddress=\"127.0.0.1:1\"\norigin=\"public\"\n"
            );
            crate::config::node::NodeConfig::parse(&text, std::path::Path::new("node.toml"))
        };
        for (key, built_in) in [
            ("proxy-header", built_in::PROXY_HEADER),
            ("first-bytes", built_in::FIRST_BYTES),
            ("client-hello", built_in::CLIENT_HELLO),
            ("tls", built_in::CLIENT_TLS),
            ("startup", built_in::STARTUP),
            ("authentication", built_in::AUTHENTICATION),
            ("pre-authentication", built_in::PRE_AUTHENTICATION),
        ] {
            let seconds = built_in.as_secs_f64();
            assert!(file(&format!("{key} = {seconds}")).is_ok(), "{key}");
            let longer = seconds + 0.001;
            assert!(file(&format!("{key} = {longer}")).is_err(), "{key}");
        }
    }
}
