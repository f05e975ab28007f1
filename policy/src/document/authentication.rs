//! Checks of an endpoint's authentication.

use super::words::{bundle, fail, pem, required_line, role};
use super::{DocumentError, DocumentPath, DocumentProblem};
use crate::limits::MAX_RULES;
use crate::tenant::{Authentication, CertificateRule, TokenKeys, TokenRule};
use std::collections::BTreeSet;

pub(super) fn authentication(
    at: &DocumentPath,
    authentication: &Authentication,
) -> Result<(), DocumentError> {
    match authentication {
        Authentication::Scram | Authentication::Relay => Ok(()),
        Authentication::Certificate { authorities, map } => {
            let at = at.key("certificate");
            pem(at.key("authorities"), authorities)?;
            rules(
                &at.key("map"),
                map.iter().map(CertificateRule::pair),
                "name",
                certificate_name,
            )
        }
        Authentication::Token {
            issuer,
            audience,
            keys,
            claim,
            map,
        } => {
            let at = at.key("token");
            required_line(at.key("issuer"), "the issuer", issuer)?;
            required_line(at.key("audience"), "the audience", audience)?;
            token_keys(&at, keys)?;
            required_line(at.key("claim"), "the claim", claim)?;
            let value = |at, text: &str| required_line(at, "the value", text);
            rules(
                &at.key("map"),
                map.iter().map(TokenRule::pair),
                "value",
                value,
            )
        }
    }
}

/// A list of rules that is not empty (nobody could sign in, which is said by an empty allow list), not endless, and says
/// nothing twice. The same name may map to several roles.
fn rules<'a>(
    at: &DocumentPath,
    rules: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    key: &str,
    check_key: impl Fn(DocumentPath, &str) -> Result<(), DocumentError>,
) -> Result<(), DocumentError> {
    let (count, maximum) = (rules.len(), MAX_RULES);
    if count == 0 {
        return fail(at.clone(), DocumentProblem::None("rule"));
    }
    if count > maximum {
        return fail(
            at.clone(),
            DocumentProblem::TooMany {
                what: "rules",
                count,
                maximum,
            },
        );
    }
    let mut seen = BTreeSet::new();
    for (index, (name, role_name)) in rules.enumerate() {
        let at = at.index(index);
        check_key(at.key(key), name)?;
        role(at.key("role"), "the role", role_name)?;
        if !seen.insert((name, role_name)) {
            return fail(
                at,
                DocumentProblem::Twice(format!("the rule for {}", crate::text::quoted(name))),
            );
        }
    }
    Ok(())
}

fn certificate_name(at: DocumentPath, name: &str) -> Result<(), DocumentError> {
    const KINDS: [&str; 4] = ["uri:", "dns:", "email:", "cn:"];
    required_line(at.clone(), "the name", name)?;
    let value = KINDS.iter().find_map(|kind| name.strip_prefix(kind));
    match value.is_some_and(|value| !value.is_empty()) {
        true => Ok(()),
        false => fail(
            at,
            DocumentProblem::not_a("a certificate name: uri:…, dns:…, email:… or cn:…", name),
        ),
    }
}

fn token_keys(at: &DocumentPath, keys: &TokenKeys) -> Result<(), DocumentError> {
    match keys {
        TokenKeys::Inline(text) if text.trim().is_empty() => {
            fail(at.key("keys"), DocumentProblem::Empty("the key set"))
        }
        TokenKeys::Inline(text) => bundle(at.key("keys"), "the key set", text),
        TokenKeys::Url(url) => {
            let at = at.key("keys-url");
            required_line(at.clone(), "the address of the key set", url)?;
            let rest = url.strip_prefix("https://").unwrap_or_default();
            match rest.is_empty() || rest.starts_with('/') || url.contains(char::is_whitespace) {
                true => fail(
                    at,
                    DocumentProblem::not_a("an address that begins with https://", url),
                ),
                false => Ok(()),
            }
        }
    }
}

impl CertificateRule {
    fn pair(&self) -> (&str, &str) {
        (&self.name, &self.role)
    }
}

impl TokenRule {
    fn pair(&self) -> (&str, &str) {
        (&self.value, &self.role)
    }
}
