//! A tensor of a result after it was checked.

use schemars::JsonSchema;
use serde::Serialize;

use super::ScaleCount;
use crate::report::{Figures, WorstBlock};

/// A tensor of a result, and the figures of its check.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CheckedTensor {
    /// The name of the tensor; of the weight where its codes have another.
    pub name: String,
    /// The outcome of the check.
    pub action: CheckedAs,
    /// Bytes of the tensor, with scales and auxiliary tensors.
    pub bytes: u64,
    /// The storage form and granularity, such as `F8_E4M3 blocks of 128 × 128`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// The error against the source, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub figures: Option<Figures>,
    /// The group with the lowest signal-to-noise ratio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worst: Option<WorstBlock>,
    /// Set where every value is equal to the source's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub lossless: bool,
    #[serde(skip)]
    pub(crate) scales: ScaleCount,
    /// The largest magnitude of the source.
    #[serde(skip)]
    pub(crate) amax: f32,
}

/// The outcome of a tensor's check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckedAs {
    /// The source's tensor, byte for byte.
    Copied,
    /// An FP8 weight of the source that passed through: codes and scales are its bytes.
    // `verify --json` has always said "carried" for it.
    #[serde(rename = "carried")]
    PassedThrough,
    /// An FP8 weight of the source, decoded and rounded once.
    Dequantized,
    /// A tensor of the source that adapters were merged into, and that is not quantized.
    Merged,
    /// A quantized weight whose values are as close to the source as its format allows.
    Quantized,
    /// A quantized weight whose codes and scales have values; there is no source to compare with.
    Decoded,
    /// Not read, since there is no source to compare with.
    Unread,
}

impl CheckedAs {
    /// Returns the word for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Copied => "copied",
            Self::PassedThrough => "passed through",
            Self::Dequantized => "dequantized",
            Self::Merged => "merged",
            Self::Quantized => "quantized",
            Self::Decoded => "decoded",
            Self::Unread => "not read",
        }
    }
}

impl CheckedTensor {
    /// Returns a tensor without figures.
    pub fn plain(name: &str, action: CheckedAs, bytes: u64) -> Self {
        let (name, scales) = (name.to_owned(), ScaleCount::default());
        Self { name, action, bytes, storage: None, figures: None, worst: None, lossless: false, scales, amax: 0.0 }
    }
}
