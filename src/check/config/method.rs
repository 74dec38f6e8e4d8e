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

impl From<QuantMethod> for ListFormat {
    fn from(method: QuantMethod) -> Self {
        match method {
            QuantMethod::CompressedTensors => Self::CompressedTensors,
            // Of experts vLLM asks for the module of all, for every other method alike.
            _ => Self::Fp8,
        }
    }
}
