//! One thing that is wrong with a checkpoint, by its rule and place.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rules::{Rule, Severity};
use qwen_fp8_checkpoint::Checkpoint;
use qwen_fp8_checkpoint::text::shown;

/// A rule that is broken, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    #[serde(rename = "code")]
    pub rule: &'static Rule,
    pub severity: Severity,
    /// One line, lower case, no full stop; names in it are escaped.
    pub message: String,
    pub place: Place,
    /// What to do; may be empty.
    pub help: &'static str,
}

/// Where a finding stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file, relative to the checkpoint.
    pub file: Option<String>,
    /// The tensor or module.
    pub tensor: Option<String>,
    /// The JSON pointer into the file.
    pub pointer: Option<String>,
}

impl Finding {
    pub(super) fn new(rule: &'static Rule, message: impl Into<String>) -> Self {
        Self { rule, severity: rule.severity, message: message.into(), place: Place::default(), help: "" }
    }

    #[must_use]
    pub(super) fn tensor(mut self, name: &str) -> Self {
        self.place.tensor = Some(name.to_owned());
        self
    }

    #[must_use]
    pub(super) fn file(mut self, name: &str) -> Self {
        self.place.file = Some(name.to_owned());
        self
    }

    /// Puts the finding into config.json, below `quantization_config`.
    #[must_use]
    pub(super) fn config(mut self, pointer: &str) -> Self {
        self.place.file = Some("config.json".to_owned());
        self.place.pointer = Some(format!("/quantization_config{pointer}"));
        self
    }

    #[must_use]
    pub(super) fn help(mut self, help: &'static str) -> Self {
        self.help = help;
        self
    }

    #[must_use]
    pub(super) fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// The finding as `verify` weighs it.
    #[must_use]
    pub(super) fn strict(mut self) -> Self {
        self.severity = self.severity.min(self.rule.strict);
        self
    }
}

impl Place {
    /// `model-1.safetensors: `model.a.weight``, as far as it is known.
    pub fn describe(&self) -> String {
        let pointer = self.pointer.as_ref().map(|pointer| shown(pointer).to_string());
        let parts = [self.file.as_ref().map(|file| file.escape_debug().to_string()), pointer];
        let mut parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.extend(self.tensor.as_ref().map(|tensor| shown(tensor).to_string()));
        parts.join(" ")
    }
}

/// Adds to each finding about a tensor the shard that holds it.
pub(super) fn locate(findings: &mut [Finding], checkpoint: &Checkpoint) {
    let shards: BTreeMap<&str, usize> =
        checkpoint.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.shard)).collect();
    for place in findings.iter_mut().map(|finding| &mut finding.place).filter(|place| place.file.is_none()) {
        let Some(name) = &place.tensor else { continue };
        let shard = shards.get(name.as_str()).or_else(|| shards.get(format!("{name}.weight").as_str()));
        place.file = shard.map(|&shard| checkpoint.shards[shard].name.clone());
    }
}

/// Whether any of them is an error.
pub(super) fn at_fault(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}
