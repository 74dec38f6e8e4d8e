//! Q210 and Q211: quantized modules that a server does not build as such.

use super::subject::{Subject, word};
use crate::config::{DeclaredForm, QuantMethod};
use crate::decode::{Module, QuantizedWeight};
use crate::report::Severity::{Error, Warning};
use crate::report::{Finding, LintRule};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::models::{LayerKind, Part};
use qwen_fp8_checkpoint::text::{count, shown};

// What vLLM does not build as a quantizable linear has no parameter for a scale, such as embeddings and convolutions.
pub(crate) static UNTARGETED: LintRule = LintRule {
    code: "Q210",
    name: "quantized-but-not-targeted",
    severity: Error,
    strict: Error,
    title: "A module is quantized, and no config group targets it or no server builds it quantized.",
    why: "Servers refuse its scale or read its codes as weights.",
};

// A warning: vLLM passes its quantization to the tower and serves it. SGLang skips unknown names without a word.
pub(crate) static VISION_QUANTIZED: LintRule = LintRule {
    code: "Q211",
    name: "vision-quantized",
    severity: Warning,
    strict: Warning,
    title: "The vision tower is quantized.",
    why: "SGLang builds it unquantized, loads its codes and drops their scales.",
};

/// Returns the form that config.json declares of a module whose weight is quantized; `None`, with a finding, where it
/// declares none.
pub(super) fn targeted(
    subject: &Subject<'_, '_>,
    module: &Module<'_>,
    weight: &Tensor,
    word: &str,
    findings: &mut Vec<Finding>,
) -> Option<DeclaredForm> {
    let form = subject.declared.targeted(module.name, module.kind);
    if form.is_none() {
        let why = match module.kind {
            LayerKind::Linear | LayerKind::Router | LayerKind::Experts => "no config group targets it".to_owned(),
            // vLLM's class of a head is `ParallelLMHead`, which `Linear` does not stand for.
            LayerKind::LmHead if subject.declared.method == QuantMethod::CompressedTensors => {
                "`Linear` does not target a head: only `re:.*lm_head` does".to_owned()
            }
            kind => format!("no server reads a quantized {kind}"),
        };
        let message = format!("{} is {word}, and {why}", shown(module.name));
        findings.push(Finding::new(&UNTARGETED, message).tensor(&weight.name));
    }
    form
}

/// Reports a quantized head in a model that ties the head to the embedding.
pub(super) fn tied_head(
    subject: &Subject<'_, '_>,
    module: &Module<'_>,
    weight: &Tensor,
    word: &str,
    findings: &mut Vec<Finding>,
) {
    if module.kind == LayerKind::LmHead && subject.checkpoint.config.tie_word_embeddings() == Some(true) {
        let message = format!("{} is {word}, and config.json ties the head to the embedding", shown(&weight.name));
        findings.push(Finding::new(&UNTARGETED, message).tensor(&weight.name));
    }
}

/// Reports a quantized vision tower, once for all of it.
pub(super) fn vision(weights: &[QuantizedWeight<'_>], findings: &mut Vec<Finding>) {
    let mut vision = weights.iter().filter(|weight| weight.codes.layer.part == Part::Vision);
    if let Some(first) = vision.next() {
        let layers = count(vision.count() + 1, "layer");
        let (word, module) = (word(first.codes), shown(first.codes.module()));
        let message = format!("{layers} of the vision tower are {word}, such as {module}");
        findings.push(Finding::new(&VISION_QUANTIZED, message).tensor(&first.codes.name));
    }
}
