//! A JSON Web Token as password, checked against the issuer that the endpoint names.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_certs::https_client_config;
use portcullis_certs::token::{Expected, TokenKeys as Keys, verify};
use portcullis_policy::{Reference, TokenKeys, TokenRule};
use portcullis_wire::limits::MAX_TOKEN_MESSAGE;
use portcullis_wire::message::{authentication_cleartext, password_message, read_password};
use zeroize::Zeroizing;

use super::Credential;
use crate::http::client::{AnswerLimits, get_https};
use crate::proxy::front::Front;
use crate::proxy::greet::Client;
use crate::proxy::io::{read_unit, send};
use crate::proxy::refuse::Refusal;
use crate::runtime::clock::{self, Instant};
use crate::runtime::limits::{ISSUER_ANSWER, ISSUER_KEYS_AGE, ISSUER_KEYS_KEPT, ISSUER_KEYS_PAUSE};

/// What an endpoint says about its tokens.
pub(super) struct Rule<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
    pub(super) keys: &'a TokenKeys,
    pub(super) claim: &'a str,
    pub(super) map: &'a [TokenRule],
}

pub(super) async fn authenticate(
    front: &Front,
    client: &mut Client,
    rule: &Rule<'_>,
    reference: &Reference,
) -> Result<Credential, Refusal> {
    let user = client.startup.user.clone();
    let mut opening = std::mem::take(&mut client.owed);
    opening.extend(authentication_cleartext());
    send(&mut client.stream, &opening)
        .await
        .map_err(Refusal::client_gone)?;
    let message = |bytes: &[u8]| {
        Ok(password_message(bytes, MAX_TOKEN_MESSAGE)?.map(|body| Zeroizing::new(body.to_vec())))
    };
    let (body, bytes) = read_unit(&mut client.stream, message).await?;
    drop(Zeroizing::new(bytes));
    let token = read_password(&body)?;

    let refused =
        |code: &'static str, story: String| Refusal::credential(code, story, &user, reference);
    let keys = front
        .issuers
        .keys(rule.keys)
        .await
        .map_err(|why| Refusal::upstream("token_keys", why, reference))?;
    let expected = Expected {
        issuer: rule.issuer,
        audience: rule.audience,
        claim: rule.claim,
    };
    let claims = verify(&keys, &token, &expected, clock::unix_seconds())
        .map_err(|refusal| refused(refusal.reason(), format!("the token is refused: {refusal}")))?;
    let mapped = rule
        .map
        .iter()
        .any(|rule| rule.role == user && claims.values.contains(&rule.value));
    if !mapped {
        return Err(refused(
            "token_not_mapped",
            format!(
                "no rule of the endpoint maps the token of {} to role \"{user}\"",
                claims.subject
            ),
        ));
    }
    Ok(Credential::Vouched {
        how: format!("token of {}", claims.subject),
    })
}

/// The keys of token issuers, fetched where policy names an address, kept for a named age.
#[derive(Default)]
pub(in crate::proxy) struct Issuers {
    known: Mutex<BTreeMap<String, Known>>,
}

/// What is known of an issuer's address.
#[derive(Clone)]
struct Known {
    keys: Option<Arc<Keys>>,
    asked: Instant,
}

impl Issuers {
    /// The keys that `source` names. A failing issuer is not asked again before a pause; keys that
    /// were good go on serving until they are too old.
    async fn keys(&self, source: &TokenKeys) -> Result<Arc<Keys>, String> {
        let url = match source {
            TokenKeys::Inline(json) => {
                return Keys::from_jwks(json)
                    .map(Arc::new)
                    .map_err(|error| format!("the policy's keys: {error}"));
            }
            TokenKeys::Url(url) => url,
        };
        let now = clock::instant();
        let known = self.known.lock().get(url).cloned();
        if let Some(known) = &known {
            let age = now.saturating_duration_since(known.asked);
            match &known.keys {
                Some(keys) if age < ISSUER_KEYS_AGE => return Ok(Arc::clone(keys)),
                None if age < ISSUER_KEYS_PAUSE => {
                    return Err(format!("{url} failed a moment ago"));
                }
                Some(_) | None => {}
            }
        }
        let fetched = fetch(url).await;
        let mut all = self.known.lock();
        if all.len() >= ISSUER_KEYS_KEPT && !all.contains_key(url) {
            all.pop_first();
        }
        all.insert(
            url.clone(),
            Known {
                keys: fetched.as_ref().ok().cloned(),
                asked: now,
            },
        );
        fetched
    }
}

async fn fetch(url: &str) -> Result<Arc<Keys>, String> {
    let authorities = tokio::fs::read_to_string(SYSTEM_AUTHORITIES)
        .await
        .map_err(|error| {
            format!("{SYSTEM_AUTHORITIES}: {error}; is the package ca-certificates installed?")
        })?;
    let tls = https_client_config(&authorities).map_err(|error| error.to_string())?;
    let body = get_https(url, tls, ANSWER)
        .await
        .map_err(|error| format!("{url}: {error}"))?;
    let text = String::from_utf8(body).map_err(|_| format!("{url}: the answer is not UTF-8"))?;
    Keys::from_jwks(&text)
        .map(Arc::new)
        .map_err(|error| format!("{url}: {error}"))
}

/// What an issuer may take for its answer.
const ANSWER: AnswerLimits = AnswerLimits {
    time: ISSUER_ANSWER,
    bytes: portcullis_certs::token::MAX_KEY_SET_BYTES,
};

/// Debian's bundle of public authorities; issuers that policy names by address are on the web.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
