//! `[audit.index]`: the index of the audit logs.

use serde::Deserialize;
use toml::Spanned;

use super::Checker;
use crate::config::index::{IndexPlace, IndexUrl, SchemaName};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawIndex {
    pub(super) url: Spanned<String>,
    ca: Option<Spanned<String>>,
    password_file: Option<Spanned<String>>,
    schema: Option<Spanned<String>>,
}

pub(super) fn check(checker: &mut Checker<'_>, raw: &RawIndex) -> Option<IndexPlace> {
    let at = raw.url.span();
    let url: IndexUrl = match raw.url.get_ref().parse() {
        Ok(url) => url,
        Err(problem) => return checker.complain(at, format!("audit.index.url: {problem}")),
    };
    let schema = match raw.schema.as_ref().map(|it| (it, it.get_ref().parse())) {
        None => SchemaName::default(),
        Some((_, Ok(schema))) => schema,
        Some((written, Err(problem))) => {
            let problem: String = problem;
            return checker.complain(written.span(), format!("audit.index.schema: {problem}"));
        }
    };
    let ca = match &raw.ca {
        Some(ca) => Some(checker.path("audit.index.ca", ca)?),
        None => None,
    };
    let password = match &raw.password_file {
        Some(file) => Some(checker.path("audit.index.password-file", file)?),
        None => None,
    };
    let place = IndexPlace {
        url,
        ca,
        password,
        schema,
    };
    match place.check() {
        Ok(()) => Some(place),
        Err(problem) => checker.complain(at, format!("audit.index: {problem}")),
    }
}
