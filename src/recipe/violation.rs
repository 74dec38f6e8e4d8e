//! Finds where a value does not follow a JSON Schema.
//!
//! Knows the keywords that the schemas of recipes and of schemes' options are made of, as draft 7 means them, and tells
//! of any other: to pass one over would accept what an editor underlines. A crate for all of JSON Schema was a sixth of
//! the build (`docs/decisions/0011-violations.md`); the tests hold this module against it.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;
use serde_json::{Map, Value};

use crate::recipe::document::child;
use crate::recipe::wording::is_of_type;

/// A value, or a key of it, that a schema does not allow.
pub(super) struct Violation<'a> {
    pub(super) kind: Kind<'a>,
    /// Where the value stands, as a JSON Pointer from the value that was looked at first.
    pub(super) pointer: String,
    pub(super) instance: &'a Value,
    /// The schema with the keyword that is not followed.
    pub(super) schema: &'a Value,
}

/// The rule that a value breaks.
pub(super) enum Kind<'a> {
    /// A map has keys that the schema does not know.
    UnknownKeys(Vec<&'a str>),
    /// A map lacks a key.
    MissingKey(&'a str),
    /// The value follows none of the alternatives of `anyOf` or `oneOf`: the violations of each.
    NoAlternative(Vec<Vec<Violation<'a>>>),
    /// A number is larger than this.
    TooLarge(&'a Value),
    /// A string has another form.
    Pattern,
    /// The value is of another type, of another length, or not the one that is expected.
    Other,
}

/// Finds violations, and keeps the patterns that it compiled.
#[derive(Default)]
pub(super) struct Checker {
    patterns: RefCell<HashMap<String, Option<Regex>>>,
}

impl Checker {
    /// Returns all violations of `schema` in the instance that stands at `pointer`.
    pub(super) fn violations<'a>(&self, schema: &'a Value, instance: &'a Value, pointer: &str) -> Vec<Violation<'a>> {
        let Some(keywords) = schema.as_object() else {
            // Besides a map, a schema can only be `true`, which allows everything, or `false`.
            let kind = (*schema != Value::Bool(true)).then_some(Kind::Other);
            return kind
                .map(|kind| Violation { kind, pointer: pointer.to_owned(), instance, schema })
                .into_iter()
                .collect();
        };
        let mut kinds: Vec<_> =
            keywords.iter().flat_map(|(keyword, wanted)| self.kinds(keyword, wanted, instance, pointer)).collect();
        let mut inside = Vec::new();
        match instance {
            Value::Array(items) => {
                if let Some(wanted) = keywords.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        inside.extend(self.violations(wanted, item, &format!("{pointer}/{index}")));
                    }
                }
            }
            Value::Object(map) => {
                let mut unknown = Vec::new();
                for (key, value) in map {
                    match self.schemas_of(key, keywords) {
                        schemas if schemas.is_empty() => unknown.push(key.as_str()),
                        schemas => inside.extend(
                            schemas.iter().flat_map(|wanted| self.violations(wanted, value, &child(pointer, key))),
                        ),
                    }
                }
                if !unknown.is_empty() {
                    kinds.push(Kind::UnknownKeys(unknown));
                }
            }
            _ => {}
        }
        let own = kinds.into_iter().map(|kind| Violation { kind, pointer: pointer.to_owned(), instance, schema });
        own.chain(inside).collect()
    }

    /// Returns how an instance breaks one keyword, what a map or a list holds left aside.
    fn kinds<'a>(&self, keyword: &str, wanted: &'a Value, instance: &'a Value, pointer: &str) -> Vec<Kind<'a>> {
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        let (follows, kind) = match (keyword, instance) {
            ("type", _) => (is_of_type(instance, wanted), Kind::Other),
            ("const", _) => (is_equal(instance, wanted), Kind::Other),
            ("enum", _) => (list(wanted).any(|one| is_equal(instance, one)), Kind::Other),
            ("maximum", Value::Number(_)) => (is_at_most(instance, wanted), Kind::TooLarge(wanted)),
            ("minimum", Value::Number(_)) => (is_at_most(wanted, instance), Kind::Other),
            ("minLength", Value::String(text)) => (count(text.chars().count()) >= number(wanted), Kind::Other),
            ("maxLength", Value::String(text)) => (count(text.chars().count()) <= number(wanted), Kind::Other),
            ("minItems", Value::Array(items)) => (count(items.len()) >= number(wanted), Kind::Other),
            ("maxItems", Value::Array(items)) => (count(items.len()) <= number(wanted), Kind::Other),
            ("minProperties", Value::Object(map)) => (count(map.len()) >= number(wanted), Kind::Other),
            ("maxProperties", Value::Object(map)) => (count(map.len()) <= number(wanted), Kind::Other),
            ("pattern", Value::String(text)) => {
                (wanted.as_str().is_some_and(|pattern| self.is_match(pattern, text)), Kind::Pattern)
            }
            ("not", _) => (!self.violations(wanted, instance, pointer).is_empty(), Kind::Other),
            ("propertyNames", Value::Object(map)) => {
                let mut names = map.keys().map(|key| Value::from(key.as_str()));
                (names.all(|name| self.violations(wanted, &name, pointer).is_empty()), Kind::Other)
            }
            ("required", Value::Object(map)) => {
                let keys = list(wanted).filter_map(Value::as_str);
                return keys.filter(|key| !map.contains_key(*key)).map(Kind::MissingKey).collect();
            }
            ("anyOf" | "oneOf", _) => {
                let all: Vec<_> = list(wanted).map(|one| self.violations(one, instance, pointer)).collect();
                match all.iter().filter(|violations| violations.is_empty()).count() {
                    0 => (false, Kind::NoAlternative(all)),
                    followed => (followed == 1 || keyword == "anyOf", Kind::Other),
                }
            }
            _ => return Vec::new(),
        };
        if follows { Vec::new() } else { vec![kind] }
    }

    /// Returns the schemas for the value of a key: none for a key that is not allowed.
    fn schemas_of<'a>(&self, key: &str, keywords: &'a Map<String, Value>) -> Vec<&'a Value> {
        const ANY: &Value = &Value::Bool(true);
        let by_pattern = keywords.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
        let by_pattern = by_pattern.filter(|(pattern, _)| self.is_match(pattern, key)).map(|(_, schema)| schema);
        let by_name = keywords.get("properties").and_then(|properties| properties.get(key));
        let known: Vec<_> = by_name.into_iter().chain(by_pattern).collect();
        match keywords.get("additionalProperties") {
            _ if !known.is_empty() => known,
            Some(Value::Bool(false)) => Vec::new(),
            Some(schema) => vec![schema],
            None => vec![ANY],
        }
    }

    /// Reports whether a pattern is found anywhere in a text; one that is no regular expression never is.
    fn is_match(&self, pattern: &str, text: &str) -> bool {
        let mut patterns = self.patterns.borrow_mut();
        let compiled = patterns.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
        compiled.as_ref().is_some_and(|pattern| pattern.is_match(text))
    }
}

/// Returns a keyword of a schema, or of one inside it, that is not known here or has a value of no use.
pub(super) fn unknown_keyword(schema: &Value) -> Option<&str> {
    const ANNOTATIONS: [&str; 9] = [
        "$comment",
        "$schema",
        "default",
        "defaultSnippets",
        "description",
        "examples",
        "format",
        "markdownDescription",
        "title",
    ];
    let is_regex = |pattern: &str| Regex::new(pattern).is_ok();
    schema.as_object().into_iter().flatten().find_map(|(keyword, value)| {
        let is_known = match keyword.as_str() {
            "const" | "type" => true,
            "enum" | "required" => value.is_array(),
            "maximum" | "minimum" => value.is_number(),
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" => value.is_u64(),
            "pattern" => value.as_str().is_some_and(is_regex),
            "not" | "propertyNames" | "additionalProperties" => return unknown_keyword(value),
            "items" if !value.is_array() => return unknown_keyword(value),
            "anyOf" | "oneOf" => return list(value).find_map(unknown_keyword),
            "properties" | "patternProperties" => {
                let map = value.as_object();
                if keyword == "patternProperties" && !map.is_some_and(|map| map.keys().all(|key| is_regex(key))) {
                    return Some(keyword);
                }
                return map.into_iter().flatten().find_map(|(_, schema)| unknown_keyword(schema));
            }
            other => ANNOTATIONS.contains(&other),
        };
        (!is_known).then_some(keyword.as_str())
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Reports whether two values are the same: numbers by what they stand for, so that 1 is 1.0.
fn is_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(_), Value::Number(_)) => is_at_most(one, other) && is_at_most(other, one),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_in_other =
                |(key, value): (&String, &Value)| other.get(key).is_some_and(|other| is_equal(value, other));
            one.len() == other.len() && one.iter().all(is_in_other)
        }
        _ => one == other,
    }
}

fn is_at_most(one: &Value, other: &Value) -> bool {
    let integer = |value: &Value| value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
    match (integer(one), integer(other)) {
        (Some(one), Some(other)) => one <= other,
        _ => one.as_f64() <= other.as_f64(),
    }
}

#[cfg(test)]
mod tests;
