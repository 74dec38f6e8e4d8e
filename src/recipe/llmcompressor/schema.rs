//! llm-compressor's part of the JSON Schema: its stages of groups of modifiers.

use qwen_fp8_schemes::Format;
use serde_json::{Value, json};

use super::fields::Modifier;
use crate::recipe::header::{header_keys, header_properties};
use crate::recipe::native::{fp8_branches, fp8_modifier, one_of};
use crate::recipe::schema::{closed, object_of};

/// The one form of a recipe of llm-compressor, complete.
pub(super) fn forms() -> Vec<Value> {
    vec![stages_form(one_of(&fp8_branches()))]
}

/// llm-compressor's stages, with this schema for what an `FP8Modifier` in one holds.
pub(super) fn stages_form(modifier: Value) -> Value {
    let mut quantization = object_of::<Modifier>();
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
        header_properties(Format::CompressedTensors),
    );
    form["patternProperties"] = json!({ "_stage$": stage });
    // At least one stage: some key is none of the others.
    form["not"] = json!({ "propertyNames": { "enum": header_keys().collect::<Vec<_>>() } });
    form
}
