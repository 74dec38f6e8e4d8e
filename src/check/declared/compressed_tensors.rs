//! `quant_method: compressed-tensors`, llm-compressor's layout.

use serde_json::Value;

use super::{Declared, Group, IgnoreList, Method, Target};
use crate::finding::Finding;
use crate::rules;
use qwen_fp8_checkpoint::models::{LayerKind, served_name};
use qwen_fp8_checkpoint::pattern::Pattern;
use qwen_fp8_checkpoint::text::shown;

pub(super) fn read(value: &Value, findings: &mut Vec<Finding>) -> Option<Declared> {
    let status = value.get("quantization_status").and_then(Value::as_str);
    if status != Some("compressed") {
        let message = match status {
            Some(other) => format!("`quantization_status` is {}, not `compressed`", shown(other)),
            None => "`quantization_status: compressed` is missing".to_owned(),
        };
        findings.push(Finding::new(&rules::BAD_CONFIG, message).config("/quantization_status"));
    }
    let sparse = value.get("sparsity_config").and_then(|sparsity| sparsity.get("targets"));
    if sparse.and_then(Value::as_array).is_some_and(|targets| !targets.is_empty()) {
        let message = "`sparsity_config` has targets: servers dropped sparsity and refuse it";
        findings.push(Finding::new(&rules::BAD_CONFIG, message).config("/sparsity_config/targets"));
    }
    let Some(declared) = value.get("config_groups").and_then(Value::as_object).filter(|groups| !groups.is_empty())
    else {
        let message = "`config_groups` is missing or empty: no layer is declared as quantized";
        findings.push(Finding::new(&rules::BAD_CONFIG, message).config("/config_groups"));
        return None;
    };
    let mut groups = Vec::new();
    for (name, group) in declared {
        let mut reader = Reader { pointer: format!("/config_groups/{}", escape(name)), findings };
        groups.push(reader.group(group, value)?);
    }
    let list = value.get("ignore").filter(|list| !list.is_null()).map(|list| ("ignore", list));
    let list = IgnoreList::read(Method::CompressedTensors, list, findings);
    Some(Declared { method: Method::CompressedTensors, list, groups })
}

/// Reads one group.
pub(super) struct Reader<'a> {
    /// Of the group, below `quantization_config`.
    pub(super) pointer: String,
    pub(super) findings: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    fn group(&mut self, group: &Value, config: &Value) -> Option<Group> {
        let named = |value: &Value| value.get("format").and_then(Value::as_str).map(str::to_owned);
        let format = named(group).or_else(|| named(config));
        if format.is_none() {
            self.bad("neither the config nor the group has a `format`", "/format");
        } else if format.as_deref() == Some("mixed-precision") {
            self.bad("several formats are mixed, and the group does not say which is its own", "/format");
            return None;
        }
        // FP8 is what servers take weights for that no format is named of.
        let form = self.form(group, format.as_deref().unwrap_or("float-quantized"))?;
        Some(Group { targets: self.targets(group), form })
    }

    fn targets(&mut self, group: &Value) -> Vec<Target> {
        let Some(listed) = group.get("targets").and_then(Value::as_array).filter(|targets| !targets.is_empty()) else {
            self.bad("`targets` is missing or empty: the group quantizes nothing", "/targets");
            return Vec::new();
        };
        let mut targets = Vec::new();
        for (index, target) in listed.iter().enumerate() {
            match target.as_str() {
                Some("Linear") => targets.push(Target::Linear),
                Some(text) if text.starts_with("re:") => match regex(text) {
                    Ok(regex) => targets.push(Target::Regex(regex)),
                    Err(reason) => self.bad(&format!("{}: {reason}", shown(text)), &format!("/targets/{index}")),
                },
                Some(name) => targets.push(Target::Name(served_name(name).into_owned())),
                None => self.bad("a target is not text", &format!("/targets/{index}")),
            }
        }
        targets
    }

    pub(super) fn bad(&mut self, message: &str, below: &str) {
        let pointer = format!("{}{below}", self.pointer);
        self.findings.push(Finding::new(&rules::BAD_CONFIG, message).config(&pointer));
    }

    pub(super) fn unknown(&mut self, message: &str, below: &str) {
        let pointer = format!("{}{below}", self.pointer);
        self.findings.push(Finding::new(&rules::UNKNOWN_METHOD, message).config(&pointer));
    }
}

/// A regex that parses and ends.
pub(super) fn regex(text: &str) -> Result<Pattern, String> {
    let regex = Pattern::parse_upstream(text).map_err(|error| error.to_string())?;
    // One that gives up on a name gives up on a long and regular one.
    let probe = "model.language_model.layers.0.mlp.experts.000000000000000000000000000.gate_proj";
    regex.matches(probe, LayerKind::Other).map_err(|error| error.to_string())?;
    Ok(regex)
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
