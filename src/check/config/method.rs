//! The quantization methods that the checks read.

use qwen_fp8_checkpoint::models::catalogue::ListFormat;

/// The value of `quant_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuantMethod {
    Fp8,
    Mxfp8,
    ModelOpt,
    CompressedTensors,
    Awq,
    Gptq,
}

impl QuantMethod {
    /// Reports whether a list of whole names or regexes says which modules are not quantized. AWQ's is read by parts of
    /// names, and GPTQ's layers are those that have codes.
    pub(crate) fn has_ignore_list(self) -> bool {
        !matches!(self, Self::Awq | Self::Gptq)
    }
}

impl From<QuantMethod> for ListFormat {
    fn from(method: QuantMethod) -> Self {
        match method {
            QuantMethod::Fp8 | QuantMethod::Mxfp8 => Self::Fp8,
            // ModelOpt's lists are asked for the same names, merged as vLLM merges them.
            QuantMethod::CompressedTensors | QuantMethod::ModelOpt | QuantMethod::Awq | QuantMethod::Gptq => {
                Self::CompressedTensors
            }
        }
    }
}
