//! Turns a violation of a JSON Schema into diagnostics: what is wrong, what was expected, what is near.

use serde_json::{Map, Value};

use crate::checkpoint::text::{meant_size, unquoted};
use crate::recipe::byte_size::BYTE_SIZE;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::{Document, child};
use crate::recipe::suggest::{list, nearest_word};
use crate::recipe::violation::{Kind, Violation};
use crate::recipe::wording::{describe, example, is_of_type, subject, value, words};

/// A front end's knowledge of its dialect beyond the schema.
pub(super) trait Hints {
    /// The document as the subject of a sentence.
    fn root(&self) -> &'static str {
        "the recipe"
    }

    /// Returns a diagnostic that says more of what stands at `pointer` than the schema can.
    fn instead(&self, _pointer: &str, _document: &Document) -> Option<Diagnostic> {
        None
    }

    /// Returns help for an unknown key of the map at `pointer` that has its place elsewhere; such help is shown instead
    /// of a known key with nearly the same name.
    fn misplaced(&self, pointer: &str, key: &str, schema: &Value) -> Option<String>;

    /// Returns what to know of a key that a map lacks.
    fn missing(&self, _key: &str, _schema: &Value) -> Option<String> {
        None
    }

    /// Returns help for an unknown key that is near to no known one.
    fn foreign(&self, key: &str, schema: &Value) -> Option<String>;
}

/// Explains violations in a document.
pub(super) struct Explainer<'a> {
    pub(super) document: &'a Document,
    pub(super) hints: &'a dyn Hints,
}

impl Explainer<'_> {
    pub(super) fn diagnostics(&self, violation: &Violation<'_>) -> Vec<Diagnostic> {
        let Violation { kind, pointer, instance, schema } = violation;
        if let Some(diagnostic) = self.hints.instead(pointer, self.document) {
            return vec![diagnostic];
        }
        match kind {
            Kind::UnknownKeys(unknown) => unknown.iter().map(|key| self.unknown_key(pointer, key, schema)).collect(),
            Kind::MissingKey(key) => {
                let present = instance.as_object().into_iter().flat_map(Map::keys);
                let mut unknown = present.filter(|present| schema["properties"].get(present.as_str()).is_none());
                // The diagnostic for the key that is nearly right says it all.
                if unknown.any(|unknown| nearest_word(unknown, [*key]).is_some()) {
                    return Vec::new();
                }
                let diagnostic = Diagnostic::error(format!("{} has no `{key}`", self.subject(pointer)));
                let diagnostic = diagnostic.at(self.document.spans.key(pointer));
                let diagnostic = match example(&schema["properties"][*key]) {
                    Some(example) => diagnostic.help(format!("add it, such as `{key}: {example}`")),
                    None => diagnostic,
                };
                vec![match self.hints.missing(key, schema) {
                    Some(about) => diagnostic.help(about),
                    None => diagnostic,
                }]
            }
            Kind::NoAlternative(all) => {
                let alternatives = ["anyOf", "oneOf"].iter().find_map(|keyword| schema.get(keyword)?.as_array());
                // Where the type tells what was meant, only the violations of that alternative help.
                let meant = alternatives.into_iter().flatten().position(|alternative| {
                    alternative.get("const").is_none()
                        && alternative.get("type").is_some_and(|wanted| is_of_type(instance, wanted))
                });
                // A string of the wrong form is better held against everything that is accepted.
                let form = |violation: &Violation<'_>| matches!(violation.kind, Kind::Pattern);
                match meant.and_then(|index| all.get(index)) {
                    Some(violations) if !violations.is_empty() && !violations.iter().any(form) => {
                        violations.iter().flat_map(|violation| self.diagnostics(violation)).collect()
                    }
                    _ => vec![self.mismatch(pointer, schema, instance)],
                }
            }
            Kind::TooLarge(limit) => {
                let message = format!("{} must be at most {limit}, not {}", self.subject(pointer), value(instance));
                vec![Diagnostic::error(message).at(self.document.spans.value(pointer))]
            }
            Kind::Pattern | Kind::Other => vec![self.mismatch(pointer, schema, instance)],
        }
    }

    fn subject(&self, pointer: &str) -> String {
        if pointer.is_empty() { self.hints.root().to_owned() } else { subject(pointer) }
    }

    fn unknown_key(&self, pointer: &str, key: &str, schema: &Value) -> Diagnostic {
        let at = child(pointer, key);
        if let Some(diagnostic) = self.hints.instead(&at, self.document) {
            return diagnostic;
        }
        let diagnostic = Diagnostic::error(format!("unknown key `{}`", unquoted(key))).at(self.document.spans.key(&at));
        let known: Vec<_> =
            schema["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
        let present = self.document.value.pointer(pointer).and_then(Value::as_object);
        let missing = known.iter().copied().filter(|known| present.is_none_or(|map| !map.contains_key(*known)));
        if let Some(help) = self.hints.misplaced(pointer, key, schema) {
            return diagnostic.help(help);
        }
        if let Some(near) = nearest_word(key, missing) {
            return diagnostic.help(format!("did you mean `{near}`?"));
        }
        if let Some(help) = self.hints.foreign(key, schema) {
            return diagnostic.help(help);
        }
        let pattern = schema["patternProperties"].as_object().and_then(|patterns| patterns.keys().next());
        match (known.is_empty(), pattern) {
            (true, Some(pattern)) => {
                diagnostic.help(format!("the keys here end in `{}`", pattern.trim_end_matches('$')))
            }
            (true, None) => diagnostic,
            (false, _) => diagnostic.help(format!("the keys here are {}", list(known, "and"))),
        }
    }

    fn mismatch(&self, pointer: &str, schema: &Value, instance: &Value) -> Diagnostic {
        let span = self.document.spans.value(pointer);
        let name = self.subject(pointer);
        let empty = match instance {
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        let diagnostic = if empty {
            Diagnostic::error(format!("{name} is empty")).label(format!("expected {}", describe(schema)))
        } else {
            Diagnostic::error(format!("{name} must be {}, not {}", describe(schema), value(instance)))
        };
        let diagnostic = diagnostic.at(span);
        if empty && pointer == "/rules" {
            return diagnostic.help("a rule is `scheme:` and `targets:`; one alone may stand in place of `rules:`");
        }
        let Value::String(word) = instance else { return diagnostic };
        if schema["type"] == "array" && !empty && !word.contains(['[', ',']) {
            return diagnostic.help(format!("write it as a list: `[{}]`", unquoted(&quoted_in_list(word))));
        }
        if let Some(size) = meant_size(word).filter(|_| schema["anyOf"][0]["pattern"] == BYTE_SIZE) {
            return diagnostic.help(format!("did you mean `{size}`?"));
        }
        let words = words(schema);
        match nearest_word(word, words.iter().copied()) {
            Some(near) if near != word => diagnostic.help(format!("did you mean `{near}`?")),
            _ => diagnostic,
        }
    }
}

/// A text as an entry of a list between brackets, in which a pattern needs quotes.
fn quoted_in_list(word: &str) -> String {
    let is_plain = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if is_plain || word.contains('\'') { word.to_owned() } else { format!("'{word}'") }
}
