//! Q306, Q308 and Q309: dtype and shape of the tensors that hold weights.

use crate::decode::{Granularity, Module, WeightForm};
use crate::report::Severity::{Error, Warning};
use crate::report::{Finding, LintRule};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::text::{count, shown};

// vLLM copies into an FP8 parameter whatever it finds, so that a wrong dtype is a cast and not an error.
pub(crate) static WEIGHT_DTYPE: LintRule = LintRule {
    code: "Q306",
    name: "weight-dtype",
    severity: Error,
    strict: Error,
    title: "A linear weight has a dtype that config.json does not declare.",
    why: "Servers refuse it, or cast it to the declared dtype without its scale.",
};

// Convolutions of a vision tower have five dimensions, and vLLM never quantizes them.
pub(crate) static WEIGHT_RANK: LintRule = LintRule {
    code: "Q308",
    name: "weight-rank",
    severity: Error,
    strict: Error,
    title: "A quantized weight is not a matrix.",
    why: "Every storage form is for matrices.",
};

// K = 4304 of the larger vision towers: loading passes, and the first image fails. In transformers 208 rows under two
// scales decode in tiles of 104, with an error of 2.5e-2 and no message.
pub(crate) static RAGGED_BLOCK: LintRule = LintRule {
    code: "Q309",
    name: "ragged-block",
    severity: Warning,
    strict: Warning,
    title: "A block is cut short at the edge of a weight.",
    why: "vLLM fails where blocks do not divide the columns, and transformers misreads such rows.",
};

/// Reports a weight whose dtype is neither a float that stays nor one of codes.
pub(super) fn undeclared_dtype(weight: &Tensor, findings: &mut Vec<Finding>) {
    let message = format!("{} is {}, which config.json does not declare", shown(&weight.name), weight.dtype);
    findings.push(Finding::new(&WEIGHT_DTYPE, message).tensor(&weight.name));
}

/// Returns the shape of a matrix of codes; `None`, with a finding, where it is not a matrix.
pub(super) fn matrix(codes: &Tensor, word: &str, findings: &mut Vec<Finding>) -> Option<[usize; 2]> {
    let matrix = <[usize; 2]>::try_from(codes.shape.as_slice()).ok();
    if matrix.is_none() {
        let dimensions = count(codes.shape.len(), "dimension");
        let message = format!("{} is {word} and has {dimensions}", shown(&codes.name));
        findings.push(Finding::new(&WEIGHT_RANK, message).tensor(&codes.name));
    }
    matrix
}

/// Checks that codes have the name and dtype of the form that config.json declares.
pub(super) fn is_declared(codes: &Tensor, form: WeightForm, findings: &mut Vec<Finding>) -> bool {
    let expected = form.storage.codes();
    if (codes.parameter(), codes.dtype) == (expected.suffix, expected.dtype) {
        return true;
    }
    let message = format!(
        "{} is {}, and config.json declares {}, which is stored as {} under `{}`",
        shown(&codes.name),
        codes.dtype,
        form.storage.name(),
        expected.dtype,
        expected.suffix
    );
    findings.push(Finding::new(&WEIGHT_DTYPE, message).tensor(&codes.name));
    false
}

/// Reports blocks that do not divide a weight.
pub(super) fn ragged(
    module: &Module<'_>,
    granularity: Granularity,
    [rows, columns]: [usize; 2],
    findings: &mut Vec<Finding>,
) {
    let Granularity::Block([height, width]) = granularity else { return };
    // vLLM's quantizer of activations asserts whole blocks of columns. transformers divides rows by rows of scales,
    // and gets another block height than was meant, without an error. A layer with fewer rows than a block has one
    // row of scales, which every server reads alike.
    if !columns.is_multiple_of(width) || rows > height && !rows.is_multiple_of(height) {
        let message =
            format!("{} has shape [{rows}, {columns}], cut into {}", shown(module.name), granularity.describe());
        findings.push(Finding::new(&RAGGED_BLOCK, message).tensor(module.name));
    }
}
