//! `node.toml`: what one process is, where it listens, and which files make its identity.
//!
//! [`NodeConfig::read`] checks everything that can be known before a port is bound;
//! [`NodeConfig::load_identities`] then reads the certificates and keys that it names. Paths are
//! relative to the file they stand in.
//!
//! Deliberately absent: who may connect (that is policy), secrets (only paths to key files), and
//! who may command the fleet over the network (that is in its state).

mod api;
mod audit;
mod audit_index;
mod audit_objects;
mod audit_witnesses;
mod fleet;
mod identity_files;
mod limits;
mod listener;
mod raw;
mod vault;

pub use audit::{Audit, OtlpTarget, SyslogTarget, SyslogTransport};
pub use audit_objects::{AccessKey, Objects, Retention, RetentionMode};
pub use audit_witnesses::{MAX_WITNESSES, Witness};
pub use fleet::{Fleet, MAX_FLEET_ADDRESS, MAX_STALE_SECONDS, NodeRoles};
pub use identity_files::{IdentityFiles, NodeIdentities, PemPair, read_secret};
pub use limits::{Limits, MAX_NODE_CONNECTIONS};
pub use listener::{Listener, ListenerDoor};
pub use vault::{Pkcs11, RootKey};

use super::file_error::{FileError, Source, Tabs, quoted};
use super::files;
use portcullis_policy::TenantId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// One node's configuration, checked.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's name in logs, metrics, audit events and receipts; a label
    /// (`[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`).
    pub name: String,
    /// The directory of everything this node remembers.
    pub data: PathBuf,
    /// Worker threads; none means one per core.
    pub workers: Option<NonZeroUsize>,
    /// The policy directory, applied at start and on SIGHUP.
    pub policy: Option<PathBuf>,
    /// Where commands come in.
    pub admin: Admin,
    /// Where metrics and health are served, over plain HTTP; nowhere unless named.
    pub metrics: Option<SocketAddr>,
    /// The Unix socket of the privileged dialer; present wherever a listener names a network
    /// namespace or an interface.
    pub dialer: Option<PathBuf>,
    /// The limits that the operator chose; what was not chosen is built in.
    pub limits: Limits,
    /// Its place in a fleet; none is a node that is a fleet by itself.
    pub fleet: Option<Fleet>,
    /// Where operators with certificates command the fleet, over TLS; nowhere unless named, and on
    /// control nodes only.
    pub api: Option<SocketAddr>,
    /// What the keys on this node's disk are sealed under.
    pub root_key: RootKey,
    /// Where entries of the audit logs are brought, and who is asked to witness them.
    pub audit: Audit,
    /// The endpoints' server certificates, at least one where it is a gateway; the first serves clients that name none.
    pub certificates: Vec<IdentityFiles>,
    /// Our certificate towards each tenant's databases.
    pub database_clients: BTreeMap<TenantId, IdentityFiles>,
    /// Where clients come in, at least one where it is a gateway.
    pub listeners: Vec<Listener>,
}

/// The admin API's Unix socket and who may use it, besides root and the node's own user.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The socket's path, at most [`MAX_SOCKET_PATH`] bytes.
    pub socket: PathBuf,
    /// Further user ids, as the kernel tells them of the peer.
    pub allowed_uids: BTreeSet<u32>,
}

/// The largest `node.toml`, in bytes.
pub const MAX_NODE_FILE_BYTES: u64 = 4 << 20;
/// The most listeners of one node.
pub const MAX_LISTENERS: usize = 256;
/// The most server certificates, and the most database-client certificates, of one node.
pub const MAX_IDENTITIES: usize = 10_240;
/// The most worker threads.
pub const MAX_WORKERS: usize = 1024;
/// The longest path of a Unix socket, in bytes (`sun_path` of unix(7), less its final NUL).
pub const MAX_SOCKET_PATH: usize = 107;

impl NodeConfig {
    /// Reads and checks the file at `path`.
    ///
    /// Errors: every mistake found; the file is refused whole.
    pub fn read(path: &Path) -> Result<Self, Vec<FileError>> {
        let text = files::read_text(path, MAX_NODE_FILE_BYTES)
            .map_err(|problem| vec![FileError::whole(path.display(), problem)])?;
        Self::parse(&text, path)
    }

    /// Checks `text` as the content of the file at `path`, which gives errors their name and
    /// relative paths their directory.
    ///
    /// Errors: every mistake found, or the first if the file is not TOML of the right shape.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Vec<FileError>> {
        let name = path.display().to_string();
        let source = Source { name: &name, text };
        source
            .check_characters(Tabs::Allowed)
            .map_err(|error| vec![error])?;
        let raw = raw::read(text).map_err(|(at, message)| vec![source.error(at, message)])?;
        let mut checker = Checker {
            source,
            directory: path.parent().unwrap_or(Path::new("")),
            errors: Vec::new(),
        };
        let config = checker.node(&raw);
        match config {
            Some(config) if checker.errors.is_empty() => Ok(config),
            Some(_) | None => Err(checker.errors),
        }
    }
}

/// Turns what was typed into what it means, collecting every mistake on the way.
///
/// A method that returns `None` has recorded why.
struct Checker<'a> {
    source: Source<'a>,
    directory: &'a Path,
    errors: Vec<FileError>,
}

impl Checker<'_> {
    fn node(&mut self, raw: &raw::RawNode) -> Option<NodeConfig> {
        let name = self.label(&raw.name);
        let data = self.path("data", &raw.data);
        let workers = raw.workers.as_ref().and_then(|n| self.workers(n));
        let policy = match &raw.policy {
            Some(policy) => self.path("policy", policy),
            None => None,
        };
        let socket = self.socket("admin.socket", &raw.admin.socket);
        let allowed_uids = self.uids(&raw.admin.allowed_uids);
        let dialer = match &raw.dialer {
            Some(dialer) => self.socket("dialer.socket", &dialer.socket),
            None => None,
        };
        let limits = raw.limits.as_ref().map(|limits| self.limits(limits));
        let fleet = match &raw.fleet {
            Some(fleet) => Some(fleet::check(self, fleet)?),
            None => None,
        };
        let api = match &raw.api {
            Some(api) => Some(api::check(self, api, fleet.as_ref())?),
            None => None,
        };
        let audit = match &raw.audit {
            Some(audit) => audit::check(self, audit, fleet.as_ref())?,
            None => Audit::default(),
        };
        let root_key = match &raw.vault {
            Some(raw) => vault::check(self, raw),
            None => data.as_deref().map(RootKey::beside),
        };
        let carries = fleet.as_ref().is_none_or(|fleet| fleet.roles.gateway);
        let certificates = self.certificates(&raw.certificate, carries);
        let database_clients = self.database_clients(&raw.database_client);
        let listeners = if carries || !raw.listener.is_empty() {
            listener::check(self, &raw.listener, raw.dialer.is_some())
        } else {
            Vec::new()
        };
        let metrics = match &raw.metrics {
            Some(metrics) => self.metrics(&metrics.listen, &listeners),
            None => None,
        };
        Some(NodeConfig {
            name: name?,
            data: data?,
            workers,
            policy,
            admin: Admin {
                socket: socket?,
                allowed_uids,
            },
            metrics,
            dialer,
            limits: limits.unwrap_or_default(),
            fleet,
            api,
            root_key: root_key?,
            audit,
            certificates,
            database_clients,
            listeners,
        })
    }

    fn label(&mut self, name: &Spanned<String>) -> Option<String> {
        // Any label will do: the grammar is the one of every other name in the fleet.
        match name.get_ref().parse::<TenantId>() {
            Ok(_) => Some(name.get_ref().clone()),
            Err(_) => self.complain(
                name.span(),
                format!(
                    "name {}: a node's name is 1 to 63 of a-z, 0-9 and -, not beginning or ending with -",
                    quoted(name.get_ref())
                ),
            ),
        }
    }

    fn path(&mut self, key: &str, written: &Spanned<String>) -> Option<PathBuf> {
        if written.get_ref().is_empty() {
            return self.complain(written.span(), format!("{key} is empty; write a path"));
        }
        Some(self.directory.join(written.get_ref()))
    }

    fn socket(&mut self, key: &str, written: &Spanned<String>) -> Option<PathBuf> {
        let path = self.path(key, written)?;
        let length = path.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            return self.complain(
                written.span(),
                format!(
                    "{key}: the socket's path is {length} bytes long; Unix sockets take {MAX_SOCKET_PATH}"
                ),
            );
        }
        Some(path)
    }

    fn workers(&mut self, written: &Spanned<i64>) -> Option<NonZeroUsize> {
        let workers = usize::try_from(*written.get_ref())
            .ok()
            .filter(|workers| *workers <= MAX_WORKERS)
            .and_then(NonZeroUsize::new);
        if workers.is_none() {
            return self.complain(
                written.span(),
                format!(
                    "workers {}: write 1 to {MAX_WORKERS}, or leave it out for one per core",
                    written.get_ref()
                ),
            );
        }
        workers
    }

    fn uids(&mut self, written: &[Spanned<i64>]) -> BTreeSet<u32> {
        let mut uids = BTreeSet::new();
        for uid in written {
            match u32::try_from(*uid.get_ref()) {
                Ok(number) => {
                    uids.insert(number);
                }
                Err(_) => {
                    let message = format!("allowed-uids: {} is not a user id", uid.get_ref());
                    self.complain::<()>(uid.span(), message);
                }
            }
        }
        uids
    }

    fn certificates(
        &mut self,
        written: &[raw::RawCertificate],
        carries: bool,
    ) -> Vec<IdentityFiles> {
        if written.is_empty() && carries {
            let message = "no [[certificate]]: clients are met with TLS only; write one with `chain` and `key`";
            self.errors
                .push(FileError::whole(self.source.name, message));
        }
        if let Some(excess) = written.get(MAX_IDENTITIES) {
            let message = format!("more than {MAX_IDENTITIES} certificates");
            self.complain::<()>(excess.chain.span(), message);
        }
        written
            .iter()
            .filter_map(|pair| {
                Some(IdentityFiles {
                    chain: self.path("chain", &pair.chain)?,
                    key: self.path("key", &pair.key)?,
                })
            })
            .collect()
    }

    fn database_clients(
        &mut self,
        written: &[raw::RawDatabaseClient],
    ) -> BTreeMap<TenantId, IdentityFiles> {
        let mut clients = BTreeMap::new();
        if let Some(excess) = written.get(MAX_IDENTITIES) {
            let message = format!("more than {MAX_IDENTITIES} database-client certificates");
            self.complain::<()>(excess.tenant.span(), message);
        }
        for client in written {
            let text = client.tenant.get_ref();
            let at = client.tenant.span();
            let tenant: Option<TenantId> = match text.parse() {
                Ok(tenant) => Some(tenant),
                Err(error) => self.complain(at.clone(), format!("tenant: {error}")),
            };
            let chain = self.path("chain", &client.chain);
            let key = self.path("key", &client.key);
            let (Some(tenant), Some(chain), Some(key)) = (tenant, chain, key) else {
                continue;
            };
            if clients
                .insert(tenant, IdentityFiles { chain, key })
                .is_some()
            {
                let message = format!(
                    "tenant {} already has a [[database-client]]; one certificate per tenant",
                    quoted(text)
                );
                self.complain::<()>(at, message);
            }
        }
        clients
    }

    fn metrics(&mut self, written: &Spanned<String>, listeners: &[Listener]) -> Option<SocketAddr> {
        let address = self.address("metrics.listen", written)?;
        let meets = |listener: &Listener| {
            let ours = listener.address;
            listener.namespace().is_none()
                && address.port() != 0
                && ours.port() == address.port()
                && (ours.ip() == address.ip()
                    || ours.ip().is_unspecified()
                    || address.ip().is_unspecified())
        };
        if listeners.iter().any(meets) {
            return self.complain(
                written.span(),
                format!("metrics.listen {address} is a data listener's address; metrics are never served there"),
            );
        }
        Some(address)
    }

    fn address(&mut self, key: &str, written: &Spanned<String>) -> Option<SocketAddr> {
        let text = written.get_ref();
        let address: SocketAddr = match text.parse() {
            Ok(address) => address,
            Err(_) => {
                return self.complain(
                    written.span(),
                    format!(
                        "{key} {}: write an IP address and a port, like \"192.0.2.1:5433\" or \"[2001:db8::1]:5433\"",
                        quoted(text)
                    ),
                );
            }
        };
        if let SocketAddr::V6(v6) = address
            && let Some(v4) = v6.ip().to_ipv4_mapped()
        {
            return self.complain(
                written.span(),
                format!("{key} {}: write the IPv4 address {v4} itself", quoted(text)),
            );
        }
        Some(address)
    }

    /// Records a mistake; returns nothing, as the value that it stands for.
    fn complain<T>(&mut self, at: Range<usize>, message: impl Into<String>) -> Option<T> {
        self.errors.push(self.source.error(at, message));
        None
    }
}

#[cfg(test)]
mod audit_tests;
#[cfg(test)]
mod listener_tests;
#[cfg(test)]
mod tests;
