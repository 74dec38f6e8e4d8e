//! Turns an error of the JSON Schema validator into diagnostics: what is wrong, what was expected, what is near.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind as Kind;
use serde_json::{Map, Value};

use crate::checkpoint::text::unquoted;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::{Document, child};
use crate::recipe::llmcompressor;
use crate::recipe::schema::Branch;
use crate::recipe::suggest::{list, nearest_word};
use crate::recipe::validate::parts;

/// Explains the errors of one schema over the part of a document at `prefix`.
pub(super) struct Explainer<'a> {
    pub(super) schema: &'a Value,
    pub(super) prefix: &'a str,
    pub(super) document: &'a Document,
}

impl Explainer<'_> {
    pub(super) fn diagnostics(&self, error: &ValidationError<'_>) -> Vec<Diagnostic> {
        let pointer = format!("{}{}", self.prefix, error.instance_path().as_str());
        if let Some(diagnostic) = llmcompressor::explain(&pointer, self.document) {
            return vec![diagnostic];
        }
        let schema_path = error.schema_path().as_str();
        let (parent, keyword) = schema_path.rsplit_once('/').unwrap_or(("", schema_path));
        let parent = self.schema.pointer(parent).unwrap_or(&Value::Null);
        match error.kind() {
            Kind::AdditionalProperties { unexpected } => {
                unexpected.iter().map(|key| self.unknown_key(&pointer, key, parent)).collect()
            }
            Kind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                let present = error.instance().as_object().into_iter().flat_map(Map::keys);
                let mut unknown = present.filter(|present| parent["properties"].get(present.as_str()).is_none());
                // The diagnostic for the key that is nearly right says it all.
                if unknown.any(|unknown| nearest_word(unknown, [key]).is_some()) {
                    return Vec::new();
                }
                let diagnostic = Diagnostic::error(format!("{} has no `{key}`", subject(&pointer)));
                let diagnostic = diagnostic.at(self.document.spans.key(&pointer));
                vec![match example(&parent["properties"][key]) {
                    Some(example) => diagnostic.help(format!("add it, such as `{key}: {example}`")),
                    None => diagnostic,
                }]
            }
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
                let alternatives = parent[keyword].as_array().map_or(&[][..], Vec::as_slice);
                let instance = error.instance();
                // Where the type tells what was meant, only the errors of that alternative help.
                let meant = alternatives.iter().position(|alternative| {
                    alternative.get("const").is_none()
                        && alternative.get("type").is_some_and(|wanted| is_of_type(instance, wanted))
                });
                // A string of the wrong form is better held against everything that is accepted.
                let form = |error: &ValidationError<'_>| matches!(error.kind(), Kind::Pattern { .. });
                match meant.and_then(|index| context.get(index)) {
                    Some(errors) if !errors.is_empty() && !errors.iter().any(form) => {
                        errors.iter().flat_map(|error| self.diagnostics(error)).collect()
                    }
                    _ => vec![self.mismatch(&pointer, parent, instance)],
                }
            }
            Kind::Maximum { limit } => {
                let message = format!("{} must be at most {limit}, not {}", subject(&pointer), value(error.instance()));
                vec![Diagnostic::error(message).at(self.document.spans.value(&pointer))]
            }
            _ => vec![self.mismatch(&pointer, parent, error.instance())],
        }
    }

    fn unknown_key(&self, pointer: &str, key: &str, schema: &Value) -> Diagnostic {
        let at = child(pointer, key);
        if let Some(diagnostic) = llmcompressor::explain(&at, self.document) {
            return diagnostic;
        }
        let diagnostic = Diagnostic::error(format!("unknown key `{}`", unquoted(key))).at(self.document.spans.key(&at));
        let known: Vec<_> =
            schema["properties"].as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
        let present = self.document.value.pointer(pointer).and_then(Value::as_object);
        let missing = known.iter().copied().filter(|known| present.is_none_or(|map| !map.contains_key(*known)));
        if let Some(help) = llmcompressor::misplaced(key).filter(|_| pointer.is_empty() || pointer.ends_with("_stage"))
        {
            return diagnostic.help(help);
        }
        let of_a_rule = |branch: &Branch| branch.schema["properties"].get(key).is_some();
        if known.contains(&"rules") && parts().rules.iter().any(of_a_rule) {
            return diagnostic.help("it belongs in an entry of `rules`");
        }
        if let Some(near) = nearest_word(key, missing) {
            return diagnostic.help(format!("did you mean `{near}`?"));
        }
        if let Some(scheme) = schema["properties"]["scheme"]["const"].as_str() {
            let others: Vec<_> = parts().rules.iter().filter(|other| of_a_rule(other)).collect();
            if !others.is_empty() {
                let names = list(others.iter().map(|other| other.name), "and");
                return diagnostic.help(format!("it is an option of {names}, not of `{scheme}`"));
            }
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
        let name = subject(pointer);
        let empty = match instance {
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        };
        let diagnostic = match empty {
            true => Diagnostic::error(format!("{name} is empty")).label(format!("expected {}", describe(schema))),
            false => Diagnostic::error(format!("{name} must be {}, not {}", describe(schema), value(instance))),
        };
        let diagnostic = diagnostic.at(span);
        let Value::String(word) = instance else { return diagnostic };
        let words = words(schema);
        match nearest_word(word, words.iter().copied()) {
            Some(near) if near != word => diagnostic.help(format!("did you mean `{near}`?")),
            _ => diagnostic,
        }
    }
}

/// What a value is, for "not …".
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Array(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Array(items) if items.iter().all(|item| item.is_number() || item.is_string()) && items.len() <= 4 => {
            format!("`{}`", unquoted(&format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", "))))
        }
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
        Value::String(text) => format!("the string `{}`", unquoted(text)),
        scalar => format!("`{}`", plain(scalar)),
    }
}

/// The thing at a pointer as the subject of a sentence: `rule 2`, `the recipe`, `` `weights` ``.
pub(super) fn subject(pointer: &str) -> String {
    let (parent, last) = pointer.rsplit_once('/').unwrap_or(("", ""));
    match (parent, last.parse::<usize>()) {
        ("/rules", Ok(index)) => format!("rule {}", index + 1),
        (_, Ok(index)) => format!("entry {} of `{}`", index + 1, unquoted(key_of(parent))),
        ("", _) if last.is_empty() => "the recipe".to_owned(),
        _ => format!("`{}`", unquoted(&key_of(pointer).replace("~1", "/").replace("~0", "~"))),
    }
}

fn key_of(pointer: &str) -> &str {
    pointer.rsplit('/').next().unwrap_or_default()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => unquoted(text).to_string(),
        other => other.to_string(),
    }
}

/// What a schema accepts, for "must be …".
fn describe(schema: &Value) -> String {
    for keyword in ["anyOf", "oneOf"] {
        if let Some(alternatives) = schema[keyword].as_array() {
            let consts: Vec<_> = alternatives.iter().filter_map(|one| one.get("const")).map(plain).collect();
            let rest = alternatives.iter().filter(|one| one.get("const").is_none());
            let mut all = Vec::new();
            if !consts.is_empty() {
                all.push(list(consts.iter().map(String::as_str), "or"));
            }
            all.extend(rest.map(describe));
            return all.join(", or ");
        }
    }
    if let Some(only) = schema.get("const") {
        return format!("`{}`", plain(only));
    }
    if let Some(options) = schema["enum"].as_array() {
        let options: Vec<_> = options.iter().filter(|one| !is_spelling(one, options)).map(plain).collect();
        return list(options.iter().map(String::as_str), "or");
    }
    match &schema["type"] {
        Value::Array(kinds) => {
            let kinds: Vec<_> = kinds.iter().map(|kind| of_type(kind.as_str().unwrap_or_default(), schema)).collect();
            kinds.join(" or ")
        }
        kind => of_type(kind.as_str().unwrap_or_default(), schema),
    }
}

/// Whether an option is another spelling of one before it: `"true"` of `true`, `INT` of `int`.
fn is_spelling(option: &Value, options: &[Value]) -> bool {
    let before = options.iter().take_while(|other| *other != option);
    before.into_iter().any(|other| plain(other).eq_ignore_ascii_case(&plain(option)))
}

fn of_type(kind: &str, schema: &Value) -> String {
    match kind {
        "integer" | "number" => {
            let what = if kind == "integer" { "an integer" } else { "a number" };
            match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
                (Some(least), Some(most)) if most < 1e6 => format!("{what} from {least} to {most}"),
                (Some(least), _) => format!("{what} of at least {least}"),
                _ => what.to_owned(),
            }
        }
        "string" => match (schema.get("pattern"), example(schema)) {
            (Some(_), Some(example)) => format!("a string such as `{example}`"),
            _ => "a string".to_owned(),
        },
        "array" => {
            let items = &schema["items"];
            let count = match (schema["minItems"].as_u64(), schema["maxItems"].as_u64()) {
                (Some(least), Some(most)) if least == most => format!("a list of {least}"),
                (Some(1), _) => "a list of at least one".to_owned(),
                _ => "a list".to_owned(),
            };
            match items["type"].as_str() {
                Some("integer") if count.contains(" of ") => format!("{count} integers"),
                Some("string") if count.ends_with("one") => format!("{count} string"),
                Some("string") => format!("{count} of strings"),
                _ => count.replace(" of at least one", " with at least one entry"),
            }
        }
        "object" => "a map".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        "null" => "null".to_owned(),
        _ => "something else".to_owned(),
    }
}

fn example(schema: &Value) -> Option<String> {
    match &schema["examples"][0] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The words that a schema accepts as they are.
fn words(schema: &Value) -> Vec<&str> {
    let mut words: Vec<_> = schema["const"].as_str().into_iter().collect();
    words.extend(schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str));
    for keyword in ["anyOf", "oneOf"] {
        words.extend(schema[keyword].as_array().into_iter().flatten().filter_map(|one| one["const"].as_str()));
    }
    words
}

fn is_of_type(instance: &Value, wanted: &Value) -> bool {
    let is = |kind: &str| match kind {
        "string" => instance.is_string(),
        "integer" => instance.is_i64() || instance.is_u64(),
        "number" => instance.is_number(),
        "array" => instance.is_array(),
        "object" => instance.is_object(),
        "boolean" => instance.is_boolean(),
        "null" => instance.is_null(),
        _ => false,
    };
    match wanted {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
        _ => false,
    }
}
