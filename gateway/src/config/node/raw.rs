//! `node.toml` as it was typed: every scalar with its place, unknown keys refused.

use serde::Deserialize;
use std::ops::Range;
use toml::Spanned;

/// Reads the file's shape; the error is the first mistake and its byte range.
pub(super) fn read(text: &str) -> Result<RawNode, (Range<usize>, String)> {
    toml::from_str(text).map_err(|error| {
        let message = error.message().trim_end().replace('\n', "; ");
        (error.span().unwrap_or_default(), message)
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawNode {
    pub(super) name: Spanned<String>,
    pub(super) data: Spanned<String>,
    pub(super) workers: Option<Spanned<i64>>,
    pub(super) policy: Option<Spanned<String>>,
    pub(super) admin: RawAdmin,
    pub(super) metrics: Option<RawMetrics>,
    pub(super) dialer: Option<RawDialer>,
    pub(super) limits: Option<RawLimits>,
    pub(super) fleet: Option<Spanned<RawFleet>>,
    pub(super) api: Option<RawApi>,
    pub(super) vault: Option<Spanned<super::vault::RawVault>>,
    pub(super) audit: Option<super::audit::RawAudit>,
    #[serde(default)]
    pub(super) certificate: Vec<RawCertificate>,
    #[serde(default)]
    pub(super) database_client: Vec<RawDatabaseClient>,
    #[serde(default)]
    pub(super) listener: Vec<Spanned<RawListener>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawAdmin {
    pub(super) socket: Spanned<String>,
    #[serde(default)]
    pub(super) allowed_uids: Vec<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawApi {
    pub(super) listen: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawObjects {
    pub(super) url: Spanned<String>,
    pub(super) endpoint: Option<Spanned<String>>,
    pub(super) region: Spanned<String>,
    pub(super) credentials: Spanned<String>,
    pub(super) ca: Option<Spanned<String>>,
    pub(super) retain_days: Option<Spanned<u32>>,
    pub(super) retain_mode: Option<Spanned<String>>,
    pub(super) reread_seconds: Option<Spanned<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawWitness {
    pub(super) name: Spanned<String>,
    pub(super) url: Spanned<String>,
    pub(super) key: Spanned<String>,
    pub(super) ca: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawMetrics {
    pub(super) listen: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawDialer {
    pub(super) socket: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawFleet {
    pub(super) roles: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) listen: Option<Spanned<String>>,
    pub(super) address: Option<Spanned<String>>,
    pub(super) stale_limit: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawLimits {
    pub(super) connections: Option<Spanned<i64>>,
    pub(super) unauthenticated: Option<Spanned<i64>>,
    pub(super) unauthenticated_per_address: Option<Spanned<i64>>,
    pub(super) unauthenticated_per_block: Option<Spanned<i64>>,
    pub(super) unauthenticated_per_tenant: Option<Spanned<i64>>,
    pub(super) proxy_header: Option<Spanned<f64>>,
    pub(super) first_bytes: Option<Spanned<f64>>,
    pub(super) client_hello: Option<Spanned<f64>>,
    pub(super) tls: Option<Spanned<f64>>,
    pub(super) startup: Option<Spanned<f64>>,
    pub(super) authentication: Option<Spanned<f64>>,
    pub(super) pre_authentication: Option<Spanned<f64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawCertificate {
    pub(super) chain: Spanned<String>,
    pub(super) key: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawDatabaseClient {
    pub(super) tenant: Spanned<String>,
    pub(super) chain: Spanned<String>,
    pub(super) key: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawListener {
    pub(super) address: Spanned<String>,
    pub(super) origin: Spanned<String>,
    pub(super) network_namespace: Option<Spanned<String>>,
    pub(super) interface: Option<Spanned<String>>,
    pub(super) cloud: Option<Spanned<String>>,
    pub(super) proxy_protocol: Option<Spanned<bool>>,
    pub(super) trusted: Option<Spanned<Vec<Spanned<String>>>>,
}
