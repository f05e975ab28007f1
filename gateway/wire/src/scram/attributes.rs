//! The comma-separated `x=value` list that SCRAM messages are (RFC 5802 section 5.1).

use crate::limits::{MAX_SASL_MESSAGE, MAX_SCRAM_NONCE};

/// The unread rest of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes<'a> {
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    /// Attributes of `text`, which must hold at least one.
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: Some(text) }
    }

    /// The next attribute of any name.
    pub(super) fn any(&mut self) -> Result<(char, &'a str), &'static str> {
        let rest = self.rest.ok_or("an attribute is missing")?;
        let (attribute, rest) = match rest.split_once(',') {
            Some((attribute, rest)) => (attribute, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        let (name, value) = attribute
            .split_once('=')
            .ok_or("an attribute without a value")?;
        let mut letters = name.chars();
        match (letters.next(), letters.next()) {
            (Some(name), None) if name.is_ascii_alphabetic() => Ok((name, value)),
            (_, _) => Err("an attribute whose name is not one letter"),
        }
    }

    /// The next attribute, which must be called `name`.
    pub(super) fn value(&mut self, name: char) -> Result<&'a str, &'static str> {
        match self.any()? {
            (found, value) if found == name => Ok(value),
            (_, _) => Err("an attribute in another's place"),
        }
    }

    /// Whether the next attribute is the mandatory extension `m=`, which nobody has defined.
    pub(super) fn demands_extension(&self) -> bool {
        self.rest.is_some_and(|rest| rest.starts_with("m="))
    }

    /// Reads the optional extensions to the end; their meaning is not known, so they are passed over.
    pub(super) fn pass_extensions(&mut self) -> Result<(), &'static str> {
        while self.rest.is_some() {
            self.any()?;
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_none()
    }
}

/// A message as text: bounded, UTF-8, without NUL.
pub(super) fn text(message: &[u8]) -> Result<&str, &'static str> {
    if message.len() > MAX_SASL_MESSAGE {
        return Err("the message is too long");
    }
    if message.contains(&0) {
        return Err("a NUL in the message");
    }
    std::str::from_utf8(message).map_err(|_| "the message is not UTF-8")
}

/// Whether `nonce` is 1 to `maximum` printable characters without a comma (RFC 5802 section 5.1).
pub(super) fn is_nonce(nonce: &str, maximum: usize) -> bool {
    (1..=maximum).contains(&nonce.len())
        && nonce
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// Both halves of a nonce.
pub(super) const MAX_COMBINED_NONCE: usize = 2 * MAX_SCRAM_NONCE;
