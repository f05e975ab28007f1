//! The part of YAML that a policy file may use, as a tree that knows where everything stands.
//!
//! Block and flow mappings, sequences, plain, quoted and block scalars, comments. A scalar stays
//! the text that was typed: `no` is two letters, never a boolean, and `1e3` four characters; the
//! reader of a field decides what it must be. A plain empty scalar, `~` or `null` is [`Value::Null`].
//!
//! Deliberately absent, each refused where it stands: anchors, aliases and merge keys (a reader
//! would have to expand them in his head), tags, directives, a second document, a key written
//! twice, keys that are not plain text.
//!
//! This file is the only door for the YAML parser.

use super::super::file_error::{FileError, Source, Tabs, quoted};
use serde_saphyr::granit_parser::{self, ErrorKind, Event, Parser, ScalarStyle, ScanError};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

/// The deepest nesting of a policy file; the format itself needs eight.
const MAX_DEPTH: usize = 16;

/// The most scalars, lists and mappings in one file.
pub(super) const MAX_NODES: usize = 1_000_000;

/// The most duplicate keys that are told of one file.
const MAX_DUPLICATES: usize = 100;

/// Reads one document.
///
/// Errors: all duplicate keys, or the first thing that is not in the part of YAML above.
pub(super) fn read<'a>(source: &Source<'a>) -> Result<Node<'a>, Vec<FileError>> {
    source
        .check_characters(Tabs::Refused)
        .map_err(|error| vec![error])?;
    let mut options = granit_parser::options! {
        strict_indentation: true,
        disallow_directives: true,
        emit_anchor_events: true,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    options.set_emit_comments(false);

    let mut builder = Builder {
        source,
        open: Vec::new(),
        root: None,
        nodes: 0,
        documents: 0,
        duplicates: Vec::new(),
    };
    for event in Parser::new_from_str_with_options(source.text, options) {
        let (event, span) = event.map_err(|error| vec![builder.scan_error(&error)])?;
        let at = match span.tag_span() {
            Some(tag) => tag.byte_range(),
            None => span.byte_range(),
        };
        let at = at.unwrap_or_default();
        if let Err(error) = builder.take(event, at) {
            builder.duplicates.push(error);
            return Err(builder.duplicates);
        }
    }
    match builder.root {
        Some(root) if builder.duplicates.is_empty() => Ok(root),
        Some(_) => Err(builder.duplicates),
        None => Err(vec![FileError::whole(
            source.name,
            "nothing is written in this file; to remove a tenant, delete its file and apply with --prune",
        )]),
    }
}

/// A value and the byte range of the text that wrote it (for a mapping or list: where it begins).
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub(super) at: Range<usize>,
    pub(super) value: Value<'a>,
}

#[derive(Debug)]
pub(super) enum Value<'a> {
    /// Nothing, `~` or `null`, unquoted.
    Null,
    Text {
        text: Cow<'a, str>,
        style: Style,
    },
    List(Vec<Node<'a>>),
    /// In the order of the file; keys differ.
    Map(Vec<Pair<'a>>),
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Without quotes, in the line.
    Plain,
    /// In single or double quotes, or as a block (`|`, `>`).
    Quoted,
}

#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub(super) key: Key<'a>,
    pub(super) value: Node<'a>,
}

/// A key and the byte range where it stands.
#[derive(Clone, Debug)]
pub(super) struct Key<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) at: Range<usize>,
}

/// Collects events into the tree; as deep as [`MAX_DEPTH`], without recursion.
struct Builder<'s, 'a> {
    source: &'s Source<'a>,
    open: Vec<Open<'a>>,
    root: Option<Node<'a>>,
    nodes: usize,
    documents: usize,
    duplicates: Vec<FileError>,
}

/// A list or mapping whose end has not come yet.
enum Open<'a> {
    List {
        at: Range<usize>,
        items: Vec<Node<'a>>,
    },
    Map {
        at: Range<usize>,
        pairs: Vec<Pair<'a>>,
        seen: BTreeMap<Cow<'a, str>, usize>,
        key: Option<Key<'a>>,
    },
}

impl<'a> Builder<'_, 'a> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the parser's enum is open: what is not known here is not part of the format"
    )]
    fn take(&mut self, event: Event<'a>, at: Range<usize>) -> Result<(), FileError> {
        if event.tag().is_some() {
            return Err(self.refuse(at, "a tag (!) is not allowed; write the plain value"));
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.refuse(at, "a second document; one file holds one tenant"));
                }
                Ok(())
            }
            Event::Scalar(text, style, ..) => {
                let value = scalar(text, style);
                self.put(Node { at, value })
            }
            Event::SequenceStart(..) => self.enter(Open::List {
                at,
                items: Vec::new(),
            }),
            Event::MappingStart(..) => self.enter(Open::Map {
                at,
                pairs: Vec::new(),
                seen: BTreeMap::new(),
                key: None,
            }),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { at, items }) => self.put(Node {
                    at,
                    value: Value::List(items),
                }),
                Some(Open::Map { at, pairs, .. }) => self.put(Node {
                    at,
                    value: Value::Map(pairs),
                }),
                None => Err(self.refuse(at, "an end without a beginning")),
            },
            // Comes right after the node that it names, with its own place.
            Event::Anchor(..) => {
                Err(self.refuse(at, "an anchor (&) is not allowed; write the value out"))
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                Err(self.refuse(at, "an alias (*) is not allowed; write the value out"))
            }
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            _ => Err(self.refuse(at, "not part of the YAML that policy files use")),
        }
    }

    fn enter(&mut self, open: Open<'a>) -> Result<(), FileError> {
        let (Open::List { at, .. } | Open::Map { at, .. }) = &open;
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            return Err(self.refuse(at.clone(), "a key must be plain text"));
        }
        if self.open.len() >= MAX_DEPTH {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            return Err(self.refuse(at.clone(), &message));
        }
        self.open.push(open);
        Ok(())
    }

    /// Hangs a finished node under what is open: as the root, an item, a key or a key's value.
    fn put(&mut self, node: Node<'a>) -> Result<(), FileError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values in one file");
            return Err(self.refuse(node.at, &message));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map {
                pairs, seen, key, ..
            }) => match key.take() {
                Some(key) => pairs.push(Pair { key, value: node }),
                None => {
                    let Value::Text { text, .. } = node.value else {
                        return Err(self.refuse(node.at, "a key must be plain text"));
                    };
                    if text == "<<" {
                        let advice = "a merge key (<<) is not allowed; write the values out";
                        return Err(self.refuse(node.at, advice));
                    }
                    if let Some(first) = seen.insert(text.clone(), node.at.start) {
                        let (line, _) = self.source.position(first);
                        let message =
                            format!("{} is already written in line {line}", quoted(&text));
                        let error = self.source.error(node.at.clone(), message);
                        if self.duplicates.len() >= MAX_DUPLICATES {
                            return Err(error);
                        }
                        self.duplicates.push(error);
                    }
                    *key = Some(Key { text, at: node.at });
                }
            },
        }
        Ok(())
    }

    fn refuse(&self, at: Range<usize>, message: &str) -> FileError {
        self.source.error(at, message)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "an open enum of some ninety kinds, of which the rest speak for themselves"
    )]
    fn scan_error(&self, error: &ScanError) -> FileError {
        let at = error.marker().byte_offset().unwrap_or_default();
        let message = match error.kind() {
            ErrorKind::DirectiveDisallowed => "a directive (%) is not allowed".to_owned(),
            ErrorKind::UnknownAnchor => {
                "an alias (*) is not allowed; write the value out".to_owned()
            }
            ErrorKind::UndeclaredTagHandle => {
                "a tag (!) is not allowed; write the plain value".to_owned()
            }
            ErrorKind::RecursionLimitExceeded => {
                format!("nested deeper than {MAX_DEPTH} levels")
            }
            kind => format!("not YAML: {kind}"),
        };
        self.source.error(at..at, message)
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value<'_> {
    match style {
        ScalarStyle::Plain if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        ScalarStyle::Plain => Value::Text {
            text,
            style: Style::Plain,
        },
        ScalarStyle::SingleQuoted
        | ScalarStyle::DoubleQuoted
        | ScalarStyle::Literal
        | ScalarStyle::Folded => Value::Text {
            text,
            style: Style::Quoted,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_stay_the_text_that_was_typed() {
        let text =
            "a: no\nb: 1e3\nc: 'it''s'\nd: \"x\\ty\"\ne: |\n  one\n  two\nf: ~\ng:\nh: 0x10\n";
        let node = read(&source(text)).unwrap();
        let Value::Map(pairs) = node.value else {
            panic!("not a mapping")
        };
        let shown: Vec<String> = pairs
            .iter()
            .map(|pair| match &pair.value.value {
                Value::Null => format!("{} null", pair.key.text),
                Value::Text { text, style } => format!("{} {style:?} {text:?}", pair.key.text),
                Value::List(_) | Value::Map(_) => panic!("not a scalar"),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a Plain \"no\"",
                "b Plain \"1e3\"",
                "c Quoted \"it's\"",
                "d Quoted \"x\\ty\"",
                "e Quoted \"one\\ntwo\\n\"",
                "f null",
                "g null",
                "h Plain \"0x10\"",
            ]
        );
    }

    #[test]
    fn spans_are_the_bytes_of_keys_and_values() {
        let text = "ä: [x, {k: 'v v'}]\n";
        let node = read(&source(text)).unwrap();
        let Value::Map(pairs) = &node.value else {
            panic!("not a mapping")
        };
        assert_eq!(text.get(pairs[0].key.at.clone()), Some("ä"));
        let Value::List(items) = &pairs[0].value.value else {
            panic!("not a list")
        };
        assert_eq!(text.get(items[0].at.clone()), Some("x"));
        let Value::Map(inner) = &items[1].value else {
            panic!("not a mapping")
        };
        assert_eq!(text.get(inner[0].value.at.clone()), Some("'v v'"));
    }

    #[test]
    fn what_is_not_plain_data_is_refused_where_it_stands() {
        for (text, expected) in [
            (
                "a: &x 1\nb: *x\n",
                "1:4: an anchor (&) is not allowed; write the value out",
            ),
            (
                "a: *x\n",
                "1:4: an alias (*) is not allowed; write the value out",
            ),
            (
                "a: !!binary aGk=\n",
                "1:4: a tag (!) is not allowed; write the plain value",
            ),
            (
                "a: !include x\n",
                "1:4: a tag (!) is not allowed; write the plain value",
            ),
            (
                "a: !e!x y\n",
                "1:4: a tag (!) is not allowed; write the plain value",
            ),
            (
                "a: 1\n---\nb: 2\n",
                "2:1: a second document; one file holds one tenant",
            ),
            (
                "%YAML 1.2\n---\na: 1\n",
                "1:1: a directive (%) is not allowed",
            ),
            ("a: 1\na: 2\n", "2:1: \"a\" is already written in line 1"),
            (
                "<<: {a: 1}\n",
                "1:1: a merge key (<<) is not allowed; write the values out",
            ),
            ("[a]: 1\n", "1:1: a key must be plain text"),
            ("? {a: 1}\n: 1\n", "1:3: a key must be plain text"),
            ("~: 1\n", "1:1: a key must be plain text"),
            (
                "a: b: c\n",
                "1:5: not YAML: mapping values are not allowed in this context",
            ),
            ("a: [1, 2\n", "1:4: not YAML: unclosed bracket '['"),
        ] {
            let errors = read(&source(text)).unwrap_err();
            let shown = errors[0].to_string();
            assert_eq!(
                shown.lines().next().unwrap(),
                format!("acme.yaml:{expected}")
            );
        }
    }

    #[test]
    fn every_duplicate_key_is_told() {
        let errors = read(&source("a: 1\n'a': 2\nb: {c: 1, c: 2, \"\\x63\": 3}\n")).unwrap_err();
        assert_eq!(errors.len(), 3, "{errors:?}");
    }

    #[test]
    fn a_file_of_nothing_is_refused() {
        for text in ["", "\n\n", "# only words\n"] {
            let errors = read(&source(text)).unwrap_err();
            assert!(
                errors[0].message.starts_with("nothing is written"),
                "{text:?}"
            );
        }
    }

    #[test]
    fn depth_is_limited_in_both_notations() {
        let flow = "[".repeat(100_000);
        let block = (0..200).fold(String::new(), |text, depth| {
            format!("{text}{}a:\n", " ".repeat(depth))
        });
        for text in [flow, block, "- ".repeat(1000)] {
            let errors = read(&source(&text)).unwrap_err();
            assert_eq!(errors[0].message, "nested deeper than 16 levels");
        }
    }

    fn source(text: &str) -> Source<'_> {
        Source {
            name: "acme.yaml",
            text,
        }
    }
}
