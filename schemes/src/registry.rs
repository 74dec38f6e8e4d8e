//! The registry: every scheme linked into the binary, whether from this crate or a stranger's.

use std::fmt;

use schemars::{Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Format, QuantizationArgs, Scheme};

/// What a scheme submits about itself; see [`register_scheme!`](crate::register_scheme).
#[derive(Clone, Copy)]
pub struct Registration {
    /// The name written in recipes, such as `FP8_BLOCK`; matched without regard to case.
    pub name: &'static str,
    /// Other names for the same scheme with the same options.
    pub aliases: &'static [&'static str],
    /// The version of the scheme's arithmetic: raise it whenever the same name and options would write other bytes.
    ///
    /// The manifest of an output records it, and an interrupted run is not resumed under another version, so that the
    /// shards of one output never come from two arithmetics. A change of speed alone leaves it as it is.
    pub version: u32,
    /// One sentence for listings and for the editor's hover.
    pub summary: &'static str,
    /// The JSON Schema of the options: a closed object, one property per option.
    pub options: fn(&mut SchemaGenerator) -> Schema,
    pub make: Make,
    /// The options with which this scheme does what explicit compressed-tensors arguments (weights, input
    /// activations) ask for; `None` when its arithmetic is another.
    pub from_arguments: fn(&QuantizationArgs, Option<&QuantizationArgs>) -> Option<Value>,
    pub servers: ServerSupport,
    /// A safetensors file of weights and of what the scheme must make of them, as
    /// [`conformance::golden`](crate::conformance::golden) reads it; empty where there is none.
    pub golden: &'static [u8],
}

/// What a rule with this scheme does to a tensor.
#[derive(Clone, Copy)]
pub enum Make {
    /// The tensor is copied byte for byte, an FP8 layer of a quantized source with its scales.
    Keep,
    /// An FP8 layer of a quantized source is decoded, and anything else copied.
    Dequantize,
    /// The tensor is quantized by the scheme that the options describe.
    Quantize(fn(Value, Format) -> Result<Box<dyn Scheme>, BuildError>),
}

/// Where the scheme's output can be served, for people.
#[derive(Clone, Copy)]
pub struct ServerSupport {
    /// Those that have kernels for it, such as `vLLM`, `SGLang`, `transformers`; empty where nothing is known.
    pub servers: &'static [&'static str],
    /// The oldest GPU generation, and what newer ones do better, such as `Turing (SM 7.5) through Marlin, weights only;
    /// Ada (SM 8.9) for FP8 arithmetic`.
    pub gpu: &'static str,
}

/// Options that a scheme refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BuildError {
    /// The option at fault, when one is.
    pub option: Option<&'static str>,
    pub reason: String,
}

impl BuildError {
    /// Refuses the `fp8` format, which has no words for anything but E4M3 weights under scales of a float dtype.
    ///
    /// # Errors
    /// The format is `fp8`.
    pub fn unless_compressed_tensors(format: Format) -> Result<(), Self> {
        match format {
            Format::CompressedTensors => Ok(()),
            Format::Fp8 => {
                let reason = "the `fp8` format holds FP8 weights only: write `format: compressed-tensors`".to_owned();
                Err(Self { option: None, reason })
            }
        }
    }
}

impl Registration {
    /// Builds the scheme that `options` describe, for an output in this format; `None` where a rule with this scheme
    /// quantizes nothing.
    ///
    /// # Errors
    /// The scheme refuses the options, or the format cannot hold what it stores.
    pub fn build(&self, options: Value, format: Format) -> Result<Option<Box<dyn Scheme>>, BuildError> {
        match self.make {
            Make::Quantize(make) => make(options, format).map(Some),
            Make::Keep | Make::Dequantize => Ok(None),
        }
    }
}

/// Reads a scheme's options, which the recipe's schema has admitted already.
///
/// # Errors
/// The options do not fit `T`.
pub fn read_options<T: DeserializeOwned>(options: Value) -> Result<T, BuildError> {
    serde_json::from_value(options).map_err(|error| BuildError { option: None, reason: error.to_string() })
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registration").field(&self.name).finish()
    }
}

inventory::collect!(Registration);

/// All linked schemes, in order of their names.
pub fn registered() -> Vec<&'static Registration> {
    let mut all: Vec<_> = inventory::iter::<Registration>.into_iter().collect();
    all.sort_by_key(|registration| registration.name);
    all
}

/// The scheme called `name`, by name or alias, without regard to case.
pub fn find(name: &str) -> Option<&'static Registration> {
    registered().into_iter().find(|registration| {
        std::iter::once(&registration.name).chain(registration.aliases).any(|known| known.eq_ignore_ascii_case(name))
    })
}

/// The schemes that do what explicit compressed-tensors arguments (weights, input activations) ask for, in order of
/// their names, each with the options to [build](Registration::build) it with.
pub fn find_by_arguments(
    weights: &QuantizationArgs,
    inputs: Option<&QuantizationArgs>,
) -> impl Iterator<Item = (&'static Registration, Value)> {
    registered().into_iter().filter_map(move |registration| {
        let options = (registration.from_arguments)(weights, inputs)?;
        Some((registration, options))
    })
}

/// Submits a [`Registration`] to the registry of the binary it is linked into.
#[macro_export]
macro_rules! register_scheme {
    ($registration:expr) => {
        $crate::inventory::submit! { $registration }
    };
}
