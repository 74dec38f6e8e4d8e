//! `quant_method: compressed-tensors`, the layout of llm-compressor's checkpoints.

use serde_json::Value;

use super::declared::{ConfigGroup, DeclaredConfig, GroupTarget};
use super::fault::{ConfigFault, escape};
use super::ignore_list::IgnoreList;
use super::method::QuantMethod;
use super::regex::regex;
use qwen_fp8_checkpoint::models::Model;
use qwen_fp8_checkpoint::text::shown;

pub(super) fn read(value: &Value, model: &Model, faults: &mut Vec<ConfigFault>) -> Option<DeclaredConfig> {
    let status = value.get("quantization_status").and_then(Value::as_str);
    if status != Some("compressed") {
        let message = match status {
            Some(other) => format!("`quantization_status` is {}, not `compressed`", shown(other)),
            None => "`quantization_status: compressed` is missing".to_owned(),
        };
        faults.push(ConfigFault::invalid(message, "/quantization_status"));
    }
    let sparse = value.get("sparsity_config").and_then(|sparsity| sparsity.get("targets"));
    if sparse.and_then(Value::as_array).is_some_and(|targets| !targets.is_empty()) {
        let message = "`sparsity_config` has targets, and servers no longer support sparsity";
        faults.push(ConfigFault::invalid(message, "/sparsity_config/targets"));
    }
    if let Some(scheme) = value.get("kv_cache_scheme").filter(|scheme| !scheme.is_null()) {
        // vLLM 0.33 raises on any other as it builds the first attention layer, wherever the cache stays unquantized too.
        let text = |key: &str| scheme.get(key).and_then(Value::as_str);
        let is_fp8 = scheme.get("num_bits").and_then(Value::as_u64) == Some(8) && text("type") == Some("float");
        let is_symmetric = scheme.get("symmetric") == Some(&Value::Bool(true));
        if !is_fp8 || !is_symmetric || !matches!(text("strategy"), Some("tensor" | "attn_head")) {
            let message = "`kv_cache_scheme` is not symmetric 8-bit float with the strategy `tensor` or `attn_head`: vLLM refuses it";
            faults.push(ConfigFault::invalid(message, "/kv_cache_scheme"));
        }
    }
    let Some(declared) = value.get("config_groups").and_then(Value::as_object).filter(|groups| !groups.is_empty())
    else {
        let message = "`config_groups` is missing or empty: no layer is declared as quantized";
        faults.push(ConfigFault::invalid(message, "/config_groups"));
        return None;
    };
    let mut groups = Vec::new();
    for (name, group) in declared {
        let mut reader = GroupReader { pointer: format!("/config_groups/{}", escape(name)), model, faults };
        groups.push(reader.group(group, value)?);
    }
    let list = value.get("ignore").filter(|list| !list.is_null()).map(|list| ("ignore", list));
    let ignored = IgnoreList::read(QuantMethod::CompressedTensors, model, list, faults);
    Some(DeclaredConfig {
        method: QuantMethod::CompressedTensors,
        ignored,
        model: model.clone(),
        groups,
        others: Vec::new(),
    })
}

/// The reading of one group.
pub(super) struct GroupReader<'a> {
    /// JSON pointer of the group below `quantization_config`.
    pub(super) pointer: String,
    pub(super) model: &'a Model,
    pub(super) faults: &'a mut Vec<ConfigFault>,
}

impl GroupReader<'_> {
    fn group(&mut self, group: &Value, config: &Value) -> Option<ConfigGroup> {
        let named = |value: &Value| value.get("format").and_then(Value::as_str).map(str::to_owned);
        let format = named(group).or_else(|| named(config));
        if format.is_none() {
            self.bad("neither the config nor the group has a `format`", "/format");
        } else if format.as_deref() == Some("mixed-precision") {
            self.bad("the config is `mixed-precision`, and the group does not say which format it has", "/format");
            return None;
        }
        // Without a format vLLM takes 8-bit float weights for FP8, so that the rest of the group can still be
        // checked.
        let form = self.form(group, format.as_deref().unwrap_or("float-quantized"))?;
        Some(ConfigGroup { targets: self.targets(group), form })
    }

    fn targets(&mut self, group: &Value) -> Vec<GroupTarget> {
        let Some(listed) = group.get("targets").and_then(Value::as_array).filter(|targets| !targets.is_empty()) else {
            self.bad("`targets` is missing or empty: the group quantizes nothing", "/targets");
            return Vec::new();
        };
        let mut targets = Vec::new();
        for (index, target) in listed.iter().enumerate() {
            match target.as_str() {
                Some("Linear") => targets.push(GroupTarget::Linear),
                Some(text) if text.starts_with("re:") => match regex(text) {
                    Ok(regex) => targets.push(GroupTarget::Regex(regex.served)),
                    Err(reason) => self.bad(&format!("{}: {reason}", shown(text)), &format!("/targets/{index}")),
                },
                Some(name) => targets.push(GroupTarget::Name(self.model.served_name(name).into_owned())),
                None => self.bad("a target is not text", &format!("/targets/{index}")),
            }
        }
        targets
    }

    pub(super) fn bad(&mut self, message: &str, below: &str) {
        let pointer = format!("{}{below}", self.pointer);
        self.faults.push(ConfigFault::invalid(message, &pointer));
    }

    pub(super) fn unknown(&mut self, message: &str, below: &str) {
        let pointer = format!("{}{below}", self.pointer);
        self.faults.push(ConfigFault::unchecked(message, &pointer));
    }
}
