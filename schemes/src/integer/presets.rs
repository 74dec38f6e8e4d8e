//! Presets of the integer scheme, one row each: to add one, add a row and `golden/<name>.safetensors`.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::options::{
    AsymmetricOptions, ChannelActivationOptions, GroupActivationOptions, GroupOptions, IntegerActivations,
    IntegerOptions,
};
use super::{IntegerScheme, integer_args};
use crate::{BuildError, Dynamic, Format, Make, QuantizationArgs, Registration, Scheme, ServerSupport, Strategy};

macro_rules! presets {
    ($(
        $name:literal, $aliases:expr, $bits:literal, $activations:expr, $options:ty, $asked:expr, $servers:expr,
        $summary:expr;
    )*) => {
        $(crate::register_scheme!(Registration {
            name: $name,
            aliases: &$aliases,
            // All presets share one arithmetic, and so its version.
            version: 1,
            summary: $summary,
            options: |generator| described::<$options>(generator, concat!("Options of `", $name, "`.")),
            make: Make::Quantize(|options, format| {
                Preset { bits: $bits, activations: $activations, asked: $asked }.make::<$options>(options, format)
            }),
            from_arguments: |weights, activations| {
                Preset { bits: $bits, activations: $activations, asked: $asked }.options_for(weights, activations)
            },
            servers: $servers,
            golden: include_bytes!(concat!("../golden/", $name, ".safetensors")),
        });)*
    };
}

/// Summary of weights that are packed.
macro_rules! packed {
    ($bits:literal) => {
        concat!("Packed weights of ", $bits, " bits with a scale per 128 columns; activations are not quantized.")
    };
}

/// Summary of weights that have a byte each.
macro_rules! bytes {
    ($bits:literal, $activations:literal) => {
        concat!(
            "Weights of ",
            $bits,
            " bits, in a byte each, with a scale per 128 columns; activations are quantized to ",
            $activations,
            " per token."
        )
    };
}

presets! {
    // name     aliases  bits activations   options                 asked       servers   summary
    "W2A16",      [],       2, UNQUANTIZED, GroupOptions,           ANY,        UNPACKED, packed!(2);
    "W3A16",      [],       3, UNQUANTIZED, GroupOptions,           ANY,        UNPACKED, packed!(3);
    "W4A16",      [],       4, UNQUANTIZED, GroupOptions,           SYMMETRIC,  TURING,   packed!(4);
    "W5A16",      [],       5, UNQUANTIZED, GroupOptions,           ANY,        UNPACKED, packed!(5);
    "W6A16",      [],       6, UNQUANTIZED, GroupOptions,           ANY,        UNPACKED, packed!(6);
    "W7A16",      [],       7, UNQUANTIZED, GroupOptions,           ANY,        UNPACKED, packed!(7);
    "W8A16",      [],       8, UNQUANTIZED, GroupOptions,           ANY,        TURING,   packed!(8);
    "W4A16_ASYM", [],       4, UNQUANTIZED, AsymmetricOptions,      ASYMMETRIC, AMPERE,
        "Packed weights of 4 bits with a scale and a zero point per 128 columns; activations are not quantized.";
    "W2A4",       [],       2, INT4,        GroupActivationOptions, ANY,        COMPUTED, bytes!(2, "INT4");
    "W3A4",       [],       3, INT4,        GroupActivationOptions, ANY,        COMPUTED, bytes!(3, "INT4");
    "W4A4",       [],       4, INT4,        GroupActivationOptions, ANY,        COMPUTED, bytes!(4, "INT4");
    "W2A8",       [],       2, INT8,        GroupActivationOptions, ANY,        COMPUTED, bytes!(2, "INT8");
    "W3A8",       [],       3, INT8,        GroupActivationOptions, ANY,        COMPUTED, bytes!(3, "INT8");
    "W4A8",       [],       4, INT8,        GroupActivationOptions, ANY,        ARM_CPU,  bytes!(4, "INT8");
    "W5A8",       [],       5, INT8,        GroupActivationOptions, ANY,        COMPUTED, bytes!(5, "INT8");
    "W6A8",       [],       6, INT8,        GroupActivationOptions, ANY,        COMPUTED, bytes!(6, "INT8");
    "W7A8",       [],       7, INT8,        GroupActivationOptions, ANY,        COMPUTED, bytes!(7, "INT8");
    "W8A8",       ["INT8"], 8, INT8,      ChannelActivationOptions, ANY,        TURING_TO_HOPPER,
        "INT8 weights with a scale per row; activations are quantized to INT8 per token while the model runs.";
    "W4AFP8",     [],       4, FP8,         GroupOptions,           ANY,        COMPUTED, bytes!(4, "FP8");
}

const UNQUANTIZED: ActivationElement = ActivationElement::Unquantized;
const INT4: ActivationElement = ActivationElement::Integer(4);
const INT8: ActivationElement = ActivationElement::Integer(8);
const FP8: ActivationElement = ActivationElement::Fp8;

const ANY: AskedSymmetry = AskedSymmetry::Any;
const SYMMETRIC: AskedSymmetry = AskedSymmetry::Symmetric;
const ASYMMETRIC: AskedSymmetry = AskedSymmetry::Asymmetric;

const UNPACKED: ServerSupport =
    ServerSupport { servers: &["transformers"], gpu: "any: unpacked to the dtype of the model" };
const COMPUTED: ServerSupport =
    ServerSupport { servers: &["transformers"], gpu: "any: computed in the dtype of the model" };
// vLLM's other kernels for it are for Intel's GPUs; all want symmetric weights and dynamic activations.
const ARM_CPU: ServerSupport = ServerSupport {
    servers: &["transformers"],
    gpu: "any: computed in the dtype of the model. vLLM 0.33 serves it on Arm CPUs, under the default options",
};
const TURING: ServerSupport = ServerSupport {
    servers: &["vLLM", "SGLang", "transformers"],
    gpu: "Turing (SM 7.5); Ampere (SM 8.0) with `symmetric: false`",
};
const AMPERE: ServerSupport = ServerSupport { servers: &["vLLM", "SGLang", "transformers"], gpu: "Ampere (SM 8.0)" };
const TURING_TO_HOPPER: ServerSupport = ServerSupport {
    servers: &["vLLM", "SGLang", "transformers"],
    gpu: "Turing (SM 7.5), and none after Hopper (SM 9.0)",
};

/// A row of the table, but for its texts.
#[derive(Clone, Copy)]
struct Preset {
    /// Bits of a weight, from 2 to 8.
    bits: u8,
    activations: ActivationElement,
    asked: AskedSymmetry,
}

/// Element that the server quantizes the layer's input to, the second part of a preset's name.
#[derive(Clone, Copy)]
enum ActivationElement {
    /// `A16`: none, and the weights are packed.
    Unquantized,
    /// `A4`, `A8`: integers of this many bits, scaled per token.
    Integer(u8),
    /// `AFP8`: E4M3, scaled per token.
    Fp8,
}

/// Explicit arguments that a preset answers to: no two presets may answer to the same ones.
#[derive(Clone, Copy)]
enum AskedSymmetry {
    Any,
    Symmetric,
    Asymmetric,
}

impl Preset {
    fn make<O: DeserializeOwned + Into<IntegerOptions>>(
        self,
        options: Value,
        format: Format,
    ) -> Result<Box<dyn Scheme>, BuildError> {
        BuildError::unless_compressed_tensors(format)?;
        let options: IntegerOptions = crate::read_options::<O>(options)?.into();
        let input_activations = self.input_activations(options.activations == IntegerActivations::Dynamic);
        Ok(Box::new(IntegerScheme::new(self.bits, options, input_activations)?))
    }

    fn input_activations(self, symmetric: bool) -> Option<QuantizationArgs> {
        match self.activations {
            ActivationElement::Unquantized => None,
            ActivationElement::Integer(bits) => Some(integer_args(bits, symmetric, Strategy::Token, Dynamic::Dynamic)),
            ActivationElement::Fp8 => Some(QuantizationArgs::float8(Strategy::Token, Dynamic::Dynamic)),
        }
    }

    /// Returns the options with which the preset does what these arguments ask for.
    fn options_for(self, weights: &QuantizationArgs, activations: Option<&QuantizationArgs>) -> Option<Value> {
        let group_size: Value = match weights.strategy {
            Strategy::Group(columns) => columns.into(),
            Strategy::Channel => "channel".into(),
            Strategy::Tensor if weights.symmetric => "tensor".into(),
            _ => return None,
        };
        if *weights != integer_args(self.bits, weights.symmetric, weights.strategy, Dynamic::Static) {
            return None;
        }
        let mut options = Map::new();
        options.insert("group_size".to_owned(), group_size);
        match (self.asked, weights.symmetric) {
            (AskedSymmetry::Any | AskedSymmetry::Symmetric, true) | (AskedSymmetry::Asymmetric, false) => {}
            (AskedSymmetry::Any, false) => {
                options.insert("symmetric".to_owned(), false.into());
            }
            (AskedSymmetry::Symmetric, false) | (AskedSymmetry::Asymmetric, true) => return None,
        }
        let symmetric = activations.is_none_or(|activations| activations.symmetric);
        if activations != self.input_activations(symmetric).as_ref() {
            return None;
        }
        if !symmetric {
            options.insert("activations".to_owned(), "dynamic_asymmetric".into());
        }
        Some(options.into())
    }
}

/// Returns the schema of a preset's options under a description that names the preset.
fn described<O: JsonSchema>(generator: &mut SchemaGenerator, description: &str) -> Schema {
    let mut schema = O::json_schema(generator);
    schema.insert("description".to_owned(), description.into());
    schema
}
