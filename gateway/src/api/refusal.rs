//! An answer that is not a yes, with its next step.

use super::types::{ErrorBody, ErrorReply};
use crate::config::FileError;
use crate::http::{BodyError, Response};

/// Why a request is not granted.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    status: u16,
    body: Box<ErrorBody>,
}

impl Refusal {
    /// A refusal. 403: not you; 404: there is no such thing; 409, 422: policy or a guard rail says
    /// no; 400: malformed; 5xx: we failed.
    #[must_use]
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        let body = ErrorBody {
            code: code.to_owned(),
            message: message.into(),
            next: None,
            files: Vec::new(),
        };
        Self {
            status,
            body: Box::new(body),
        }
    }

    /// Something in the request is not what it should be.
    #[must_use]
    pub fn malformed(what: &str, error: &impl std::fmt::Display) -> Self {
        Self::new(400, "malformed", format!("{what}: {error}"))
    }

    /// No such tenant is in force.
    #[must_use]
    pub fn no_such_tenant(tenant: &portcullis_policy::TenantId) -> Self {
        Self::new(
            404,
            "no_such_tenant",
            format!("no tenant {tenant} is in force"),
        )
        .next("`portcullis plan DIR` shows whether a policy that has it was not applied")
    }

    /// With what to do next.
    #[must_use]
    pub fn next(mut self, next: &str) -> Self {
        self.body.next = Some(next.to_owned());
        self
    }

    /// With mistakes in policy files.
    #[must_use]
    pub fn files(mut self, files: Vec<FileError>) -> Self {
        self.body.files = files;
        self
    }

    /// What it says.
    #[must_use]
    pub fn body(&self) -> &ErrorBody {
        &self.body
    }

    /// What the log is told: where mistakes in files are, and not what stands there, which may be a secret in the wrong place.
    #[must_use]
    pub fn for_the_log(&self) -> String {
        let places: Vec<String> = self.body.files.iter().map(FileError::place).collect();
        match places.is_empty() {
            true => self.body.message.clone(),
            false => format!(
                "{}: {}; `portcullis policy check` shows what is wrong there",
                self.body.message,
                places.join(", ")
            ),
        }
    }

    /// Its HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.body.fmt(f)
    }
}

impl std::error::Error for Refusal {}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        Self::new(400, error.code(), error.to_string())
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        Self::json_with_status(
            refusal.status,
            &ErrorReply {
                error: *refusal.body,
            },
        )
    }
}
