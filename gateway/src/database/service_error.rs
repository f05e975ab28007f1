//! Why a question of ours has no answer.

use std::fmt;
use std::sync::Arc;

use tokio_postgres::error::SqlState;

use super::service::{ANSWER_LIMIT, MAX_CONNECTIONS, SIGN_IN_LIMIT};
use super::upstream_error::UpstreamError;

/// Why a question of ours has no answer. Cheap to clone: all who waited get the same.
#[derive(Clone, Debug)]
pub enum ServiceError {
    /// The cluster has no `service:` in the policy.
    NotConfigured,
    /// No server of it could be reached and verified.
    Upstream(Arc<UpstreamError>),
    /// The server did not let the service role in.
    SignIn {
        /// The role.
        role: String,
        /// What it said.
        source: Arc<tokio_postgres::Error>,
    },
    /// No answer within [`ANSWER_LIMIT`] (or [`SIGN_IN_LIMIT`]).
    Late,
    /// The connection broke.
    Lost(Arc<tokio_postgres::Error>),
    /// The database answered with an error, or with something we cannot read.
    Answer(Arc<tokio_postgres::Error>),
    /// As many service connections as there may be are in use.
    TooMany,
    /// This process is shutting down.
    Stopped,
}

impl ServiceError {
    /// A stable word for metrics and audit events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotConfigured => "service_not_configured",
            Self::Upstream(error) => error.reason(),
            Self::SignIn { .. } => "service_sign_in",
            Self::Late => "service_late",
            Self::Lost(_) => "service_lost",
            Self::Answer(_) => "service_answer",
            Self::TooMany => "service_too_many",
            Self::Stopped => "service_stopped",
        }
    }

    /// Whether asking again would be in vain.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self, Self::NotConfigured | Self::Stopped)
    }

    /// The SQLSTATE of the database's error, if it was one.
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::SignIn { source, .. } | Self::Lost(source) | Self::Answer(source) => {
                source.code()
            }
            Self::NotConfigured
            | Self::Upstream(_)
            | Self::Late
            | Self::TooMany
            | Self::Stopped => None,
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfigured => f.write_str(
                "the cluster has no service role in the policy (`service: {role: …, database: …}`)",
            ),
            Self::Upstream(error) => error.fmt(f),
            Self::SignIn { role, source } => {
                write!(f, "{role} was not let in: {}", said(source))
            }
            Self::Late => write!(
                f,
                "the database did not answer in time ({} s to sign in, {} s for an answer)",
                SIGN_IN_LIMIT.as_secs(),
                ANSWER_LIMIT.as_secs()
            ),
            Self::Lost(source) => write!(f, "the service connection broke: {}", said(source)),
            Self::Answer(source) => write!(f, "the database answered: {}", said(source)),
            Self::TooMany => {
                write!(
                    f,
                    "{MAX_CONNECTIONS} service connections are in use, the most there may be"
                )
            }
            Self::Stopped => f.write_str("this node is shutting down"),
        }
    }
}

impl std::error::Error for ServiceError {}

/// tokio-postgres says "db error" and leaves the rest to its source.
fn said(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db.message(), db.code().code());
    }
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
