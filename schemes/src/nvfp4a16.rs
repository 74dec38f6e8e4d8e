//! `NVFP4A16`: E2M1 weights, two in a byte, with an E4M3 scale per 16 columns under an F32 scale for the tensor.
//!
//! llm-compressor's `NVFP4` has the same weights and a static scale for activations, which takes calibration data.

use safetensors::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kernels::{NVFP4_GROUP, Nvfp4Scales, quantize_nvfp4};
use crate::microscaling::whole_groups;
use crate::{
    AmaxScope, Band, BuildError, Dynamic, Extent, Format, Make, Matrix, NonFinite, NumberKind, OnLossy,
    QuantizationArgs, Registration, Scheme, ServerSupport, ShapeError, Strategy, TensorRole, TensorSpec, read_options,
};

crate::register_scheme!(Registration {
    name: "NVFP4A16",
    aliases: &[],
    version: 1,
    summary: "E2M1 weights with an E4M3 scale per 16 columns, under one F32 scale for all parts of a fused layer; \
              activations are not quantized.",
    options: |generator| Nvfp4Options::json_schema(generator),
    make: Make::Quantize(make),
    from_arguments,
    servers: ServerSupport { servers: &["vLLM"], gpu: "Turing (SM 7.5) through Marlin" },
    golden: include_bytes!("golden/NVFP4A16.safetensors"),
});

/// Options of `NVFP4A16`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nvfp4Options {
    /// Rule for the scales: `absmax` takes them from absolute maxima, `mse` and `four_over_six` take the one of least squared
    /// error of several, `lossless` takes powers of two, the least that clamp nothing.
    #[serde(default)]
    #[schemars(example = &"mse", example = &"four_over_six", example = &"lossless")]
    scale_search: Nvfp4ScaleSearch,

    /// Action on 16 columns that `scale_search: lossless` cannot hold exactly: end the run (`error`, which it is without
    /// the key), or round their weights and count them (`round`).
    #[serde(default)]
    #[schemars(with = "OnLossy", skip_serializing_if = "Option::is_none", example = &"round")]
    on_lossy: Option<OnLossy>,
}

/// Rule by which the scales of NVFP4 are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Nvfp4ScaleSearch {
    /// The scales follow from absolute maxima, as in llm-compressor.
    #[default]
    Absmax,
    /// The scale of each 16 columns is the E4M3 number, from 0.8 to 1.8 times the one of the absolute maximum, that leaves the
    /// least squared error; the global scale is that of `absmax`.
    Mse,
    /// The scale of each 16 columns takes their absolute maximum to 6 or to 4, whichever leaves the lesser squared error, and
    /// the largest scale of the layer to 6 is 256: "Four Over Six", arXiv 2512.02010.
    FourOverSix,
    /// The global scale and those of groups are powers of two, the least under which no weight is clamped. Weights that
    /// were MXFP4 are then exactly what their codes stand for, as far as the scales of a layer lie within the 18 powers that
    /// E4M3 has; `on_lossy` says what becomes of others.
    Lossless,
}

fn make(options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
    BuildError::unless_compressed_tensors(format)?;
    let Nvfp4Options { scale_search, on_lossy } = read_options(options)?;
    let is_lossless = scale_search == Nvfp4ScaleSearch::Lossless;
    let on_lossy = OnLossy::of_lossless(is_lossless, on_lossy)?;
    Ok(Box::new(Nvfp4Scheme { scale_search, on_lossy }))
}

fn from_arguments(weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
    (*weights == Nvfp4Scheme { scale_search: Nvfp4ScaleSearch::Absmax, on_lossy: None }.weights()
        && activations.is_none())
    .then(|| json!({}))
}

/// E2M1 codes, E4M3 scales of groups, and the F32 scale above them.
#[derive(Debug)]
struct Nvfp4Scheme {
    scale_search: Nvfp4ScaleSearch,
    /// The action on groups that are not held exactly; `None` where the scales are not powers of two.
    on_lossy: Option<OnLossy>,
}

impl Scheme for Nvfp4Scheme {
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
            TensorSpec::per_row("weight_packed", TensorRole::Codes, Dtype::U8, [rows, columns / 2]),
            TensorSpec::per_row("weight_scale", TensorRole::Scale, Dtype::F8_E4M3, [rows, groups]),
            TensorSpec {
                suffix: "weight_global_scale",
                role: TensorRole::GlobalScale,
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
        let rule = match self.scale_search {
            Nvfp4ScaleSearch::Absmax => Nvfp4Scales::Absmax,
            Nvfp4ScaleSearch::Mse => Nvfp4Scales::LeastError,
            Nvfp4ScaleSearch::FourOverSix => Nvfp4Scales::FourOverSix,
            Nvfp4ScaleSearch::Lossless => Nvfp4Scales::PowersOfTwo,
        };
        quantize_nvfp4(rule, amax, band, weight, scales, global)
    }

    fn on_lossy(&self) -> Option<OnLossy> {
        self.on_lossy
    }
}
