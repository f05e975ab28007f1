//! How an endpoint's clients prove who they are, and the authorities and keys that vouch for them.

use super::fields::{Fields, Reader};
use super::yaml::{Node, Value};
use crate::config::file_error::{holds_private_key, quoted};
use portcullis_policy::{Authentication, CertificateRule, TokenKeys, TokenRule};
use std::ops::Range;

/// The field `authentication` of the endpoint at `path`; `None` when a mistake was recorded.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node<'_>, path: &str) -> Option<Authentication> {
    const KNOWN: &[&str] = &["certificate", "token"];
    const ADVICE: &str = "write `scram`, `relay`, `{certificate: …}` or `{token: …}`";
    let path = format!("{path}.authentication");
    reader.place(path.as_str(), &node.at);
    match &node.value {
        Value::Text { text, .. } => match &**text {
            "scram" => return Some(Authentication::Scram),
            "relay" => return Some(Authentication::Relay),
            other => {
                let message = format!("authentication: {} is not known; {ADVICE}", quoted(other));
                return reader.complain(&node.at, message);
            }
        },
        Value::Null => return reader.complain(&node.at, format!("authentication: {ADVICE}")),
        Value::List(_) | Value::Map(_) => {}
    }
    let fields = reader.fields(node, "authentication", KNOWN)?;
    match (fields.get("certificate"), fields.get("token")) {
        (Some(node), None) => certificate(reader, node, &path),
        (None, Some(node)) => token(reader, node, &path),
        _ => reader.complain(
            &node.at,
            format!("authentication: one way is needed; {ADVICE}"),
        ),
    }
}

fn certificate(reader: &mut Reader<'_>, node: &Node<'_>, path: &str) -> Option<Authentication> {
    const KNOWN: &[&str] = &["authorities", "authorities-file", "map"];
    let path = format!("{path}.certificate");
    reader.place(path.as_str(), &node.at);
    let fields = reader.fields(node, "certificate", KNOWN)?;
    let authorities = reader.authorities(&fields, &node.at, "certificate", &path);
    let map = rules(reader, &fields, node, &path, "name")?;
    Some(Authentication::Certificate {
        authorities: authorities?,
        map: map
            .into_iter()
            .map(|(name, role)| CertificateRule { name, role })
            .collect(),
    })
}

fn token(reader: &mut Reader<'_>, node: &Node<'_>, path: &str) -> Option<Authentication> {
    const KNOWN: &[&str] = &[
        "issuer",
        "audience",
        "keys",
        "keys-file",
        "keys-url",
        "claim",
        "map",
    ];
    let path = format!("{path}.token");
    reader.place(path.as_str(), &node.at);
    let fields = reader.fields(node, "token", KNOWN)?;
    let mut word = |key: &'static str, meaning: &str| {
        let advice = format!("token: no `{key}`: write {meaning}");
        let node = fields.need(reader, key, &node.at, &advice)?;
        reader.place(format!("{path}.{key}"), &node.at);
        reader.text(node, key).map(str::to_owned)
    };
    let issuer = word("issuer", "who signs the tokens, as their `iss` says");
    let audience = word("audience", "for whom the tokens are, as their `aud` says");
    let claim = word("claim", "which claim is mapped to a role, like `sub`");
    let keys = token_keys(reader, &fields, &node.at, &path);
    let map = rules(reader, &fields, node, &path, "value")?;
    Some(Authentication::Token {
        issuer: issuer?,
        audience: audience?,
        keys: keys?,
        claim: claim?,
        map: map
            .into_iter()
            .map(|(value, role)| TokenRule { value, role })
            .collect(),
    })
}

/// The pairs `{name|value: …, role: …}` of `map`, in order.
fn rules(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    at: &Node<'_>,
    path: &str,
    left: &'static str,
) -> Option<Vec<(String, String)>> {
    let known: &'static [&'static str] = match left {
        "name" => &["name", "role"],
        _ => &["value", "role"],
    };
    let advice = format!(
        "no `map`: write which {left} signs in as which role, like `map: [{{{left}: …, role: …}}]`"
    );
    let node = fields.need(reader, "map", &at.at, &advice)?;
    reader.place(format!("{path}.map"), &node.at);
    let items = reader.list(node, "map", "the rules")?;
    let mut rules = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}.map[{index}]");
        reader.place(path.as_str(), &item.at);
        let Some(fields) = reader.fields(item, "a rule", known) else {
            continue;
        };
        let mut part = |key: &'static str| {
            let advice = format!("a rule without `{key}`: write `{{{left}: …, role: …}}`");
            let node = fields.need(reader, key, &item.at, &advice)?;
            reader.place(format!("{path}.{key}"), &node.at);
            reader.text(node, key).map(str::to_owned)
        };
        if let (Some(subject), Some(role)) = (part(left), part("role")) {
            rules.push((subject, role));
        }
    }
    (rules.len() == items.len()).then_some(rules)
}

fn token_keys(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    at: &Range<usize>,
    path: &str,
) -> Option<TokenKeys> {
    let written = (
        fields.get("keys"),
        fields.get("keys-file"),
        fields.get("keys-url"),
    );
    let (node, keys) = match written {
        (Some(node), None, None) => (node, reader.text(node, "keys")?),
        (None, Some(node), None) => (node, reader.attached(node, "keys-file")?),
        (None, None, Some(node)) => {
            reader.place(format!("{path}.keys-url"), &node.at);
            let url = reader.text(node, "keys-url")?;
            return Some(TokenKeys::Url(url.to_owned()));
        }
        _ => {
            return reader.complain(
                at,
                "token: the issuer's public keys are needed once; write one of `keys-file`, `keys-url` and `keys`",
            );
        }
    };
    reader.place(format!("{path}.keys"), &node.at);
    match portcullis_certs::token::TokenKeys::from_jwks(keys) {
        Ok(_) => Some(TokenKeys::Inline(keys.to_owned())),
        Err(error) => reader.complain(&node.at, format!("keys: {error}")),
    }
}

impl Reader<'_> {
    /// The certificates in `authorities` or in the file that `authorities-file` names, as PEM.
    pub(super) fn authorities(
        &mut self,
        fields: &Fields<'_, '_>,
        at: &Range<usize>,
        what: &str,
        path: &str,
    ) -> Option<String> {
        let (node, pem) = match (fields.get("authorities"), fields.get("authorities-file")) {
            (Some(node), None) => (node, self.text(node, "authorities")?.to_owned()),
            (None, Some(node)) => (node, self.attached(node, "authorities-file")?.to_owned()),
            (None, None) => {
                return self.complain(
                    at,
                    format!("{what}: no authorities: write `authorities-file: ca.pem` or the certificates themselves as `authorities: |`"),
                );
            }
            (Some(_), Some(node)) => {
                return self.complain(
                    &node.at,
                    format!("{what}: write either `authorities` or `authorities-file`"),
                );
            }
        };
        self.place(format!("{path}.authorities"), &node.at);
        if holds_private_key(&pem) {
            return self.complain(
                &node.at,
                "authorities: this holds a private key; remove it from every place where it was put, and replace it",
            );
        }
        match portcullis_certs::client_config(&pem, None) {
            Ok(_) => Some(pem),
            Err(error) => self.complain(&node.at, format!("authorities: {error}")),
        }
    }
}
