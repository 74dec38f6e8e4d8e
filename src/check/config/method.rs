//! The quantization methods that the checks read.

use qwen_fp8_checkpoint::models::catalogue::ListFormat;

/// The value of `quant_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuantMethod {
    Fp8,
    CompressedTensors,
}

impl From<QuantMethod> for ListFormat {
    fn from(method: QuantMethod) -> Self {
        match method {
            QuantMethod::Fp8 => Self::Fp8,
            QuantMethod::CompressedTensors => Self::CompressedTensors,
        }
    }
}
