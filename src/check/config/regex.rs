//! Regexes of a config.

use qwen_fp8_checkpoint::models::LayerKind;
use qwen_fp8_checkpoint::pattern::Pattern;

/// Parses a regex, and tries it: one that gives up on names is refused with the reason.
pub(super) fn regex(text: &str) -> Result<Pattern, String> {
    let regex = Pattern::parse_upstream(text).map_err(|error| error.to_string())?;
    // A pattern that backtracks without end does so on a long and regular name; better here than at every module.
    let probe = "model.language_model.layers.0.mlp.experts.000000000000000000000000000.gate_proj";
    regex.matches(probe, LayerKind::Other).map_err(|error| error.to_string())?;
    Ok(regex)
}
