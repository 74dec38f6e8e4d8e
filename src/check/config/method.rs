//! The quantization methods that the checks read.

use qwen_fp8_checkpoint::models::catalogue::ListFormat;

/// The value of `quant_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuantMethod {
    Fp8,
    Mxfp8,
    ModelOpt,
    CompressedTensors,
}

impl From<QuantMethod> for ListFormat {
    fn from(method: QuantMethod) -> Self {
        match method {
            QuantMethod::Fp8 | QuantMethod::Mxfp8 => Self::Fp8,
            // ModelOpt's lists are asked for the same names, merged as vLLM merges them.
            QuantMethod::CompressedTensors | QuantMethod::ModelOpt => Self::CompressedTensors,
        }
    }
}
