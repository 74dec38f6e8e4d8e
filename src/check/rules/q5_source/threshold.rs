//! Q511: figures beyond the bounds of `--fail-if`.

use crate::report::Severity::Error;
use crate::report::{Finding, LintRule, Threshold};
use crate::source::CheckedTensor;
use qwen_fp8_checkpoint::text::shown;

// An error, since whoever gave a bound wants the exit code.
pub(crate) static THRESHOLD: LintRule = LintRule {
    code: "Q511",
    name: "threshold",
    severity: Error,
    strict: Error,
    title: "A figure of a tensor is beyond what `--fail-if` allows.",
    why: "The result is further from its source than was asked for.",
};

/// Reports every tensor that breaks a threshold.
pub(crate) fn check(tensors: &[CheckedTensor], thresholds: &[Threshold], findings: &mut Vec<Finding>) {
    for tensor in tensors {
        let Some(figures) = &tensor.figures else { continue };
        for threshold in thresholds {
            if let Some(value) = threshold.broken(figures) {
                let message = format!("{}: {value}, which `{threshold}` does not allow", shown(&tensor.name));
                findings.push(Finding::new(&THRESHOLD, message).tensor(&tensor.name));
            }
        }
    }
}
