//! The interface of a wire format.

use qwen_fp8_schemes::{Scheme, TensorSpec};
use serde_json::Value;

use crate::plan::modules::Modules;

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
    pub(in crate::plan) reason: String,
    pub(in crate::plan) help: &'static str,
}
