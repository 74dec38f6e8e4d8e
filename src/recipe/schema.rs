//! What the JSON Schemas of all front ends are made with.
//!
//! Editors complete best from one `oneOf` whose branches are complete and closed each, with a `const` that tells them
//! apart and nothing beside the `oneOf`; hence the repetition in what the front ends make.

use qwen_fp8_schemes::Registration;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

mod tidy;

use tidy::tidy;

/// The JSON Schema of one scheme's options.
pub fn options_schema(registration: &Registration) -> Value {
    (registration.options)(&mut generator()).to_value()
}

/// The options' schema as recipes embed it.
pub(super) fn options_of(registration: &Registration) -> Map<String, Value> {
    let mut generator = generator();
    let schema = (registration.options)(&mut generator);
    finished(schema, &mut generator)
}

/// The schema of a type, as recipes embed it.
pub(super) fn object_of<T: JsonSchema>() -> Map<String, Value> {
    let mut generator = generator();
    let schema = T::json_schema(&mut generator);
    finished(schema, &mut generator)
}

/// The `properties` of the schema of an object.
pub(super) fn properties(object: &Map<String, Value>) -> Map<String, Value> {
    object.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
}

/// The schema of one form of a recipe: a map with these keys and no others.
pub(super) fn closed(title: &str, description: &str, required: &[&str], properties: Map<String, Value>) -> Value {
    json!({
        "title": title,
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true).into_generator()
}

/// The schema in draft-07, without what editors take for a value to insert.
fn finished(mut schema: Schema, generator: &mut SchemaGenerator) -> Map<String, Value> {
    for transform in generator.transforms_mut() {
        transform.transform(&mut schema);
    }
    let mut value = schema.to_value();
    tidy(&mut value);
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
