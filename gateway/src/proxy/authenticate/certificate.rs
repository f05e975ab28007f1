//! A client certificate, mapped to a role by the endpoint's rules.
//!
//! That the certificate is genuine was checked in the TLS handshake, against the authorities that
//! the tenant names.

use portcullis_certs::{CertificateNames, Validity};
use portcullis_policy::{CertificateRule, Reference, Timestamp};

use super::Credential;
use crate::proxy::greet::Client;
use crate::proxy::refuse::Refusal;

/// Whether the certificate that the client has shown is one of its role's.
pub(super) fn judge(
    client: &Client,
    authorities: &str,
    rules: &[CertificateRule],
    reference: &Reference,
) -> Result<Credential, Refusal> {
    let user = client.startup.user.as_str();
    let refused =
        |code: &'static str, story: String| Refusal::credential(code, story, user, reference);
    // The handshake was seconds ago; a certificate that it verified against other authorities than
    // those of the policy in force proves nothing.
    if client
        .vouching
        .as_deref()
        .is_some_and(|asked| asked != authorities)
    {
        return Err(Refusal::moved(reference));
    }
    let (_, session) = client.stream.get_ref();
    let Some(leaf) = session.peer_certificates().and_then(<[_]>::first) else {
        return Err(refused(
            "certificate_absent",
            "the client showed no certificate".to_owned(),
        ));
    };
    let names = CertificateNames::of(leaf).map_err(|error| {
        refused(
            "certificate_names",
            format!("the certificate's names cannot be read: {error}"),
        )
    })?;
    // What has no number that can be named could not be revoked.
    if client.certificate().is_none() {
        return Err(refused(
            "certificate_serial",
            "the certificate's serial number is longer than any may be".to_owned(),
        ));
    }
    let Some(validity) = Validity::of(leaf) else {
        return Err(refused(
            "certificate_names",
            "the certificate's period cannot be read".to_owned(),
        ));
    };
    let rule = rules
        .iter()
        .find(|rule| rule.role == user && names.matches(&rule.name));
    match rule {
        Some(rule) => Ok(Credential::Vouched {
            how: format!("certificate {}", rule.name),
            // The last second of the period is still good.
            expires: Timestamp::from_millis(
                validity.not_after.saturating_add(1).saturating_mul(1000),
            ),
        }),
        None => Err(refused(
            "certificate_not_mapped",
            format!("no rule of the endpoint maps this certificate ({names:?}) to role \"{user}\""),
        )),
    }
}
