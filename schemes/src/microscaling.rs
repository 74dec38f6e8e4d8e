//! `MXFP8`, `MXFP6A8`, `MXFP4`, `MXFP4XFP8` and those that leave activations alone: E4M3, E2M3 or E2M1 elements under a
//! power of two per 32 columns.

use safetensors::Dtype;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::float8::{GroupScaleSearch, QuotientDtype};
use crate::kernels::{MX_GROUP, MxElement, quantize_microscaled};
use crate::{
    AmaxScope, Band, BuildError, Dynamic, Format, Make, Matrix, MissingKernel, NonFinite, QuantizationArgs,
    Registration, Scheme, ServerSupport, ShapeError, Strategy, TensorRole, TensorSpec, read_options,
};

macro_rules! presets {
    ($($name:literal, $options:ty, $inputs:expr, $servers:expr, $summary:literal;)*) => {
        $(crate::register_scheme!(Registration {
            name: $name,
            aliases: &[],
            // All presets share one arithmetic, and so its version.
            version: 1,
            summary: $summary,
            options: |generator| <$options>::json_schema(generator),
            make: Make::Quantize(|options, format| make::<$options>(options, format, $inputs)),
            from_arguments: |weights, inputs| from_arguments::<$options>(weights, inputs, $inputs),
            servers: $servers,
            golden: include_bytes!(concat!("golden/", $name, ".safetensors")),
        });)*
    };
}

presets! {
    // name      options       activations
    "MXFP8",     Mxfp8Options, InputElement::Microscaled(8),
        vllm("Turing (SM 7.5) through Marlin, weights only; Blackwell (SM 10.0) for MXFP8 arithmetic, with FlashInfer"),
        "E4M3 weights with a power of two as the scale of 32 columns; activations are quantized alike \
         while the model runs.";
    "MXFP8A16",  Mxfp8Options, InputElement::Unquantized,
        vllm("Turing (SM 7.5) through Marlin"),
        "E4M3 weights with a power of two as the scale of 32 columns; activations are not quantized.";
    "MXFP6A8",   Mxfp6Options, InputElement::Microscaled(8),
        UNPACKED,
        "E2M3 weights with a power of two as the scale of 32 columns; activations are quantized to MXFP8 \
         while the model runs.";
    "MXFP6A16",  Mxfp6Options, InputElement::Unquantized,
        UNPACKED,
        "E2M3 weights with a power of two as the scale of 32 columns; activations are not quantized.";
    "MXFP4",     Mxfp4Options, InputElement::Microscaled(4),
        vllm("Ampere (SM 8.0) through Marlin, weights only"),
        "E2M1 weights with a power of two as the scale of 32 columns; activations are quantized alike \
         while the model runs.";
    "MXFP4A16",  Mxfp4Options, InputElement::Unquantized,
        vllm("Ampere (SM 8.0) through Marlin"),
        "E2M1 weights with a power of two as the scale of 32 columns; activations are not quantized.";
    "MXFP4XFP8", Mxfp4Options, InputElement::Fp8,
        vllm("Hopper (SM 9.0) alone, through Humming"),
        "E2M1 weights with a power of two as the scale of 32 columns; activations are quantized to FP8 \
         with a scale per 128 columns while the model runs.";
}

const fn vllm(gpu: &'static str) -> ServerSupport {
    ServerSupport { servers: &["vLLM"], gpu }
}

// vLLM 0.33 has kernels for MXFP6, and none that it takes for a compressed-tensors layer.
const UNPACKED: ServerSupport = ServerSupport {
    servers: &["transformers"],
    gpu: "any: unpacked to the dtype of the model, by compressed-tensors 0.20 and later",
};

/// Element that the server quantizes the layer's input to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputElement {
    Unquantized,
    /// Floats of this many bits under a power of two for each 32 columns.
    Microscaled(u8),
    /// E4M3 under a float scale for each 128 columns.
    Fp8,
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

    /// Rule for the power of two of 32 columns: `absmax` takes it from the absolute maximum, `mse` takes the one half as large
    /// where a maximum shrunken by at most a fifth asks for it and the error is less.
    #[serde(default)]
    #[schemars(example = &"mse")]
    scale_search: GroupScaleSearch,
}

/// Options of `MXFP6A8` and `MXFP6A16`: none, since the format leaves nothing open.
//
// compressed-tensors 0.20 keeps the sign of every weight on a CPU, also of those that become zero. On a GPU that depends on
// Triton: 3.9 drops the sign of negative zeros, 3.6 that of all zeros. The values are the same.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Mxfp6Options {}

impl From<Mxfp8Options> for MxElement {
    fn from(Mxfp8Options {}: Mxfp8Options) -> Self {
        Self::E4m3
    }
}

impl From<Mxfp6Options> for MxElement {
    fn from(Mxfp6Options {}: Mxfp6Options) -> Self {
        Self::E2m3
    }
}

impl From<Mxfp4Options> for MxElement {
    fn from(options: Mxfp4Options) -> Self {
        Self::E2m1 {
            round_quotient: options.quotient_dtype == QuotientDtype::Source,
            search: options.scale_search == GroupScaleSearch::Mse,
        }
    }
}

fn make<O: DeserializeOwned + Into<MxElement>>(
    options: Value,
    format: Format,
    inputs: InputElement,
) -> Result<Box<dyn Scheme>, BuildError> {
    BuildError::unless_compressed_tensors(format)?;
    let element = read_options::<O>(options)?.into();
    Ok(Box::new(MicroscaledScheme { element, inputs }))
}

fn from_arguments<O: Default + Into<MxElement>>(
    weights: &QuantizationArgs,
    activations: Option<&QuantizationArgs>,
    inputs: InputElement,
) -> Option<Value> {
    let scheme = MicroscaledScheme { element: O::default().into(), inputs };
    (*weights == scheme.weights() && activations == scheme.input_activations().as_ref()).then(|| json!({}))
}

/// Elements and their E8M0 scales.
#[derive(Debug)]
struct MicroscaledScheme {
    element: MxElement,
    inputs: InputElement,
}

/// Describes floats of this many bits under a power of two for each 32 columns.
fn microscaled(num_bits: u8, dynamic: Dynamic) -> QuantizationArgs {
    QuantizationArgs {
        num_bits,
        scale_dtype: Some("torch.uint8"),
        ..QuantizationArgs::float8(Strategy::Group(MX_GROUP), dynamic)
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
        let bits = match self.element {
            MxElement::E4m3 => 8,
            MxElement::E2m3 => 6,
            MxElement::E2m1 { .. } => 4,
        };
        microscaled(bits, Dynamic::Static)
    }

    fn input_activations(&self) -> Option<QuantizationArgs> {
        match self.inputs {
            InputElement::Unquantized => None,
            InputElement::Microscaled(bits) => Some(microscaled(bits, Dynamic::Dynamic)),
            InputElement::Fp8 => Some(QuantizationArgs::float8(Strategy::Group(128), Dynamic::Dynamic)),
        }
    }

    fn storage_format(&self) -> &'static str {
        match self.element {
            MxElement::E4m3 => "mxfp8-quantized",
            MxElement::E2m3 => "mxfp6-pack-quantized",
            MxElement::E2m1 { .. } => "mxfp4-pack-quantized",
        }
    }

    fn outputs(&self, source: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
        let Matrix { rows, columns, .. } = source;
        let groups = whole_groups(columns, MX_GROUP)?;
        let (suffix, dtype, bytes) = match self.element {
            MxElement::E4m3 => ("weight", Dtype::F8_E4M3, columns),
            MxElement::E2m3 => ("weight_packed", Dtype::U8, columns / 4 * 3),
            MxElement::E2m1 { .. } => ("weight_packed", Dtype::U8, columns / 2),
        };
        Ok(vec![
            TensorSpec::per_row(suffix, TensorRole::Codes, dtype, [rows, bytes]),
            TensorSpec::per_row("weight_scale", TensorRole::Scale, Dtype::U8, [rows, groups]),
        ])
    }

    fn missing_kernel(&self) -> Option<MissingKernel> {
        // vLLM 0.33 picks Humming by the activations alone, and Humming 0.1.19 takes these on SM 9.0 only.
        (self.inputs == InputElement::Fp8).then(|| MissingKernel {
            weights: "FP4 with FP8 activations on GPUs other than Hopper (SM 9.0)".to_owned(),
            served: "`MXFP4`, from Ampere (SM 8.0) on",
        })
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
