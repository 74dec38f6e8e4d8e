//! The form in which servers find a quantized weight in the output.

use qwen_fp8_schemes::{QuantizationArgs, Scheme};

/// The form of a quantized weight in the output, as `config.json` describes it to servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedForm {
    pub weights: QuantizationArgs,
    /// `None` leaves activations unquantized.
    pub inputs: Option<QuantizationArgs>,
    /// The name that compressed-tensors gives the form.
    pub storage_format: &'static str,
    /// Set where the scales of blocks are powers of two, and the config of the source says so.
    pub powers_of_two: bool,
    /// Set where the scales of blocks are stored as the exponents of powers of two, a byte each.
    pub exponents: bool,
}

impl ServedForm {
    /// Returns the form that a scheme writes.
    pub fn of(scheme: &dyn Scheme) -> Self {
        Self {
            weights: scheme.weights(),
            inputs: scheme.input_activations(),
            storage_format: scheme.storage_format(),
            powers_of_two: false,
            exponents: false,
        }
    }
}
