//! The longest context that a model has, as vLLM 0.33 derives it (`config/model.py`, `_get_and_verify_max_len`).

use serde_json::Value;

use super::figures::ConfigFigures;

/// Kinds of scaled positions whose factor is in the length of config.json already.
const ALREADY_SCALED: [&str; 6] = ["su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"];

/// Returns the tokens of context beyond which vLLM does not start; `None` where config.json has no such number.
pub(super) fn of_model(figures: &ConfigFigures<'_>) -> Option<u64> {
    let keys = ["max_position_embeddings", "n_positions", "max_seq_len", "seq_length"];
    let length = figures.number(&keys).ok().flatten().filter(|length| *length > 0)?;
    if figures.text("model_type").is_some_and(|kind| kind.contains("gemma3")) {
        return Some(length);
    }
    let scaled = ["rope_parameters", "rope_scaling"].iter().filter_map(|key| figures.value(key)).find_map(factor);
    Some(scaled.map_or(length, |factor| (length as f64 * factor) as u64))
}

/// The factor of scaled positions, or of those of one kind of layers, which all have the same.
fn factor(positions: &Value) -> Option<f64> {
    let kind = positions.get("rope_type").or_else(|| positions.get("type")).and_then(Value::as_str);
    match kind {
        Some(kind) if ALREADY_SCALED.contains(&kind) => None,
        Some(_) => positions.get("factor")?.as_f64().filter(|factor| (1.0..1e6).contains(factor)),
        None => positions.as_object()?.values().filter(|value| value.is_object()).find_map(factor),
    }
}
