//! The two wire formats: how the plan's tensors are named and how `config.json` describes them. No numerics.

mod compressed_tensors;
mod fp8;

use qwen_fp8_schemes::{Format, Scheme, TensorSpec};
use serde_json::Value;

use super::modules::Modules;

/// A translation of the plan into tensor names and a `quantization_config`.
pub(crate) trait WireFormat {
    /// What follows `<module>.` in the name of this tensor.
    fn suffix(&self, scheme: &dyn Scheme, spec: &TensorSpec) -> &'static str;

    /// Whether the format can say what this scheme writes; if not, why, and what could be done.
    fn admits(&self, scheme: &dyn Scheme) -> Result<(), Refusal>;

    /// `quantization_config` of config.json.
    fn quantization_config(&self, modules: &Modules<'_>) -> Value;
}

/// Why a format cannot hold a scheme.
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
