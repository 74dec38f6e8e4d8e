//! What programs read: objects of JSON that carry a version, and the JSON Schema of each.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The version of every JSON output. It rises when a field goes or changes its meaning; new fields do not raise it.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// The content of an object that a command prints for programs.
pub(super) trait JsonOutput: Serialize + JsonSchema {
    /// The title of its schema, which names the command that prints it.
    const TITLE: &'static str;
}

/// An output with its version, which comes first.
#[derive(Debug, Serialize)]
pub(super) struct Versioned<'a, T> {
    schema_version: u32,
    #[serde(flatten)]
    content: &'a T,
}

impl<'a, T: JsonOutput> Versioned<'a, T> {
    pub(super) fn new(content: &'a T) -> Self {
        Self { schema_version: SCHEMA_VERSION, content }
    }
}

/// The JSON Schema of an output, version included.
pub(super) fn schema_of<T: JsonOutput>() -> Value {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<T>().to_value();
    let Some(object) = schema.as_object_mut() else { return schema };
    object.insert("title".to_owned(), T::TITLE.into());
    let mut properties = Map::new();
    properties.insert(
        "schema_version".to_owned(),
        json!({
            "description": "The version of the outputs: it rises when a field goes or changes its meaning.",
            "const": SCHEMA_VERSION,
        }),
    );
    if let Some(Value::Object(of_content)) = object.remove("properties") {
        properties.extend(of_content);
    }
    object.insert("properties".to_owned(), properties.into());
    match object.get_mut("required").and_then(Value::as_array_mut) {
        Some(required) => required.insert(0, "schema_version".into()),
        None => drop(object.insert("required".to_owned(), json!(["schema_version"]))),
    }
    schema
}
