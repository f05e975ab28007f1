//! Upstream: connect, sign in, and hand over when the database is ready.
//!
//! The permit is consumed here: without one there is no way to a database.

use portcullis_policy::{Permit, Reference};
use portcullis_wire::error::{ErrorFields, ErrorResponse, SqlState};
use portcullis_wire::limits::{MAX_SASL_MESSAGE, MAX_TOKEN_MESSAGE};
use portcullis_wire::message::{
    Backend, authentication_ok, authentication_sasl, backend_key_data, password_message,
    sasl_final, sasl_initial_response, sasl_response,
};
use portcullis_wire::negotiate::ProtocolVersion;
use portcullis_wire::scram::{Binding, Client as Scram, ClientKey, SCRAM_SHA_256, Verifier};
use portcullis_wire::startup::encode_startup;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::authenticate::Credential;
use super::front::Front;
use super::greet::Client;
use super::io::{ReadError, read_unit, send};
use super::live::LiveGuard;
use super::refuse::Refusal;
use crate::database::backend::Backend as Process;
use crate::database::service::Target;
use crate::database::{Upstream, UpstreamStream};
use crate::runtime::limits::{UPSTREAM_SIGN_IN, UPSTREAM_START_BYTES, UPSTREAM_START_MESSAGES};
use crate::runtime::random;

/// A database that is ready for queries, and what the client is owed before it may send any.
pub(super) struct Dialed {
    pub(super) upstream: UpstreamStream,
    pub(super) owed: Vec<u8>,
}

/// Connects to the cluster that `permit` names and signs in as the client's role.
pub(super) async fn dial(
    front: &Front,
    permit: Permit,
    credential: Credential,
    client: &mut Client,
    guard: &mut LiveGuard,
) -> Result<Dialed, Refusal> {
    let target = Target {
        tenant: permit.tenant().clone(),
        id: permit.cluster_id().clone(),
        cluster: permit.cluster().clone(),
    };
    drop(permit);
    let reference = guard.handle().facts.arrival.reference;
    let upstream = front
        .upstreams()
        .connect(&target.tenant, &target.id, &target.cluster)
        .await
        .map_err(|error| Refusal::upstream(error.reason(), error.for_operator(), &reference))?;
    let mut session = SignIn {
        front,
        target,
        upstream,
        client,
        guard,
        reference,
        owed: Vec::new(),
        messages_left: UPSTREAM_START_MESSAGES,
        bytes_left: UPSTREAM_START_BYTES,
    };
    match timeout(UPSTREAM_SIGN_IN, session.run(credential)).await {
        Ok(Ok(())) => Ok(Dialed {
            owed: session.owed,
            upstream: session.upstream.stream,
        }),
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => Err(Refusal::upstream(
            "upstream_sign_in_timeout",
            format!("the database did not get ready within {UPSTREAM_SIGN_IN:?}"),
            &reference,
        )),
    }
}

struct SignIn<'a> {
    front: &'a Front,
    target: Target,
    upstream: Upstream,
    client: &'a mut Client,
    guard: &'a mut LiveGuard,
    reference: Reference,
    owed: Vec<u8>,
    /// What the database may still send before it is ready, in messages and in bytes.
    messages_left: usize,
    bytes_left: usize,
}

impl SignIn<'_> {
    async fn run(&mut self, credential: Credential) -> Result<(), Refusal> {
        self.start().await?;
        match credential {
            Credential::Scram {
                key,
                verifier,
                server_final,
            } => {
                self.scram(&key, &verifier).await?;
                self.owed.extend(sasl_final(&server_final));
            }
            // Our own certificate signs in; the database has nothing to ask.
            Credential::Vouched { .. } => self.accepted().await?,
            Credential::Relay(turn) => turn.settle(self.relay().await)?,
        }
        self.owed
            .splice(0..0, std::mem::take(&mut self.client.owed));
        self.owed.extend(authentication_ok());
        self.settle().await
    }

    /// The start-up packet: role, database and replication as policy let them in, everything else
    /// as the client wrote it. Protocol options are between each pair of neighbours.
    async fn start(&mut self) -> Result<(), Refusal> {
        let startup = &self.client.startup;
        let options = startup
            .options
            .as_deref()
            .map(|options| ("options", options));
        let replication = startup
            .replication
            .parameter()
            .map(|value| ("replication", value));
        let others = startup
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let parameters = options.into_iter().chain(replication).chain(others);
        let packet = encode_startup(&startup.user, &startup.database, parameters)?;
        self.tell(&packet).await
    }

    /// SCRAM with the key that the client's proof gave away. A server that does not hold the same
    /// verifier is unmasked by its signature.
    async fn scram(&mut self, key: &ClientKey, verifier: &Verifier) -> Result<(), Refusal> {
        let (message, _) = self.next().await?;
        let Backend::Sasl(offered) = message else {
            return Err(self.unexpected(&message, "a SCRAM request"));
        };
        let binding = match self.upstream.end_point_hash.take() {
            Some(hash) => Binding::TlsServerEndPoint(hash),
            None => Binding::Unsupported,
        };
        let scram = Scram::new(key, verifier, &offered, &binding, random::bytes())
            .map_err(|failure| self.upstream_failed(failure.reason(), failure.to_string()))?;
        let first = sasl_initial_response(scram.mechanism(), &scram.first());
        self.tell(&first).await?;
        let (message, _) = self.next().await?;
        let Backend::SaslContinue(challenge) = message else {
            return Err(self.unexpected(&message, "a SCRAM challenge"));
        };
        let (answered, last) = scram
            .challenge(&challenge)
            .map_err(|failure| self.stale(failure.reason(), &failure.to_string()))?;
        self.tell(&sasl_response(&last)).await?;
        let (message, _) = self.next().await?;
        let Backend::SaslFinal(signature) = message else {
            return Err(self.unexpected(&message, "a SCRAM signature"));
        };
        answered
            .verify(&signature)
            .map_err(|failure| self.upstream_failed(failure.reason(), failure.to_string()))?;
        self.accepted().await
    }

    async fn accepted(&mut self) -> Result<(), Refusal> {
        let (message, _) = self.next().await?;
        if message == Backend::AuthenticationOk {
            return Ok(());
        }
        Err(self.unexpected(&message, "AuthenticationOk"))
    }

    /// The database asks, the client answers, we carry. PLUS is not offered: the client's binding
    /// would be to our certificate, which the database does not know.
    async fn relay(&mut self) -> Result<(), Refusal> {
        let mut answered = false;
        loop {
            let (message, bytes) = self.read().await?;
            let (mut asked, maximum) = match &message {
                Backend::AuthenticationOk if answered => return Ok(()),
                // It asked the client nothing: our own certificate, or no proof at all, would do
                // for it. That is no sign-in of this client.
                Backend::AuthenticationOk => {
                    return Err(self.upstream_failed(
                        "relay_not_asked",
                        "the database let the role in without asking the client for a password; \
                         its pg_hba.conf must ask for one from the gateway's address"
                            .to_owned(),
                    ));
                }
                // The database authenticates, so its no is told in its own words; but what it says
                // before it asked anything is between it and the operator.
                Backend::Error(fields) if answered => {
                    return Err(self.by_database(fields));
                }
                Backend::Error(fields) => return Err(self.refused(fields)),
                Backend::Sasl(offered) if offered.iter().any(|name| name == SCRAM_SHA_256) => {
                    (authentication_sasl(&[SCRAM_SHA_256]), MAX_SASL_MESSAGE)
                }
                Backend::Cleartext => (bytes, MAX_TOKEN_MESSAGE),
                Backend::Md5 { .. } | Backend::SaslContinue(_) => (bytes, MAX_SASL_MESSAGE),
                // Nothing to answer: AuthenticationOk follows a SaslFinal.
                Backend::SaslFinal(_) | Backend::Notice(_) => {
                    self.owed.extend(bytes);
                    continue;
                }
                Backend::Sasl(_)
                | Backend::OtherAuthentication(_)
                | Backend::ParameterStatus(..)
                | Backend::BackendKeyData { .. }
                | Backend::ReadyForQuery(_)
                | Backend::NegotiateProtocolVersion { .. }
                | Backend::Other(_) => {
                    return Err(self.unexpected(&message, "a password or SCRAM request"));
                }
            };
            let mut request = std::mem::take(&mut self.client.owed);
            request.append(&mut asked);
            send(&mut self.client.stream, &request)
                .await
                .map_err(Refusal::client_gone)?;
            let answer = |bytes: &[u8]| Ok(password_message(bytes, maximum)?.map(drop));
            let ((), answer) = read_unit(&mut self.client.stream, answer).await?;
            let answer = Zeroizing::new(answer);
            self.tell(&answer).await?;
            answered = true;
        }
    }

    /// After AuthenticationOk: parameters go through, the cancel key becomes ours, until the
    /// database is ready.
    async fn settle(&mut self) -> Result<(), Refusal> {
        loop {
            let (message, bytes) = self.read().await?;
            match &message {
                Backend::ParameterStatus(..) | Backend::Notice(_) => self.owed.extend(bytes),
                Backend::BackendKeyData { pid, secret }
                    if self.guard.handle().backend().is_none() =>
                {
                    self.answer_to_our_key(*pid, secret)?;
                }
                Backend::ReadyForQuery(_) => {
                    self.owed.extend(bytes);
                    return Ok(());
                }
                Backend::Error(fields) => {
                    return Err(self.by_database(fields));
                }
                Backend::AuthenticationOk
                | Backend::Cleartext
                | Backend::Md5 { .. }
                | Backend::Sasl(_)
                | Backend::SaslContinue(_)
                | Backend::SaslFinal(_)
                | Backend::OtherAuthentication(_)
                | Backend::BackendKeyData { .. }
                | Backend::NegotiateProtocolVersion { .. }
                | Backend::Other(_) => return Err(self.unexpected(&message, "ReadyForQuery")),
            }
        }
    }

    fn answer_to_our_key(&mut self, pid: u32, secret: &[u8]) -> Result<(), Refusal> {
        let backend = Process::new(self.target.clone(), self.upstream.backend, pid, secret)?;
        self.guard.handle().served_by(backend);
        let serial = self.guard.handle().id;
        let keys = &self.front.cancel_keys;
        let key = match self.client.version == ProtocolVersion::V3_2 {
            true => keys.long(serial, random::bytes(), random::bytes()),
            false => keys.short(serial),
        }
        .map_err(|error| Refusal::silent("cancel_key", error.to_string()))?;
        self.owed.extend(backend_key_data(key.pid, &key.secret)?);
        Ok(())
    }

    /// Says something to the database, unless the process slept and nobody saw to it yet.
    async fn tell(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.front.vigil().awake().await;
        send(&mut self.upstream.stream, bytes)
            .await
            .map_err(|error| self.lost(&error.to_string()))
    }

    /// The next message, notices aside; an error of the database ends the sign-in.
    async fn next(&mut self) -> Result<(Backend, Vec<u8>), Refusal> {
        loop {
            match self.read().await? {
                (Backend::Notice(_), bytes) => self.owed.extend(bytes),
                (Backend::Error(fields), _) => return Err(self.refused(&fields)),
                message => return Ok(message),
            }
        }
    }

    /// One message, within what is left of the sign-in's budget.
    async fn read(&mut self) -> Result<(Backend, Vec<u8>), Refusal> {
        let read = read_unit(&mut self.upstream.stream, Backend::read).await;
        let (message, bytes) = read.map_err(|error| match error {
            ReadError::Io(error) => self.lost(&error.to_string()),
            ReadError::Complaint(complaint) => {
                self.upstream_failed(complaint.reason(), complaint.to_string())
            }
        })?;
        let left = (
            self.messages_left.checked_sub(1),
            self.bytes_left.checked_sub(bytes.len()),
        );
        let (Some(messages), Some(rest)) = left else {
            let story = "the database sent more than a sign-in needs before it was ready";
            return Err(self.upstream_failed("upstream_start", story.to_owned()));
        };
        (self.messages_left, self.bytes_left) = (messages, rest);
        Ok((message, bytes))
    }

    /// The database refused before the session began. What says something about its load goes to
    /// the client in its own words; a wrong credential is told as ours would be; everything else
    /// is between the operator and the database.
    fn refused(&self, fields: &ErrorFields) -> Refusal {
        let code = fields
            .code
            .map(|code| code.as_str().to_owned())
            .unwrap_or_default();
        let story = describe(fields);
        match code.as_str() {
            "28P01" => self.stale("refused_by_database", &story),
            code if code.starts_with("53") || code.starts_with("57") || code.starts_with("3D") => {
                self.by_database(fields)
            }
            _ => self.upstream_failed("refused_by_database", story),
        }
    }

    /// Our copy of the verifier is not the database's any more, or its own answer is no.
    fn stale(&self, code: &'static str, story: &str) -> Refusal {
        let user = &self.client.startup.user;
        self.front
            .verifiers
            .forget(&self.target.tenant, &self.target.id, user);
        Refusal::credential(
            code,
            format!("signing in to the database: {story}"),
            user,
            &self.reference,
        )
    }

    fn by_database(&self, fields: &ErrorFields) -> Refusal {
        Refusal::by_database(in_its_words(fields), describe(fields), &self.reference)
    }

    fn unexpected(&self, message: &Backend, wanted: &str) -> Refusal {
        let story = format!(
            "the database answered {message:?} where {wanted} was due; `portcullis cluster check {}/{}` says what to set up",
            self.target.tenant, self.target.id,
        );
        self.upstream_failed("upstream_start", story)
    }

    fn lost(&self, why: &str) -> Refusal {
        self.upstream_failed("upstream_lost", format!("the database's side ended: {why}"))
    }

    fn upstream_failed(&self, code: &'static str, story: String) -> Refusal {
        Refusal::upstream(
            code,
            format!("{} at {}: {story}", self.target.id, self.upstream.backend),
            &self.reference,
        )
    }
}

fn describe(fields: &ErrorFields) -> String {
    let code = fields
        .code
        .map(|code| code.as_str().to_owned())
        .unwrap_or_default();
    format!(
        "the database said {code}: {}",
        fields.message.as_deref().unwrap_or("(no message)")
    )
}

fn in_its_words(fields: &ErrorFields) -> ErrorResponse {
    let code = fields.code.unwrap_or(SqlState::INTERNAL_ERROR);
    let mut told = ErrorResponse::fatal(code, fields.message.clone().unwrap_or_default());
    told.detail.clone_from(&fields.detail);
    told.hint.clone_from(&fields.hint);
    told
}
