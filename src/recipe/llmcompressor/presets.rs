//! Schemes by name, as llm-compressor understands the names.

use std::ops::Range;

use qwen_fp8_schemes::{Registration, registered};

use crate::recipe::build::Builder;
use crate::recipe::diagnostic::Diagnostic;
use crate::recipe::suggest::unknown_scheme;

/// The presets whose input scales llm-compressor takes from data, whatever a scheme of the same name does here.
const CALIBRATED_PRESETS: [&str; 2] = ["FP8", "NVFP4"];

/// Finds the scheme that a preset names, or reports why there is none.
pub(super) fn preset(builder: &mut Builder<'_>, name: &str, at: Range<usize>) -> Option<&'static Registration> {
    if let Some(diagnostic) = calibrated_preset(name) {
        builder.report(diagnostic.at(at));
        return None;
    }
    let found = qwen_fp8_schemes::find(name);
    if found.is_none() {
        builder.report(wrong_scheme(name).at(at));
    }
    found
}

/// The diagnostic, without its place, for a name that is no preset of this tool.
pub(super) fn wrong_scheme(name: &str) -> Diagnostic {
    calibrated_preset(name).unwrap_or_else(|| {
        unknown_scheme(
            name,
            registered().into_iter().map(|registration| registration.name).collect::<Vec<_>>().into_iter(),
        )
    })
}

fn calibrated_preset(name: &str) -> Option<Diagnostic> {
    let preset = CALIBRATED_PRESETS.into_iter().find(|preset| preset.eq_ignore_ascii_case(name))?;
    let diagnostic =
        Diagnostic::error(format!("`{preset}` of llm-compressor needs calibration data for its `input_activations`"));
    Some(diagnostic.help(match preset {
        "NVFP4" => "`NVFP4A16` has the same weights and needs none; a recipe of this tool has `scheme: NVFP4` with `input_scale: 1.0`",
        _ => "`FP8_DYNAMIC` and `FP8_BLOCK` need none",
    }))
}
