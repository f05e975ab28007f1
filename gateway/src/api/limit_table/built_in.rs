//! What is built in and the same on every node: one line for each limit.

use super::{Amount, bytes, count, time};
use crate::api::limits as api;
use crate::database::{upstream, verifiers};
use crate::http::limits as http;
use crate::ledger::limits as ledger;
use crate::runtime::limits as node;
use crate::runtime::sockets;
use portcullis_policy::limits as policy;
use portcullis_wire::limits as wire;

/// A limit's name, how much it is, and what it bounds.
pub(super) type BuiltIn = (&'static str, Amount, &'static str);

const ORDINARY: ledger::Limits = ledger::Limits::ORDINARY;

/// Every one.
#[rustfmt::skip]
pub(super) const ALL: &[BuiltIn] = &[
    // Connections.
    ("descriptors_per_connection", count(node::DESCRIPTORS_PER_CONNECTION as usize), "open files of one connection"),
    ("descriptors_reserved", count(node::DESCRIPTORS_RESERVED as usize), "open files for all that is no connection and no listener"),
    ("staff_reserve_part", count(node::STAFF_RESERVE_PART), "one in so many connections is kept free for staff"),
    ("unauthenticated_part", count(node::UNAUTHENTICATED_PART), "one in so many connections may be unauthenticated"),
    ("unauthenticated_bytes", bytes(node::UNAUTHENTICATED_BYTES as usize), "memory of an unauthenticated connection at worst"),
    ("unauthenticated_memory_part", count(node::UNAUTHENTICATED_MEMORY_PART as usize), "one part in so many of the memory is for them"),
    ("unauthenticated_tenant_part", count(node::UNAUTHENTICATED_TENANT_PART), "one in so many of them may be one tenant's"),
    ("pace_sources", count(node::PACE_SOURCES), "source blocks of a tenant whose pace is measured apart"),
    ("shed_events", count(node::SHED_EVENTS), "events about shed connections at one tick"),
    ("shed_tick", time(node::SHED_TICK), "between two ticks"),
    ("accept_pause", time(node::ACCEPT_PAUSE), "a pause after the kernel refused to accept"),
    ("backlog", count(sockets::BACKLOG as usize), "connections that the kernel holds for a listener"),
    ("client_stall", time(sockets::CLIENT_STALL), "a client that takes nothing is given up after it"),
    ("keepalive_idle", time(sockets::KEEPALIVE_IDLE), "a silent connection is probed after it,"),
    ("keepalive_interval", time(sockets::KEEPALIVE_INTERVAL), "then at this interval,"),
    ("keepalive_retries", count(sockets::KEEPALIVE_RETRIES as usize), "and given up after so many probes"),
    // On the way in, and out.
    ("negotiation_requests", count(node::NEGOTIATION_REQUESTS), "requests for encryption before the start-up packet"),
    ("upstream_connect", time(upstream::CONNECT_LIMIT), "connecting to a database"),
    ("upstream_tls", time(upstream::HANDSHAKE_LIMIT), "a TLS handshake with a database"),
    ("upstream_tries", count(upstream::MAX_TRIES), "servers of a cluster that are tried"),
    ("upstream_sign_in", time(node::UPSTREAM_SIGN_IN), "signing in to a database"),
    ("upstream_start_bytes", bytes(node::UPSTREAM_START_BYTES), "what a database sends during sign-in"),
    ("upstream_start_messages", count(node::UPSTREAM_START_MESSAGES), "messages of a database during sign-in"),
    ("verifier_age", time(verifiers::VERIFIER_MAX_AGE), "how long a role's verifier serves"),
    ("handover", time(node::HANDOVER), "writing what a client is owed before it may send"),
    ("splice_scratch_bytes", bytes(node::SPLICE_SCRATCH_BYTES), "what is held back of a connection in one direction"),
    ("splice_reads_per_poll", count(node::SPLICE_READS_PER_POLL), "reads before it is the next connection's turn"),
    ("farewell", time(node::FAREWELL), "a refused client reads its farewell"),
    ("enforcement", time(node::ENFORCEMENT), "an apply waits for lapsed connections to close"),
    ("backends_gone", time(node::BACKENDS_GONE), "and for their backends to be gone"),
    ("expiry_tick", time(node::EXPIRY_TICK), "between two looks for expired entries"),
    ("cancel", time(node::CANCEL), "carrying out a cancel request"),
    ("drain", time(node::DRAIN), "a draining node waits for its connections"),
    ("stop", time(node::STOP), "a stopping node waits for its workers"),
    // Certificates and tokens.
    ("client_tls_configurations", count(node::CLIENT_TLS_CONFIGURATIONS), "TLS configurations that ask for certificates"),
    ("issuer_keys_age", time(node::ISSUER_KEYS_AGE), "how long a token issuer's keys serve"),
    ("issuer_keys_hard_age", time(node::ISSUER_KEYS_HARD_AGE), "and when they are good no more"),
    ("issuer_keys_pause", time(node::ISSUER_KEYS_PAUSE), "before a failed issuer is asked again"),
    ("issuer_keys_kept", count(node::ISSUER_KEYS_KEPT), "token issuers whose keys are kept"),
    ("issuer_answer", time(node::ISSUER_ANSWER), "a token issuer's answer"),
    // What a client or a database may send.
    ("startup_packet", bytes(wire::MAX_STARTUP_PACKET), "a start-up packet,"),
    ("startup_packet_least", bytes(wire::MIN_STARTUP_PACKET), "and its least"),
    ("startup_parameters", count(wire::MAX_STARTUP_PARAMETERS), "parameters in a start-up packet"),
    ("name", bytes(wire::MAX_NAME), "a role's, database's or parameter's name"),
    ("parameter_value", bytes(wire::MAX_VALUE), "the value of a start-up parameter"),
    ("sasl_message", bytes(wire::MAX_SASL_MESSAGE), "a SASL message of a client"),
    ("token_message", bytes(wire::MAX_TOKEN_MESSAGE), "a password message that carries a token"),
    ("sasl_mechanism", bytes(wire::MAX_SASL_MECHANISM), "the name of a SASL mechanism"),
    ("sasl_mechanisms", count(wire::MAX_SASL_MECHANISMS), "SASL mechanisms that a database offers"),
    ("cancel_key", bytes(wire::MAX_CANCEL_KEY), "the secret of a cancel key,"),
    ("cancel_key_least", bytes(wire::MIN_CANCEL_KEY), "and its least"),
    ("backend_startup_message", bytes(wire::MAX_BACKEND_STARTUP_MESSAGE), "a database's message before the session is ready"),
    ("negotiated_options", count(wire::MAX_NEGOTIATED_OPTIONS), "protocol options in one negotiation"),
    ("error_field", bytes(wire::MAX_ERROR_FIELD), "a field of an error"),
    ("error_fields", count(wire::MAX_ERROR_FIELDS), "fields of an error"),
    ("message", bytes(wire::MAX_MESSAGE), "a message of an open session"),
    ("proxy_header_bytes", bytes(wire::MAX_PROXY_HEADER), "a PROXY header"),
    ("aws_link", bytes(wire::MAX_AWS_LINK), "the id of an AWS private link"),
    ("proxy_unique_id", bytes(wire::MAX_PROXY_UNIQUE_ID), "a PROXY header's unique id"),
    ("scram_iterations", count(wire::MAX_SCRAM_ITERATIONS as usize), "SCRAM iterations,"),
    ("scram_iterations_least", count(wire::MIN_SCRAM_ITERATIONS as usize), "and their least"),
    ("scram_salt", bytes(wire::MAX_SCRAM_SALT), "a SCRAM salt"),
    ("scram_nonce", bytes(wire::MAX_SCRAM_NONCE), "one side's SCRAM nonce"),
    ("scram_verifier", bytes(wire::MAX_SCRAM_VERIFIER), "a SCRAM verifier"),
    // What policy may say.
    ("entries_per_tenant", count(policy::MAX_ENTRIES_PER_TENANT), "entries in a tenant's allow lists"),
    ("entries_in_fleet", count(policy::MAX_ENTRIES_IN_FLEET), "entries in all allow lists"),
    ("clusters", count(policy::MAX_CLUSTERS), "clusters of a tenant"),
    ("endpoints", count(policy::MAX_ENDPOINTS), "endpoints of a tenant"),
    ("attachments", count(policy::MAX_ATTACHMENTS), "networks, and private links, of a tenant"),
    ("doors", count(policy::MAX_DOORS), "doors of an endpoint"),
    ("names", count(policy::MAX_NAMES), "server names of an endpoint"),
    ("backends", count(policy::MAX_BACKENDS), "backend addresses of a cluster"),
    ("rules", count(policy::MAX_RULES), "rules that map a proof to a role, at an endpoint"),
    ("words", bytes(policy::MAX_WORDS), "a note, an owner, an author, an issuer, a claim"),
    ("role", bytes(policy::MAX_ROLE), "a role's or database's name in policy"),
    ("host", bytes(policy::MAX_HOST), "a host name in policy"),
    ("bundle", bytes(policy::MAX_BUNDLE), "a bundle of certificates or keys in policy"),
    ("interface", bytes(policy::MAX_INTERFACE), "an interface's name"),
    ("network_namespace", bytes(policy::MAX_NETWORK_NAMESPACE), "a network namespace's name"),
    // The admin API and metrics.
    ("admin_connections", count(http::MAX_CONNECTIONS), "connections to the admin API, and to metrics"),
    ("admin_strangers", count(http::MAX_STRANGERS), "callers who are told that they may not"),
    ("admin_header_bytes", bytes(http::MAX_HEADER_BYTES), "a request's headers"),
    ("admin_headers", count(http::MAX_HEADERS), "a request's header lines"),
    ("admin_header_time", time(http::HEADER_TIME), "until a request's headers have come"),
    ("admin_request_time", time(http::REQUEST_TIME), "a request, answered"),
    ("admin_body", bytes(http::MAX_BODY), "a request's body"),
    ("admin_json_depth", count(http::MAX_JSON_DEPTH), "nesting in a request's body"),
    ("admin_path", bytes(http::MAX_PATH), "a request's path, and its query"),
    ("admin_reply", bytes(http::MAX_ADMIN_REPLY), "an answer, at the command line"),
    ("admin_accept_pause", time(http::ACCEPT_PAUSE), "a pause after the kernel refused to accept"),
    ("admin_stop_time", time(http::STOP_TIME), "open requests of a stopping node"),
    ("https_connect_time", time(http::HTTPS_CONNECT_TIME), "connecting to a token issuer"),
    ("policy_body", bytes(api::MAX_POLICY_BODY), "the body of a plan or an apply"),
    ("policy_time", time(api::POLICY_TIME), "a plan or an apply, read and answered"),
    ("policy_apply_time", time(api::APPLY_TIME), "an apply, before it goes on unwatched"),
    ("check_time", time(api::CHECK_TIME), "a cluster check"),
    ("plans", count(api::PLANS), "plans at work at once"),
    ("answer_prefixes", count(api::MAX_PREFIXES), "prefixes of one set in an answer"),
    ("event_prefixes", count(api::MAX_EVENT_PREFIXES), "prefixes of one set in an event"),
    ("event_endpoints", count(api::MAX_EVENT_ENDPOINTS), "endpoints in an event"),
    ("question_name", bytes(api::MAX_NAME), "a role's or database's name in a question"),
    // Evidence.
    ("audit_queue", count(ORDINARY.queue_events), "events that wait to be written"),
    ("audit_queue_durable", count(ledger::QUEUE_DURABLE), "durable events that wait to be written"),
    ("audit_file_bytes", bytes(ORDINARY.file_bytes as usize), "a file of events"),
    ("audit_files", count(ORDINARY.kept_files), "files of events that are kept"),
    ("audit_changes_bytes", bytes(ORDINARY.changes_bytes as usize), "policy changes that are kept beyond them"),
    ("audit_sync_every", time(ledger::SYNC_EVERY), "between two syncs of ordinary events"),
    ("audit_shed_kinds", count(ledger::MAX_SHED_KINDS), "kinds that lost events are counted under"),
    ("audit_found", count(ledger::MAX_FOUND), "events that one search returns"),
    ("audit_line", bytes(ledger::MAX_LINE), "a line of the file"),
    ("audit_readers", count(ledger::MAX_READERS), "searches that wait for the writer"),
    ("audit_catch_up", time(ledger::CATCH_UP), "how long a search waits for the writer"),
];
