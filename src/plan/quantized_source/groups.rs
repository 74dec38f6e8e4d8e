//! The groups of layers that `quantization_config` of a quantized checkpoint declares.

use qwen_fp8_schemes::Dtype;
use serde_json::Value;

use crate::checkpoint::models::Model;
use crate::checkpoint::text::shown;
use crate::checkpoint::{Checkpoint, Tensor};

use super::group::SourceGroup;
use super::layout::SourceLayout;
use super::{awq, compressed_tensors, fp8, gptq, modelopt};

/// The groups of layers of a quantized source; the first that takes a layer decides.
pub(super) struct SourceGroups(pub(super) Vec<SourceGroup>);

impl SourceGroups {
    /// Reads what the config declares.
    ///
    /// # Errors
    /// The reason for which it cannot be read, or cannot be decoded.
    pub(super) fn read(checkpoint: &Checkpoint) -> Result<Self, String> {
        let text = checkpoint.config.quantization_config();
        let text = text.ok_or("neither the top level nor `text_config` of `config.json` says how")?;
        if let Some(conflict) = checkpoint.config.conflicting_declarations() {
            return Err(conflict);
        }
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let groups = match value.get("quant_method").and_then(Value::as_str) {
            Some("fp8") => fp8::read(&value)?,
            Some("mxfp8") => fp8::mxfp8(&value)?,
            Some("compressed-tensors") => compressed_tensors::read(&value)?,
            Some("modelopt" | "modelopt_fp4" | "modelopt_mixed") => modelopt::read(&value)?,
            Some("awq") => awq::read(&value)?,
            Some("gptq") => gptq::read(&value)?,
            other => {
                let method = other.map_or_else(|| "no method".to_owned(), |method| shown(method).to_string());
                return Err(format!(
                    "it declares {method}; `fp8`, `mxfp8`, `mxfp4`, `compressed-tensors`, `modelopt`, `awq` and `gptq` \
                     can be read"
                ));
            }
        };
        Ok(Self(groups))
    }

    /// Returns the layout of the weight whose codes this tensor holds; `None` where it holds none that is declared.
    pub(super) fn layout(&self, model: &Model, tensor: &Tensor) -> Option<&SourceLayout> {
        let holds = |group: &&SourceGroup| {
            let SourceLayout { codes, codes_dtype, .. } = &group.layout;
            tensor.parameter() == *codes && tensor.dtype == *codes_dtype && group.takes(model, tensor)
        };
        self.0.iter().find(holds).map(|group| &group.layout)
    }

    /// Returns the dtype of codes with this parameter name, where they have one of their own.
    pub(super) fn codes_dtype(&self, parameter: &str) -> Option<Dtype> {
        let layouts = self.0.iter().map(|group| &group.layout);
        let mut named = layouts.filter(|layout| layout.codes == parameter && parameter != "weight");
        named.next().map(|layout| layout.codes_dtype)
    }

    /// Returns the reason for which a tensor that must hold codes has no layout.
    pub(super) fn why_none(&self, tensor: &Tensor) -> String {
        let (name, dtype) = (shown(&tensor.name), tensor.dtype);
        let is_codes =
            |group: &&SourceGroup| (group.layout.codes, group.layout.codes_dtype) == (tensor.parameter(), tensor.dtype);
        match self.0.iter().find(is_codes) {
            Some(group) => {
                format!("no config group targets {}, which is {}", shown(tensor.module()), group.layout.name)
            }
            None => format!("{name} is {dtype} and no weight that `config.json` declares"),
        }
    }
}
