//! Hints for llm-compressor's dialect: the parts that need calibration data, and the keys in the wrong place.

use serde_json::Value;

use super::presets::wrong_scheme;
use crate::checkpoint::text::unquoted;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::document::Document;
use crate::recipe::explain::Hints;
use crate::recipe::front_end::Misplaced;
use crate::recipe::native::NativeHints;

/// The modifiers that observe activations, or train.
const CALIBRATED: [&str; 10] = [
    "AWQModifier",
    "AutoRoundModifier",
    "AutoSmoothQuantModifier",
    "ConstantPruningModifier",
    "GPTQModifier",
    "IMatrixGatherer",
    "MagnitudePruningModifier",
    "SmoothQuantModifier",
    "SparseGPTModifier",
    "WandaPruningModifier",
];

/// The dialect's [`Hints`].
pub(super) struct StageHints {
    /// Help for keys that belong to some dialect, but elsewhere.
    pub(super) misplaced: Misplaced,
    /// Hints for the native rule in an `FP8Modifier`.
    pub(super) native: NativeHints,
}

impl Hints for StageHints {
    fn instead(&self, pointer: &str, document: &Document) -> Option<Diagnostic> {
        explain(pointer, document)
    }

    fn misplaced(&self, pointer: &str, key: &str, schema: &Value) -> Option<String> {
        if pointer.ends_with("_stage")
            && let Some(help) = (self.misplaced)(key)
        {
            return Some(help);
        }
        self.native.misplaced(pointer, key, schema)
    }

    fn missing(&self, key: &str, schema: &Value) -> Option<String> {
        self.native.missing(key, schema)
    }

    fn foreign(&self, key: &str, schema: &Value) -> Option<String> {
        self.native.foreign(key, schema)
    }
}

/// Help for a key that belongs elsewhere in llm-compressor's nesting.
pub(super) fn misplaced(key: &str) -> Option<String> {
    const NESTING: &str = "llm-compressor's nesting is `quant_stage:`, `quant_modifiers:`, `QuantizationModifier:`";
    if let Some(stage) = key.strip_suffix("_stages") {
        return Some(format!("did you mean `{}_stage`?", unquoted(stage)));
    }
    let inner = key.ends_with("_modifiers") || key.ends_with("_modifier") || key == "modifiers";
    let modifier = key.ends_with("Modifier") && key != "FP8Modifier" && key.len() < 40;
    (inner || modifier || key == "config_groups").then(|| NESTING.to_owned())
}

/// The diagnostic for a part of a recipe that llm-compressor supports and this tool does not, if `pointer` is one.
fn explain(pointer: &str, document: &Document) -> Option<Diagnostic> {
    let tokens: Vec<_> = pointer.split('/').skip(1).collect();
    let [stage, group, modifier, fields @ ..] = tokens.as_slice() else { return None };
    if !stage.ends_with("_stage") || !group.ends_with("_modifiers") {
        return None;
    }
    let value = document.value.pointer(pointer)?;
    match fields {
        [] if CALIBRATED.contains(modifier) => Some(
            Diagnostic::error(format!("`{modifier}` needs calibration data"))
                .at(document.spans.key(pointer))
                .help("this tool supports `QuantizationModifier`, as far as it needs no data"),
        ),
        [] if *modifier != "QuantizationModifier" && *modifier != "FP8Modifier" => Some(
            Diagnostic::error(format!("the modifier `{}` is unknown", unquoted(modifier)))
                .at(document.spans.key(pointer))
                .help("this tool supports `QuantizationModifier` and `FP8Modifier`"),
        ),
        ["kv_cache_scheme"] if !value.is_null() => Some(
            Diagnostic::error("`kv_cache_scheme` needs calibration data")
                .at(document.spans.key(pointer))
                .help("`kv_cache: fp8` at the top of the recipe asks servers for an FP8 cache under scales of one, which need none")
                .help("else leave it out, or set it to null"),
        ),
        ["scheme"] if *modifier == "QuantizationModifier" => {
            let name = value.as_str()?;
            Some(wrong_scheme(name).at(document.spans.value(pointer)))
        }
        ["scheme", name] if *modifier == "QuantizationModifier" => {
            Some(wrong_scheme(name).at(document.spans.key(pointer)))
        }
        _ => None,
    }
}
