//! Saying no: one opaque answer on the wire, the whole story in the audit log, both under one
//! reference.

use std::collections::BTreeMap;
use std::io;

use portcullis_audit::kinds;
use portcullis_policy::{Attempt, Denial, DenialCode, Reference, TenantId};
use portcullis_wire::Complaint;
use portcullis_wire::error::{ErrorResponse, SqlState};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::io::{ReadError, send};
use super::live::{ENDPOINT_REDIRECTED, Full, Lapse};
use super::throttle::Limit;
use crate::runtime::limits::{FAREWELL, SOURCE_PACE_PART};

/// The code of connections that end, or never begin, because the node is stopping.
pub(super) const DRAINING: &str = "draining";

/// Why a connection ended before it was open.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The kind of audit event.
    pub(super) kind: &'static str,
    /// The stable code of reply, metric, event and manual.
    pub(super) code: &'static str,
    /// The operator's voice.
    pub(super) story: String,
    /// The client's voice; `None` closes without a word.
    pub(super) told: Option<Box<ErrorResponse>>,
    /// Facts for the event beyond those of the attempt.
    pub(super) facts: BTreeMap<String, Value>,
    /// The tenant it belongs to, where that is known.
    pub(super) tenant: Option<TenantId>,
    /// Whose event tells of it.
    pub(super) evidence: Evidence,
    /// The limit that was reached, where it was one.
    pub(super) limit: Option<Limit>,
}

/// Whose event tells of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evidence {
    /// One of its own.
    Own,
    /// The lapse's, which whoever stopped the connection waits for.
    Lapse,
    /// The throttle has counted it together with others.
    Counted,
}

impl Refusal {
    /// Closed without a word, and without suspicion.
    pub(super) fn silent(code: &'static str, story: impl Into<String>) -> Self {
        Self::new(kinds::CONNECTION_CLOSED, code, story, None)
    }

    /// Bytes that have no place here; nothing is said to who sent them.
    pub(super) fn violation(code: &'static str, story: impl Into<String>) -> Self {
        Self::new(kinds::PROTOCOL_VIOLATION, code, story, None)
    }

    /// The client left or its socket failed.
    pub(super) fn client_gone(error: io::Error) -> Self {
        Self::silent("client_gone", format!("the client's side ended: {error}"))
    }

    /// A TLS engine's complaint about a client.
    pub(super) fn tls(error: &dyn std::error::Error) -> Self {
        Self::violation("tls", format!("TLS with the client failed: {error}"))
    }

    /// A handshake that ended in an error: a TLS complaint or a socket that closed.
    pub(super) fn handshake(error: &io::Error) -> Self {
        let inner = error.get_ref();
        match inner.and_then(|inner| inner.downcast_ref::<tokio_rustls::rustls::Error>()) {
            Some(complaint) => Self::tls(complaint),
            None => Self::silent(
                "client_gone",
                format!("the client left during the TLS handshake: {error}"),
            ),
        }
    }

    /// Policy's no.
    pub(super) fn denied(
        denial: &Denial,
        attempt: &Attempt<'_>,
        reference: &Reference,
        narration: String,
    ) -> Self {
        let state = match denial.reason() {
            // As any other proof that does not count.
            DenialCode::CertificateRevoked => {
                let story = denial.for_operator(attempt);
                let mut refusal = Self::credential(denial.code(), story, attempt.user, reference);
                refusal.tenant = denial.tenant().cloned();
                return refusal.with("narration", narration);
            }
            // Drivers that know several hosts go on to the next.
            DenialCode::PolicyStale => SqlState::CANNOT_CONNECT_NOW,
            DenialCode::UnknownEndpoint
            | DenialCode::TenantSuspended
            | DenialCode::EndpointSuspended
            | DenialCode::PublicBlocked
            | DenialCode::WrongNetwork
            | DenialCode::WrongPrivateLink
            | DenialCode::EmptyList
            | DenialCode::AddressNotListed
            | DenialCode::EntryExpired
            | DenialCode::ReplicationRefused => SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        };
        let told = ErrorResponse::fatal(state, denial.for_client(reference))
            .with_hint(portcullis_policy::CLIENT_HINT);
        let story = denial.for_operator(attempt);
        let mut refusal = Self::new(kinds::CONNECTION_DENIED, denial.code(), story, Some(told));
        refusal.tenant = denial.tenant().cloned();
        refusal.with("narration", narration)
    }

    /// The credential is wrong or the role unknown: one answer for both.
    pub(super) fn credential(
        code: &'static str,
        story: impl Into<String>,
        user: &str,
        reference: &Reference,
    ) -> Self {
        let told = ErrorResponse::fatal(
            SqlState::INVALID_PASSWORD,
            format!("authentication failed for user \"{user}\" (reference {reference})"),
        );
        Self::new(kinds::AUTHENTICATION_FAILED, code, story, Some(told))
    }

    /// The exchange itself went wrong: a client that does not speak it, or somebody between us.
    pub(super) fn authentication(
        code: &'static str,
        story: impl Into<String>,
        told: ErrorResponse,
    ) -> Self {
        Self::new(kinds::AUTHENTICATION_FAILED, code, story, Some(told))
    }

    /// A cap is reached.
    pub(super) fn full(full: &Full, tenant: &TenantId, reference: &Reference) -> Self {
        Self::limit(
            full.limit,
            tenant,
            format!("the limit {} = {} is reached", full.limit.name(), full.most),
            format!("too many connections (reference {reference})"),
        )
    }

    /// A tenant's pace of new connections is exceeded, or a source's part of it.
    pub(super) fn too_fast(
        limit: Limit,
        tenant: &TenantId,
        per_second: u32,
        reference: &Reference,
    ) -> Self {
        Self::limit(
            limit,
            tenant,
            format!(
                "{}: the tenant has {per_second} new connections in a second, one source 1/{SOURCE_PACE_PART} of them",
                limit.name()
            ),
            format!("too many new connections, try again in a moment (reference {reference})"),
        )
    }

    /// Sign-ins failed, and this one would have to wait for longer than anybody may.
    pub(super) fn failed_sign_ins(tenant: &TenantId, reference: &Reference) -> Self {
        Self::limit(
            Limit::FailedSignIns,
            tenant,
            "sign-ins of this source as this user failed, and this one would have to wait too long"
                .to_owned(),
            format!("too many failed sign-ins, try again in a moment (reference {reference})"),
        )
    }

    fn limit(limit: Limit, tenant: &TenantId, story: String, text: String) -> Self {
        let told = ErrorResponse::fatal(SqlState::TOO_MANY_CONNECTIONS, text);
        let mut refusal = Self::new(kinds::LIMIT_SHED, limit.code(), story, Some(told));
        refusal.tenant = Some(tenant.clone());
        refusal.limit = Some(limit);
        refusal.with("limit", limit.name())
    }

    /// A deadline passed.
    pub(super) fn late(limit: Limit, story: impl Into<String>) -> Self {
        let mut refusal = Self::violation(limit.code(), story);
        refusal.limit = Some(limit);
        refusal
    }

    /// There is no place for it, or it had to give its place away. Closed without a word, and
    /// counted by the throttle: a flood must not become a flood of events.
    pub(super) fn shed(limit: Limit) -> Self {
        let mut refusal = Self::new(kinds::LIMIT_SHED, limit.code(), "", None);
        refusal.evidence = Evidence::Counted;
        refusal
    }

    /// The database cannot be reached, verified or signed in to.
    pub(super) fn upstream(
        code: &'static str,
        story: impl Into<String>,
        reference: &Reference,
    ) -> Self {
        let told = ErrorResponse::fatal(
            SqlState::CANNOT_CONNECT_NOW,
            format!("the database cannot be reached right now (reference {reference})"),
        );
        Self::new(kinds::UPSTREAM_FAILED, code, story, Some(told))
    }

    /// The node is shutting down.
    pub(super) fn draining(reference: &Reference) -> Self {
        let told = ErrorResponse::fatal(
            SqlState::CANNOT_CONNECT_NOW,
            format!("this gateway is shutting down, connect again (reference {reference})"),
        );
        let story = "the node is draining";
        Self::new(kinds::CONNECTION_DENIED, DRAINING, story, Some(told))
    }

    /// What the endpoint leads to changed while the client was on its way in.
    pub(super) fn moved(reference: &Reference) -> Self {
        let told = ErrorResponse::fatal(
            SqlState::CANNOT_CONNECT_NOW,
            format!("this endpoint is being changed, try again (reference {reference})"),
        );
        let story = "the endpoint came to lead elsewhere while the client was on its way in";
        Self::new(
            kinds::CONNECTION_DENIED,
            ENDPOINT_REDIRECTED,
            story,
            Some(told),
        )
    }

    /// The database itself refused the session or the client's proof: its own words go to the
    /// client, with the reference where they leave room for it.
    pub(super) fn by_database(
        mut told: ErrorResponse,
        story: impl Into<String>,
        reference: &Reference,
    ) -> Self {
        told.hint
            .get_or_insert_with(|| format!("The reference of this attempt is {reference}."));
        // Class 28: invalid authorization specification.
        let kind = match told.code.as_str().starts_with("28") {
            true => kinds::AUTHENTICATION_FAILED,
            false => kinds::UPSTREAM_FAILED,
        };
        Self::new(kind, "refused_by_database", story, Some(told))
    }

    /// The permit lapsed while the connection was on its way in.
    pub(super) fn lapsed(lapse: Lapse) -> Self {
        let told = ErrorResponse::fatal(lapse.sqlstate, &lapse.text).with_hint(lapse.hint);
        let mut refusal = Self::new(
            kinds::CONNECTION_LAPSED,
            lapse.code,
            lapse.story,
            Some(told),
        );
        refusal.evidence = Evidence::Lapse;
        refusal
    }

    fn new(
        kind: &'static str,
        code: &'static str,
        story: impl Into<String>,
        told: Option<ErrorResponse>,
    ) -> Self {
        Self {
            kind,
            code,
            story: story.into(),
            told: told.map(Box::new),
            facts: BTreeMap::new(),
            tenant: None,
            evidence: Evidence::Own,
            limit: None,
        }
    }

    /// The same refusal with one more fact for its event.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// Tells the client what it may know, with the reference, and closes.
    pub(super) async fn tell(
        &self,
        mut stream: TlsStream<TcpStream>,
        reference: &Reference,
    ) -> bool {
        let Some(told) = &self.told else {
            return false;
        };
        let mut told = (**told).clone();
        let reference = reference.to_string();
        if ![Some(&told.message), told.hint.as_ref()]
            .into_iter()
            .flatten()
            .any(|text| text.contains(&reference))
        {
            told.message.push_str(&format!(" (reference {reference})"));
        }
        let farewell = async {
            send(&mut stream, &told.encode()).await?;
            stream.shutdown().await?;
            // A socket closed with unread bytes is reset, and the reset can overtake the farewell.
            let mut waste = [0u8; 512];
            let (tcp, _) = stream.get_mut();
            while tokio::io::AsyncReadExt::read(tcp, &mut waste).await? > 0 {}
            io::Result::Ok(())
        };
        !matches!(timeout(FAREWELL, farewell).await, Ok(Err(_)))
    }
}

impl From<Complaint> for Refusal {
    /// Told where the client has TLS and sent its start-up packet; before, there is nobody to tell.
    fn from(complaint: Complaint) -> Self {
        let told = Some(complaint.response());
        Self::new(
            kinds::PROTOCOL_VIOLATION,
            complaint.reason(),
            complaint.to_string(),
            told,
        )
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::client_gone(error),
            ReadError::Complaint(complaint) => complaint.into(),
        }
    }
}
