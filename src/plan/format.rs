//! The two wire formats: how the plan's tensors are named and how `config.json` describes them. No numerics.

mod compressed_tensors;
mod fp8;
mod wire;

use qwen_fp8_schemes::Format;

pub(crate) use wire::WireFormat;

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
