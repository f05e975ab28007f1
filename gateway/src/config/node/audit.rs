//! `[audit]`: where entries of the audit logs are brought, and who is asked to witness them.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::audit_index::{self, RawIndex};
use super::audit_objects::{self, Objects};
use super::audit_witnesses::{self, Witness};
use super::raw::{RawObjects, RawWitness};
use super::{Checker, Fleet, IdentityFiles, quoted};
use crate::config::index::IndexPlace;

/// Where entries of the audit logs are brought, besides the logs themselves.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// A file of OCSF events.
    pub ocsf: Option<PathBuf>,
    /// An object store that has the same files as this node's disk.
    pub objects: Option<Objects>,
    /// An index in a PostgreSQL database.
    pub index: Option<IndexPlace>,
    /// A receiver of OTLP logs.
    pub otlp: Option<OtlpTarget>,
    /// A receiver of syslog.
    pub syslog: Option<SyslogTarget>,
    /// Who is asked to cosign them.
    pub witnesses: Vec<Witness>,
}

/// A receiver of OTLP logs over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpTarget {
    /// Where batches are posted; `https://`, or `http://` where nobody can listen in.
    pub url: String,
    /// The authorities of its certificate; the system's if it is left out.
    pub ca: Option<PathBuf>,
    /// A file with the token that it wants to see, read anew for each batch.
    pub token: Option<PathBuf>,
}

/// A receiver of syslog over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogTarget {
    /// Its host, a name or an address,
    pub host: String,
    /// and its port.
    pub port: u16,
    /// Whether what is sent can be read on the way.
    pub transport: SyslogTransport,
    /// The private enterprise number under which our structured data stands.
    pub enterprise: u32,
}

/// How a syslog receiver is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogTransport {
    /// RFC 5425.
    Tls {
        /// The authorities of its certificate.
        ca: PathBuf,
        /// The name in it.
        server_name: String,
        /// Our certificate, where it wants to see one.
        identity: Option<IdentityFiles>,
    },
    /// Readable and forgeable on the way: for a relay on this machine.
    Tcp,
}

/// The private enterprise number for examples (RFC 5612).
const EXAMPLE_ENTERPRISE: u32 = 32_473;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawAudit {
    ocsf: Option<RawOcsf>,
    objects: Option<RawObjects>,
    index: Option<RawIndex>,
    otlp: Option<RawOtlp>,
    syslog: Option<RawSyslog>,
    #[serde(default)]
    witnesses: Vec<Spanned<RawWitness>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawOcsf {
    file: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawOtlp {
    url: Spanned<String>,
    ca: Option<Spanned<String>>,
    token_file: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawSyslog {
    address: Spanned<String>,
    transport: Option<Spanned<String>>,
    ca: Option<Spanned<String>>,
    server_name: Option<Spanned<String>>,
    certificate: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
    enterprise_number: Option<Spanned<i64>>,
}

pub(super) fn check(
    checker: &mut Checker<'_>,
    raw: &RawAudit,
    fleet: Option<&Fleet>,
) -> Option<Audit> {
    let first = [
        ("ocsf", raw.ocsf.as_ref().map(|it| &it.file)),
        ("objects", raw.objects.as_ref().map(|it| &it.url)),
        ("index", raw.index.as_ref().map(|it| &it.url)),
        ("otlp", raw.otlp.as_ref().map(|it| &it.url)),
        ("syslog", raw.syslog.as_ref().map(|it| &it.address)),
    ];
    for (name, at) in first {
        if let Some(at) = at
            && fleet.is_some_and(|fleet| !fleet.roles.control)
        {
            return checker.complain(
                at.span(),
                format!("[audit.{name}] needs the role control: the audit logs lie on control nodes; take it out here, and write it on each of those"),
            );
        }
    }
    let mut audit = Audit {
        witnesses: audit_witnesses::check(checker, &raw.witnesses, fleet),
        ..Audit::default()
    };
    if let Some(ocsf) = &raw.ocsf {
        audit.ocsf = Some(checker.path("audit.ocsf.file", &ocsf.file)?);
    }
    if let Some(objects) = &raw.objects {
        audit.objects = Some(audit_objects::check(checker, objects)?);
    }
    if let Some(index) = &raw.index {
        audit.index = Some(audit_index::check(checker, index)?);
    }
    if let Some(otlp) = &raw.otlp {
        audit.otlp = Some(otlp_target(checker, otlp)?);
    }
    if let Some(syslog) = &raw.syslog {
        audit.syslog = Some(syslog_target(checker, syslog)?);
    }
    Some(audit)
}

fn otlp_target(checker: &mut Checker<'_>, raw: &RawOtlp) -> Option<OtlpTarget> {
    let url = raw.url.get_ref();
    let secure = url.starts_with("https://");
    if !secure && !url.starts_with("http://") {
        return checker.complain(
            raw.url.span(),
            format!(
                "audit.otlp.url {}: write the whole URL, like \"https://collector.example:4318/v1/logs\"",
                quoted(url)
            ),
        );
    }
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() || authority.contains('@') || rest.contains('#') {
        let message = "audit.otlp.url: write https://HOST[:PORT]/PATH without user, password or fragment; a token goes into a file that token-file names";
        let mut error = checker.source.error(raw.url.span(), message);
        // What stands there may be a password.
        error.excerpt = None;
        checker.errors.push(error);
        return None;
    }
    let mut file = |key: &str, path: &Option<Spanned<String>>| match path {
        Some(path) if !secure => {
            let message =
                format!("{key} is for https://; take it out, or write https:// in audit.otlp.url");
            checker.complain(path.span(), message)
        }
        Some(path) => checker.path(key, path).map(Some),
        None => Some(None),
    };
    Some(OtlpTarget {
        url: url.clone(),
        ca: file("audit.otlp.ca", &raw.ca)?,
        token: file("audit.otlp.token-file", &raw.token_file)?,
    })
}

fn syslog_target(checker: &mut Checker<'_>, raw: &RawSyslog) -> Option<SyslogTarget> {
    let written = raw.address.get_ref();
    let parts = written.rsplit_once(':').and_then(|(host, port)| {
        let host = host
            .strip_prefix('[')
            .map_or(Some(host), |host| host.strip_suffix(']'))?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
        let plain = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
        plain.then(|| (host.to_owned(), port))
    });
    let Some((host, port)) = parts else {
        return checker.complain(
            raw.address.span(),
            format!(
                "audit.syslog.address {}: write a host and a port, like \"siem.example:6514\"",
                quoted(written)
            ),
        );
    };
    let word = raw.transport.as_ref().map_or("tls", |it| it.get_ref());
    let transport = match word {
        "tls" => {
            let Some(ca) = &raw.ca else {
                return checker.complain(
                    raw.address.span(),
                    "audit.syslog.ca is missing: name the file with the authorities of the receiver's certificate",
                );
            };
            let identity = match (&raw.certificate, &raw.key) {
                (Some(chain), Some(key)) => Some(IdentityFiles {
                    chain: checker.path("audit.syslog.certificate", chain)?,
                    key: checker.path("audit.syslog.key", key)?,
                }),
                (Some(one), None) | (None, Some(one)) => {
                    return checker.complain(
                        one.span(),
                        "audit.syslog: certificate and key belong together; write both or neither",
                    );
                }
                (None, None) => None,
            };
            let server_name = raw.server_name.as_ref();
            SyslogTransport::Tls {
                ca: checker.path("audit.syslog.ca", ca)?,
                server_name: server_name.map_or_else(|| host.clone(), |it| it.get_ref().clone()),
                identity,
            }
        }
        "tcp" => {
            let of_tls = [&raw.ca, &raw.server_name, &raw.certificate, &raw.key];
            if let Some(unused) = of_tls.into_iter().flatten().next() {
                return checker.complain(
                    unused.span(),
                    "audit.syslog: with transport = \"tcp\" nothing is verified; take out ca, server-name, certificate and key, or write transport = \"tls\"",
                );
            }
            SyslogTransport::Tcp
        }
        other => {
            let at = raw
                .transport
                .as_ref()
                .map_or(raw.address.span(), Spanned::span);
            return checker.complain(
                at,
                format!(
                    "audit.syslog.transport {}: write \"tls\", or \"tcp\" for a relay on this machine",
                    quoted(other)
                ),
            );
        }
    };
    let enterprise = match &raw.enterprise_number {
        None => EXAMPLE_ENTERPRISE,
        Some(number) => match u32::try_from(*number.get_ref()) {
            Ok(number) if number > 0 => number,
            _ => {
                return checker.complain(
                    number.span(),
                    "audit.syslog.enterprise-number: write your private enterprise number, 1 to 4294967295",
                );
            }
        },
    };
    Some(SyslogTarget {
        host,
        port,
        transport,
        enterprise,
    })
}
