//! `NVFP4A16`: E2M1 weights, two in a byte, with an E4M3 scale per 16 columns under an F32 scale for the tensor.
//!
//! llm-compressor's `NVFP4` has the same weights and a static scale for activations, which takes calibration data.

use safetensors::Dtype;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kernels::{NVFP4_GROUP, quantize_nvfp4};
use crate::microscaling::whole_groups;
use crate::{
    AmaxScope, Band, BuildError, Dynamic, Extent, Format, Make, Matrix, NonFinite, NumberKind, QuantizationArgs,
    Registration, Role, Scheme, ServerSupport, ShapeError, Strategy, TensorSpec, read_options,
};

crate::register_scheme!(Registration {
    name: "NVFP4A16",
    aliases: &[],
    version: 1,
    summary: "E2M1 weights with an E4M3 scale per 16 columns, under one F32 scale for all parts of a fused layer; \
              activations are not quantized.",
    options: |generator| Options::json_schema(generator),
    make: Make::Quantize(make),
    from_arguments,
    servers: ServerSupport { servers: &["vLLM"], gpu: "Turing (SM 7.5) through Marlin" },
    golden: include_bytes!("golden/NVFP4A16.safetensors"),
});

/// Options of `NVFP4A16`: none, since the format leaves nothing open.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {}

fn make(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    BuildError::unless_compressed_tensors(format)?;
    let Options {} = read_options(options)?;
    Ok(Box::new(Nvfp4))
}

fn from_arguments(weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
    (*weights == Nvfp4.weights() && activations.is_none()).then(|| json!({}))
}

#[derive(Debug)]
struct Nvfp4;

impl Scheme for Nvfp4 {
    fn weights(&self) -> QuantizationArgs {
        QuantizationArgs {
            num_bits: 4,
            kind: NumberKind::Float,
            symmetric: true,
            strategy: Strategy::TensorGroup(NVFP4_GROUP),
            dynamic: Dynamic::Static,
            scale_dtype: Some("torch.float8_e4m3fn"),
        }
    }

    fn input_activations(&self) -> Option<QuantizationArgs> {
        None
    }

    fn storage_format(&self) -> &'static str {
        "nvfp4-pack-quantized"
    }

    fn outputs(&self, source: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
        let Matrix { rows, columns, .. } = source;
        let groups = whole_groups(columns, NVFP4_GROUP)?;
        Ok(vec![
            TensorSpec::per_row("weight_packed", Role::Codes, Dtype::U8, [rows, columns / 2]),
            TensorSpec::per_row("weight_scale", Role::Scale, Dtype::F8_E4M3, [rows, groups]),
            TensorSpec {
                suffix: "weight_global_scale",
                role: Role::GlobalScale,
                dtype: Dtype::F32,
                shape: vec![1],
                extent: Extent::Whole,
            },
        ])
    }

    fn band_rows(&self) -> usize {
        1
    }

    fn amax_scope(&self) -> AmaxScope {
        AmaxScope::Fused
    }

    fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        let [weight, scales, global] = outputs else { panic!("a band comes with a slice for each of the outputs") };
        let amax = band.amax.expect("a band of a scheme with `AmaxScope::Fused` comes with the maximum");
        quantize_nvfp4(amax, band, weight, scales, global)
    }
}
