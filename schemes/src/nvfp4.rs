//! `NVFP4A16` and `NVFP4`: E2M1 weights, two in a byte, with an E4M3 scale per 16 columns under an F32 scale for the tensor;
//! activations unquantized, or quantized alike under a scale of one.

use std::borrow::Cow;

use safetensors::Dtype;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
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
    options: |generator| Nvfp4WeightOptions::json_schema(generator),
    make: Make::Quantize(|options, format| Nvfp4Scheme::build(
        &read_options(options)?,
        Nvfp4Inputs::Unquantized,
        format
    )),
    from_arguments,
    servers: ServerSupport {
        servers: &["vLLM", "SGLang"],
        gpu: "Turing (SM 7.5) through Marlin; Ampere (SM 8.0) for SGLang",
    },
    golden: include_bytes!("golden/NVFP4A16.safetensors"),
});

crate::register_scheme!(Registration {
    name: "NVFP4",
    aliases: &[],
    version: 1,
    summary: "E2M1 weights as in `NVFP4A16`; activations are quantized alike while the model runs, under a scale of one \
              for all layers instead of one that calibration data gave each.",
    options: |generator| Nvfp4Options::json_schema(generator),
    make: Make::Quantize(|options, format| {
        let Nvfp4Options { input_scale: UnitScale, weights } = read_options(options)?;
        Nvfp4Scheme::build(&weights, Nvfp4Inputs::UnderOne, format)
    }),
    // The reference's arguments are the same, and mean scales that it measures.
    from_arguments: |_, _| None,
    servers: ServerSupport {
        servers: &["vLLM", "SGLang"],
        gpu: "Turing (SM 7.5) through Marlin, weights only; Blackwell (SM 10.0) for NVFP4 arithmetic",
    },
    golden: include_bytes!("golden/NVFP4.safetensors"),
});

/// Options of `NVFP4A16`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nvfp4WeightOptions {
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

/// Options of `NVFP4`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Nvfp4Options {
    /// Scale of the activations of every layer. llm-compressor measures one for each layer on calibration data, and this
    /// tool reads none: `1.0` stands in for it, as in ModelOpt. Groups of 16 activations below 0.09 in size then lose digits,
    /// and those below 0.006 become zero.
    input_scale: UnitScale,

    #[serde(flatten)]
    weights: Nvfp4WeightOptions,
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

/// The number 1, written `1.0` or `1`: an option that has no other value, so that a recipe says what it asks for.
#[derive(Clone, Copy, Debug)]
struct UnitScale;

impl<'de> Deserialize<'de> for UnitScale {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match f64::deserialize(deserializer)? {
            1.0 => Ok(Self),
            other => Err(D::Error::custom(format!("the scale is 1.0, not {other}"))),
        }
    }
}

impl JsonSchema for UnitScale {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "UnitScale".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "const": 1.0 })
    }
}

/// Answers to weights alone.
fn from_arguments(weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
    (*weights == arguments(Dynamic::Static) && activations.is_none()).then(|| json!({}))
}

/// Describes E2M1 values under scales of 16 columns, which stand under one for the tensor.
fn arguments(dynamic: Dynamic) -> QuantizationArgs {
    QuantizationArgs {
        num_bits: 4,
        kind: NumberKind::Float,
        symmetric: true,
        strategy: Strategy::TensorGroup(NVFP4_GROUP),
        dynamic,
        scale_dtype: Some("torch.float8_e4m3fn"),
    }
}

/// What the server makes of the layer's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nvfp4Inputs {
    Unquantized,
    /// It quantizes them as weights are, under a global scale of one.
    UnderOne,
}

/// E2M1 codes, E4M3 scales of groups, and the F32 scale above them.
#[derive(Debug)]
struct Nvfp4Scheme {
    scale_search: Nvfp4ScaleSearch,
    /// The action on groups that are not held exactly; `None` where the scales are not powers of two.
    on_lossy: Option<OnLossy>,
    inputs: Nvfp4Inputs,
}

impl Nvfp4Scheme {
    fn build(
        &Nvfp4WeightOptions { scale_search, on_lossy }: &Nvfp4WeightOptions,
        inputs: Nvfp4Inputs,
        format: Format,
    ) -> Result<Box<dyn Scheme>, BuildError> {
        BuildError::unless_compressed_tensors(format)?;
        let is_lossless = scale_search == Nvfp4ScaleSearch::Lossless;
        let on_lossy = OnLossy::of_lossless(is_lossless, on_lossy)?;
        Ok(Box::new(Self { scale_search, on_lossy, inputs }))
    }
}

/// Describes an F32 scale for the whole tensor.
fn one_for_all(suffix: &'static str, role: TensorRole) -> TensorSpec {
    TensorSpec { suffix, role, dtype: Dtype::F32, shape: vec![1], extent: Extent::Whole }
}

impl Scheme for Nvfp4Scheme {
    fn weights(&self) -> QuantizationArgs {
        arguments(Dynamic::Static)
    }

    fn input_activations(&self) -> Option<QuantizationArgs> {
        (self.inputs == Nvfp4Inputs::UnderOne).then(|| arguments(Dynamic::Local))
    }

    fn storage_format(&self) -> &'static str {
        "nvfp4-pack-quantized"
    }

    fn outputs(&self, source: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
        let Matrix { rows, columns, .. } = source;
        let groups = whole_groups(columns, NVFP4_GROUP)?;
        let mut outputs = vec![
            TensorSpec::per_row("weight_packed", TensorRole::Codes, Dtype::U8, [rows, columns / 2]),
            TensorSpec::per_row("weight_scale", TensorRole::Scale, Dtype::F8_E4M3, [rows, groups]),
            one_for_all("weight_global_scale", TensorRole::GlobalScale),
        ];
        if self.inputs == Nvfp4Inputs::UnderOne {
            // No part of the weight: servers divide 1 by it, or by its reciprocal, and one is both.
            outputs.push(one_for_all("input_global_scale", TensorRole::Other));
        }
        Ok(outputs)
    }

    fn band_rows(&self) -> usize {
        1
    }

    fn amax_scope(&self) -> AmaxScope {
        AmaxScope::Fused
    }

    fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        let [weight, scales, global, of_inputs @ ..] = outputs else {
            panic!("a band comes with a slice for each of the outputs")
        };
        if let [of_inputs] = of_inputs
            && band.first_row == 0
        {
            of_inputs.copy_from_slice(&1f32.to_le_bytes());
        }
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
