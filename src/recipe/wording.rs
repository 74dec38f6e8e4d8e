//! Values and schemas in words, as the parts of a sentence.

use serde_json::Value;

use crate::checkpoint::text::unquoted;
use crate::recipe::suggest::list;

/// A value in words, for "not …".
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

/// The comment of an alternative that spells the values of the others in another way, which no message needs to name.
pub(super) const SPELLINGS: &str = "other spellings";

/// The values that a schema accepts, for "must be …".
pub(super) fn describe(schema: &Value) -> String {
    for keyword in ["anyOf", "oneOf"] {
        if let Some(alternatives) = schema[keyword].as_array() {
            let consts: Vec<_> = alternatives.iter().filter_map(|one| one.get("const")).map(plain).collect();
            let rest = alternatives.iter().filter(|one| one.get("const").is_none() && one["$comment"] != SPELLINGS);
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

/// Reports whether an option is another spelling of an earlier one: `"true"` of `true`, `INT` of `int`.
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

pub(super) fn example(schema: &Value) -> Option<String> {
    let only = &schema["const"];
    match schema["examples"].get(0).unwrap_or(only) {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The words that a schema accepts literally.
pub(super) fn words(schema: &Value) -> Vec<&str> {
    let mut words: Vec<_> = schema["const"].as_str().into_iter().collect();
    words.extend(schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str));
    for keyword in ["anyOf", "oneOf"] {
        words.extend(schema[keyword].as_array().into_iter().flatten().filter_map(|one| one["const"].as_str()));
    }
    words
}

pub(super) fn is_of_type(instance: &Value, wanted: &Value) -> bool {
    let is = |kind: &str| match kind {
        "string" => instance.is_string(),
        "integer" => {
            instance.is_i64() || instance.is_u64() || instance.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
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
