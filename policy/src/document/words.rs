//! Checks of free text: never empty where it is used, never endless, never with characters that could lie on a terminal.

use super::{DocumentError, DocumentPath, DocumentProblem};
use crate::id::check_label;
use crate::limits::{MAX_HOST, MAX_INTERFACE, MAX_NETWORK_NAMESPACE, MAX_ROLE, MAX_WORDS};
use std::net::IpAddr;

type Checked = Result<(), DocumentError>;

pub(super) fn fail(at: DocumentPath, problem: DocumentProblem) -> Checked {
    Err(DocumentError { at, problem })
}

/// A note, an owner, an author: one line, may be empty.
pub(crate) fn line(at: DocumentPath, what: &'static str, text: &str) -> Checked {
    if text.len() > MAX_WORDS {
        return fail(
            at,
            DocumentProblem::TooLong {
                what,
                maximum: MAX_WORDS,
            },
        );
    }
    match text.chars().any(lies_on_a_terminal) {
        true => fail(at, DocumentProblem::not_a("one line of plain text", text)),
        false => Ok(()),
    }
}

/// Control characters, line and paragraph separators, and what turns the direction of writing (UAX #9 §2).
fn lies_on_a_terminal(c: char) -> bool {
    let formats =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || formats
}

/// Text that something depends on: one line, not empty.
pub(super) fn required_line(at: DocumentPath, what: &'static str, text: &str) -> Checked {
    match text.is_empty() {
        true => fail(at, DocumentProblem::Empty(what)),
        false => line(at, what, text),
    }
}

/// The name of a role or database.
pub(super) fn role(at: DocumentPath, what: &'static str, text: &str) -> Checked {
    match text.len() > MAX_ROLE {
        true => fail(
            at,
            DocumentProblem::TooLong {
                what,
                maximum: MAX_ROLE,
            },
        ),
        false => required_line(at, what, text),
    }
}

/// A PEM bundle: whether its certificates parse is the business of whoever builds the TLS configuration.
pub(super) fn pem(at: DocumentPath, text: &str) -> Checked {
    match text.contains("-----BEGIN CERTIFICATE-----") {
        true => bundle(at, "the bundle of authorities", text),
        false => fail(
            at,
            DocumentProblem::not_a("a PEM bundle of certificates", text),
        ),
    }
}

pub(super) fn bundle(at: DocumentPath, what: &'static str, text: &str) -> Checked {
    let maximum = crate::limits::MAX_BUNDLE;
    match text.len() > maximum {
        true => fail(at, DocumentProblem::TooLong { what, maximum }),
        false => Ok(()),
    }
}

/// A host name (labels as in DNS, underscores too, either case) or a bare IP address.
pub(super) fn host(at: DocumentPath, text: &str) -> Checked {
    let plain_label =
        |label: &str| check_label(&label.to_ascii_lowercase().replace('_', "a")).is_ok();
    let name = text.len() <= MAX_HOST && text.split('.').all(plain_label);
    let number = text
        .rsplit('.')
        .next()
        .is_some_and(|last| !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()));
    match text.parse::<IpAddr>().is_ok() || (name && !number) {
        true => Ok(()),
        false => fail(
            at,
            DocumentProblem::not_a("a host name or IP address", text),
        ),
    }
}

/// The name of a network namespace: it becomes a file name, so nothing that could leave its directory.
pub(super) fn network_namespace(at: DocumentPath, text: &str) -> Checked {
    match is_device_name(text, MAX_NETWORK_NAMESPACE) {
        true => Ok(()),
        false => fail(
            at,
            DocumentProblem::not_a("the name of a network namespace", text),
        ),
    }
}

/// The name of a network interface.
pub(super) fn interface(at: DocumentPath, text: &str) -> Checked {
    match is_device_name(text, MAX_INTERFACE) {
        true => Ok(()),
        false => fail(
            at,
            DocumentProblem::not_a("the name of a network interface", text),
        ),
    }
}

fn is_device_name(text: &str, maximum: usize) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= maximum && text.chars().all(plain) && !text.starts_with('.')
}
