//! `quant_method: gptq`, the layouts of AutoGPTQ's and GPTQModel's checkpoints.

use serde_json::Value;

use super::declared::{DeclaredConfig, GroupTarget};
use super::fault::ConfigFault;
use super::method::QuantMethod;
use crate::decode::{TransposedStorage, TransposedWords};
use qwen_fp8_checkpoint::models::Model;
use qwen_fp8_checkpoint::text::shown;

/// The key of rules for some layers: those that begin with `-:` leave layers out.
const DYNAMIC: &str = "dynamic";

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
    let is_full = |value: &Value| value.as_object().is_none_or(|object| !object.is_empty());
    let kept = said(DYNAMIC).map_or(Some(Vec::new()), kept);
    if kept.is_none() {
        unchecked(DYNAMIC, "with other arguments for some layers".to_owned());
        return None;
    }
    if said("rotation").is_some_and(is_full) {
        unchecked("rotation", "of rotated weights".to_owned());
        return None;
    }
    let kept = kept.map(Value::from).unwrap_or_default();
    let form = TransposedStorage { bits, words: TransposedWords::Columns { less_one, ordered: is("desc_act") } };
    let mut declared =
        DeclaredConfig::transposed(QuantMethod::Gptq, value, form, Some((DYNAMIC, &kept)), model, faults)?;
    if is("lm_head") {
        let head = model.served_name("lm_head");
        declared.groups.iter_mut().for_each(|group| group.targets.push(GroupTarget::Name(head.clone().into_owned())));
    }
    Some(declared)
}

/// Reads the rules of `dynamic` that leave layers out, as regexes; `None` where others give layers arguments of their own.
fn kept(dynamic: &Value) -> Option<Vec<String>> {
    let rules = dynamic.as_object()?.keys();
    rules.map(|rule| rule.strip_prefix("-:").map(|regex| format!("re:{regex}"))).collect()
}
