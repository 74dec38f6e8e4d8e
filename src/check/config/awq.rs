//! `quant_method: awq`, the layout `gemm` of AutoAWQ's checkpoints.

use serde_json::Value;

use super::declared::DeclaredConfig;
use super::fault::ConfigFault;
use super::method::QuantMethod;
use crate::decode::{TransposedStorage, TransposedWords};
use qwen_fp8_checkpoint::models::Model;

/// The key that holds the list of unquantized modules.
const LIST: &str = "modules_to_not_convert";

pub(super) fn read(value: &Value, model: &Model, faults: &mut Vec<ConfigFault>) -> Option<DeclaredConfig> {
    let said = |key: &str| value.get(key).filter(|value| !value.is_null());
    let is_gemm = |text: &Value| text.as_str().is_some_and(|text| text.eq_ignore_ascii_case("gemm"));
    let mut unchecked = |key: &str, what: String| {
        faults.push(ConfigFault::unchecked(format!("AWQ {what} is not checked"), &format!("/{key}")));
    };
    for key in ["version", "checkpoint_format", "format"] {
        if let Some(layout) = said(key).filter(|layout| !is_gemm(layout)) {
            unchecked(key, format!("in the layout {layout}"));
            return None;
        }
    }
    if let Some(bits) = said("bits").filter(|bits| bits.as_u64() != Some(4)) {
        unchecked("bits", format!("with {bits} bits"));
        return None;
    }
    if said("zero_point") == Some(&Value::Bool(false)) {
        unchecked("zero_point", "without zero points".to_owned());
        return None;
    }
    let form = TransposedStorage { bits: 4, words: TransposedWords::Rows };
    let list = said(LIST).map(|list| (LIST, list));
    DeclaredConfig::transposed(QuantMethod::Awq, value, form, list, model, faults)
}
