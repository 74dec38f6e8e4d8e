//! The registry: every scheme linked into the binary, whether from this crate or a stranger's.

use std::fmt;

use schemars::{Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Format, QuantizationArgs, Scheme};

/// Description of a scheme in the registry: its name, options, constructor and golden vectors.
///
/// [`register_scheme!`](crate::register_scheme) submits one.
///
/// # Examples
/// ```
/// use qwen_fp8_schemes::{BuildError, Format, Make, find};
///
/// let registration = find("int8").expect("this crate registers it");
/// assert_eq!((registration.name, registration.version), ("W8A8", 1));
/// let Make::Quantize(make) = registration.make else { unreachable!("it quantizes") };
/// let scheme = make(serde_json::json!({ "symmetric": false }), Format::CompressedTensors)?;
/// assert!(!scheme.weights().symmetric);
/// # Ok::<(), BuildError>(())
/// ```
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
    /// The action of a rule with this scheme; for a quantizing one, the constructor.
    pub make: Make,
    /// The options with which this scheme does what explicit compressed-tensors arguments (weights, input
    /// activations) ask for; `None` when its arithmetic is another.
    pub from_arguments: fn(&QuantizationArgs, Option<&QuantizationArgs>) -> Option<Value>,
    /// Servers and GPUs that can run the output.
    pub servers: ServerSupport,
    /// Golden vectors: a safetensors file of weights and of the bytes that the scheme must write for them, as
    /// [`conformance::golden`](crate::conformance::golden) reads it; empty if there is none.
    pub golden: &'static [u8],
}

/// Action of a rule with this scheme on a tensor.
#[derive(Clone, Copy)]
pub enum Make {
    /// Copies the tensor byte for byte; codes and scales of an FP8 source pass through.
    Keep,
    /// Decodes FP8 layers of a quantized source and copies all other tensors.
    Dequantize,
    /// Quantizes the tensor by the scheme that this function makes from the options.
    Quantize(MakeScheme),
}

/// The constructor of [`Make::Quantize`]: options and wire format in, a configured scheme out.
pub(crate) type MakeScheme = fn(Value, Format) -> Result<Box<dyn Scheme>, BuildError>;

/// Servers and GPUs that can run the scheme's output, as text for people.
#[derive(Clone, Copy)]
pub struct ServerSupport {
    /// Servers that have kernels for it, such as `vLLM`, `SGLang`, `transformers`; empty if nothing is known.
    pub servers: &'static [&'static str],
    /// The oldest GPU generation, and what newer ones do better, such as `Turing (SM 7.5) through Marlin, weights only;
    /// Ada (SM 8.9) for FP8 arithmetic`.
    pub gpu: &'static str,
}

/// Error for options that a scheme refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BuildError {
    /// Name of the option at fault, if a single one is.
    pub option: Option<&'static str>,
    /// Explanation and remedy, lower-case and without a final full stop.
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

/// Deserializes a scheme's options, which the recipe's schema has admitted already.
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

/// Returns all linked schemes, in order of their names.
pub fn registered() -> Vec<&'static Registration> {
    let mut all: Vec<_> = inventory::iter::<Registration>.into_iter().collect();
    all.sort_by_key(|registration| registration.name);
    all
}

/// Returns the scheme called `name`, by name or alias, without regard to case.
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
///
/// # Examples
/// ```
/// use qwen_fp8_schemes::*;
///
/// register_scheme!(Registration {
///     name: "UNCHANGED",
///     aliases: &["AS_IS"],
///     version: 1,
///     summary: "Copies tensors byte for byte.",
///     options: |_| schemars::json_schema!({ "type": "object", "additionalProperties": false }),
///     make: Make::Keep,
///     from_arguments: |_, _| None,
///     servers: ServerSupport { servers: &["vLLM"], gpu: "any" },
///     golden: &[],
/// });
///
/// assert_eq!(find("as_is").map(|registration| registration.name), Some("UNCHANGED"));
/// ```
#[macro_export]
macro_rules! register_scheme {
    ($registration:expr) => {
        $crate::inventory::submit! { $registration }
    };
}
