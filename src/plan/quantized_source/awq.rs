//! `quant_method: awq`: the checkpoints of AutoAWQ, in its layout `gemm`.

use qwen_fp8_schemes::WordOrder;
use serde_json::Value;

use crate::checkpoint::text::shown;

use super::group::SourceGroup;
use super::layout::TransposedLayout;
use super::transposed::{TransposedMethod, group_strategy};

/// Reads what the config declares; keys that are left out have AutoAWQ's defaults.
pub(super) fn read(value: &Value) -> Result<Vec<SourceGroup>, String> {
    let said = |key: &str| value.get(key).filter(|value| !value.is_null());
    if let Some(bits) = said("bits").filter(|bits| bits.as_u64() != Some(4)) {
        return Err(format!("AWQ with {bits} bits cannot be read; AutoAWQ itself knows 4"));
    }
    // AutoAWQ's word for the layout, and GPTQModel's.
    for key in ["version", "checkpoint_format", "format"] {
        match said(key) {
            Some(version) if !version.as_str().is_some_and(|version| version.eq_ignore_ascii_case("gemm")) => {
                return Err(format!(
                    "AWQ in the layout {} cannot be read, that of `gemm` can: AutoAWQ writes it with `version: GEMM`",
                    shown(version.as_str().unwrap_or("?"))
                ));
            }
            _ => {}
        }
    }
    if said("zero_point") == Some(&Value::Bool(false)) {
        return Err("AWQ without zero points (`zero_point: false`) cannot be read; `convert_checkpoint` of \
                    compressed-tensors 0.20 makes `pack-quantized` of it with `AutoAWQConverter`, and that can"
            .to_owned());
    }
    let method = TransposedMethod {
        name: "AWQ",
        storage_format: "awq",
        bits: 4,
        is_symmetric: false,
        strategy: group_strategy(value, 128)?,
        words: TransposedLayout { order: WordOrder::Awq, zeros_less_one: false },
        groups_of_columns: None,
    };
    Ok(vec![method.group()])
}
