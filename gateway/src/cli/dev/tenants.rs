//! The two tenants of the sample: what they have, and their policy as a person would write it.

use std::net::SocketAddr;

use crate::runtime::random;

/// A tenant with one endpoint, one database and one role. Without `Debug`: it knows a password.
#[derive(Clone)]
pub(super) struct Tenant {
    /// Its id.
    pub(super) id: &'static str,
    /// Its endpoint.
    pub(super) endpoint: &'static str,
    /// The name clients connect to.
    pub(super) server_name: String,
    /// Its database.
    pub(super) database: &'static str,
    /// The role that its clients sign in as, and that owns the database.
    pub(super) user: &'static str,
    /// The role's password, drawn for this run.
    pub(super) password: String,
    /// Its allow list: prefix and note.
    pub(super) allow: &'static [(&'static str, &'static str)],
    /// What is in the database.
    pub(super) contents: &'static str,
}

/// The zone of all endpoints' names; `test` never leads anywhere (RFC 6761 §6.2).
pub(super) const ZONE: &str = "dev.portcullis.test";
/// The name in the database server's certificate.
pub(super) const DATABASE_SERVER: &str = "postgres.dev.portcullis.test";
/// Where a tenant's file finds the authority of its database server, in the policy directory.
pub(super) const DATABASE_AUTHORITIES: &str = "ca/databases.pem";

/// acme, whose clients come from this machine, and globex, whose clients never do.
pub(super) fn sample() -> [Tenant; 2] {
    [
        Tenant {
            id: "acme",
            endpoint: "orders",
            server_name: format!("acme-orders.{ZONE}"),
            database: "orders",
            user: "acme_app",
            password: password(),
            allow: &[
                ("127.0.0.1/32", "this machine"),
                ("198.51.100.0/24", "the office"),
            ],
            contents: "CREATE TABLE orders (id integer PRIMARY KEY, item text NOT NULL, amount integer NOT NULL);\n\
                       INSERT INTO orders VALUES (1, 'anvil', 2), (2, 'rocket skates', 1), (3, 'tunnel paint', 12);",
        },
        Tenant {
            id: "globex",
            endpoint: "shop",
            server_name: format!("globex-shop.{ZONE}"),
            database: "shop",
            user: "globex_app",
            password: password(),
            allow: &[(
                "127.9.9.0/24",
                "a part of loopback that no client of yours comes from",
            )],
            contents: "CREATE TABLE customers (id integer PRIMARY KEY, name text NOT NULL);\n\
                       INSERT INTO customers VALUES (1, 'Hank'), (2, 'Lisa');",
        },
    ]
}

/// 128 random bits, as letters and digits that need no quoting anywhere.
fn password() -> String {
    format!("{:032x}", u128::from_be_bytes(random::bytes()))
}

impl Tenant {
    /// Its policy file, for a database server at that address.
    pub(super) fn policy(&self, postgres: SocketAddr) -> String {
        let entries: String = self
            .allow
            .iter()
            .map(|(prefix, note)| format!("      - {{prefix: {prefix}, origin: public, note: {note}, owner: ops@{}.example}}\n", self.id))
            .collect();
        let Self {
            id,
            endpoint,
            server_name,
            ..
        } = self;
        format!(
            "\
# Who may reach {id}'s endpoints, and where they lead. After a change:
#   portcullis plan DIRECTORY                 what it would do
#   portcullis apply DIRECTORY --receipt      do it, now
tenant: {id}
clusters:
  main:
    engine: postgresql
    backends: [\"{postgres}\"]
    tls: {{server-name: {DATABASE_SERVER}, authorities-file: {DATABASE_AUTHORITIES}}}
    service: {{role: portcullis_service, database: postgres}}
endpoints:
  {endpoint}:
    cluster: main
    names: [{server_name}]
    authentication: scram
    doors: [public]
    allow:
{entries}"
        )
    }

    /// SQL that makes its role and its database, for psql as superuser.
    pub(super) fn set_up(&self) -> String {
        let Self {
            user,
            password,
            database,
            contents,
            ..
        } = self;
        format!(
            "CREATE ROLE {user} LOGIN PASSWORD '{password}';\n\
             CREATE DATABASE {database} OWNER {user};\n\
             REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC;\n\
             \\connect {database}\n\
             SET ROLE {user};\n\
             {contents}\n\
             \\connect postgres\n"
        )
    }

    /// The common name of the gateway's certificate towards this tenant's databases.
    pub(super) fn gateway_name(&self) -> String {
        format!("portcullis.{}", self.id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use portcullis_certs::Validity;
    use portcullis_certs::authority::{Authority, generate_key};
    use portcullis_policy::{Address, Origin, State, Timestamp};

    use super::*;
    use crate::config::policy_files::{PolicyFiles, parse};

    #[test]
    fn the_sample_policy_is_understood_and_says_what_the_tenants_say() {
        let tenants = parse(&files()).unwrap();
        let told: Vec<String> = tenants.iter().map(|tenant| tenant.id.to_string()).collect();
        assert_eq!(told, ["acme", "globex"]);
        for (document, tenant) in tenants.iter().zip(sample()) {
            let endpoint = document.endpoints.values().next().unwrap();
            assert_eq!(endpoint.names[0].to_string(), tenant.server_name);
            assert_eq!(endpoint.allow.len(), tenant.allow.len());
            assert_eq!(endpoint.doors.iter().collect::<Vec<_>>(), [&Origin::Public]);
        }
    }

    #[test]
    fn this_machine_reaches_acme_and_not_globex() {
        let mut state = State::default();
        let put = parse(&files()).unwrap();
        let command = portcullis_policy::Command::Apply {
            base: None,
            put,
            remove: vec![],
            expected: std::collections::BTreeMap::new(),
        };
        let proposal =
            portcullis_policy::Proposal::local("test", Timestamp::from_millis(0), command);
        state.apply(&proposal).unwrap();
        let reaches = |tenant: &str, endpoint: &str| {
            let (tenant, endpoint) = (tenant.parse().unwrap(), endpoint.parse().unwrap());
            let reach = portcullis_policy::reach(
                &state.view(),
                &tenant,
                &endpoint,
                Timestamp::from_millis(1),
            )
            .unwrap();
            let here: std::net::IpAddr = "127.0.0.1".parse().unwrap();
            reach
                .0
                .get(&Origin::Public)
                .is_some_and(|set| set.contains(Address::from(here)))
        };
        assert!(reaches("acme", "orders"));
        assert!(!reaches("globex", "shop"));
    }

    #[test]
    fn passwords_are_drawn_anew_and_need_no_quoting() {
        let [acme, globex] = sample();
        assert_ne!(acme.password, globex.password);
        assert_ne!(acme.password, sample()[0].password);
        assert!(
            acme.password.len() == 32 && acme.password.bytes().all(|it| it.is_ascii_alphanumeric())
        );
    }

    fn files() -> PolicyFiles {
        let validity = Validity {
            not_before: 0,
            not_after: 4_000_000_000,
        };
        let authority = Authority::new("Databases", generate_key().unwrap(), validity).unwrap();
        let mut files: BTreeMap<String, String> = sample()
            .iter()
            .map(|tenant| {
                (
                    format!("{}.yaml", tenant.id),
                    tenant.policy("127.0.0.1:20001".parse().unwrap()),
                )
            })
            .collect();
        files.insert(
            DATABASE_AUTHORITIES.to_owned(),
            authority.authority_pem().to_owned(),
        );
        PolicyFiles { files }
    }
}
