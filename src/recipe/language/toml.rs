//! TOML to a document, in the order of the text.

use std::ops::Range;

use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

use crate::checkpoint::text::unquoted;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::{Document, Spans, child, number};

pub(super) fn parse(text: &str) -> Result<Document, Diagnostic> {
    let table = DeTable::parse(text).map_err(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let diagnostic = Diagnostic::error(format!("not valid TOML: {}", unquoted(&message)));
        let diagnostic = if message.contains("invalid boolean") || message.contains("must be quoted") {
            diagnostic.help("a string stands in quotes")
        } else {
            diagnostic
        };
        match error.span() {
            Some(span) => diagnostic.at(span),
            None => diagnostic,
        }
    })?;
    let mut spans = Spans::default();
    let value = place_table(table.get_ref(), "", &mut spans)?;
    let first = table.get_ref().keys().map(|key| key.span()).min_by_key(|span| span.start);
    spans.insert("", first.unwrap_or(0..0), None);
    Ok(Document { value, spans })
}

fn place_table(table: &DeTable<'_>, pointer: &str, spans: &mut Spans) -> Result<Value, Diagnostic> {
    let mut map = Map::new();
    // `DeTable` sorts its keys; the order of the text is the one that modifiers and groups run in.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in entries {
        let pointer = child(pointer, key.get_ref());
        let span = match value.get_ref() {
            // The span of a table reaches over all that it holds.
            DeValue::Table(_) | DeValue::Array(_) => key.span(),
            _ => value.span(),
        };
        spans.insert(&pointer, span, Some(key.span()));
        map.insert(key.get_ref().to_string(), place_value(value.get_ref(), value.span(), &pointer, spans)?);
    }
    Ok(Value::Object(map))
}

fn place_value(value: &DeValue<'_>, span: Range<usize>, pointer: &str, spans: &mut Spans) -> Result<Value, Diagnostic> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(digits) => match i64::from_str_radix(digits.as_str(), digits.radix()) {
            Ok(value) => Value::from(value),
            Err(_) => return Err(too_large(pointer, digits.as_str()).at(span)),
        },
        DeValue::Float(digits) => match digits.as_str().parse().ok().and_then(number) {
            Some(value) => value,
            None => {
                let key = unquoted(pointer.rsplit('/').next().unwrap_or(""));
                return Err(Diagnostic::error(format!("`{key}` must be a finite number")).at(span));
            }
        },
        DeValue::Datetime(_) => {
            let key = unquoted(pointer.rsplit('/').next().unwrap_or(""));
            return Err(Diagnostic::error(format!("`{key}` cannot be a date or time"))
                .at(span)
                .help("a string stands in quotes"));
        }
        DeValue::Array(items) => {
            let mut list = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let pointer = child(pointer, index);
                let span = match item.get_ref() {
                    DeValue::Table(table) => table.keys().map(|key| key.span()).min_by_key(|span| span.start),
                    _ => None,
                };
                spans.insert(&pointer, span.unwrap_or_else(|| item.span()), None);
                list.push(place_value(item.get_ref(), item.span(), &pointer, spans)?);
            }
            Value::Array(list)
        }
        DeValue::Table(table) => place_table(table, pointer, spans)?,
    })
}

fn too_large(pointer: &str, digits: &str) -> Diagnostic {
    let key = unquoted(pointer.rsplit('/').next().unwrap_or(""));
    Diagnostic::error(format!("`{key}` is out of range: `{}` does not fit an integer of 64 bits", unquoted(digits)))
}
