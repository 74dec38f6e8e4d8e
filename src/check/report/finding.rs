//! A finding: a rule that a checkpoint breaks, and where.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::{LintRule, Severity};
use qwen_fp8_checkpoint::Checkpoint;
use qwen_fp8_checkpoint::hf_quant_config::HF_QUANT_CONFIG;
use qwen_fp8_checkpoint::text::shown;

/// A rule that a checkpoint breaks, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// The code of the rule, such as `Q301`.
    #[serde(rename = "code")]
    #[schemars(with = "String")]
    pub rule: &'static LintRule,
    /// The weight of this finding, which may differ from the rule's.
    pub severity: Severity,
    /// The fault: one line, lower case, no full stop; names in it are escaped.
    pub message: String,
    pub place: Location,
    /// The way out; may be empty.
    pub help: Cow<'static, str>,
}

/// The place of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Location {
    /// The file, relative to the checkpoint.
    pub file: Option<String>,
    /// The name of a tensor or module.
    pub tensor: Option<String>,
    /// A JSON pointer into the file.
    pub pointer: Option<String>,
}

impl Finding {
    /// Returns a finding of this rule, with the rule's severity and no place.
    pub(crate) fn new(rule: &'static LintRule, message: impl Into<String>) -> Self {
        Self {
            rule,
            severity: rule.severity,
            message: message.into(),
            place: Location::default(),
            help: Cow::Borrowed(""),
        }
    }

    /// Names the tensor or module.
    #[must_use]
    pub(crate) fn tensor(mut self, name: &str) -> Self {
        self.place.tensor = Some(name.to_owned());
        self
    }

    /// Names the file.
    #[must_use]
    pub(crate) fn file(mut self, name: &str) -> Self {
        self.place.file = Some(name.to_owned());
        self
    }

    /// Points into config.json, below `quantization_config`.
    #[must_use]
    pub(crate) fn config(mut self, pointer: &str) -> Self {
        self.place.file = Some("config.json".to_owned());
        self.place.pointer = Some(format!("/quantization_config{pointer}"));
        self
    }

    /// Says what to do.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<Cow<'static, str>>) -> Self {
        self.help = help.into();
        self
    }

    /// Gives the finding another weight than the rule's.
    #[must_use]
    pub(crate) fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Gives the finding the weight that it has to `verify`, where that is more.
    #[must_use]
    pub(crate) fn strict(mut self) -> Self {
        // A finding that was given another weight than its rule's has it for a reason that holds here too.
        if self.severity == self.rule.severity {
            self.severity = self.rule.strict;
        }
        self
    }
}

impl Location {
    /// Describes the place, such as ``model-1.safetensors `model.a.weight` ``, as far as it is known.
    pub fn describe(&self) -> String {
        let pointer = self.pointer.as_ref().map(|pointer| shown(pointer).to_string());
        let parts = [self.file.as_ref().map(|file| file.escape_debug().to_string()), pointer];
        let mut parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.extend(self.tensor.as_ref().map(|tensor| shown(tensor).to_string()));
        parts.join(" ")
    }
}

/// Adds the shard to each finding that names a tensor and no file, and to pointers what they stand below.
pub(crate) fn locate(findings: &mut [Finding], checkpoint: &Checkpoint) {
    let shards: BTreeMap<&str, usize> =
        checkpoint.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shard)).collect();
    if checkpoint.config.declared_in() == HF_QUANT_CONFIG {
        for place in findings.iter_mut().map(|finding| &mut finding.place) {
            let below = place.pointer.as_ref().and_then(|pointer| pointer.strip_prefix("/quantization_config"));
            if let Some(below) = below.map(|below| format!("/quantization{below}")) {
                (place.pointer, place.file) = (Some(below), Some(HF_QUANT_CONFIG.to_owned()));
            }
        }
    }
    if let [outer, _] = checkpoint.config.quantization_path() {
        let pointers = findings.iter_mut().filter_map(|finding| finding.place.pointer.as_mut());
        for pointer in pointers.filter(|pointer| pointer.starts_with("/quantization_config")) {
            pointer.insert_str(0, &format!("/{outer}"));
        }
    }
    for place in findings.iter_mut().map(|finding| &mut finding.place).filter(|place| place.file.is_none()) {
        let Some(name) = &place.tensor else { continue };
        // A module is named where no tensor of it is to blame; its weight says where it is.
        let shard = shards.get(name.as_str()).or_else(|| shards.get(format!("{name}.weight").as_str()));
        place.file = shard.map(|&shard| checkpoint.shards[shard].name.clone());
    }
}

/// Reports whether a finding is an error.
pub(crate) fn has_error(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}
