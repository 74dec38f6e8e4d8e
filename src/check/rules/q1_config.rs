//! Q101 to Q107: what `quantization_config` says, and whether it says anything.
//!
//! The reading of a config in config/ is the check of most of these: it has to know what servers take. What it finds
//! is given its rule here.

use super::q2_ignore_list::BAD_ENTRY;
use crate::config::{ConfigFault, DeclaredConfig, FaultKind};
use crate::decode::Module;
use crate::report::Severity::{Error, Note, Warning};
use crate::report::{Finding, LintRule};
use qwen_fp8_checkpoint::Checkpoint;
use qwen_fp8_checkpoint::text::shown;

pub(crate) static NO_CONFIG: LintRule = LintRule {
    code: "Q101",
    name: "no-quantization-config",
    severity: Error,
    strict: Error,
    title: "Tensors are quantized, and config.json has no `quantization_config`.",
    why: "Servers would load the codes as weights.",
};

// `lint` judges anybody's checkpoint and lets this pass; to `verify` it means that nothing was proven.
pub(crate) static UNKNOWN_METHOD: LintRule = LintRule {
    code: "Q102",
    name: "unknown-method",
    severity: Note,
    strict: Error,
    title: "The quantization method or number format is not one that is checked.",
    why: "Nothing can be said about tensors that are stored that way.",
};

pub(crate) static NOTHING_QUANTIZED: LintRule = LintRule {
    code: "Q103",
    name: "nothing-quantized",
    severity: Error,
    strict: Error,
    title: "config.json declares a quantization, and no tensor is quantized.",
    why: "vLLM casts the weights to FP8 without scales and reports no error, or finds no codes.",
};

// Seen in vLLM 0.26 and 0.33: without `activation_scheme` the load ends in a `ValidationError`.
pub(crate) static BAD_CONFIG: LintRule = LintRule {
    code: "Q104",
    name: "bad-quantization-config",
    severity: Error,
    strict: Error,
    title: "A value that servers need in `quantization_config` is missing, or is not one that they take.",
    why: "They refuse the checkpoint or misread its weights.",
};

// DeepGEMM, CUTLASS and Marlin's block path are tied to 128. The checkpoint itself is sound.
pub(crate) static ODD_CONFIG: LintRule = LintRule {
    code: "Q105",
    name: "odd-quantization-config",
    severity: Warning,
    strict: Warning,
    title: "A value in `quantization_config` is one that some servers do not take.",
    why: "They have no kernels for it.",
};

// vLLM and SGLang read `ignored_layers` first; transformers before 5.12 knows `modules_to_not_convert` alone.
pub(crate) static LISTS_DIFFER: LintRule = LintRule {
    code: "Q106",
    name: "lists-differ",
    severity: Error,
    strict: Error,
    title: "`ignored_layers` and `modules_to_not_convert` differ.",
    why: "vLLM and transformers would build different models.",
};

// `lint` is run on sources too; without this note its silence would read as a verdict on a quantization.
pub(crate) static UNQUANTIZED: LintRule = LintRule {
    code: "Q107",
    name: "unquantized",
    severity: Note,
    strict: Note,
    title: "No tensor is quantized, and config.json declares no quantization.",
    why: "Only the container can be checked.",
};

/// Reports what the reading of a config found.
pub(crate) fn faults(faults: Vec<ConfigFault>, findings: &mut Vec<Finding>) {
    for ConfigFault { kind, message, pointer, help } in faults {
        let rule = match kind {
            FaultKind::Invalid => &BAD_CONFIG,
            FaultKind::Unusual => &ODD_CONFIG,
            FaultKind::Unchecked => &UNKNOWN_METHOD,
            FaultKind::ListsDiffer => &LISTS_DIFFER,
            FaultKind::BadEntry => &BAD_ENTRY,
        };
        findings.push(Finding::new(rule, message).config(&pointer).help(help));
    }
}

/// Reports a quantization that is declared and not there, or there and not declared; `quantized` is a module that has
/// codes or quantization tensors.
pub(crate) fn agreement(
    checkpoint: &Checkpoint,
    declared: Option<&DeclaredConfig>,
    quantized: Option<&Module<'_>>,
    findings: &mut Vec<Finding>,
) {
    let has_config = checkpoint.config.quantization_config().is_some();
    match (declared, quantized) {
        (Some(_), Some(_)) => {}
        (Some(_), None) => {
            let message = "config.json declares a quantization, and no tensor is quantized";
            findings.push(Finding::new(&NOTHING_QUANTIZED, message).config(""));
        }
        // A config that could not be read has its finding.
        (None, _) if has_config => {}
        (None, Some(module)) => {
            let name = module.stored().map_or(module.name, |weight| &weight.name);
            let message = format!("{} is quantized, and config.json has no `quantization_config`", shown(name));
            findings.push(Finding::new(&NO_CONFIG, message).file("config.json"));
        }
        (None, None) => {
            findings.push(Finding::new(&UNQUANTIZED, "no tensor is quantized").file("config.json"));
        }
    }
}
