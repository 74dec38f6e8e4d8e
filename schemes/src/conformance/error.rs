//! Promises that a scheme can break, each with the place where it shows.

use std::fmt;

use serde_json::Value;

use super::golden::GoldenError;
use crate::{BuildError, MAX_OUTPUTS, Matrix, NonFinite, QuantizationArgs};

/// A promise that a scheme does not keep.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{scheme}: {broken}")]
pub struct ConformanceError {
    /// The registered name and the options.
    pub scheme: String,
    /// The promise, and the place where it is broken.
    pub broken: Broken,
}

/// A broken promise of the contract.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Broken {
    /// Its own defaults or examples are refused as options.
    #[error("its options are refused: {0}")]
    Options(BuildError),
    /// The schema of its options admits unknown keys.
    #[error("its options are no closed object: `additionalProperties` must be false")]
    OpenOptions,
    /// An option of this name is accepted, which no scheme has.
    #[error("an option `{0}` that it does not have is accepted")]
    UnknownOption(&'static str),
    /// An option has no description.
    #[error("`{property}` of its options has no description")]
    NoDescription {
        /// Name of the option.
        property: String,
    },
    /// An option has neither default nor example, so that the suite cannot try it.
    #[error("`{property}` of its options has neither a default nor an example, so that there is nothing to try")]
    NoExample {
        /// Name of the option.
        property: String,
    },
    /// `from_arguments` answers with options that make a scheme of other arguments.
    #[error("it answers to {asked:?} with the options {options}, which do not make them")]
    Arguments {
        /// Arguments that it answers to.
        asked: Box<QuantizationArgs>,
        /// Options that it answers with.
        options: Value,
    },
    /// `band_rows` is 0.
    #[error("its bands have no rows")]
    NoBandRows,
    /// No shape of the suite is accepted.
    #[error("it refuses every shape of the suite, such as {weight}: {reason}")]
    NoShape {
        /// A weight that is refused.
        weight: Weight,
        /// The scheme's reason.
        reason: String,
    },
    /// A shape is refused by a reason that names neither rows nor columns.
    #[error("{weight}: refused, and the reason names neither side: {reason:?}")]
    Unclear {
        /// Weight at which it shows.
        weight: Weight,
        /// The scheme's reason.
        reason: String,
    },
    /// A weight becomes no tensor, or more than [`MAX_OUTPUTS`].
    #[error("{weight}: it declares {count} outputs, and a weight has 1 to {MAX_OUTPUTS}")]
    OutputCount {
        /// Weight at which it shows.
        weight: Weight,
        /// Number of declared outputs.
        count: usize,
    },
    /// The declaration of an output contradicts itself.
    #[error("{weight}: `{suffix}`: {reason}")]
    Output {
        /// Weight at which it shows.
        weight: Weight,
        /// Suffix of the output.
        suffix: &'static str,
        /// The contradiction.
        reason: &'static str,
    },
    /// A finite weight is refused.
    #[error("{weight}: refused although it is finite: {error}")]
    Refused {
        /// Weight at which it shows.
        weight: Weight,
        /// The scheme's error.
        error: NonFinite,
    },
    /// A byte of an output is not written.
    #[error("{weight}: `{suffix}`: byte {byte} is not written")]
    NotWritten {
        /// Weight at which it shows.
        weight: Weight,
        /// Suffix of the output.
        suffix: &'static str,
        /// Offset of the byte in the output.
        byte: usize,
    },
    /// A finite weight becomes NaN or infinity.
    #[error("{weight}: `{suffix}`: element {element} is a NaN or an infinity")]
    NonFiniteOutput {
        /// Weight at which it shows.
        weight: Weight,
        /// Suffix of the output.
        suffix: &'static str,
        /// Index of the element in the output.
        element: usize,
    },
    /// A byte depends on bands, instruction set, alignment, threads or the time of the call.
    #[error("{weight}: `{suffix}`: byte {byte} depends on how it is made: {way}")]
    Differs {
        /// Weight at which it shows.
        weight: Weight,
        /// Suffix of the output.
        suffix: &'static str,
        /// Offset of the byte in the output.
        byte: usize,
        /// The way of making it that differs from the first one.
        way: String,
    },
    /// NaN or infinity is accepted, or named in the wrong place.
    #[error("{weight}: expected the error `{expected}`, found {found}")]
    NonFiniteMissed {
        /// Weight at which it shows.
        weight: Weight,
        /// The first non-finite value of the weight.
        expected: NonFinite,
        /// The scheme's answer.
        found: String,
    },
    /// The scheme panics.
    #[error("{place}: it panics: {message}")]
    Panics {
        /// The weight or the step of the suite.
        place: String,
        /// The panic's message.
        message: String,
    },
    /// The golden vectors cannot be compared, or differ.
    #[error("golden vectors: {0}")]
    Golden(#[from] GoldenError),
}

/// A weight of the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Dtype and shape.
    pub source: Matrix,
    /// Kind of its values, in words.
    pub content: &'static str,
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matrix { dtype, rows, columns } = self.source;
        write!(f, "{rows} x {columns} {dtype:?} ({})", self.content)
    }
}
