//! The two wire formats: how the plan's tensors are named and how `config.json` describes them. No numerics.

mod compressed_tensors;
mod fp8;

use qwen_fp8_schemes::{Format, Scheme, TensorSpec};
use serde_json::Value;

use super::modules::Modules;

/// A translation of the plan into tensor names and a `quantization_config`.
pub(crate) trait WireFormat {
    /// Returns the part of an output tensor's name behind `<module>.`.
    fn suffix(&self, scheme: &dyn Scheme, spec: &TensorSpec) -> &'static str;

    /// Checks that the format can describe what this scheme writes.
    ///
    /// # Errors
    /// The reason, and what could be done.
    fn admits(&self, scheme: &dyn Scheme) -> Result<(), Refusal>;

    /// `quantization_config` of config.json.
    fn quantization_config(&self, modules: &Modules<'_>) -> Value;
}

/// A reason for which a format cannot hold a scheme.
pub(crate) struct Refusal {
    pub(super) reason: String,
    pub(super) help: &'static str,
}

pub(crate) fn wire_format(format: Format) -> &'static dyn WireFormat {
    match format {
        Format::Fp8 => &fp8::Fp8,
        Format::CompressedTensors => &compressed_tensors::CompressedTensors,
    }
}

/// The name recipes give the format.
pub fn format_name(format: Format) -> &'static str {
    match format {
        Format::Fp8 => "fp8",
        Format::CompressedTensors => "compressed-tensors",
    }
}
