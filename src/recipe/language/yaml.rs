//! YAML to a document, within limits on its size, depth and aliases.

use std::fmt;
use std::ops::Range;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_yaml::{Location, Spanned};

use crate::checkpoint::text::unquoted;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::{Document, Spans, child, number};

mod quotes;

pub(super) fn parse(text: &str) -> Result<Document, Diagnostic> {
    let options = serde_yaml::options! {
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
        budget: serde_yaml::budget! {
            max_depth: 32,
            max_nodes: 200_000,
            max_documents: 1,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_total_scalar_bytes: 8 << 20,
        },
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: 20_000 },
    };
    let parsed = serde_yaml::from_str_with_options(text, options);
    let root: Spanned<Node> = parsed.map_err(|error| yaml_error(&error, text))?;
    let mut spans = Spans::default();
    let value = place(root, "", None, &mut spans);
    Ok(Document { value, spans })
}

fn yaml_error(error: &serde_yaml::Error, text: &str) -> Diagnostic {
    let error = error.without_snippet();
    let message = match (limit(error), error) {
        (Some(message), _) => message.to_owned(),
        (None, serde_yaml::Error::DuplicateMappingKey { key: Some(key), .. }) => {
            format!("the key `{}` is a duplicate", unquoted(key))
        }
        (None, _) => {
            let formatter = serde_yaml::UserMessageFormatter;
            let options = serde_yaml::render_options! { formatter: &formatter, snippets: serde_yaml::SnippetMode::Off };
            let rendered = error.render_with_options(options);
            let mut message = rendered.lines().next().unwrap_or_default();
            // The place is shown with the source line; the text would repeat it.
            for suffix in [" at line ", " (defined at "] {
                message = message.split(suffix).next().unwrap_or(message);
            }
            unquoted(message).to_string()
        }
    };
    let diagnostic = Diagnostic::error(format!("not valid YAML: {message}"));
    let Some(location) = error.location() else { return diagnostic };
    let at = match location.span().byte_offset() {
        Some(_) => range(location),
        // Errors of the scanner know the line and the column alone.
        None => position(text, location.line(), location.column()),
    };
    let help = limit(error).is_none().then(|| quotes::help(text, at.start)).flatten();
    help.into_iter().fold(diagnostic.at(at), Diagnostic::help)
}

/// The message for a limit that a text runs into.
fn limit(error: &serde_yaml::Error) -> Option<&'static str> {
    use serde_yaml::Error;
    use serde_yaml::budget::BudgetBreach;
    Some(match error {
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } => {
            "one document is wanted, and a second one begins here"
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => "it is nested too deeply",
        Error::Budget { breach: BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. }, .. }
        | Error::Budget { breach: BudgetBreach::AliasAnchorRatio { .. }, .. } => {
            "it has more anchors and aliases than the limit"
        }
        Error::AliasError { error, .. } => return limit(error),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => "its aliases expand beyond the limit",
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an alias cannot stand inside of what it names",
        Error::Budget { .. } => "it is larger than the limit",
        _ => return None,
    })
}

fn range(location: Location) -> Range<usize> {
    let span = location.span();
    let start = span.byte_offset().and_then(|offset| usize::try_from(offset).ok()).unwrap_or(0);
    let len = span.byte_len().and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
    start..start + len
}

/// The empty range at a line and a column in characters, both from 1.
fn position(text: &str, line: u64, column: u64) -> Range<usize> {
    let skip = |from_one: u64| usize::try_from(from_one.saturating_sub(1)).unwrap_or(usize::MAX);
    let line = text.split_inclusive('\n').nth(skip(line)).unwrap_or("");
    let start = if line.is_empty() {
        text.len()
    } else {
        // `line` is a part of `text`.
        line.as_ptr() as usize - text.as_ptr() as usize
    };
    let column = line.char_indices().nth(skip(column)).map_or(line.trim_end().len(), |(at, _)| at);
    start + column..start + column
}

/// A YAML node with the places of its children.
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map, a list, a string, a number, a boolean or null")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        number(value).map(Node::Scalar).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

fn place(node: Spanned<Node>, pointer: &str, key: Option<Range<usize>>, spans: &mut Spans) -> Value {
    let here = range(node.referenced);
    match node.value {
        Node::Scalar(value) => {
            // A value that is not written, as after `scheme:`, stands nowhere.
            let span = if here.is_empty() { key.clone().unwrap_or(here) } else { here };
            spans.insert(pointer, span, key);
            value
        }
        Node::List(items) => {
            spans.insert(pointer, key.clone().unwrap_or(here), key);
            let items = items.into_iter().enumerate();
            Value::Array(items.map(|(index, item)| place(item, &child(pointer, index), None, spans)).collect())
        }
        Node::Map(entries) => {
            let first = entries.first().map(|(key, _)| range(key.referenced));
            spans.insert(pointer, key.clone().or(first).unwrap_or(here), key);
            let mut map = Map::new();
            for (key, value) in entries {
                let value = place(value, &child(pointer, &key.value), Some(range(key.referenced)), spans);
                map.insert(key.value, value);
            }
            Value::Object(map)
        }
    }
}
