//! The JSON Schema of recipes, made from the types of the keys and from the schemes that are linked in.
//!
//! Editors complete best from one `oneOf` whose branches are complete and closed each, with a `const` that tells them
//! apart and nothing beside the `oneOf`; hence the repetition.

use qwen_fp8_schemes::{Format, Make, Registration, registered};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::recipe::fields::{FormatName, Header, REQUANTIZE, RuleKeys};
use crate::recipe::llmcompressor;

/// The JSON Schema (draft-07) that recipes are validated against.
pub fn recipe_schema() -> Value {
    let parts = Parts::new();
    let mut forms = vec![parts.rules(one_of(&parts.rules))];
    forms.extend(parts.flat().into_iter().map(|branch| branch.schema));
    forms.push(parts.modifier(one_of(&parts.fp8_modifiers())));
    forms.push(parts.stages(one_of(&parts.fp8_modifiers())));
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "qwen-fp8 recipe",
        "description": "Which quantization scheme takes which layers of a checkpoint.",
        "oneOf": forms,
    })
}

/// The JSON Schema of one scheme's options.
pub fn options_schema(registration: &Registration) -> Value {
    (registration.options)(&mut generator()).to_value()
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true).into_generator()
}

/// The branch for one name of one scheme.
#[derive(Clone)]
pub(super) struct Branch {
    pub(super) name: &'static str,
    pub(super) registration: &'static Registration,
    pub(super) schema: Value,
}

/// What the forms of a recipe are put together from.
pub(super) struct Parts {
    header: Map<String, Value>,
    modifier: Map<String, Value>,
    /// One per name: a rule of `rules`.
    pub(super) rules: Vec<Branch>,
}

impl Parts {
    pub(super) fn new() -> Self {
        let mut generator = generator();
        let rule_keys = object_of::<RuleKeys>(&mut generator);
        let rules = registered()
            .into_iter()
            .flat_map(|registration| {
                std::iter::once(&registration.name).chain(registration.aliases).map(move |name| (*name, registration))
            })
            .map(|(name, registration)| Branch {
                name,
                registration,
                schema: rule(name, registration, &rule_keys, &mut generator),
            })
            .collect();
        Self {
            header: properties(&object_of::<Header>(&mut generator)),
            modifier: object_of::<llmcompressor::Modifier>(&mut generator),
            rules,
        }
    }

    /// `rules:` with this schema for each of them.
    pub(super) fn rules(&self, rule: Value) -> Value {
        let rules = json!({
            "type": "array",
            "minItems": 1,
            "items": rule,
            "description": "The rules in order of precedence: the first one that takes a tensor decides. What no rule \
                            takes stays as it is.",
            "examples": [[{ "scheme": "FP8_DYNAMIC", "block_size": 128, "targets": "Linear" }]],
        });
        let mut properties = self.header(Format::Fp8);
        properties.insert("rules".to_owned(), rules);
        closed("rules", "A recipe with several rules.", &["rules"], properties)
    }

    /// A recipe that is one rule: one branch per scheme.
    pub(super) fn flat(&self) -> Vec<Branch> {
        let flat = |branch: &Branch| {
            let mut schema = branch.schema.clone();
            schema["title"] = format!("one rule: {}", branch.name).into();
            if let Some(properties) = schema["properties"].as_object_mut() {
                properties.extend(self.header(Format::Fp8));
            }
            Branch { schema, ..branch.clone() }
        };
        self.rules.iter().map(flat).collect()
    }

    /// The schemes that an `FP8Modifier` may name: all that quantize, but for those that its format refuses.
    pub(super) fn fp8_modifiers(&self) -> Vec<Branch> {
        let fits = |branch: &&Branch| match branch.registration.make {
            Make::Keep | Make::Dequantize => false,
            // Refused in both formats, it may only lack an option.
            Make::Quantize(make) => {
                make(json!({}), Format::Fp8).is_ok() || make(json!({}), Format::CompressedTensors).is_err()
            }
        };
        self.rules.iter().filter(fits).cloned().collect()
    }

    /// `FP8Modifier:` at the top, with this schema for what it holds.
    pub(super) fn modifier(&self, modifier: Value) -> Value {
        let mut properties = self.header(Format::Fp8);
        properties.insert("FP8Modifier".to_owned(), fp8_modifier(modifier));
        closed(
            "FP8Modifier",
            "One scheme for the language model; a vision tower is kept.",
            &["FP8Modifier"],
            properties,
        )
    }

    /// llm-compressor's stages, with this schema for what an `FP8Modifier` in one holds.
    pub(super) fn stages(&self, modifier: Value) -> Value {
        let mut quantization = self.modifier.clone();
        quantization.insert("title".to_owned(), "QuantizationModifier".into());
        quantization.insert("description".to_owned(), "llm-compressor's quantization without calibration data.".into());
        quantization.insert("additionalProperties".to_owned(), false.into());
        quantization.insert(
            "examples".to_owned(),
            json!([{ "targets": "Linear", "scheme": "FP8_DYNAMIC", "ignore": ["lm_head"] }]),
        );
        let group = json!({
            "type": "object",
            "description": "A group of modifiers.",
            "additionalProperties": false,
            "minProperties": 1,
            "properties": { "QuantizationModifier": quantization, "FP8Modifier": fp8_modifier(modifier) },
        });
        let stage = json!({
            "type": "object",
            "description": "A stage of llm-compressor: groups of modifiers, whose names end in `_modifiers`.",
            "additionalProperties": false,
            "minProperties": 1,
            "patternProperties": { "_modifiers$": group },
        });
        let mut form = closed(
            "llm-compressor",
            "A recipe of llm-compressor, by its own rules of precedence.",
            &[],
            self.header(Format::CompressedTensors),
        );
        form["patternProperties"] = json!({ "_stage$": stage });
        // At least one stage: some key is none of the others.
        form["not"] = json!({ "propertyNames": { "enum": self.header_keys().collect::<Vec<_>>() } });
        form
    }

    /// The keys that every form may have.
    pub(super) fn header_keys(&self) -> impl Iterator<Item = &str> {
        self.header.keys().map(String::as_str)
    }

    fn header(&self, format: Format) -> Map<String, Value> {
        let mut header = self.header.clone();
        header["format"]["default"] = FormatName::of(format).into();
        header
    }
}

/// `oneOf` of the branches' schemas, and nothing beside it.
pub(super) fn one_of(branches: &[Branch]) -> Value {
    json!({ "oneOf": branches.iter().map(|branch| &branch.schema).collect::<Vec<_>>() })
}

fn fp8_modifier(mut modifier: Value) -> Value {
    modifier["description"] =
        "One scheme for the language model, in the official layout; a vision tower is kept.".into();
    modifier["examples"] = json!([{ "scheme": "FP8_DYNAMIC", "block_size": 128, "targets": "Linear", "ignore": [] }]);
    modifier
}

fn closed(title: &str, description: &str, required: &[&str], properties: Map<String, Value>) -> Value {
    json!({
        "title": title,
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn rule(name: &str, registration: &Registration, keys: &Map<String, Value>, generator: &mut SchemaGenerator) -> Value {
    let options = finished((registration.options)(generator), generator);
    let description = match name == registration.name {
        true => registration.summary.to_owned(),
        false => format!("Another name of `{}`. {}", registration.name, registration.summary),
    };
    let mut all = Map::new();
    all.insert("scheme".to_owned(), json!({ "const": name, "description": description }));
    all.extend(properties(&options));
    all.extend(properties(keys));
    if !matches!(registration.make, Make::Quantize(_)) {
        all.shift_remove(REQUANTIZE);
    }
    let mut required = vec![Value::from("scheme")];
    for object in [&options, keys] {
        required.extend(object.get("required").and_then(Value::as_array).into_iter().flatten().cloned());
    }
    json!({
        "title": name,
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": all,
    })
}

fn object_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let schema = T::json_schema(generator);
    finished(schema, generator)
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

/// Drops `default: null`, turns the number formats of Rust into limits, joins the lines of descriptions, and lifts
/// alternatives out of alternatives.
fn tidy(schema: &mut Value) {
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

fn properties(object: &Map<String, Value>) -> Map<String, Value> {
    object.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
}
