//! Reading the fields of a mapping, collecting every mistake instead of stopping at the first.

use super::yaml::{Key, Node, Pair, Style, Value};
use super::{PolicyFiles, reference};
use crate::config::file_error::{FileError, Source, quoted};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// The mistakes of one file, and where each part of its document stands.
///
/// A method that returns `None` has recorded why.
pub(super) struct Reader<'s> {
    pub(super) source: Source<'s>,
    files: &'s PolicyFiles,
    used: BTreeSet<&'s str>,
    errors: Vec<FileError>,
    /// Document path (as the policy crate writes it) → bytes of the file.
    places: BTreeMap<String, Range<usize>>,
}

/// The most mistakes that are told of one file.
const MAX_ERRORS: usize = 100;

impl<'s> Reader<'s> {
    pub(super) fn new(source: Source<'s>, files: &'s PolicyFiles) -> Self {
        Self {
            source,
            files,
            used: BTreeSet::new(),
            errors: Vec::new(),
            places: BTreeMap::new(),
        }
    }

    pub(super) fn complain<T>(
        &mut self,
        at: &Range<usize>,
        message: impl Into<String>,
    ) -> Option<T> {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(self.source.error(at.clone(), message));
        }
        None
    }

    pub(super) fn has_complained(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The files that were referred to.
    pub(super) fn used(&self) -> impl Iterator<Item = &'s str> {
        self.used.iter().copied()
    }

    pub(super) fn into_errors(self) -> Vec<FileError> {
        self.errors
    }

    /// Remembers where a part of the document was written.
    pub(super) fn place(&mut self, path: impl Into<String>, at: &Range<usize>) {
        self.places.insert(path.into(), at.clone());
    }

    /// Where a part of the document was written, or else the nearest part around it.
    pub(super) fn find(&self, path: &str) -> Range<usize> {
        let mut path = path;
        loop {
            if let Some(at) = self.places.get(path) {
                return at.clone();
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = path.get(..end).unwrap_or_default(),
                None => return 0..0,
            }
        }
    }

    /// The fields of a mapping; keys not in `known` are mistakes.
    pub(super) fn fields<'n, 'a>(
        &mut self,
        node: &'n Node<'a>,
        what: &str,
        known: &'static [&'static str],
    ) -> Option<Fields<'n, 'a>> {
        let Value::Map(pairs) = &node.value else {
            return self.complain(
                &node.at,
                format!("{what}: a mapping is needed here, with {}", Listed(known)),
            );
        };
        for pair in pairs {
            let key = &*pair.key.text;
            if known.contains(&key) {
                continue;
            }
            if self.errors.len() >= MAX_ERRORS {
                break;
            }
            let hint = match nearest(key, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", Listed(known)),
            };
            self.complain::<()>(
                &pair.key.at,
                format!("{what}: unknown key {}; {hint}", quoted(key)),
            );
        }
        Some(Fields { pairs })
    }

    /// The pairs of a mapping whose keys are names.
    pub(super) fn named<'n, 'a>(
        &mut self,
        node: &'n Node<'a>,
        what: &str,
        example: &str,
    ) -> Option<&'n [Pair<'a>]> {
        match &node.value {
            Value::Map(pairs) => Some(pairs),
            Value::Null | Value::Text { .. } | Value::List(_) => self.complain(
                &node.at,
                format!("{what}: a mapping of names is needed here, like `{example}`"),
            ),
        }
    }

    /// The items of a list; one that is written with nothing in it is a mistake of its own.
    pub(super) fn list<'n, 'a>(
        &mut self,
        node: &'n Node<'a>,
        what: &str,
        empty: &str,
    ) -> Option<&'n [Node<'a>]> {
        match &node.value {
            Value::List(items) => Some(items),
            Value::Null => self.complain(
                &node.at,
                format!("{what}: nothing is written here; write {empty}"),
            ),
            Value::Text { .. } | Value::Map(_) => self.complain(
                &node.at,
                format!("{what}: a list is needed here, like `[…]`"),
            ),
        }
    }

    /// A text, written in quotes or not.
    pub(super) fn text<'n>(&mut self, node: &'n Node<'_>, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text { text, .. } if !text.is_empty() => Some(text),
            Value::Text { .. } | Value::Null => {
                self.complain(&node.at, format!("{what}: nothing is written here"))
            }
            Value::List(_) | Value::Map(_) => {
                self.complain(&node.at, format!("{what}: a single value is needed here"))
            }
        }
    }

    /// A text that means something; the type's own error says what is wrong with it.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(
        &mut self,
        node: &Node<'_>,
        what: &str,
    ) -> Option<T> {
        let text = self.text(node, what)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => self.complain(&node.at, format!("{what}: {error}")),
        }
    }

    /// A key that is a name.
    pub(super) fn parsed_key<T: FromStr<Err: fmt::Display>>(
        &mut self,
        key: &Key<'_>,
        what: &str,
    ) -> Option<T> {
        match key.text.parse() {
            Ok(value) => Some(value),
            Err(error) => self.complain(&key.at, format!("{what}: {error}")),
        }
    }

    /// The text of a file that this one refers to.
    pub(super) fn attached(&mut self, node: &Node<'_>, what: &str) -> Option<&'s str> {
        let text = self.text(node, what)?;
        let path = match reference(text) {
            Ok(path) => path,
            Err(problem) => return self.complain(&node.at, format!("{what} {problem}")),
        };
        match self.files.files.get_key_value(path) {
            Some((path, text)) => {
                self.used.insert(path);
                Some(text)
            }
            None => self.complain(
                &node.at,
                format!("{what} {}: there is no such policy file", quoted(path)),
            ),
        }
    }

    /// `true` or `false`, unquoted; nothing else counts as either.
    pub(super) fn flag(&mut self, node: &Node<'_>, what: &str) -> Option<bool> {
        match &node.value {
            Value::Text {
                text,
                style: Style::Plain,
            } if text == "true" => Some(true),
            Value::Text {
                text,
                style: Style::Plain,
            } if text == "false" => Some(false),
            Value::Null | Value::Text { .. } | Value::List(_) | Value::Map(_) => {
                self.complain(&node.at, format!("{what}: write true or false"))
            }
        }
    }

    /// A whole number in decimal digits, unquoted, without sign or leading zero.
    pub(super) fn number(&mut self, node: &Node<'_>, what: &str) -> Option<u32> {
        if let Value::Text {
            text,
            style: Style::Plain,
        } = &node.value
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
            && let Ok(number) = text.parse()
        {
            return Some(number);
        }
        self.complain(
            &node.at,
            format!(
                "{what}: write a whole number from 0 to {}, in digits",
                u32::MAX
            ),
        )
    }
}

/// A mapping whose keys are known.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n, 'a> {
    pairs: &'n [Pair<'a>],
}

impl<'n, 'a> Fields<'n, 'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'n Node<'a>> {
        self.pair(key).map(|pair| &pair.value)
    }

    pub(super) fn pair(&self, key: &str) -> Option<&'n Pair<'a>> {
        self.pairs.iter().find(|pair| pair.key.text == key)
    }

    /// The field, or a mistake at `at` (what the mapping belongs to) that says what to write.
    pub(super) fn need(
        &self,
        reader: &mut Reader<'_>,
        key: &str,
        at: &Range<usize>,
        missing: &str,
    ) -> Option<&'n Node<'a>> {
        match self.get(key) {
            Some(node) => Some(node),
            None => reader.complain(at, missing),
        }
    }
}

/// Keys as a sentence has them.
struct Listed(&'static [&'static str]);

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, key) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}`{key}`")?;
        }
        Ok(())
    }
}

/// The known key that was probably meant: at most two letters away, and closer than half of it.
fn nearest(written: &str, known: &[&'static str]) -> Option<&'static str> {
    let folded = written.to_ascii_lowercase().replace('_', "-");
    known
        .iter()
        .map(|key| (distance(&folded, key), *key))
        .filter(|(distance, key)| *distance <= MAX_SLIPS && distance * 2 < key.len())
        .min()
        .map(|(_, key)| key)
}

const MAX_SLIPS: usize = 2;

/// Levenshtein's distance, for words as short as keys are.
fn distance(one: &str, other: &str) -> usize {
    if one.len() > other.len() + MAX_SLIPS {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (line, left) in one.chars().enumerate() {
        let mut diagonal = line;
        let mut previous = line + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(other.chars()) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(previous + 1);
            previous = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_is_understood_and_a_guess_is_not_made() {
        let known = &["allow", "except", "expires", "network-namespace"];
        assert_eq!(nearest("alow", known), Some("allow"));
        assert_eq!(nearest("Allow", known), Some("allow"));
        assert_eq!(nearest("expire", known), Some("expires"));
        assert_eq!(
            nearest("network_namespace", known),
            Some("network-namespace")
        );
        assert_eq!(nearest("deny", known), None);
        assert_eq!(nearest(&"a".repeat(100_000), known), None);
    }

    #[test]
    fn a_part_of_the_document_without_a_place_is_found_at_what_is_around_it() {
        let files = PolicyFiles::default();
        let source = Source {
            name: "x",
            text: "",
        };
        let mut reader = Reader::new(source, &files);
        reader.place("endpoints.orders", &(5..9));
        reader.place("endpoints.orders.allow[3]", &(40..50));
        assert_eq!(reader.find("endpoints.orders.allow[3].except[0]"), 40..50);
        assert_eq!(reader.find("endpoints.orders.allow[4]"), 5..9);
        assert_eq!(reader.find("limits"), 0..0);
    }
}
