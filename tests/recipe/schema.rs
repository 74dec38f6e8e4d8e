//! The checked-in JSON Schema: fresh, closed, documented, and of one mind with the reader of recipes.

use std::path::Path;
use std::sync::LazyLock;

use proptest::prelude::*;
use qwen_fp8::recipe::{Recipe, RecipeText, recipe_schema};
use serde_json::{Map, Value, json};

const SCHEMA: &str = include_str!("../../schemas/recipe.schema.json");

#[test]
fn the_checked_in_schema_is_fresh() {
    let generated = format!("{}\n", serde_json::to_string_pretty(&recipe_schema()).unwrap());
    assert!(
        generated == SCHEMA,
        "schemas/recipe.schema.json is stale: run `cargo run -- schema > schemas/recipe.schema.json`"
    );
}

#[test]
fn the_schema_follows_its_meta_schema() {
    jsonschema::meta::validate(&recipe_schema()).unwrap();
}

/// Calls `visit` with every schema inside of `schema`, and how it is called.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&Map<String, Value>, &str)) {
    let Some(object) = schema.as_object() else { return };
    visit(object, path);
    for keyword in ["properties", "patternProperties"] {
        for (key, value) in object.get(keyword).and_then(Value::as_object).into_iter().flatten() {
            walk(value, &format!("{path}/{key}"), visit);
        }
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(value) = object.get(keyword) {
            walk(value, &format!("{path}/*"), visit);
        }
    }
    for keyword in ["anyOf", "oneOf"] {
        for (index, value) in object.get(keyword).and_then(Value::as_array).into_iter().flatten().enumerate() {
            walk(value, &format!("{path}|{index}"), visit);
        }
    }
}

#[test]
fn every_object_is_closed() {
    walk(&recipe_schema(), "", &mut |schema, path| {
        if schema.contains_key("properties") || schema.contains_key("patternProperties") {
            assert_eq!(schema.get("additionalProperties"), Some(&json!(false)), "{path}");
        }
    });
}

#[test]
fn every_field_is_described_with_a_default_or_an_example() {
    let mut fields = 0;
    walk(&recipe_schema(), "", &mut |schema, path| {
        for (key, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            fields += 1;
            let described = field["description"].as_str().is_some_and(|text| text.len() > 10 && !text.contains('\n'));
            assert!(described, "{path}/{key} has no description of one paragraph");
            let shown = ["examples", "const"].iter().any(|keyword| field.get(keyword).is_some());
            assert!(shown, "{path}/{key} has no example");
            assert_ne!(field.get("default"), Some(&Value::Null), "{path}/{key}: editors insert a null");
        }
    });
    assert!(fields > 100, "the schema was walked: {fields}");
}

#[test]
fn nothing_stands_beside_a_one_of_of_rules() {
    let schema = recipe_schema();
    let rule = &schema["oneOf"][0]["properties"]["rules"]["items"];
    assert_eq!(rule.as_object().unwrap().len(), 1);
    for branch in rule["oneOf"].as_array().unwrap() {
        assert!(branch["title"].is_string() && branch["description"].is_string());
        assert_eq!(branch["properties"]["scheme"]["const"], branch["title"]);
        assert!(branch["required"].as_array().unwrap().contains(&json!("targets")));
    }
    assert!(!SCHEMA.contains("\"$ref\""));
}

fn accepted_by_schema(value: &Value) -> bool {
    static VALIDATOR: LazyLock<jsonschema::Validator> =
        LazyLock::new(|| jsonschema::draft7::new(&recipe_schema()).unwrap());
    VALIDATOR.is_valid(value)
}

fn accepted_by_reader(value: &Value) -> bool {
    Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), value.to_string())).is_ok()
}

#[test]
fn schema_and_reader_agree() {
    let flat = |key: &str, value: Value| {
        let mut recipe = json!({ "scheme": "FP8_DYNAMIC", "targets": "Linear" });
        recipe[key] = value;
        recipe
    };
    let modifier = |key: &str, value: Value| {
        let mut modifier = json!({ "scheme": "fp8_dynamic" });
        modifier[key] = value;
        json!({ "a_stage": { "b_modifiers": { "QuantizationModifier": modifier } } })
    };
    let weights = |key: &str, value: Value| {
        let mut weights = json!({ "num_bits": 8, "type": "float", "strategy": "channel" });
        weights[key] = value;
        json!({ "a_stage": { "b_modifiers": { "QuantizationModifier": {
            "config_groups": { "group_0": { "targets": ["Linear"], "weights": weights } },
        }}}})
    };
    for (recipe, accepted) in [
        (flat("ignore", json!([])), true),
        (flat("ignore", json!("lm_head")), true),
        (flat("ignore", json!([1])), false),
        (flat("ignore", json!(null)), false),
        (flat("targets", json!([])), false),
        (flat("targets", json!("")), false),
        (flat("targets", json!([""])), false),
        (flat("optional", json!(true)), true),
        (flat("optional", json!("true")), false),
        (flat("block_size", json!(128)), true),
        (flat("block_size", json!([128, 128])), true),
        (flat("block_size", json!([128])), false),
        (flat("block_size", json!([128, 128, 128])), false),
        (flat("block_size", json!(128.0)), true),
        (flat("block_size", json!(128.5)), false),
        (flat("block_size", json!(0)), false),
        (flat("block_size", json!(-1)), false),
        (flat("block_size", json!("128")), false),
        (flat("block_size", json!(null)), false),
        (flat("block_size", json!(1_u64 << 40)), false),
        (flat("scale_dtype", json!("bf16")), true),
        (flat("scale_dtype", json!("BF16")), false),
        (flat("version", json!(1)), true),
        (flat("version", json!(2)), false),
        (flat("version", json!("1")), false),
        (flat("model", json!("a/b")), true),
        (flat("model", json!("")), false),
        (flat("model", json!(null)), false),
        (flat("format", json!("compressed-tensors")), true),
        (flat("format", json!("gguf")), false),
        (flat("max_shard_size", json!("5GB")), true),
        (flat("max_shard_size", json!("4 GiB")), true),
        (flat("max_shard_size", json!("5gb")), false),
        (flat("max_shard_size", json!("0GB")), false),
        (flat("max_shard_size", json!(1)), true),
        (flat("max_shard_size", json!(0)), false),
        (flat("max_shard_size", json!(1_u64 << 60)), false),
        (flat("max_shard_size", json!("999999TiB")), true),
        (flat("$schema", json!("../../schemas/recipe.schema.json")), true),
        (flat("$schema", json!(1)), false),
        (flat("scheme", json!("fp8_dynamic")), false),
        (flat("rules", json!([])), false),
        (json!({}), false),
        (json!({ "model": "a" }), false),
        (json!([]), false),
        (json!(null), false),
        (json!({ "rules": [] }), false),
        (json!({ "rules": [1] }), false),
        (json!({ "rules": [{ "scheme": "PASSTHROUGH", "targets": "Norm" }] }), true),
        (json!({ "rules": [{ "scheme": "PASSTHROUGH", "targets": "Norm", "block_size": 1 }] }), false),
        (json!({ "FP8Modifier": { "scheme": "FP8_DYNAMIC", "targets": "Linear", "ignore": [] } }), true),
        (json!({ "FP8Modifier": { "scheme": "PASSTHROUGH", "targets": "Linear" } }), false),
        (json!({ "FP8Modifier": { "targets": "Linear" } }), false),
        (json!({ "FP8Modifier": null }), false),
        (json!({ "a_stage": {} }), false),
        (json!({ "a_stage": { "b_modifiers": {} } }), false),
        (json!({ "a_stage": { "run_type": "oneshot" } }), false),
        (json!({ "a_stage": { "b_modifiers": { "QuantizationModifier": null } } }), false),
        (
            json!({ "a_stage": { "b_modifiers": { "FP8Modifier": { "scheme": "FP8_BLOCK", "targets": "Linear" } } } }),
            true,
        ),
        (modifier("ignore", json!(["lm_head"])), true),
        (modifier("targets", json!("Linear")), true),
        (modifier("targets", json!([])), false),
        (modifier("scheme", json!("Fp8_Block")), true),
        (modifier("scheme", json!("W4A17")), false),
        (modifier("scheme", json!({ "fp8_block": ["Linear"] })), true),
        (modifier("scheme", json!({})), false),
        (modifier("kv_cache_scheme", json!(null)), true),
        (modifier("kv_cache_scheme", json!({ "num_bits": 8 })), false),
        (modifier("bypass_divisibility_checks", json!(false)), true),
        (modifier("bypass_divisibility_checks", json!(0)), true),
        (modifier("bypass_divisibility_checks", json!(2)), false),
        (modifier("sequential_targets", json!([])), false),
        (weights("num_bits", json!("8")), true),
        (weights("num_bits", json!(8.5)), false),
        (weights("symmetric", json!("true")), true),
        (weights("symmetric", json!("Yes")), true),
        (weights("symmetric", json!(1)), true),
        (weights("symmetric", json!(1.0)), true),
        (weights("symmetric", json!(2)), false),
        (weights("symmetric", json!("maybe")), false),
        (weights("dynamic", json!("OFF")), true),
        (weights("strategy", json!("Channel")), true),
        (weights("type", json!("fLoat")), true),
        (weights("type", json!("FLOAT")), true),
        (weights("type", json!("fp")), false),
        (weights("strategy", json!("chanel")), false),
        (weights("block_structure", json!(null)), true),
        (weights("block_structure", json!("128 y 128")), false),
        (weights("observer_kwargs", json!({})), true),
        (weights("observer_kwargs", json!({ "a": 1 })), false),
        (weights("precision", json!(8)), false),
    ] {
        assert_eq!(accepted_by_schema(&recipe), accepted, "schema: {recipe}");
        assert_eq!(accepted_by_reader(&recipe), accepted, "reader: {recipe}");
    }
}

/// Values that are nearly right: of the right keys, often of the wrong type.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-2_i64..300).prop_map(Value::from),
        Just(json!(128)),
        Just(json!(1.5)),
        prop::sample::select(vec![
            "", "Linear", "lm_head", "fp8", "bf16", "f32", "source", "5GB", "dynamic", "none", "x"
        ])
        .prop_map(Value::from),
    ];
    let list = prop::collection::vec(leaf.clone(), 0..3).prop_map(Value::from);
    prop_oneof![3 => leaf, 1 => list]
}

fn any_rule() -> impl Strategy<Value = Value> {
    let keys = prop::sample::select(vec![
        "targets",
        "ignore",
        "optional",
        "block_size",
        "scale_search",
        "scale_dtype",
        "quotient_dtype",
        "activations",
        "model",
        "format",
        "version",
        "max_shard_size",
        "$schema",
        "other",
    ]);
    let scheme = prop::sample::select(vec!["FP8", "FP8_BLOCK", "FP8_DYNAMIC", "PASSTHROUGH", "NONE"]);
    (scheme, prop::collection::vec((keys, any_value()), 0..4)).prop_map(|(scheme, entries)| {
        let mut rule = json!({ "scheme": scheme, "targets": "Linear" });
        for (key, value) in entries {
            rule[key] = value;
        }
        rule
    })
}

proptest! {
    #[test]
    fn what_the_reader_accepts_the_schema_accepts(rule in any_rule(), nested in any::<bool>()) {
        let recipe = if nested { json!({ "rules": [rule] }) } else { rule };
        let by_schema = accepted_by_schema(&recipe);
        let read = Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), recipe.to_string()));
        match read {
            Ok(_) => prop_assert!(by_schema, "{recipe}"),
            // A scheme may refuse options that do not go together, which it says itself.
            Err(error) if by_schema => {
                let said = error.diagnostics.iter().all(|diagnostic| !diagnostic.message.contains("does not follow"));
                prop_assert!(said && error.diagnostics.len() == 1, "{recipe}: {error}");
            }
            Err(error) => prop_assert!(!error.diagnostics.is_empty()),
        }
    }
}
