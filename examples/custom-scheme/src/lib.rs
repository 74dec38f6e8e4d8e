//! `FP8_POW2`: E4M3 weights with a power of two per row, so that a weight times its scale is exact in BF16 as well.

use qwen_fp8_schemes::*;

register_scheme!(Registration {
    name: "FP8_POW2",
    aliases: &[],
    version: 1,
    summary: "E4M3 weights with a power of two per row; activations are quantized per token while the model runs.",
    options: |generator| <Pow2 as schemars::JsonSchema>::json_schema(generator),
    make: Make::Quantize(|options, _| Ok(Box::new(read_options::<Pow2>(options)?))),
    from_arguments: |_, _| None,
    servers: ServerSupport { servers: &["vLLM", "SGLang", "transformers"], gpu: "as for `FP8_DYNAMIC`" },
    golden: include_bytes!("../golden.safetensors"),
});

/// Options of `FP8_POW2`: the scheme is no more than these.
#[derive(Debug, Default, serde::Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Pow2 {
    /// Leave activations as they are, and tell the server so.
    weights_only: bool,
}

impl Scheme for Pow2 {
    fn weights(&self) -> QuantizationArgs {
        QuantizationArgs::float8(Strategy::Channel, Dynamic::Static)
    }
    fn input_activations(&self) -> Option<QuantizationArgs> {
        (!self.weights_only).then(|| QuantizationArgs::float8(Strategy::Token, Dynamic::Dynamic))
    }
    fn storage_format(&self) -> &'static str {
        if self.weights_only { "naive-quantized" } else { "float-quantized" }
    }
    fn outputs(&self, Matrix { rows, columns, .. }: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
        let weight = TensorSpec::per_row("weight", TensorRole::Codes, Dtype::F8_E4M3, [rows, columns]);
        Ok(vec![weight, TensorSpec::per_row("weight_scale", TensorRole::Scale, Dtype::F32, [rows, 1])])
    }
    fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        for row in 0..band.rows {
            let exact = amax(band.source, band.first_row + row, band.row(row), band.simd)? / 448.0;
            // The next power of two, unless it is one: what its bits are above one carries into the exponent.
            let scale = f32::from_bits((exact.to_bits() + 0x7F_FFFF) & 0x7F80_0000).max(f32::MIN_POSITIVE);
            let codes = &mut outputs[0][row * band.source.columns..][..band.source.columns];
            cast_e4m3(band.source.dtype, band.row(row), scale, band.simd, codes);
            outputs[1][row * 4..][..4].copy_from_slice(&scale.to_le_bytes());
        }
        Ok(())
    }
}

#[test]
fn keeps_the_contract() {
    assert!(conformance::check(find("FP8_POW2").unwrap()).unwrap().golden > 0);
}
