//! `quant_method: gptq`, the layouts of AutoGPTQ's and GPTQModel's checkpoints.

use serde_json::Value;

use super::declared::{DeclaredConfig, GroupTarget};
use super::fault::ConfigFault;
use super::method::QuantMethod;
use crate::decode::{TransposedStorage, TransposedWords};
use qwen_fp8_checkpoint::models::Model;
use qwen_fp8_checkpoint::text::shown;

pub(super) fn read(value: &Value, model: &Model, faults: &mut Vec<ConfigFault>) -> Option<DeclaredConfig> {
    let said = |key: &str| value.get(key).filter(|value| !value.is_null());
    let is = |key: &str| said(key) == Some(&Value::Bool(true));
    let mut unchecked = |key: &str, what: String| {
        faults.push(ConfigFault::unchecked(format!("GPTQ {what} is not checked"), &format!("/{key}")));
    };
    let bits = match said("bits") {
        Some(bits) if matches!(bits.as_u64(), Some(2 | 4 | 8)) => bits.as_u64()? as u32,
        Some(bits) => {
            unchecked("bits", format!("with {} bits", shown(&bits.to_string())));
            return None;
        }
        None => {
            faults.push(ConfigFault::invalid("`bits` is missing", "/bits"));
            return None;
        }
    };
    let less_one = match said("checkpoint_format").or(said("format")).map_or(Some("gptq"), Value::as_str) {
        Some("gptq") if !is("is_marlin_format") => true,
        Some("gptq_v2") => false,
        other => {
            unchecked("checkpoint_format", format!("in the format {}", shown(other.unwrap_or("?"))));
            return None;
        }
    };
    if said("pack_dtype").is_some_and(|words| !matches!(words.as_str(), Some("int32" | "torch.int32"))) {
        unchecked("pack_dtype", "in words of another size than 32 bits".to_owned());
        return None;
    }
    for (key, what) in [("dynamic", "with other arguments for some layers"), ("rotation", "of rotated weights")] {
        if said(key).is_some_and(|value| value.as_object().is_none_or(|object| !object.is_empty())) {
            unchecked(key, what.to_owned());
            return None;
        }
    }
    let words = TransposedWords::Columns { less_one, ordered: is("desc_act") };
    let mut declared =
        DeclaredConfig::transposed(QuantMethod::Gptq, value, TransposedStorage { bits, words }, model, faults)?;
    if is("lm_head") {
        let head = model.served_name("lm_head");
        declared.groups.iter_mut().for_each(|group| group.targets.push(GroupTarget::Name(head.clone().into_owned())));
    }
    Some(declared)
}
