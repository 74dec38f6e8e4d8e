//! The native dialect's part of the JSON Schema: one branch per name of a scheme, and the forms that hold them.

use std::sync::LazyLock;

use qwen_fp8_schemes::conformance::fewest_options;
use qwen_fp8_schemes::{Format, Make, Registration, registered};
use serde_json::{Map, Value, json};

use super::fields::{QUANTIZING_KEYS, RuleKeys};
use crate::recipe::header::header_properties;
use crate::recipe::schema::{closed, object_of, options_of, properties};

/// The schema of a rule under one name of one scheme.
#[derive(Clone)]
pub(in crate::recipe) struct Branch {
    pub(super) name: &'static str,
    registration: &'static Registration,
    pub(super) schema: Value,
}

static RULES: LazyLock<Vec<Branch>> = LazyLock::new(|| {
    let rule_keys = object_of::<RuleKeys>();
    registered()
        .into_iter()
        .flat_map(|registration| {
            std::iter::once(&registration.name).chain(registration.aliases).map(move |name| (*name, registration))
        })
        .map(|(name, registration)| Branch { name, registration, schema: rule(name, registration, &rule_keys) })
        .collect()
});

/// One branch per name of a scheme: an entry of `rules`.
pub(super) fn rule_branches() -> &'static [Branch] {
    &RULES
}

/// One branch per name of a scheme: a recipe that is one rule.
pub(super) fn flat_branches() -> Vec<Branch> {
    let flat = |branch: &Branch| {
        let mut schema = branch.schema.clone();
        schema["title"] = format!("one rule: {}", branch.name).into();
        if let Some(properties) = schema["properties"].as_object_mut() {
            properties.extend(header_properties(Format::Fp8));
        }
        Branch { schema, ..branch.clone() }
    };
    RULES.iter().map(flat).collect()
}

/// The schemes that an `FP8Modifier` may name: all that quantize, but for those that its format refuses.
pub(in crate::recipe) fn fp8_branches() -> Vec<Branch> {
    let fits = |branch: &&Branch| match branch.registration.make {
        Make::Keep | Make::Dequantize => false,
        // Refused in both formats, it may only lack an option that its schema has no example of.
        Make::Quantize(make) => {
            let options = fewest_options(branch.registration).unwrap_or_else(|_| json!({}));
            make(options.clone(), Format::Fp8).is_ok() || make(options, Format::CompressedTensors).is_err()
        }
    };
    RULES.iter().filter(fits).cloned().collect()
}

/// The forms of a native recipe, each complete.
pub(super) fn forms() -> Vec<Value> {
    let mut forms = vec![rules_form(one_of(&RULES))];
    forms.extend(flat_branches().into_iter().map(|branch| branch.schema));
    forms.push(fp8_modifier_form(one_of(&fp8_branches())));
    forms
}

/// `rules:` with this schema for each of them.
pub(super) fn rules_form(rule: Value) -> Value {
    let rules = json!({
        "type": "array",
        "minItems": 1,
        "items": rule,
        "description": "The rules in order of precedence: the first one that takes a tensor decides. What no rule \
                        takes stays unquantized.",
        "examples": [[{ "scheme": "FP8_DYNAMIC", "block_size": 128, "targets": "Linear" }]],
    });
    let mut properties = header_properties(Format::Fp8);
    properties.insert("rules".to_owned(), rules);
    closed("rules", "A recipe with several rules.", &["rules"], properties)
}

/// `FP8Modifier:` at the top, with this schema for what it holds.
pub(super) fn fp8_modifier_form(modifier: Value) -> Value {
    let mut properties = header_properties(Format::Fp8);
    properties.insert("FP8Modifier".to_owned(), fp8_modifier(modifier));
    closed(
        "FP8Modifier",
        "One scheme for the language model; a vision tower stays unquantized.",
        &["FP8Modifier"],
        properties,
    )
}

/// The schema of the key `FP8Modifier`, given the schema of what it holds.
pub(in crate::recipe) fn fp8_modifier(mut modifier: Value) -> Value {
    modifier["description"] =
        "One scheme for the language model, in the official layout; a vision tower stays unquantized.".into();
    modifier["examples"] = json!([{ "scheme": "FP8_DYNAMIC", "block_size": 128, "targets": "Linear", "ignore": [] }]);
    modifier
}

/// `oneOf` of the branches' schemas, and nothing beside it.
pub(in crate::recipe) fn one_of(branches: &[Branch]) -> Value {
    json!({ "oneOf": branches.iter().map(|branch| &branch.schema).collect::<Vec<_>>() })
}

fn rule(name: &str, registration: &Registration, keys: &Map<String, Value>) -> Value {
    let options = options_of(registration);
    let description = if name == registration.name {
        registration.summary.to_owned()
    } else {
        format!("Another name of `{}`. {}", registration.name, registration.summary)
    };
    let mut all = Map::new();
    all.insert("scheme".to_owned(), json!({ "const": name, "description": description }));
    all.extend(properties(&options));
    all.extend(properties(keys));
    if !matches!(registration.make, Make::Quantize(_)) {
        for key in QUANTIZING_KEYS {
            all.shift_remove(key);
        }
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
