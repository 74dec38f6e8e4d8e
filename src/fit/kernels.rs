//! The kernels of vLLM that each generation of GPUs runs for the weights of a model.

use qwen_fp8_schemes::{NumberKind, Strategy};
use schemars::JsonSchema;
use serde::Serialize;

use crate::plan::ServedForm;

/// A generation of GPUs, and what it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GpuKernels {
    pub generation: &'static str,
    /// Compute capability: `8.9`.
    pub capability: &'static str,
    /// Cards that people have: `RTX 40, L4, L40S`.
    pub cards: &'static str,
    /// What vLLM runs for the quantized layers, or for all where none is.
    pub runs: &'static str,
}

const GENERATIONS: [(&str, &str, &str); 6] = [
    ("Turing", "7.5", "RTX 20, T4"),
    ("Ampere", "8.0, 8.6", "RTX 30, A10, A100"),
    ("Ada", "8.9", "RTX 40, L4, L40S"),
    ("Hopper", "9.0", "H100, H200"),
    ("Blackwell", "10.0", "B200, B300"),
    ("Blackwell", "12.0", "RTX 50, RTX PRO 6000"),
];

impl GpuKernels {
    /// Reports whether Marlin runs the layers, or the slowest of them.
    pub(super) fn is_marlin(&self) -> bool {
        self.runs == MARLIN
    }

    /// The generation of a GPU by its compute capability; `None` for those that vLLM has no kernels for.
    pub fn generation(major: u32, minor: u32) -> Option<&'static str> {
        row_of(major, minor).map(|row| GENERATIONS[row].0)
    }
}

/// Reports whether a server has kernels for weights of this form on all GPUs of a generation, or of every one where none is
/// given: those of vLLM, and SGLang's where it is known to ask for a newer GPU.
pub(crate) fn has_kernels(server: &str, form: &ServedForm, generation: Option<&str>) -> bool {
    let is_asked = |name: &str| generation.is_none_or(|generation| generation == name);
    // The least capability for NVFP4 is 8.0 in SGLang 0.5.23.
    let is_too_old = |name: &str| {
        server == "SGLang" && name == "Turing" && matches!(form.weights.strategy, Strategy::TensorGroup(_))
    };
    let runs = |name: &str, kernel: &str| kernel != NONE && !is_too_old(name);
    GENERATIONS.iter().zip(of_form(form)).all(|(&(name, _, _), kernel)| !is_asked(name) || runs(name, kernel))
}

/// The row of [`GENERATIONS`] for a compute capability: the last one that is not beyond it.
pub(super) fn row_of(major: u32, minor: u32) -> Option<usize> {
    let first = |capabilities: &str| -> Option<(u32, u32)> {
        let (major, minor) = capabilities.split(", ").next()?.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    GENERATIONS
        .iter()
        .rposition(|(_, capabilities, _)| first(capabilities).is_some_and(|first| first <= (major, minor)))
}

const MARLIN: &str = "Marlin: weights are decoded, 16-bit arithmetic";
const FP8: &str = "CUTLASS: FP8 arithmetic";
const NONE: &str = "no kernel: vLLM refuses it";

/// Returns what each generation runs for weights of these forms; for the first that is slowest where there are several.
pub(super) fn of_forms(forms: &[ServedForm]) -> Vec<GpuKernels> {
    let rows: Vec<[&'static str; 6]> =
        if forms.is_empty() { vec![UNQUANTIZED] } else { forms.iter().map(of_form).collect() };
    let worst = |at: usize| rows.iter().map(|row| row[at]).min_by_key(|runs| rank(runs)).unwrap_or(NONE);
    let kernels = GENERATIONS.iter().enumerate().map(|(at, &(generation, capability, cards))| GpuKernels {
        generation,
        capability,
        cards,
        runs: worst(at),
    });
    kernels.collect()
}

const UNQUANTIZED: [&str; 6] = [
    "16-bit arithmetic, in F16 alone: add `--dtype half`",
    "16-bit arithmetic",
    "16-bit arithmetic",
    "16-bit arithmetic",
    "16-bit arithmetic",
    "16-bit arithmetic",
];

/// What stands first is chosen where layers differ.
fn rank(runs: &str) -> usize {
    [NONE, MARLIN].iter().position(|slow| *slow == runs).unwrap_or(2)
}

// What vLLM 0.33 chooses by capability: `model_executor/layers/quantization/` (get_min_capability of each scheme) and
// `kernels/linear/`; the schemes' own words are in `qwen-fp8 schemes NAME`.
fn of_form(form: &ServedForm) -> [&'static str; 6] {
    let weights = &form.weights;
    let quantizes_inputs = form.inputs.is_some();
    match (weights.kind, weights.num_bits, weights.strategy) {
        (NumberKind::Float, 8, _) if !quantizes_inputs => [MARLIN; 6],
        (NumberKind::Float, 8, Strategy::Block(_)) => [
            MARLIN,
            MARLIN,
            MARLIN,
            "DeepGEMM or CUTLASS: FP8 arithmetic by blocks",
            "DeepGEMM or CUTLASS: FP8 arithmetic by blocks",
            "CUTLASS: FP8 arithmetic by blocks",
        ],
        (NumberKind::Float, 8, Strategy::Group(_)) => {
            [MARLIN, MARLIN, MARLIN, MARLIN, "FlashInfer: MXFP8 arithmetic", "FlashInfer: MXFP8 arithmetic"]
        }
        (NumberKind::Float, 8, _) => [MARLIN, MARLIN, FP8, FP8, FP8, FP8],
        // It has kernels for MXFP6, and takes them for no layer of compressed-tensors.
        (NumberKind::Float, 6, _) => [NONE; 6],
        // Humming is what it picks on every GPU, and Humming refuses them on all others when they are loaded.
        (NumberKind::Float, _, Strategy::Group(_))
            if form.inputs.as_ref().is_some_and(|inputs| inputs.num_bits == 8) =>
        {
            [NONE, NONE, NONE, "Humming: FP8 arithmetic", NONE, NONE]
        }
        // The least capability is 7.5 for NVFP4, and 8.0 for MXFP4.
        (NumberKind::Float, _, strategy) => {
            const FP4: &str = "FlashInfer or CUTLASS: FP4 arithmetic";
            let turing = if matches!(strategy, Strategy::TensorGroup(_)) { MARLIN } else { NONE };
            let blackwell = if quantizes_inputs { FP4 } else { MARLIN };
            [turing, MARLIN, MARLIN, MARLIN, blackwell, blackwell]
        }
        (NumberKind::Int, 8, Strategy::Channel | Strategy::Tensor) if quantizes_inputs => {
            const INT8: &str = "CUTLASS: INT8 arithmetic";
            [INT8, INT8, INT8, INT8, NONE, NONE]
        }
        (NumberKind::Int, _, _) if weights.symmetric => [MARLIN; 6],
        (NumberKind::Int, _, _) => [NONE, MARLIN, MARLIN, MARLIN, MARLIN, MARLIN],
    }
}

#[cfg(test)]
mod tests {
    use qwen_fp8_schemes::{Format, find};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_presets_run_where_vllm_runs_them() {
        let runs_in = |server: &str, name: &str| {
            let scheme = find(name).unwrap().build(json!({}), Format::CompressedTensors).unwrap().unwrap();
            let form = ServedForm::of(&*scheme);
            GENERATIONS.map(|(generation, ..)| has_kernels(server, &form, Some(generation)))
        };
        let runs = |name: &str| runs_in("vLLM", name);
        assert_eq!((runs("MXFP6A16"), runs("MXFP6A8")), ([false; 6], [false; 6]));
        assert_eq!(runs("MXFP4XFP8"), GENERATIONS.map(|(generation, ..)| generation == "Hopper"));
        assert_eq!(runs("MXFP4"), GENERATIONS.map(|(generation, ..)| generation != "Turing"));
        assert_eq!((runs("MXFP4A16"), runs("NVFP4A16")), (runs("MXFP4"), [true; 6]));
        assert_eq!(runs_in("SGLang", "NVFP4A16"), GENERATIONS.map(|(generation, ..)| generation != "Turing"));
    }
}
