//! Golden vectors: weights, and the bytes that the scheme's reference writes for them.
//!
//! They are one small safetensors file ([`Registration::golden`]), which any language can write:
//!
//! | part | holds |
//! |---|---|
//! | `options` of `__metadata__` | JSON: sets of options by name, `{"gpu":{},"cpu":{"quotient_dtype":"source"}}` |
//! | tensor `<weight>.input` | a BF16, F16 or F32 matrix |
//! | tensor `<weight>.<set>.<suffix>` | the output for it under these options, by [`TensorSpec::suffix`] |
//!
//! The names of weights and sets are yours to choose. A weight may be tried with one set or several, a set with all of
//! its tensors. Any other tensor is an error, so that a mistyped name does not hide a vector from the suite.

use std::collections::BTreeSet;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value};

use super::quantize::quantize_whole_keeping;
use crate::registry::MakeScheme;
use crate::{
    BuildError, Dtype, Format, Make, Matrix, NonFinite, Registration, Scheme, ShapeError, Simd, SourceDtype, TensorSpec,
};

/// Reason why golden vectors do not hold.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GoldenError {
    /// The vectors are not a safetensors file.
    #[error("no safetensors file: {0}")]
    File(String),
    /// The metadata has no sets of options.
    #[error("`options` of the metadata is no JSON object of sets of options")]
    Options,
    /// The scheme refuses a set of options.
    #[error("the options `{set}` are refused: {error}")]
    Refused {
        /// Name of the set.
        set: String,
        /// The scheme's error.
        error: BuildError,
    },
    /// No weight has results for a set of options.
    #[error("no weight is tried with the options `{set}`")]
    Unused {
        /// Name of the set.
        set: String,
    },
    /// A tensor is neither a weight nor a result.
    #[error("`{tensor}` is neither a `<weight>.input` nor a `<weight>.<set>.<suffix>` of one")]
    Stray {
        /// Name of the tensor.
        tensor: String,
    },
    /// A weight is not a matrix of a source dtype.
    #[error("`{tensor}` is no BF16, F16 or F32 matrix")]
    Input {
        /// Name of the tensor.
        tensor: String,
    },
    /// The scheme refuses the shape of a weight.
    #[error("`{tensor}`: the shape is refused: {error}")]
    Shape {
        /// Name of the tensor.
        tensor: String,
        /// The scheme's error.
        error: ShapeError,
    },
    /// The scheme refuses a value of a weight.
    #[error("`{tensor}`: refused: {error}")]
    NonFinite {
        /// Name of the tensor.
        tensor: String,
        /// The scheme's error.
        error: NonFinite,
    },
    /// A result is missing.
    #[error("`{tensor}` is missing")]
    Missing {
        /// Name of the tensor.
        tensor: String,
    },
    /// A result has another dtype or shape than the scheme declares.
    #[error("`{tensor}` is {golden:?}, and the scheme makes {made:?}")]
    Described {
        /// Name of the tensor.
        tensor: String,
        /// Dtype and shape of the golden vector.
        golden: (Dtype, Vec<usize>),
        /// Dtype and shape that the scheme declares.
        made: (Dtype, Vec<usize>),
    },
    /// A byte differs.
    #[error("`{tensor}`: byte {byte} is {made:#04x}, not {golden:#04x} ({simd})")]
    Differs {
        /// Name of the tensor.
        tensor: String,
        /// Offset of the byte in the tensor.
        byte: usize,
        /// The byte of the golden vector.
        golden: u8,
        /// The byte that the scheme writes.
        made: u8,
        /// Instruction set that the scheme was given.
        simd: Simd,
    },
}

/// Compares a scheme's outputs with its golden vectors, with every instruction set; returns the number of results.
///
/// # Errors
/// The first result that differs, or why it cannot be compared.
pub fn check(registration: &Registration) -> Result<usize, GoldenError> {
    let Make::Quantize(make) = registration.make else { return Ok(0) };
    if registration.golden.is_empty() {
        return Ok(0);
    }
    let invalid = |error: safetensors::SafeTensorError| GoldenError::File(error.to_string());
    let (_, header) = SafeTensors::read_metadata(registration.golden).map_err(invalid)?;
    let sets = header.metadata().as_ref().and_then(|metadata| metadata.get("options"));
    let sets: Map<String, Value> = sets.and_then(|sets| serde_json::from_str(sets).ok()).ok_or(GoldenError::Options)?;
    let file = SafeTensors::deserialize(registration.golden).map_err(invalid)?;
    let mut names: Vec<&str> = file.names();
    names.sort_unstable();
    let mut seen = BTreeSet::new();
    let mut used = BTreeSet::new();
    let mut compared = 0;
    for weight in names.iter().filter_map(|name| name.strip_suffix(".input")) {
        seen.insert(format!("{weight}.input"));
        for (set, options) in &sets {
            let case = format!("{weight}.{set}");
            if !names.iter().any(|name| name.strip_prefix(&*case).is_some_and(|rest| rest.starts_with('.'))) {
                continue;
            }
            let scheme = scheme(make, set, options)?;
            seen.extend(compare(&*scheme, &file, weight, &case)?);
            used.insert(set);
            compared += 1;
        }
    }
    if let Some(stray) = names.into_iter().find(|name| !seen.contains(*name)) {
        return Err(GoldenError::Stray { tensor: stray.to_owned() });
    }
    match sets.keys().find(|set| !used.contains(set)) {
        Some(set) => Err(GoldenError::Unused { set: set.clone() }),
        None => Ok(compared),
    }
}

/// Makes the scheme in the format that admits it.
fn scheme(make: MakeScheme, set: &str, options: &Value) -> Result<Box<dyn Scheme>, GoldenError> {
    let refused = |error| GoldenError::Refused { set: set.to_owned(), error };
    make(options.clone(), Format::CompressedTensors)
        .or_else(|error| make(options.clone(), Format::Fp8).map_err(|_| refused(error)))
}

/// Compares the outputs for a weight; returns the names of the tensors that were compared.
fn compare(scheme: &dyn Scheme, file: &SafeTensors<'_>, weight: &str, case: &str) -> Result<Vec<String>, GoldenError> {
    let input = format!("{weight}.input");
    let tensor = |name: &str| file.tensor(name).map_err(|_| GoldenError::Missing { tensor: name.to_owned() });
    let view = tensor(&input)?;
    let source = matrix(&view).ok_or_else(|| GoldenError::Input { tensor: input.clone() })?;
    let specs = scheme.outputs(source).map_err(|error| GoldenError::Shape { tensor: input.clone(), error })?;
    let mut names = Vec::new();
    for simd in Simd::available() {
        let made = quantize_whole_keeping(scheme, source, view.data(), 1, simd, 0xA5)
            .map_err(|error| GoldenError::NonFinite { tensor: input.clone(), error })?;
        for (spec, made) in specs.iter().zip(&made) {
            let name = format!("{case}.{}", spec.suffix);
            let golden = tensor(&name)?;
            differ(&name, &golden, spec, made, simd)?;
            names.push(name);
        }
    }
    Ok(names)
}

fn matrix(view: &TensorView<'_>) -> Option<Matrix> {
    let &[rows, columns] = view.shape() else { return None };
    Some(Matrix { dtype: SourceDtype::try_from(view.dtype()).ok()?, rows, columns })
}

/// Returns the first difference between a result and the golden one as an error.
fn differ(
    tensor: &str,
    golden: &TensorView<'_>,
    spec: &TensorSpec,
    made: &[u8],
    simd: Simd,
) -> Result<(), GoldenError> {
    let tensor = || tensor.to_owned();
    if (golden.dtype(), golden.shape()) != (spec.dtype, &*spec.shape) {
        let golden = (golden.dtype(), golden.shape().to_vec());
        return Err(GoldenError::Described { tensor: tensor(), golden, made: (spec.dtype, spec.shape.clone()) });
    }
    match golden.data().iter().zip(made).enumerate().find(|(_, (golden, made))| golden != made) {
        Some((byte, (&golden, &made))) => Err(GoldenError::Differs { tensor: tensor(), byte, golden, made, simd }),
        None => Ok(()),
    }
}
