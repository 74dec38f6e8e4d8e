//! `quant_method: gptq`: the checkpoints of AutoGPTQ, GPTQModel and others.

use qwen_fp8_schemes::WordOrder;
use serde_json::Value;

use crate::checkpoint::text::shown;

use super::group::SourceGroup;
use super::layout::TransposedLayout;
use super::transposed::{TransposedMethod, group_strategy};

/// Reads what the config declares; keys that are left out have transformers' defaults.
pub(super) fn read(value: &Value) -> Result<Vec<SourceGroup>, String> {
    let said = |key: &str| value.get(key).filter(|value| !value.is_null());
    let bits = match said("bits").map(Value::as_u64) {
        None => return Err("GPTQ's `bits` is missing".to_owned()),
        Some(Some(bits @ (2 | 4 | 8))) => bits as u32,
        Some(_) => {
            let bits = said("bits").map(Value::to_string).unwrap_or_default();
            return Err(format!("GPTQ with {} bits cannot be read; 2, 4 and 8 can", shown(&bits)));
        }
    };
    let format = said("checkpoint_format").or(said("format")).map_or(Some("gptq"), Value::as_str);
    let zeros_less_one = match format {
        Some("gptq") => true,
        Some("gptq_v2") => false,
        other => {
            let other = shown(other.unwrap_or("?"));
            return Err(format!("GPTQ's `checkpoint_format` is {other}; `gptq` and `gptq_v2` can be read"));
        }
    };
    if said("is_marlin_format") == Some(&Value::Bool(true)) {
        return Err("GPTQ in Marlin's order of codes (`is_marlin_format`) cannot be read".to_owned());
    }
    if let Some(words) = said("pack_dtype").filter(|words| !matches!(words.as_str(), Some("int32" | "torch.int32"))) {
        return Err(format!("GPTQ in words of {} cannot be read", shown(&words.to_string())));
    }
    // Overrides by regex: bits, groups and symmetry of some layers, or layers that are left out.
    let has = |key: &str| said(key).is_some_and(|value| value.as_object().is_none_or(|object| !object.is_empty()));
    if has("dynamic") {
        return Err("GPTQ with other arguments for some layers (`dynamic`) cannot be read".to_owned());
    }
    // The activations of such a layer are rotated as they come, so that its weights alone are not those of a linear one.
    if has("rotation") {
        return Err("GPTQ of rotated weights (`rotation`) cannot be read".to_owned());
    }
    let is = |key: &str, default| said(key).and_then(Value::as_bool).unwrap_or(default);
    let method = TransposedMethod {
        name: "GPTQ",
        storage_format: "gptq",
        bits,
        is_symmetric: is("sym", true),
        strategy: group_strategy(value, 128)?,
        words: TransposedLayout { order: WordOrder::Gptq, zeros_less_one },
        groups_of_columns: Some(is("desc_act", false)),
    };
    Ok(vec![method.group()])
}
