//! What can be typed, as clap reads it.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use portcullis_policy::{Origin, Reference, TenantId, Timestamp};

use super::audit_args::AuditCommand;
use super::certs::CertsCommand;
use super::fleet_args::{BackupArgs, FleetCommand, InitArgs, JoinArgs, RecoverArgs, RestoreArgs};
use super::operator_args::{
    ApproveArgs, GuardRailsCommand, OperatorCommand, PendingArgs, PolicyPutArgs, RejectArgs,
};
use super::paths::{ClusterPath, EndpointPath};
use super::revoke_args::{RevocationsArgs, RevokeArgs};
use super::selftest::args::SelftestCommand;
use super::vault::VaultCommand;
use crate::runtime::dialer::protocol::Place;
use crate::runtime::dialer::server::Options;

/// The guarded front door of a database service.
#[derive(Parser, Clone, Debug)]
#[command(name = "portcullis", version, disable_help_subcommand = false, propagate_version = true, after_help = super::exit::HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Run one node in the foreground
    Serve(ServeArgs),
    /// Run a node and a throw-away PostgreSQL on loopback, with a sample policy of two tenants
    Dev(DevArgs),
    /// Run the privileged process that opens sockets in tenants' network namespaces
    Dialer(DialerArgs),
    /// Show exactly what applying a policy directory would change, and change nothing
    Plan(PlanArgs),
    /// Put a policy directory into force
    Apply(ApplyArgs),
    /// Say whether a connection would be let in, and every check that leads there
    Explain(ExplainArgs),
    /// Show who can reach an endpoint: the smallest set of prefixes, door by door
    Reach(ReachArgs),
    /// Tell the whole story of an attempt, by the reference that the client was given
    Why(WhyArgs),
    /// List live connections: who, from where, by which entry
    Connections(ConnectionsArgs),
    /// Revoke a certificate of a tenant's client on every node at once, live connections included
    Revoke(RevokeArgs),
    /// List certificates that are revoked
    Revocations(RevocationsArgs),
    /// Work with tenants' clusters
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Show the node: revision, tenants, live connections
    Status(StatusArgs),
    /// Show every limit and time-out of the node: how much, used, shed, and where it is set
    Limits(LimitsArgs),
    /// Work with policy files
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Work with the people who command the fleet
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// List the changes that wait for a second person
    Pending(PendingArgs),
    /// Agree, as the second person, with a change
    Approve(ApproveArgs),
    /// Drop a change that waits for a second person
    Reject(RejectArgs),
    /// Work with what needs two people
    #[command(subcommand)]
    GuardRails(GuardRailsCommand),
    /// Found a fleet on its first node
    Init(InitArgs),
    /// Make a node one of a fleet, by a one-time token
    Join(JoinArgs),
    /// Write all that is in force into a file, to keep elsewhere
    Backup(BackupArgs),
    /// Found a new fleet that begins with what is in a back-up
    Restore(RestoreArgs),
    /// Let one control node go on alone after a majority was lost for good
    Recover(RecoverArgs),
    /// Work with the fleet
    #[command(subcommand)]
    Fleet(FleetCommand),
    /// Check the audit log's files, without any node
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Work with certificates and the fleet's authority
    #[command(subcommand)]
    Certs(CertsCommand),
    /// Work with what a control node's keys are sealed under
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Test a deployed gateway from outside
    #[command(subcommand)]
    Selftest(SelftestCommand),
}

/// Commands about clusters.
#[derive(Subcommand, Clone, Debug)]
pub enum ClusterCommand {
    /// Can we reach, verify and serve this tenant's clusters; what to set up in them
    Check(ClusterCheckArgs),
}

/// Commands about policy files.
#[derive(Subcommand, Clone, Debug)]
pub enum PolicyCommand {
    /// Read a policy directory as `plan` does, without a node
    Check(PolicyCheckArgs),
    /// Print the document in force for a tenant
    Show(PolicyShowArgs),
    /// Put one tenant's file into force, if the tenant is still as it was looked at
    Put(PolicyPutArgs),
}

/// How to reach the node, and how to print what it says.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// Print the answer as JSON, on one line
    #[arg(long)]
    pub json: bool,
    /// The node's admin socket [default: $PORTCULLIS_SOCKET, else /run/portcullis/admin.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Ask a control node over the network instead, at `api.listen` of its node.toml
    #[arg(
        long = "node",
        value_name = "HOST:PORT",
        requires = "identity",
        conflicts_with = "socket"
    )]
    pub address: Option<String>,
    /// The directory with operator.pem, operator.key and authority.pem, as `operator add` made it
    #[arg(long, value_name = "DIR", requires = "address")]
    pub identity: Option<PathBuf>,
}

/// `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// The node's configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `dev`.
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// Print one line of JSON when ready: addresses, CA file, pids, endpoints, users
    #[arg(long)]
    pub json: bool,
    /// How many nodes: one by itself, or a fleet of 3 or 5 that agree
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = fleet_size)]
    pub nodes: u8,
    /// Leave the temporary directory behind on the way out
    #[arg(long)]
    pub keep: bool,
}

/// An odd number: a fourth node would outvote nobody.
fn fleet_size(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(count @ (1 | 3 | 5)) => Ok(count),
        Ok(_) | Err(_) => Err("write 1, 3 or 5".to_owned()),
    }
}

/// `dialer`.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("places").required(true).args(["allow", "allow_any"]))]
pub struct DialerArgs {
    /// Where to listen for the gateway
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// The user id that the gateway runs as; repeat for several. Nobody else may ask, root included
    #[arg(long, value_name = "UID", required = true)]
    pub allow_uid: Vec<u32>,
    /// A place in which sockets may be made: network-namespace:NAME or interface:NAME; repeat for several
    #[arg(long, value_name = "PLACE")]
    pub allow: Vec<Place>,
    /// Make sockets in every network namespace and on every interface of this machine
    #[arg(long, conflicts_with = "allow")]
    pub allow_any: bool,
    /// Where the named network namespaces lie
    #[arg(long, value_name = "DIR", default_value_os_t = Options::default_namespaces())]
    pub namespaces: PathBuf,
}

/// `plan`.
#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    /// The policy directory: one tenant to a file
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Also remove tenants whose file is missing
    #[arg(long)]
    pub prune: bool,
    /// Exit with 4 if there are differences
    #[arg(long)]
    pub detailed_exit_code: bool,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `apply`.
#[derive(Args, Clone, Debug)]
pub struct ApplyArgs {
    /// The policy directory: one tenant to a file
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Wait until every lapsed connection is seen closed, and list them
    #[arg(long)]
    pub receipt: bool,
    /// Also remove tenants whose file is missing
    #[arg(long)]
    pub prune: bool,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// The endpoint
    #[arg(long, value_name = "TENANT/ENDPOINT")]
    pub to: EndpointPath,
    /// The client's address
    #[arg(long, value_name = "ADDRESS")]
    pub from: IpAddr,
    /// The door: public, network:ID or private-link:CLOUD:ID
    #[arg(long, value_name = "DOOR", default_value = "public")]
    pub via: Origin,
    /// The role asked for
    #[arg(long, default_value = "postgres")]
    pub user: String,
    /// The database asked for [default: the user's name]
    #[arg(long)]
    pub database: Option<String>,
    /// A replication connection
    #[arg(long)]
    pub replication: bool,
    /// The moment, like 2027-01-01T00:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<Timestamp>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `reach`.
#[derive(Args, Clone, Debug)]
pub struct ReachArgs {
    /// The endpoint
    #[arg(value_name = "TENANT/ENDPOINT")]
    pub endpoint: EndpointPath,
    /// The moment, like 2027-01-01T00:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<Timestamp>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `why`.
#[derive(Args, Clone, Debug)]
pub struct WhyArgs {
    /// The reference, like PC-0123-4567-89AB
    pub reference: Reference,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `connections`.
#[derive(Args, Clone, Debug)]
pub struct ConnectionsArgs {
    /// Only this tenant's
    #[arg(long)]
    pub tenant: Option<TenantId>,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `cluster check`.
#[derive(Args, Clone, Debug)]
pub struct ClusterCheckArgs {
    /// The tenant, or one of its clusters
    #[arg(value_name = "TENANT[/CLUSTER]")]
    pub of: ClusterPath,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `limits`.
#[derive(Args, Clone, Debug)]
pub struct LimitsArgs {
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

/// `policy check`.
#[derive(Args, Clone, Debug)]
pub struct PolicyCheckArgs {
    /// The policy directory: one tenant to a file
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Print the answer as JSON, on one line
    #[arg(long)]
    pub json: bool,
}

/// `policy show`.
#[derive(Args, Clone, Debug)]
pub struct PolicyShowArgs {
    /// The tenant
    pub tenant: TenantId,
    /// The node.
    #[command(flatten)]
    pub node: NodeArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_manual_parses() {
        for line in [
            "portcullis serve --config node.toml",
            "portcullis dev",
            "portcullis dev --json --keep",
            "portcullis dialer --socket /run/portcullis/dialer.sock --allow-uid 998 --allow network-namespace:acme --allow interface:eth7",
            "portcullis dialer --socket /run/portcullis/dialer.sock --allow-uid 998 --allow-any --namespaces /var/run/netns",
            "portcullis plan policy",
            "portcullis plan policy --prune --json --detailed-exit-code",
            "portcullis apply policy --receipt --prune --socket /tmp/admin.sock",
            "portcullis explain --to acme/orders --from 203.0.113.7",
            "portcullis explain --to acme/orders --from 10.0.0.7 --via network:acme-vpc --user app --database shop --at 2027-01-01T00:00:00Z",
            "portcullis explain --to acme/orders --from 2001:db8::7 --via private-link:aws:vpce-08d2bf15fac5001c9",
            "portcullis reach acme/orders --json",
            "portcullis why PC-0123-4567-89AB",
            "portcullis connections --tenant acme --json",
            "portcullis cluster check acme",
            "portcullis cluster check acme/orders --json",
            "portcullis status",
            "portcullis limits",
            "portcullis policy check policy",
            "portcullis policy show acme",
            "portcullis selftest attack --against [2001:db8::7]:5433 --server-name acme-orders.db.example.net --ca ca.pem --json",
            "portcullis selftest attack --list --only http",
            "portcullis status --node n1:7444 --identity paul",
            "portcullis operator add paul --roles policy-author,reader --out paul",
            "portcullis operator add tess --roles tenant-operator --tenants acme,globex --request tess.csr",
            "portcullis operator list --json",
            "portcullis operator remove paul",
            "portcullis pending",
            "portcullis approve 812 --digest 00ff",
            "portcullis reject 812",
            "portcullis guard-rails show",
            "portcullis guard-rails set --anywhere two --guard-rails one",
            "portcullis policy put acme acme.yaml --expected 7",
            "portcullis init --config node.toml --recovery-key r.key --two-people",
            "portcullis audit verify logs --trust trust.policy",
            "portcullis audit verify https://logs.example/fleet --trust trust.policy --since a --since b --keep proofs --json",
            "portcullis audit prove logs --log acme --index 17",
            "portcullis audit prove logs --log tenants/acme --reference PC-0123-4567-89AB --out proof --json",
            "portcullis audit check proof --trust trust.policy --entry event --json",
            "portcullis audit search --index-url postgresql://reader@db.example/audit --index-ca ca.pem --kind policy.applied --from 2027-01-01T00:00:00Z --limit 1000",
            "portcullis audit search --config node.toml --tenant acme --after 2027-01-01T00:00:00.000Z,tenants/acme,7 --check logs --trust trust.policy --json",
            "portcullis audit witness --listen 127.0.0.1:8080 --trust trust.policy --state state --key key.pem --name witness.example/w1",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn what_is_not_a_name_address_door_or_reference_is_a_usage_error() {
        for line in [
            "portcullis",
            "portcullis serve",
            "portcullis dialer --socket /run/portcullis/dialer.sock --allow-uid 998",
            "portcullis dialer --socket /run/portcullis/dialer.sock --allow-any",
            "portcullis dialer --socket /run/portcullis/dialer.sock --allow-uid 998 --allow ../etc",
            "portcullis reach acme",
            "portcullis reach Acme/orders",
            "portcullis reach acme/orders/more",
            "portcullis explain --to acme/orders --from 203.0.113",
            "portcullis explain --to acme/orders --from 203.0.113.0/24",
            "portcullis explain --to acme/orders --from 203.0.113.7 --via vpn",
            "portcullis explain --to acme/orders --from 203.0.113.7 --at tomorrow",
            "portcullis why 4711",
            "portcullis cluster check acme/",
            "portcullis apply",
            "portcullis status --node n1:7444",
            "portcullis status --identity paul",
            "portcullis status --node n1:7444 --identity paul --socket admin.sock",
            "portcullis guard-rails set",
            "portcullis audit verify logs",
            "portcullis audit prove logs --log acme",
            "portcullis audit prove logs --log ../acme --index 1",
            "portcullis audit prove logs --index 1 --json",
            "portcullis audit check proof",
            "portcullis audit search --kind policy.applied",
            "portcullis audit search --config node.toml --index-url postgresql://r@h/d",
            "portcullis audit search --index-url postgresql://r:secret@h/d",
            "portcullis audit search --config node.toml --limit 1001",
            "portcullis audit search --config node.toml --contains 7",
            "portcullis audit search --config node.toml --after 7",
            "portcullis audit witness --listen 8080 --trust trust.policy --state state --key key.pem --name w1",
            "portcullis operator add paul",
            "portcullis operator add paul --roles reader --out a --request b",
            "portcullis selftest attack --against 5433",
            "portcullis selftest attack --against 2001:db8::7:5433",
        ] {
            assert_eq!(
                parse(line).map_err(|error| error.exit_code()).unwrap_err(),
                2,
                "{line}"
            );
        }
    }

    #[test]
    fn explain_comes_by_the_public_door_unless_told_otherwise() {
        let Ok(Command::Explain(args)) =
            parse("portcullis explain --to acme/orders --from 203.0.113.7")
        else {
            panic!("not explain");
        };
        assert_eq!(args.via, Origin::Public);
        assert_eq!(args.to.tenant.to_string(), "acme");
    }
}
