//! E4M3 weights with one scale per tensor, row or block: the scheme and the options behind the `FP8` names.

use safetensors::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::kernels::{self, Cast, Fp8Granularity, ScaleChoice};
use crate::{
    AmaxScope, Band, BuildError, Dynamic, Extent, Format, Matrix, NonFinite, OnLossy, QuantizationArgs, Scheme,
    ShapeError, SourceDtype, Strategy, TensorRole, TensorSpec,
};

/// Options of every FP8 scheme, flattened into its own.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Fp8Options {
    /// Dtype of the stored scales; weights are divided by the scale as it is stored. Without it: `bf16` in the `fp8`
    /// format, `source` in `compressed-tensors`.
    #[serde(default)]
    #[schemars(with = "ScaleDtype", skip_serializing_if = "Option::is_none", example = &"f32")]
    scale_dtype: Option<ScaleDtype>,

    /// Dtype that the quotient of weight and scale is rounded to before it is rounded to FP8.
    #[serde(default)]
    #[schemars(example = &"source")]
    quotient_dtype: QuotientDtype,

    /// Quantization of the layer's input, as the server is told. It changes `config.json` alone, not the tensors, and
    /// the `fp8` format has `dynamic` only.
    #[serde(default)]
    #[schemars(example = &"none")]
    activations: Fp8Activations,
}

/// Dtype of stored scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ScaleDtype {
    /// BF16, as in the official Qwen checkpoints.
    Bf16,
    /// F32: scales without rounding.
    F32,
    /// The dtype of the weight, as llm-compressor does.
    Source,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum QuotientDtype {
    /// F32: one rounding, which is closer, and what llm-compressor writes on a GPU.
    #[default]
    F32,
    /// The dtype of the weight: two roundings, which is what llm-compressor writes on a CPU.
    Source,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Fp8Activations {
    /// FP8, with scales made while the model runs: per token, or, under blocks, per token and block width.
    #[default]
    Dynamic,
    /// FP8, with one scale for all tokens, made while the model runs; not under blocks.
    DynamicTensor,
    /// Not quantized: FP8 weights alone.
    None,
}

/// Rule by which the scale of a row or block is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ScaleSearch {
    /// The scale follows from the absolute maximum, as in llm-compressor by default and in the official Qwen
    /// checkpoints.
    #[default]
    Absmax,
    /// The scale is the one of 24, from 0.75 to about 1.8 times that of the absolute maximum, that leaves the least
    /// squared error. The layout is the same; making it takes several times longer.
    Mse,
    /// The scale is the least power of two under which no weight is clamped. Weights that were FP4 or FP8 under powers of
    /// two before are then exactly what their codes stand for, as far as their exponents lie within the 18 that E4M3 has;
    /// `on_lossy` says what becomes of others.
    Lossless,
}

/// The choice of scales, with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScaleSearchPlan {
    Absmax,
    Mse,
    Lossless(OnLossy),
}

impl ScaleSearchPlan {
    /// Puts the two options together.
    ///
    /// # Errors
    /// `on_lossy` goes with `lossless` alone.
    pub(crate) fn of(search: ScaleSearch, on_lossy: Option<OnLossy>) -> Result<Self, BuildError> {
        Ok(match (OnLossy::of_lossless(search == ScaleSearch::Lossless, on_lossy)?, search) {
            (Some(on_lossy), _) => Self::Lossless(on_lossy),
            (None, ScaleSearch::Mse) => Self::Mse,
            (None, ScaleSearch::Absmax | ScaleSearch::Lossless) => Self::Absmax,
        })
    }
}

impl OnLossy {
    /// Returns the action of a scheme that is lossless or is not, given the option `on_lossy`; `None` of one that is not.
    ///
    /// # Errors
    /// `on_lossy` goes with `scale_search: lossless` alone.
    pub(crate) fn of_lossless(is_lossless: bool, on_lossy: Option<Self>) -> Result<Option<Self>, BuildError> {
        if !is_lossless && on_lossy.is_some() {
            let reason = "`on_lossy` goes with `scale_search: lossless` alone: other scales round every weight";
            return Err(BuildError { option: Some("on_lossy"), reason: reason.to_owned() });
        }
        Ok(is_lossless.then(|| on_lossy.unwrap_or_default()))
    }
}

/// Rule by which the scale or the quantization parameters of a group are found, for schemes whose groups may be searched as in
/// llm-compressor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GroupScaleSearch {
    /// The scale follows from the largest weight, or with zero points from the least and the greatest one, as in
    /// llm-compressor by default.
    #[default]
    Absmax,
    /// The scale is that of the extremes times 1, 0.99, … or 0.81, whichever leaves the least error, as llm-compressor's
    /// observer `memoryless_mse` finds it on a CPU.
    Mse,
}

/// Rows and columns that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum BlockSize {
    /// A number of rows and the same number of columns.
    Square(#[schemars(range(min = 1))] u32),
    /// Rows, then columns.
    Sides(#[schemars(inner(range(min = 1)))] [u32; 2]),
}

impl Default for BlockSize {
    fn default() -> Self {
        Self::Sides([128, 128])
    }
}

impl BlockSize {
    /// Returns the granularity of these blocks.
    ///
    /// # Errors
    /// A side is 0.
    pub(crate) fn granularity(self) -> Result<Fp8Granularity, BuildError> {
        let sides = match self {
            Self::Square(side) => [side; 2],
            Self::Sides(sides) => sides,
        };
        if sides.contains(&0) {
            let reason = format!("`block_size` is {sides:?}, and a block has at least one row and one column");
            return Err(BuildError { option: Some("block_size"), reason });
        }
        Ok(Fp8Granularity::Block(sides.map(|side| side as usize)))
    }
}

/// E4M3 weights and their scales.
#[derive(Debug)]
pub(crate) struct Fp8Scheme {
    granularity: Fp8Granularity,
    scale_search: ScaleSearchPlan,
    scale_dtype: ScaleDtype,
    quotient_dtype: QuotientDtype,
    activations: Fp8Activations,
}

impl Fp8Scheme {
    pub(crate) fn build(
        granularity: Fp8Granularity,
        scale_search: ScaleSearchPlan,
        options: Fp8Options,
        format: Format,
    ) -> Result<Box<dyn Scheme>, BuildError> {
        let Fp8Options { scale_dtype, quotient_dtype, activations } = options;
        let refuse = |reason: &str| Err(BuildError { option: Some("activations"), reason: reason.to_owned() });
        if matches!((granularity, activations), (Fp8Granularity::Block(_), Fp8Activations::DynamicTensor)) {
            return refuse("`activations: dynamic_tensor` does not go with blocks: write `dynamic` or `none`");
        }
        if format == Format::Fp8 && activations != Fp8Activations::Dynamic {
            return refuse(
                "the `fp8` format has `activations: dynamic` only: leave it out, or write `format: compressed-tensors`",
            );
        }
        let scale_dtype = scale_dtype.unwrap_or(match format {
            Format::Fp8 => ScaleDtype::Bf16,
            Format::CompressedTensors => ScaleDtype::Source,
        });
        Ok(Box::new(Self { granularity, scale_search, scale_dtype, quotient_dtype, activations }))
    }

    fn cast(&self, source: SourceDtype) -> Cast {
        let scale_dtype = match self.scale_dtype {
            ScaleDtype::Bf16 => SourceDtype::Bf16,
            ScaleDtype::F32 => SourceDtype::F32,
            ScaleDtype::Source => source,
        };
        Cast {
            granularity: self.granularity,
            scale_dtype,
            round_quotient: self.quotient_dtype == QuotientDtype::Source,
            choice: match self.scale_search {
                ScaleSearchPlan::Absmax => ScaleChoice::Absmax,
                ScaleSearchPlan::Mse => ScaleChoice::LeastError,
                ScaleSearchPlan::Lossless(_) => ScaleChoice::PowerOfTwo,
            },
        }
    }
}

impl Scheme for Fp8Scheme {
    fn weights(&self) -> QuantizationArgs {
        let strategy = match self.granularity {
            Fp8Granularity::Tensor => Strategy::Tensor,
            Fp8Granularity::Channel => Strategy::Channel,
            Fp8Granularity::Block(shape) => Strategy::Block(shape),
        };
        QuantizationArgs::float8(strategy, Dynamic::Static)
    }

    fn input_activations(&self) -> Option<QuantizationArgs> {
        let strategy = match (self.activations, self.granularity) {
            (Fp8Activations::Dynamic, Fp8Granularity::Block([_, width])) => Strategy::Group(width),
            (Fp8Activations::Dynamic, _) => Strategy::Token,
            (Fp8Activations::DynamicTensor, _) => Strategy::Tensor,
            (Fp8Activations::None, _) => return None,
        };
        Some(QuantizationArgs::float8(strategy, Dynamic::Dynamic))
    }

    fn storage_format(&self) -> &'static str {
        match self.activations {
            Fp8Activations::None => "naive-quantized",
            Fp8Activations::Dynamic | Fp8Activations::DynamicTensor => "float-quantized",
        }
    }

    fn outputs(&self, source: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
        let Matrix { dtype, rows, columns } = source;
        let (shape, extent) = match self.granularity {
            Fp8Granularity::Tensor => (vec![1], Extent::Whole),
            Fp8Granularity::Channel => (vec![rows, 1], Extent::Rows(1)),
            Fp8Granularity::Block([height, width]) => {
                (vec![rows.div_ceil(height), columns.div_ceil(width)], Extent::Rows(height))
            }
        };
        Ok(vec![
            TensorSpec::per_row("weight", TensorRole::Codes, Dtype::F8_E4M3, [rows, columns]),
            TensorSpec {
                suffix: "weight_scale",
                role: TensorRole::Scale,
                dtype: self.cast(dtype).scale_dtype.into(),
                shape,
                extent,
            },
        ])
    }

    fn band_rows(&self) -> usize {
        match self.granularity {
            Fp8Granularity::Tensor | Fp8Granularity::Channel => 1,
            Fp8Granularity::Block([height, _]) => height,
        }
    }

    fn amax_scope(&self) -> AmaxScope {
        match self.granularity {
            Fp8Granularity::Tensor => AmaxScope::Tensor,
            Fp8Granularity::Channel | Fp8Granularity::Block(_) => AmaxScope::Band,
        }
    }

    fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        let [weight, scales] = outputs else { panic!("a band comes with a slice for each of the two outputs") };
        kernels::quantize(self.cast(band.source.dtype), band, weight, scales)
    }

    fn keeps_non_finite(&self) -> bool {
        // A search has no least error to find where a granule holds NaN or infinity.
        self.scale_search == ScaleSearchPlan::Absmax
    }

    fn on_lossy(&self) -> Option<OnLossy> {
        match self.scale_search {
            ScaleSearchPlan::Lossless(on_lossy) => Some(on_lossy),
            ScaleSearchPlan::Absmax | ScaleSearchPlan::Mse => None,
        }
    }

    fn quantize_keeping(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        let [weight, scales] = outputs else { panic!("a band comes with a slice for each of the two outputs") };
        kernels::keep(self.cast(band.source.dtype), band, weight, scales);
        Ok(())
    }
}

/// Returns the options with which FP8 weights under `weights.strategy` get these activations, `None` if no options do.
///
/// The caller checks the strategy, since each belongs to one scheme.
pub(crate) fn options_from_arguments(
    weights: &QuantizationArgs,
    activations: Option<&QuantizationArgs>,
) -> Option<Map<String, Value>> {
    if *weights != QuantizationArgs::float8(weights.strategy, Dynamic::Static) {
        return None;
    }
    let mut options = Map::new();
    match activations {
        None => {
            options.insert("activations".to_owned(), "none".into());
        }
        Some(activations) if *activations != QuantizationArgs::float8(activations.strategy, Dynamic::Dynamic) => {
            return None;
        }
        Some(activations) => match (weights.strategy, activations.strategy) {
            (Strategy::Channel | Strategy::Tensor, Strategy::Token) => {}
            (Strategy::Channel | Strategy::Tensor, Strategy::Tensor) => {
                options.insert("activations".to_owned(), "dynamic_tensor".into());
            }
            (Strategy::Block([_, width]), Strategy::Group(size)) if width == size => {}
            _ => return None,
        },
    }
    Some(options)
}

#[cfg(test)]
mod tests {
    use schemars::generate::SchemaSettings;
    use serde_json::json;

    use super::*;
    use crate::{Dtype, Make, NumberKind, Registration, find, registered};

    const ALL: [&str; 3] = ["FP8", "FP8_BLOCK", "FP8_DYNAMIC"];

    fn make(name: &str, options: Value, format: Format) -> Result<Box<dyn Scheme>, BuildError> {
        let Make::Quantize(make) = find(name).unwrap().make else { panic!("{name} quantizes") };
        make(options, format)
    }

    #[test]
    fn the_format_gives_the_default_scale_dtype() {
        let source = Matrix { dtype: SourceDtype::F16, rows: 4, columns: 4 };
        for name in ALL {
            let dtype = |options, format| make(name, options, format).unwrap().outputs(source).unwrap()[1].dtype;
            assert_eq!(dtype(json!({}), Format::Fp8), Dtype::BF16);
            assert_eq!(dtype(json!({}), Format::CompressedTensors), Dtype::F16);
            assert_eq!(dtype(json!({ "scale_dtype": "source" }), Format::Fp8), Dtype::F16);
            assert_eq!(dtype(json!({ "scale_dtype": "f32" }), Format::CompressedTensors), Dtype::F32);
        }
    }

    #[test]
    fn arguments_lead_back_to_their_scheme_alone() {
        for name in ALL {
            for activations in ["dynamic", "dynamic_tensor", "none"] {
                let options = json!({ "activations": activations });
                let Ok(scheme) = make(name, options, Format::CompressedTensors) else {
                    assert_eq!((name, activations), ("FP8_BLOCK", "dynamic_tensor"));
                    continue;
                };
                let (weights, input) = (scheme.weights(), scheme.input_activations());
                let answer = |registration: &&Registration| (registration.from_arguments)(&weights, input.as_ref());
                let answers: Vec<_> = registered().into_iter().filter(|it| answer(it).is_some()).collect();
                assert_eq!(answers.iter().map(|answer| answer.name).collect::<Vec<_>>(), [name]);
                let again = make(name, answer(&answers[0]).unwrap(), Format::CompressedTensors).unwrap();
                assert_eq!((again.weights(), again.input_activations()), (weights, input));
                assert_eq!(again.storage_format(), scheme.storage_format());
            }
        }
    }

    #[test]
    fn weights_alone_are_stored_naively() {
        let scheme = make("FP8_DYNAMIC", json!({ "activations": "none" }), Format::CompressedTensors).unwrap();
        assert_eq!((scheme.storage_format(), scheme.input_activations()), ("naive-quantized", None));
        let error = make("FP8_DYNAMIC", json!({ "activations": "none" }), Format::Fp8).unwrap_err();
        assert_eq!(error.option, Some("activations"));
    }

    #[test]
    fn arguments_of_other_schemes_are_left_alone() {
        let weights = QuantizationArgs::float8(Strategy::Channel, Dynamic::Static);
        let token = QuantizationArgs::float8(Strategy::Token, Dynamic::Dynamic);
        let find = options_from_arguments;
        assert_eq!(find(&weights, Some(&token)), Some(Map::new()));
        assert_eq!(find(&QuantizationArgs { num_bits: 4, ..weights.clone() }, None), None);
        assert_eq!(find(&QuantizationArgs { kind: NumberKind::Int, ..weights.clone() }, None), None);
        assert_eq!(find(&QuantizationArgs { symmetric: false, ..weights.clone() }, None), None);
        assert_eq!(find(&QuantizationArgs { dynamic: Dynamic::Dynamic, ..weights.clone() }, None), None);
        let static_input = QuantizationArgs { dynamic: Dynamic::Static, ..token.clone() };
        assert_eq!(find(&weights, Some(&static_input)), None);
        let block = QuantizationArgs::float8(Strategy::Block([128, 128]), Dynamic::Static);
        assert_eq!(find(&block, Some(&QuantizationArgs::float8(Strategy::Group(64), Dynamic::Dynamic))), None);
        assert_eq!(find(&block, Some(&token)), None);
    }

    #[test]
    fn the_schema_is_closed_and_complete() {
        for name in ALL {
            let mut generator =
                SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true).into_generator();
            let schema = (find(name).unwrap().options)(&mut generator);
            assert_eq!(schema.get("additionalProperties"), Some(&false.into()));
            assert!(!schema.as_value().to_string().contains("$ref"), "{name}");
            let properties = schema.get("properties").unwrap().as_object().unwrap();
            for (option, schema) in properties {
                assert!(schema["description"].is_string() && schema["examples"].is_array(), "{name} {option}");
                assert!(!schema["default"].is_null() || schema.get("default").is_none(), "{name} {option}");
            }
            for option in ["scale_dtype", "quotient_dtype", "activations"] {
                assert_eq!(
                    properties[option]["oneOf"].as_array().map(Vec::len),
                    Some(3 - usize::from(option == "quotient_dtype"))
                );
            }
            assert_eq!(schema.get("required"), None);
        }
    }

    #[test]
    fn a_mistyped_option_is_refused() {
        for name in ALL {
            for options in [json!({ "scale_dtyp": "f32" }), json!({ "scale_dtype": "bf17" }), json!([])] {
                make(name, options, Format::Fp8).unwrap_err();
            }
        }
    }
}
