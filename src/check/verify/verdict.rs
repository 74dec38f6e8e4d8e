//! The verdict on a result: how much of it was proven.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use crate::report::{Finding, Severity, has_error};
use crate::rules::q4_cache::is_cache_scale;
use crate::rules::q5_source::folder::{SIDE_FILE_ADDED, SIDE_FILE_DIFFERS};
use crate::rules::q5_source::reference::SCALE_RULE;
use crate::source::{CheckedAs, CheckedTensor, RecordedActions, other_source};
use qwen_fp8_checkpoint::manifest::ManifestSource;
use qwen_fp8_checkpoint::models::is_scale_of_cache;
use qwen_fp8_checkpoint::text::count;
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

/// The proof that a result has, from most to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every tensor follows from the source, and the files beside the weights are the source's.
    Proven,
    /// Every weight is as close to the source as its codes and scales allow, and something else was not proven.
    PartlyProven,
    /// Nothing is wrong with structure and values; no source was at hand to compare them with.
    StructureOnly,
    /// No tensor is quantized, none was dequantized, and no adapter merged.
    NothingToProve,
    /// A finding is an error.
    AtFault,
}

impl Verdict {
    /// Returns the verdict in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::PartlyProven => "partly proven",
            Self::StructureOnly => "structure only",
            Self::NothingToProve => "nothing to prove",
            Self::AtFault => "at fault",
        }
    }

    /// Gives the verdict on a result whose findings and tensors those are; `compared` where there was a source.
    // A copy is no proof of a quantization: a recipe that took no layer would pass as proven.
    pub(super) fn of(findings: &[Finding], tensors: &[CheckedTensor], compared: bool, unproven: &[String]) -> Self {
        let is_result = |tensor: &CheckedTensor| {
            tensor.storage.is_some() || matches!(tensor.action, CheckedAs::Dequantized | CheckedAs::Merged)
        };
        if has_error(findings) {
            Self::AtFault
        } else if !tensors.iter().any(is_result) {
            Self::NothingToProve
        } else if !compared {
            Self::StructureOnly
        } else if unproven.is_empty() {
            Self::Proven
        } else {
            Self::PartlyProven
        }
    }
}

/// Reports whether the adapters of a source are those that were merged, as far as their headers tell.
fn has_recorded_adapters(source: &ManifestSource, original: &Checkpoint) -> bool {
    let given = original.adapters.iter().map(|adapter| (adapter.weights.size, &adapter.weights.header));
    source.adapters.iter().map(|recorded| (recorded.size, &recorded.header_sha256)).eq(given)
}

/// Lists what a comparison with `original` leaves unproven, each with the reason.
pub(super) fn unproven(
    checkpoint: &Checkpoint,
    original: Option<&Checkpoint>,
    recorded: &RecordedActions,
    tensors: &[CheckedTensor],
    findings: &[Finding],
) -> Vec<String> {
    let mut unproven = Vec::new();
    if let (Some(source), Some(original)) = (recorded.source(), original)
        && let Some(other) = other_source(source, checkpoint, original)
    {
        unproven.push(other.to_string());
    }
    if let (Some(source), Some(original)) = (recorded.source(), original)
        && !has_recorded_adapters(source, original)
    {
        unproven.push("the adapters: the manifest names other ones, or in another order".to_owned());
    }
    let of_side_files = |finding: &&Finding| {
        finding.severity != Severity::Note && [&SIDE_FILE_DIFFERS, &SIDE_FILE_ADDED].contains(&finding.rule)
    };
    if let Some(finding) = findings.iter().find(of_side_files) {
        let code = finding.rule.code;
        unproven.push(format!("the files beside the weights: not all of them are the source's ({code})"));
    }
    if findings.iter().any(|finding| *finding.rule == SCALE_RULE) {
        let code = SCALE_RULE.code;
        unproven.push(format!(
            "the scales: they follow from more than the weights, or from no rule that is checked ({code})"
        ));
    }
    // Scales of static activations are measured on data that no checkpoint holds.
    let names = ["input_scale", "activation_scale", "input_global_scale"];
    // Those of a weight that passed through are the source's, byte for byte.
    let same = tensors.iter().filter(|tensor| tensor.action == CheckedAs::PassedThrough);
    let same: BTreeSet<&str> = same.filter_map(|tensor| tensor.name.strip_suffix(".weight")).collect();
    // Those that the recipe gave were compared with it.
    let is_given = |tensor: &Tensor| recorded.input_scale(&format!("{}.weight", tensor.module())).is_some();
    let is_measured =
        |tensor: &&Tensor| names.contains(&tensor.parameter()) && !same.contains(tensor.module()) && !is_given(tensor);
    let number = checkpoint.tensors.iter().filter(is_measured).count();
    if number > 0 {
        let scales = count(number, "activation scale");
        unproven.push(format!("{scales}: no weight gives them, only the data of a calibration"));
    }
    // So are those of a cache, unless they are the source's.
    let stored = original.into_iter().flat_map(|original| &original.tensors);
    let stored = stored.filter(|tensor| is_scale_of_cache(tensor.parameter()));
    let stored: BTreeSet<&str> = stored.map(|tensor| &*tensor.name).collect();
    let is_added = |tensor: &&Tensor| is_cache_scale(checkpoint, tensor) && !stored.contains(&*tensor.name);
    let number = checkpoint.tensors.iter().filter(is_added).count();
    if number > 0 {
        let scales = count(number, "scale");
        unproven.push(format!("{scales} of the cache of keys and values: only the data of a calibration gives them"));
    }
    unproven
}
