//! `MXFP8`, `MXFP8A16`, `MXFP4` and `MXFP4A16`: E4M3 or E2M1 elements under a power of two per 32 columns.

use safetensors::Dtype;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::float8::QuotientDtype;
use crate::kernels::{MX_GROUP, MxElement, quantize_microscaled};
use crate::{
    AmaxScope, Band, BuildError, Dynamic, Format, Make, Matrix, NonFinite, NumberKind, QuantizationArgs, Registration,
    Scheme, ServerSupport, ShapeError, Strategy, TensorRole, TensorSpec, read_options,
};

macro_rules! presets {
    ($($name:literal, $options:ty, $activations:literal, $gpu:literal, $summary:literal;)*) => {
        $(crate::register_scheme!(Registration {
            name: $name,
            aliases: &[],
            // All presets share one arithmetic, and so its version.
            version: 1,
            summary: $summary,
            options: |generator| <$options>::json_schema(generator),
            make: Make::Quantize(make::<$options, $activations>),
            from_arguments: from_arguments::<$options, $activations>,
            servers: ServerSupport { servers: &["vLLM"], gpu: $gpu },
            golden: include_bytes!(concat!("golden/", $name, ".safetensors")),
        });)*
    };
}

presets! {
    // name     options       whether activations are quantized too
    "MXFP8",    Mxfp8Options, true,
        "Turing (SM 7.5) through Marlin, weights only; Blackwell (SM 10.0) for MXFP8 arithmetic, with FlashInfer",
        "E4M3 weights with a power of two as the scale of 32 columns; activations are quantized alike \
         while the model runs.";
    "MXFP8A16", Mxfp8Options, false,
        "Turing (SM 7.5) through Marlin",
        "E4M3 weights with a power of two as the scale of 32 columns; activations are not quantized.";
    "MXFP4",    Mxfp4Options, true,
        "Ampere (SM 8.0) through Marlin, weights only",
        "E2M1 weights with a power of two as the scale of 32 columns; activations are quantized alike \
         while the model runs.";
    "MXFP4A16", Mxfp4Options, false,
        "Ampere (SM 8.0) through Marlin",
        "E2M1 weights with a power of two as the scale of 32 columns; activations are not quantized.";
}

/// Options of `MXFP8` and `MXFP8A16`: none, since the format leaves nothing open.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mxfp8Options {}

/// Options of `MXFP4` and `MXFP4A16`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mxfp4Options {
    /// Dtype that the quotient of weight and scale is rounded to before it is rounded to E2M1. Division by a power of
    /// two is exact, so that only the sign of zeros depends on it: `source` drops it where the quotient is too small
    /// for the dtype of the weight.
    #[serde(default)]
    #[schemars(example = &"source")]
    quotient_dtype: QuotientDtype,
}

impl From<Mxfp8Options> for MxElement {
    fn from(Mxfp8Options {}: Mxfp8Options) -> Self {
        Self::E4m3
    }
}

impl From<Mxfp4Options> for MxElement {
    fn from(options: Mxfp4Options) -> Self {
        Self::E2m1 { round_quotient: options.quotient_dtype == QuotientDtype::Source }
    }
}

fn make<O: DeserializeOwned + Into<MxElement>, const ACTIVATIONS: bool>(
    options: Value,
    format: Format,
) -> Result<Box<dyn Scheme>, BuildError> {
    BuildError::unless_compressed_tensors(format)?;
    let element = read_options::<O>(options)?.into();
    Ok(Box::new(MicroscaledScheme { element, activations: ACTIVATIONS }))
}

fn from_arguments<O: Default + Into<MxElement>, const ACTIVATIONS: bool>(
    weights: &QuantizationArgs,
    activations: Option<&QuantizationArgs>,
) -> Option<Value> {
    let scheme = MicroscaledScheme { element: O::default().into(), activations: ACTIVATIONS };
    (*weights == scheme.weights() && activations == scheme.input_activations().as_ref()).then(|| json!({}))
}

/// Elements and their E8M0 scales.
#[derive(Debug)]
struct MicroscaledScheme {
    element: MxElement,
    /// True where the server is told to quantize the layer's input in the same way.
    activations: bool,
}

impl MicroscaledScheme {
    fn arguments(&self, dynamic: Dynamic) -> QuantizationArgs {
        QuantizationArgs {
            num_bits: match self.element {
                MxElement::E4m3 => 8,
                MxElement::E2m1 { .. } => 4,
            },
            kind: NumberKind::Float,
            symmetric: true,
            strategy: Strategy::Group(MX_GROUP),
            dynamic,
            scale_dtype: Some("torch.uint8"),
        }
    }
}

/// Returns the number of groups of a row.
///
/// # Errors
/// The size, which is fixed, does not divide the columns.
pub(crate) fn whole_groups(columns: usize, size: usize) -> Result<usize, ShapeError> {
    if columns.is_multiple_of(size) {
        return Ok(columns / size);
    }
    Err(ShapeError {
        reason: format!(
            "{columns} columns are no multiple of {size}, the group of this scheme; `FP8_DYNAMIC`, `W8A8` and \
             `group_size: channel` of the integer schemes take any"
        ),
    })
}

impl Scheme for MicroscaledScheme {
    fn weights(&self) -> QuantizationArgs {
        self.arguments(Dynamic::Static)
    }

    fn input_activations(&self) -> Option<QuantizationArgs> {
        self.activations.then(|| self.arguments(Dynamic::Dynamic))
    }

    fn storage_format(&self) -> &'static str {
        match self.element {
            MxElement::E4m3 => "mxfp8-quantized",
            MxElement::E2m1 { .. } => "mxfp4-pack-quantized",
        }
    }

    fn outputs(&self, source: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
        let Matrix { rows, columns, .. } = source;
        let groups = whole_groups(columns, MX_GROUP)?;
        let (suffix, dtype, bytes) = match self.element {
            MxElement::E4m3 => ("weight", Dtype::F8_E4M3, columns),
            MxElement::E2m1 { .. } => ("weight_packed", Dtype::U8, columns / 2),
        };
        Ok(vec![
            TensorSpec::per_row(suffix, TensorRole::Codes, dtype, [rows, bytes]),
            TensorSpec::per_row("weight_scale", TensorRole::Scale, Dtype::U8, [rows, groups]),
        ])
    }

    fn band_rows(&self) -> usize {
        1
    }

    fn amax_scope(&self) -> AmaxScope {
        AmaxScope::Band
    }

    fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        let [weight, scales] = outputs else { panic!("a band comes with a slice for each of the two outputs") };
        quantize_microscaled(self.element, band, weight, scales)
    }
}
