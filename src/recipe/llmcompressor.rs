//! llm-compressor's dialect: stages of groups of modifiers, as far as they need no calibration data.
//!
//! A later modifier overrides an earlier one, so its rules come first. Beside llm-compressor's `QuantizationModifier`, a
//! stage may hold this tool's own `FP8Modifier`.

use qwen_fp8_schemes::Format;
use serde_json::{Map, Value, json};

use crate::recipe::build::{Builder, Understood, build};
use crate::recipe::document::{Document, child};
use crate::recipe::front_end::{FrontEnd, Misplaced};
use crate::recipe::native::{NativeHints, fp8_branches, fp8_modifier_rules, validate_rule};
use crate::recipe::policy::Dialect;
use crate::recipe::rule::Rule;
use crate::recipe::validate::Validation;

mod arguments;
mod fields;
mod groups;
mod hints;
mod presets;
mod rules;
mod schema;
mod spellings;

/// llm-compressor's front end.
pub(super) struct LlmCompressor;

impl FrontEnd for LlmCompressor {
    fn recognizes(&self, root: &Map<String, Value>) -> bool {
        // `rules:` is native whatever stands beside it.
        !root.contains_key("rules") && root.keys().any(|key| key.ends_with("_stage"))
    }

    fn forms(&self) -> Vec<Value> {
        schema::forms()
    }

    fn understand(&self, document: &Document, misplaced: Misplaced) -> Understood {
        let modifiers = modifiers(document);
        let hints = hints::StageHints { misplaced, native: NativeHints { others: misplaced } };
        let mut validation = Validation::new(document, &hints);
        validation.form(&schema::stages_form(json!({ "type": "object" })));
        for (pointer, _) in modifiers.iter().filter(|(_, name)| *name == "FP8Modifier") {
            validate_rule(&mut validation, pointer, &fp8_branches());
        }
        // Stages that hold nothing of llm-compressor's are native rules in its nesting.
        let is_upstream = modifiers.iter().any(|(_, name)| *name == "QuantizationModifier");
        let (dialect, format) = if is_upstream {
            (Dialect::LlmCompressor, Some(Format::CompressedTensors))
        } else {
            (Dialect::Native, None)
        };
        build(document, validation.finish(), dialect, format, |builder| rules_of(builder, &modifiers))
    }

    fn misplaced(&self, key: &str) -> Option<String> {
        hints::misplaced(key)
    }
}

fn rules_of(builder: &mut Builder<'_>, modifiers: &[(String, &str)]) -> Vec<Rule> {
    let mut all = Vec::new();
    for (pointer, name) in modifiers.iter().rev() {
        match *name {
            _ if builder.is_broken(pointer) => {}
            "FP8Modifier" => all.extend(fp8_modifier_rules(builder, pointer)),
            "QuantizationModifier" => all.extend(rules::rules(builder, pointer)),
            // Validation refuses every other name.
            _ => {}
        }
    }
    all
}

/// The modifiers of all stages in the order in which they run, each with its pointer and class name.
fn modifiers(document: &Document) -> Vec<(String, &str)> {
    let mut all = Vec::new();
    let root = document.value.as_object().into_iter().flatten();
    for (stage, groups) in root.filter(|(key, _)| key.ends_with("_stage")) {
        for (group, modifiers) in groups.as_object().into_iter().flatten() {
            for name in modifiers.as_object().into_iter().flat_map(Map::keys) {
                all.push((child(&child(&child("", stage), group), name), name.as_str()));
            }
        }
    }
    all
}
