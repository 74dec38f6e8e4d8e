//! The quantization methods that the checks read.

/// The value of `quant_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuantMethod {
    Fp8,
    CompressedTensors,
}
