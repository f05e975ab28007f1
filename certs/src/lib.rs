//! Identity material: who a certificate or a token says somebody is, and how a TLS handshake asks.
//!
//! This crate holds the only builders of rustls configurations and is the only door for `jsonwebtoken`, `rcgen`, `fpe` and `aes`. It hears ClientHellos and seals cancel keys. It reads no file, opens
//! no socket and keeps no timer: PEM text, JWKS text and the time come in as arguments, values go out. Two things happen below it that a
//! pure crate would not do itself: a handshake draws randomness and reads the clock inside rustls, and [`generate_key`] and
//! [`vault::Recipient`] draw from the operating system.
//!
//! Deliberately absent: which role a certificate or a token may take (the policy's rules, applied by the gateway), revocation lists, and
//! fetching of anything that a certificate or a token points at.

pub mod authority;
pub mod binding;
pub mod cancel_key;
mod client;
pub mod fleet;
pub mod hello;
mod identity;
pub mod names;
mod pem;
mod provider;
pub mod schedule;
mod serial;
mod server;
pub mod token;
pub mod vault;

pub use authority::generate_key;
pub use client::{ServerNameIndication, client_config, https_client_config, probe_client_config};
pub use identity::{Identity, IdentityError, MAX_CHAIN, Validity};
pub use names::CertificateNames;
pub use pem::PemError;
pub use provider::{TlsError, provider};
pub use serial::{first_certificate, serial_number};
pub use server::{
    ALPN_POSTGRESQL, ClientCertificates, DuplicateName, Resumption, ServerIdentities,
    check_client_authorities, server_config,
};
