//! `cluster check`: can this cluster be reached, verified and served as its policy says, and if
//! not, what to run. It looks with its own fresh connections, changes nothing, and never stops at
//! the first failure when a later step can still be looked at.

use std::net::SocketAddr;

use portcullis_policy::{
    Authentication, Backend, Cluster, ClusterId, Service, Tenant, Timestamp, UpstreamTls,
};
use tokio_postgres::error::SqlState;
use tokio_util::task::TaskTracker;

use super::check_questions::{engine, functions, hba, passwords, service_role};
use super::check_report::{Report, Step};
use super::service::{Live, ServiceError, sign_in_once};
use super::upstream::{Upstream, UpstreamStream, Upstreams};
use super::upstream_error::{Problem, Try};

/// Our own certificate is warned about when it ends within this many seconds (14 days).
const SOON_S: i64 = 14 * 86_400;
/// Mapped roles of certificate and token endpoints that are tried.
const MAX_ROLES_TRIED: usize = 32;

/// Looks at cluster `id` of `tenant` at moment `at`. `None` if the tenant has no such cluster.
pub async fn check(
    upstreams: &Upstreams,
    tenant: &Tenant,
    id: &ClusterId,
    at: Timestamp,
) -> Option<Report> {
    let cluster = tenant.clusters.get(id)?;
    let tasks = TaskTracker::new();
    let mut check = Check {
        upstreams,
        tenant,
        id,
        cluster,
        tasks: &tasks,
        steps: Vec::new(),
    };
    check.our_certificate(at);
    let live = check.every_backend().await;
    check.as_the_service_role(live.as_ref()).await;
    check.mapped_roles(live.is_some()).await;
    let steps = check.steps;
    if let Some(live) = live {
        live.end();
    }
    tasks.close();
    tasks.wait().await;
    Some(Report {
        tenant: tenant.id.clone(),
        cluster: id.clone(),
        steps,
    })
}

struct Check<'a> {
    upstreams: &'a Upstreams,
    tenant: &'a Tenant,
    id: &'a ClusterId,
    cluster: &'a Cluster,
    tasks: &'a TaskTracker,
    steps: Vec<Step>,
}

impl Check<'_> {
    fn our_certificate(&mut self, at: Timestamp) {
        const WHAT: &str = "our database-client certificate";
        let say = "[[database-client]]\ntenant = \"".to_owned()
            + self.tenant.id.as_str()
            + "\"\nchain = \"…\"\nkey = \"…\"";
        let step = match self.upstreams.identity(&self.tenant.id) {
            None if self.cluster.tls == UpstreamTls::Unencrypted => {
                Step::good(WHAT, "not needed: the cluster is not under TLS")
            }
            None => Step::failed(WHAT, "there is none for this tenant", say),
            Some(identity) => {
                let now = at.as_millis().div_euclid(1000);
                let end = identity.validity().not_after;
                let until = Timestamp::from_millis(end.saturating_mul(1000));
                let name = identity.names().common_name.clone().unwrap_or_default();
                let found = format!("CN={name}, valid until {until}");
                if !identity.validity().contains(now) {
                    Step::failed(WHAT, format!("{found}: not valid now"), say)
                } else if end.saturating_sub(now) < SOON_S {
                    Step::warning(WHAT, found, "issue a new one, it ends soon")
                } else {
                    Step::good(WHAT, found)
                }
            }
        };
        self.steps.push(step);
    }

    /// Reaches, verifies and signs in to every backend; keeps the first service connection.
    async fn every_backend(&mut self) -> Option<Live> {
        let mut kept = None;
        for backend in &self.cluster.backends {
            let Some(upstream) = self.reach(backend).await else {
                continue;
            };
            let Some(service) = &self.cluster.service else {
                continue;
            };
            let Some(live) = self.sign_in(backend, upstream, service).await else {
                continue;
            };
            if kept.is_none() {
                kept = Some(live);
            } else {
                live.end();
            }
        }
        kept
    }

    async fn reach(&mut self, backend: &Backend) -> Option<Upstream> {
        let (reach, tls) = (format!("reach {backend}"), format!("TLS {backend}"));
        let connected = self
            .upstreams
            .connect_one(&self.tenant.id, self.id, self.cluster, backend)
            .await;
        let upstream = match connected {
            Ok(upstream) => upstream,
            Err(error) => {
                for Try {
                    address, problem, ..
                } in error.tries
                {
                    if is_about_tls(&problem) {
                        let address = address.map_or_else(String::new, |a| format!("at {a}"));
                        self.steps
                            .push(Step::good(reach.clone(), format!("connected {address}")));
                        let fix = tls_fix(&problem);
                        self.steps
                            .push(Step::failed(tls.clone(), problem.to_string(), fix));
                    } else {
                        let fix = reach_fix(&problem, self.cluster, address);
                        self.steps
                            .push(Step::failed(reach.clone(), problem.to_string(), fix));
                    }
                }
                return None;
            }
        };
        self.steps.push(Step::good(
            reach,
            format!("connected to {}", upstream.backend),
        ));
        self.steps.push(match &upstream.stream {
            UpstreamStream::Plain(_) => Step::warning(
                tls,
                "none: the policy says unencrypted-and-unverified",
                "tls: {server-name: …, authorities-file: …}",
            ),
            UpstreamStream::Tls(stream) => {
                let version = stream
                    .get_ref()
                    .1
                    .protocol_version()
                    .and_then(|version| version.as_str())
                    .unwrap_or("TLS");
                Step::good(tls, format!("{version}, certificate and name verified"))
            }
        });
        Some(upstream)
    }

    async fn sign_in(
        &mut self,
        backend: &Backend,
        upstream: Upstream,
        service: &Service,
    ) -> Option<Live> {
        let what = format!("sign in as {} at {backend}", service.role);
        let seen_as = upstream.stream.tcp().local_addr().ok();
        let signed = sign_in_once(upstream, &service.role, &service.database, self.tasks).await;
        match signed {
            Ok(live) => {
                self.steps
                    .push(Step::good(what, format!("into {}", service.database)));
                Some(live)
            }
            Err(error) => {
                let fix = self.sign_in_fix(&error, &service.role, &service.database, seen_as);
                self.steps.push(Step::failed(what, error.to_string(), fix));
                None
            }
        }
    }

    async fn as_the_service_role(&mut self, live: Option<&Live>) {
        let needs_it = self
            .modes()
            .any(|mode| matches!(mode, Authentication::Scram));
        let Some(service) = &self.cluster.service else {
            let fix = "service: {role: portcullis_service, database: postgres}";
            self.steps.push(if needs_it {
                let found = "the policy names none, and authentication scram needs it";
                Step::failed("service role", found, fix)
            } else {
                let found = "the policy names none: queries of closed connections are cancelled \
                             but not seen to be gone";
                Step::warning("service role", found, fix)
            });
            return;
        };
        let Some(live) = live else {
            for what in [
                "engine",
                "service role",
                "functions",
                "passwords",
                "pg_hba.conf",
            ] {
                self.steps.push(Step::skipped(what, "nobody is signed in"));
            }
            return;
        };
        self.step("engine", engine(live, self.cluster.engine).await);
        self.step("service role", service_role(live, &service.role).await);
        let functions = functions(live, &service.database).await;
        let are_there = matches!(&functions, Ok(step) if step.fix.is_none());
        self.step("functions", functions);
        if are_there {
            self.step("passwords", passwords(live).await);
            self.step("pg_hba.conf", hba(live).await);
        } else {
            for what in ["passwords", "pg_hba.conf"] {
                self.steps
                    .push(Step::skipped(what, "the functions are not there"));
            }
        }
    }

    /// Whether our certificate is let in as the roles that endpoints map their clients to.
    async fn mapped_roles(&mut self, is_signed_in: bool) {
        let database = self
            .cluster
            .service
            .as_ref()
            .map(|service| service.database.clone());
        for role in self.roles() {
            let what = format!("sign in as {role} by certificate");
            let (Some(database), true) = (&database, is_signed_in) else {
                self.steps
                    .push(Step::skipped(what, "the service role is not signed in"));
                continue;
            };
            let connected = self
                .upstreams
                .connect(&self.tenant.id, self.id, self.cluster)
                .await;
            let Ok(upstream) = connected else {
                self.steps.push(Step::skipped(
                    what,
                    "the cluster cannot be reached any more",
                ));
                continue;
            };
            let seen_as = upstream.stream.tcp().local_addr().ok();
            match sign_in_once(upstream, &role, database, self.tasks).await {
                Ok(live) => {
                    live.end();
                    self.steps
                        .push(Step::good(what, format!("into {database}")));
                }
                Err(error) => {
                    let fix = self.sign_in_fix(&error, &role, "all", seen_as);
                    self.steps.push(Step::failed(what, error.to_string(), fix));
                }
            }
        }
    }

    fn roles(&self) -> Vec<String> {
        let mut roles: Vec<String> = Vec::new();
        for mode in self.modes() {
            match mode {
                Authentication::Certificate { map, .. } => {
                    roles.extend(map.iter().map(|rule| rule.role.clone()));
                }
                Authentication::Token { map, .. } => {
                    roles.extend(map.iter().map(|rule| rule.role.clone()));
                }
                Authentication::Scram | Authentication::Relay => {}
            }
        }
        roles.sort();
        roles.dedup();
        roles.truncate(MAX_ROLES_TRIED);
        roles
    }

    fn modes(&self) -> impl Iterator<Item = &Authentication> {
        self.tenant
            .endpoints
            .values()
            .filter(|endpoint| endpoint.cluster == *self.id)
            .map(|endpoint| &endpoint.authentication)
    }

    fn step(&mut self, what: &str, result: Result<Step, ServiceError>) {
        self.steps.push(result.unwrap_or_else(|error| {
            Step::failed(what, error.to_string(), "look into the database's log")
        }));
    }

    fn sign_in_fix(
        &self,
        error: &ServiceError,
        role: &str,
        database: &str,
        seen_as: Option<SocketAddr>,
    ) -> String {
        let from = seen_as.map_or_else(
            || "GATEWAY-ADDRESS".to_owned(),
            |address| match address.ip().to_canonical() {
                std::net::IpAddr::V4(ip) => format!("{ip}/32"),
                std::net::IpAddr::V6(ip) => format!("{ip}/128"),
            },
        );
        let name = self
            .upstreams
            .identity(&self.tenant.id)
            .and_then(|identity| identity.names().common_name.clone())
            .unwrap_or_else(|| "NAME-IN-OUR-CERTIFICATE".to_owned());
        if error.code() == Some(&SqlState::INVALID_CATALOG_NAME) {
            return format!(
                "name a database that exists under `service:` in the policy, not {database}"
            );
        }
        format!(
            "if the role is missing: psql -X -v ON_ERROR_STOP=1 -f setup.sql\n\
             in postgresql.conf: ssl_ca_file = 'FILE WITH THE AUTHORITY OF OUR CERTIFICATE'\n\
             in pg_hba.conf, above other rules that match: hostssl {database} {role} {from} cert map=portcullis\n\
             in pg_ident.conf: portcullis \"{name}\" {role}\n\
             then: SELECT pg_reload_conf();"
        )
    }
}

fn is_about_tls(problem: &Problem) -> bool {
    match problem {
        Problem::Answer(_)
        | Problem::HandshakeTimeout
        | Problem::TlsNotOffered
        | Problem::ErrorBeforeTls
        | Problem::NotPostgres(_)
        | Problem::BytesBeforeTls
        | Problem::Certificate(_)
        | Problem::Alert(_)
        | Problem::Tls(_) => true,
        Problem::ResolveTimeout
        | Problem::Resolve(_)
        | Problem::NoAddress
        | Problem::Rebound { .. }
        | Problem::Forbidden { .. }
        | Problem::Dialer(_)
        | Problem::Connect(_)
        | Problem::ConnectTimeout
        | Problem::Configuration(_)
        | Problem::ServerName(_) => false,
    }
}

fn tls_fix(problem: &Problem) -> &'static str {
    match problem.reason() {
        "tls_not_offered" => {
            "in postgresql.conf: ssl = on, ssl_cert_file = …, ssl_key_file = …\n\
             then: SELECT pg_reload_conf();"
        }
        "certificate_authority" => {
            "put the authority that signed the server's certificate into the cluster's \
             `authorities` in the policy"
        }
        "certificate_name" => {
            "write a name that the server's certificate bears as the cluster's `server-name` in \
             the policy, or give the server a certificate with that name"
        }
        "certificate_time" => "give the server a certificate that is valid now",
        "tls_alert" => {
            "look into the database's log; it may not know the authority of our certificate \
             (ssl_ca_file)"
        }
        "pretls_data" => "find out what is between us and the server; do not go on before",
        "not_postgres" => "correct the cluster's `backends` in the policy: something else answers",
        _ => "look into the database's log",
    }
}

fn reach_fix(problem: &Problem, cluster: &Cluster, address: Option<SocketAddr>) -> String {
    match problem {
        Problem::Dialer(_) => "see what the message says of the dialer".to_owned(),
        Problem::Configuration(_) | Problem::ServerName(_) => {
            "correct the cluster's `tls` in the policy".to_owned()
        }
        Problem::Resolve(_) | Problem::ResolveTimeout | Problem::NoAddress => {
            "correct the name in `backends`, or this machine's resolver (names are resolved in \
             the gateway's own network, also for a cluster with `via`)"
                .to_owned()
        }
        Problem::Rebound { .. } | Problem::Forbidden { .. } => {
            "find out why the name leads there; correct `backends` in the policy".to_owned()
        }
        Problem::Connect(_) | Problem::ConnectTimeout => {
            let port = address.map_or(0, |address| address.port());
            let from = match &cluster.via {
                Some(via) => format!("from {via}"),
                None => "from this machine".to_owned(),
            };
            format!(
                "in postgresql.conf: listen_addresses = '*' (port {port})\n\
                 and let the network pass TCP to port {port} {from}"
            )
        }
        // About TLS: tls_fix speaks of these.
        Problem::Answer(_)
        | Problem::HandshakeTimeout
        | Problem::TlsNotOffered
        | Problem::ErrorBeforeTls
        | Problem::NotPostgres(_)
        | Problem::BytesBeforeTls
        | Problem::Certificate(_)
        | Problem::Alert(_)
        | Problem::Tls(_) => tls_fix(problem).to_owned(),
    }
}
