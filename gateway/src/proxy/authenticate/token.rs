//! A JSON Web Token as password, checked against the issuer that the endpoint names.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use portcullis_certs::https_client_config;
use portcullis_certs::token::{Expected, LEEWAY_SECONDS, TokenKeys as Keys, verify};
use portcullis_policy::{Reference, Timestamp, TokenKeys, TokenRule};
use portcullis_wire::limits::MAX_TOKEN_MESSAGE;
use portcullis_wire::message::{authentication_cleartext, password_message, read_password};
use zeroize::Zeroizing;

use super::Credential;
use crate::http::SYSTEM_AUTHORITIES;
use crate::http::client::{AnswerLimits, get_https};
use crate::proxy::front::Front;
use crate::proxy::greet::Client;
use crate::proxy::io::{read_unit, send};
use crate::proxy::refuse::Refusal;
use crate::runtime::clock::{self, Instant};
use crate::runtime::limits::{
    ISSUER_ANSWER, ISSUER_KEYS_AGE, ISSUER_KEYS_HARD_AGE, ISSUER_KEYS_KEPT, ISSUER_KEYS_PAUSE,
};

/// What an endpoint says about its tokens.
pub(super) struct Rule<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
    pub(super) keys: &'a TokenKeys,
    pub(super) claim: &'a str,
    pub(super) map: &'a [TokenRule],
}

/// Asks the client for its token.
pub(super) async fn ask(client: &mut Client) -> Result<Zeroizing<Vec<u8>>, Refusal> {
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
    Ok(body)
}

/// Looks at the token.
pub(super) async fn judge(
    front: &Front,
    body: &[u8],
    rule: &Rule<'_>,
    user: &str,
    reference: &Reference,
) -> Result<Credential, Refusal> {
    let token = read_password(body)?;
    let refused =
        |code: &'static str, story: String| Refusal::credential(code, story, user, reference);
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
        // As long as the token itself would still be taken.
        expires: Timestamp::from_millis(
            claims
                .expires
                .saturating_add(LEEWAY_SECONDS)
                .saturating_mul(1000),
        ),
    })
}

/// The keys of token issuers, fetched where policy names an address, kept for a named age.
#[derive(Default)]
pub(in crate::proxy) struct Issuers {
    known: Mutex<BTreeMap<String, Arc<Issuer>>>,
}

/// One issuer's address: what is known of it, and whose turn it is to ask.
#[derive(Default)]
struct Issuer {
    known: Mutex<Known>,
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    keys: Option<(Arc<Keys>, Instant)>,
    asked: Option<Instant>,
}

impl Known {
    /// The keys if they are fresh, or if the issuer was asked a moment ago and they are not too
    /// old; `Err` if it failed a moment ago. `None` says that somebody should ask.
    fn answer(&self, now: Instant) -> Option<Result<Arc<Keys>, ()>> {
        let since = |moment: Instant| now.saturating_duration_since(moment);
        let asked_just_now = self
            .asked
            .is_some_and(|asked| since(asked) < ISSUER_KEYS_PAUSE);
        match &self.keys {
            Some((keys, fetched)) if since(*fetched) < ISSUER_KEYS_AGE => {
                Some(Ok(Arc::clone(keys)))
            }
            Some((keys, fetched)) if asked_just_now && since(*fetched) < ISSUER_KEYS_HARD_AGE => {
                Some(Ok(Arc::clone(keys)))
            }
            Some(_) | None => asked_just_now.then_some(Err(())),
        }
    }
}

impl Issuers {
    /// The keys that `source` names. One asks at a time; a failing issuer is not asked again before
    /// a pause, and keys that were good serve on until they are too old.
    async fn keys(&self, source: &TokenKeys) -> Result<Arc<Keys>, String> {
        let url = match source {
            TokenKeys::Inline(json) => {
                return Keys::from_jwks(json)
                    .map(Arc::new)
                    .map_err(|error| format!("the policy's keys: {error}"));
            }
            TokenKeys::Url(url) => url,
        };
        let issuer = self.issuer(url);
        let failed = |()| format!("{url} failed a moment ago");
        if let Some(answer) = issuer.known.lock().answer(clock::instant()) {
            return answer.map_err(failed);
        }
        let _turn = issuer.turn.lock().await;
        if let Some(answer) = issuer.known.lock().answer(clock::instant()) {
            return answer.map_err(failed);
        }
        let fetched = fetch(url).await;
        let now = clock::instant();
        let mut known = issuer.known.lock();
        known.asked = Some(now);
        match fetched {
            Ok(keys) => {
                known.keys = Some((Arc::clone(&keys), now));
                Ok(keys)
            }
            Err(why) => match known.answer(now) {
                Some(Ok(keys)) => {
                    tracing::warn!(
                        url,
                        why,
                        "a token issuer's keys could not be fetched anew; the old ones serve on"
                    );
                    Ok(keys)
                }
                Some(Err(())) | None => Err(why),
            },
        }
    }

    fn issuer(&self, url: &str) -> Arc<Issuer> {
        let mut known = self.known.lock();
        if known.len() >= ISSUER_KEYS_KEPT && !known.contains_key(url) {
            known.pop_first();
        }
        Arc::clone(known.entry(url.to_owned()).or_default())
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
