//! Schemas as schemars makes them, made fit for editors.

use serde_json::{Map, Value};

/// Drops `default: null`, turns the number formats of Rust into limits, joins the lines of descriptions, and lifts
/// alternatives out of alternatives.
pub(super) fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.get("default").is_some_and(Value::is_null) {
                object.shift_remove("default");
            }
            if object.contains_key("type")
                && let Some(Value::String(format)) = object.get("format")
            {
                let most = match format.as_str() {
                    "uint8" => Some(u64::from(u8::MAX)),
                    "uint16" => Some(u64::from(u16::MAX)),
                    "uint32" => Some(u64::from(u32::MAX)),
                    _ => None,
                };
                object.shift_remove("format");
                if let Some(most) = most.filter(|_| !object.contains_key("maximum")) {
                    object.insert("maximum".to_owned(), most.into());
                }
            }
            flatten(object);
            leave_descriptions_to_the_field(object);
            if let Some(Value::String(description)) = object.get_mut("description") {
                *description = description.replace("\n\n", "\u{0}").replace('\n', " ").replace('\u{0}', "\n\n");
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// `anyOf` in `anyOf`, which is what an optional union comes out as, is one list of alternatives.
fn flatten(object: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = object.get_mut("anyOf") else { return };
    let nested = |alternative: &Value| {
        let inner = alternative.as_object()?;
        inner.keys().all(|key| matches!(key.as_str(), "anyOf" | "oneOf" | "description" | "examples")).then_some(())?;
        inner.get("anyOf").or_else(|| inner.get("oneOf"))?.as_array().cloned()
    };
    *alternatives = alternatives.drain(..).flat_map(|one| nested(&one).unwrap_or_else(|| vec![one])).collect();
}

/// Editors show the description of the alternative that a value matches instead of that of the field; only the words of
/// a choice need one of their own, for completion.
fn leave_descriptions_to_the_field(object: &mut Map<String, Value>) {
    if !object.contains_key("description") {
        return;
    }
    let Some(Value::Array(alternatives)) = object.get_mut("anyOf") else { return };
    for alternative in alternatives.iter_mut().filter_map(Value::as_object_mut) {
        if !alternative.contains_key("const") {
            alternative.shift_remove("description");
        }
    }
}
