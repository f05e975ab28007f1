//! Logs that a web server has: plain files.

use std::path::Path;
use std::sync::Arc;

use portcullis_certs::https_client_config;
use tokio::runtime::Handle;
use tokio_rustls::rustls::ClientConfig;

use crate::http::SYSTEM_AUTHORITIES;
use crate::http::client::{AnswerLimits, ClientError, get_any};
use crate::http::limits::FILE_TIME;
use crate::ledger::inspect::Source;

/// A web server, asked once for each file.
pub(super) struct Web {
    base: String,
    tls: Option<Arc<ClientConfig>>,
    runtime: Handle,
}

impl Web {
    pub(super) async fn new(url: &str, ca: Option<&Path>) -> Result<Self, String> {
        let mut tls = None;
        if url.starts_with("https://") {
            let file = ca.unwrap_or(Path::new(SYSTEM_AUTHORITIES));
            let authorities = tokio::fs::read_to_string(file).await;
            let config = authorities
                .map_err(|error| error.to_string())
                .and_then(|text| https_client_config(&text).map_err(|error| error.to_string()));
            tls = Some(config.map_err(|error| format!("{}: {error}", file.display()))?);
        }
        Ok(Self {
            base: url.trim_end_matches('/').to_owned(),
            tls,
            runtime: Handle::current(),
        })
    }
}

impl Source for Web {
    fn read(&mut self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, String> {
        let url = format!("{}/{path}", self.base);
        let limits = AnswerLimits {
            bytes: limit,
            time: FILE_TIME,
        };
        let answer = self
            .runtime
            .block_on(get_any(&url, self.tls.clone(), limits));
        match answer {
            Ok(answer) if answer.status == 200 => Ok(Some(answer.body)),
            Ok(answer) if matches!(answer.status, 404 | 410) => Ok(None),
            Ok(answer) => Err(ClientError::Status(answer.status).to_string()),
            // It is there and none of ours, which is a finding: bytes that are too many.
            Err(ClientError::TooLarge(_)) => Ok(Some(vec![0; limit.saturating_add(1)])),
            Err(error) => {
                let source = std::error::Error::source(&error);
                let cause = source.map(|cause| format!(": {cause}")).unwrap_or_default();
                Err(format!("{error}{cause}"))
            }
        }
    }

    /// A web server lists nothing: which tenants there are, the fleet's log says.
    fn tenants(&mut self) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
}
