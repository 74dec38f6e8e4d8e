//! The interface of a wire format.

use qwen_fp8_schemes::TensorRole;
use serde_json::Value;

use crate::plan::modules::Modules;
use crate::plan::served_form::ServedForm;

/// A translation of the plan into tensor names and a `quantization_config`.
pub(crate) trait WireFormat {
    /// Returns the part of an output tensor's name behind `<module>.`, which compressed-tensors calls `suffix`.
    fn suffix(&self, form: &ServedForm, role: TensorRole, suffix: &'static str) -> &'static str;

    /// Checks that the format can describe this form.
    ///
    /// # Errors
    /// The reason, and what could be done.
    fn admits(&self, form: &ServedForm) -> Result<(), Refusal>;

    /// `quantization_config` of config.json.
    fn quantization_config(&self, modules: &Modules<'_>) -> Value;
}

/// A reason for which a format cannot hold a form.
pub(crate) struct Refusal {
    pub(in crate::plan) reason: String,
    pub(in crate::plan) help: &'static str,
}
