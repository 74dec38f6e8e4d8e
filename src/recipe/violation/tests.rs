//! Holds violations against the `jsonschema` crate: the same values are refused, at the same places.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::recipe::recipe_schema;

/// Where the crate finds something, of keywords that hold for a value itself.
fn places(schema: &Value, instance: &Value) -> BTreeSet<String> {
    let validator = jsonschema::draft7::new(schema).unwrap();
    validator.iter_errors(instance).map(|error| error.instance_path().as_str().to_owned()).collect()
}

fn own_places(schema: &Value, instance: &Value) -> BTreeSet<String> {
    Checker::default().violations(schema, instance, "").into_iter().map(|violation| violation.pointer).collect()
}

/// A schema for each keyword, and those that `schemas` of recipes combine.
fn schemas() -> Vec<Value> {
    vec![
        json!(true),
        json!(false),
        json!({ "type": "integer" }),
        json!({ "type": ["number", "null"] }),
        json!({ "const": 1 }),
        json!({ "const": "a" }),
        json!({ "enum": [1.5, "a", null, [1]] }),
        json!({ "minimum": 2, "maximum": 3.5 }),
        json!({ "maximum": u64::MAX }),
        json!({ "minLength": 2, "maxLength": 3 }),
        json!({ "minItems": 1, "maxItems": 2, "items": { "type": "integer" } }),
        json!({ "minProperties": 1, "maxProperties": 2 }),
        json!({ "pattern": "b+$" }),
        json!({ "not": { "type": "string" } }),
        json!({ "propertyNames": { "enum": ["a", "b"] } }),
        json!({ "required": ["a", "b"] }),
        json!({ "properties": { "a": { "type": "integer" } } }),
        json!({ "properties": { "a": {} }, "patternProperties": { "^b": { "type": "string" } }, "additionalProperties": false }),
        json!({ "patternProperties": { "a": { "minLength": 2 }, "b": false }, "additionalProperties": { "type": "null" } }),
        json!({ "anyOf": [{ "type": "string" }, { "minimum": 3 }, { "type": "null" }] }),
        json!({ "oneOf": [{ "type": "string" }, { "minLength": 2 }] }),
        json!({ "items": { "properties": { "a": { "anyOf": [{ "const": true }, { "items": { "const": 1 } }] } } } }),
        json!({ "title": "a", "description": "b", "$comment": "c", "examples": [1], "default": 2, "defaultSnippets": [] }),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-1_i64..6).prop_map(Value::from),
        prop::sample::select(vec![json!(1.0), json!(1.5), json!(3.5), json!(-0.0), json!(u64::MAX), json!(1e300)]),
        prop::sample::select(vec!["", "a", "ab", "bbb", "äb", "abbbb"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop::sample::select(vec!["a", "b", "ab", "c/d~"]).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key, inner, 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_breaks_a_schema_where_the_crate_says(value in any_value()) {
        for schema in schemas() {
            prop_assert_eq!(unknown_keyword(&schema), None);
            prop_assert_eq!(own_places(&schema, &value), places(&schema, &value), "{} {}", schema, value);
        }
    }
}

/// All documents that lie one change beside `document`: a value of another kind, a key gone or added, in any place.
fn neighbours(document: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    let others =
        [json!(null), json!(0), json!(8), json!(2.5), json!("x"), json!("128 x 128"), json!([]), json!([1]), json!({})];
    all.extend(others.iter().cloned());
    match document {
        Value::Object(map) => {
            for (key, value) in map {
                let without = || map.iter().filter(|(other, _)| *other != key);
                all.push(Value::Object(without().map(|(key, value)| (key.clone(), value.clone())).collect()));
                for other in neighbours(value) {
                    let mut changed = map.clone();
                    changed.insert(key.clone(), other);
                    all.push(Value::Object(changed));
                }
            }
            for key in ["other", "block_size", "a_modifiers"] {
                let mut changed = map.clone();
                changed.insert(key.to_owned(), json!("x"));
                all.push(Value::Object(changed));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                for other in neighbours(item) {
                    let mut changed = items.clone();
                    changed[index] = other;
                    all.push(Value::Array(changed));
                }
            }
        }
        _ => {}
    }
    all
}

#[test]
fn recipes_beside_right_ones_are_refused_where_the_crate_says() {
    let schema = recipe_schema();
    assert_eq!(unknown_keyword(&schema), None);
    let validator = jsonschema::draft7::new(&schema).unwrap();
    let checker = Checker::default();
    let (mut refused, mut accepted) = (0, 0);
    for recipe in [
        json!({ "version": 1, "model": "a", "format": "fp8", "max_shard_size": "5GB", "rules": [
            { "scheme": "FP8_DYNAMIC", "block_size": [128, 128], "targets": ["Linear"], "ignore": "lm_head" },
            { "scheme": "W4A16", "targets": "Linear", "optional": true },
        ] }),
        json!({ "FP8Modifier": { "scheme": "FP8_DYNAMIC", "targets": "Linear" } }),
        json!({ "a_stage": { "b_modifiers": { "QuantizationModifier": { "ignore": ["lm_head"], "config_groups": {
            "group_0": { "targets": ["Linear"], "weights": { "num_bits": 8, "type": "float", "strategy": "channel" } },
        } } } } }),
    ] {
        for document in std::iter::once(recipe.clone()).chain(neighbours(&recipe)) {
            let violations = checker.violations(&schema, &document, "");
            let places: BTreeSet<_> = violations.into_iter().map(|violation| violation.pointer).collect();
            let wanted: BTreeSet<_> =
                validator.iter_errors(&document).map(|error| error.instance_path().as_str().to_owned()).collect();
            *if wanted.is_empty() { &mut accepted } else { &mut refused } += 1;
            assert_eq!(places, wanted, "{document}");
        }
    }
    assert!(refused > 300 && accepted > 40, "{refused} refused, {accepted} accepted");
}

#[test]
fn a_keyword_that_is_not_known_is_named_wherever_it_stands() {
    for (schema, keyword) in [
        (json!({ "$ref": "#/definitions/a" }), "$ref"),
        (json!({ "properties": { "if": { "items": { "multipleOf": 2 } } } }), "multipleOf"),
        (json!({ "anyOf": [{}, { "not": { "contains": {} } }] }), "contains"),
        (json!({ "additionalProperties": { "pattern": "(" } }), "pattern"),
        (json!({ "patternProperties": { "[": {} } }), "patternProperties"),
        (json!({ "items": [{}] }), "items"),
        (json!({ "minLength": -1 }), "minLength"),
    ] {
        assert_eq!(unknown_keyword(&schema), Some(keyword), "{schema}");
    }
}
