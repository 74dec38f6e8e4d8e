//! The layout of a quantized weight in a source: the names and dtypes of its tensors, and their meaning.

use qwen_fp8_schemes::{CodeFormat, Dtype, Format, Strategy, TensorRole, WordOrder};

use crate::plan::served_form::ServedForm;

/// The dtypes of scales that are floats.
pub(super) const FLOAT_SCALES: &[Dtype] = &[Dtype::BF16, Dtype::F16, Dtype::F32];

/// The dtypes of scales that are powers of two: a byte each, by its own dtype or as a plain one.
pub(super) const EXPONENT_SCALES: &[Dtype] = &[Dtype::F8_E8M0, Dtype::U8];

/// The dtypes of scales of FP8 weights in the official layout, which has both kinds.
pub(super) const FP8_SCALES: &[Dtype] = &[Dtype::BF16, Dtype::F16, Dtype::F32, Dtype::F8_E8M0, Dtype::U8];

/// The tensors of a weight, and their meaning.
#[derive(Clone, Debug)]
pub(super) struct SourceLayout {
    /// The name in messages, such as `FP8`.
    pub(super) name: &'static str,
    /// Parameter name of the codes.
    pub(super) codes: &'static str,
    pub(super) codes_dtype: Dtype,
    pub(super) format: CodeFormat,
    /// Parameter names of the scales; the first is the one to name where there is none.
    pub(super) scales: &'static [&'static str],
    pub(super) scale_dtypes: &'static [Dtype],
    pub(super) strategy: Strategy,
    /// The tensors beside codes and scales.
    pub(super) extras: Vec<ExtraTensor>,
    /// The order of codes in words, where all tensors hold the transposed weight.
    pub(super) transposed: Option<TransposedLayout>,
    /// The layout that servers read the tensors in, or why none of ours is.
    pub(super) served: Result<ServedLayout, &'static str>,
}

/// A tensor beside codes and scales.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExtraTensor {
    /// Parameter name in the source.
    pub(super) stored: &'static str,
    /// Parameter name in compressed-tensors' layout.
    pub(super) served: &'static str,
    pub(super) role: ExtraRole,
    pub(super) dtypes: &'static [Dtype],
    /// Decoding needs it.
    pub(super) required: bool,
}

/// The meaning of a tensor beside codes and scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtraRole {
    /// Scales were multiplied by it before they were rounded.
    GlobalDivides,
    /// Scales were divided by it before they were rounded.
    GlobalMultiplies,
    /// A zero point for each group, a byte each.
    ZeroPoints,
    /// Zero points of this many bits, packed down the rows.
    PackedZeroPoints(u32),
    /// Rows and columns of the weight.
    Shape,
    /// A scale of activations, which decoding does not need.
    Activations,
    /// Zero points of a weight that is stored transposed, packed along its rows.
    TransposedZeroPoints,
    /// The group of each column.
    GroupsOfColumns,
}

impl ExtraRole {
    /// Returns the role that such a tensor has in an output.
    pub(super) fn of_tensor(self) -> TensorRole {
        match self {
            Self::GlobalDivides | Self::GlobalMultiplies => TensorRole::GlobalScale,
            Self::ZeroPoints | Self::PackedZeroPoints(_) | Self::TransposedZeroPoints => TensorRole::ZeroPoint,
            Self::Shape => TensorRole::Shape,
            Self::Activations | Self::GroupsOfColumns => TensorRole::Other,
        }
    }
}

/// The words of a weight that is stored transposed.
#[derive(Clone, Copy, Debug)]
pub(super) struct TransposedLayout {
    pub(super) order: WordOrder,
    /// Zero points are stored less one.
    pub(super) zeros_less_one: bool,
}

/// A layout of the output that holds the source's bytes.
#[derive(Clone, Debug)]
pub(super) struct ServedLayout {
    pub(super) form: ServedForm,
    /// Name and dtype of the codes in compressed-tensors' layout.
    pub(super) codes: (&'static str, Dtype),
    /// Dtype of the scales in compressed-tensors' layout; `None` where it is the stored one.
    pub(super) scales: Option<Dtype>,
    /// The output format in which names and dtypes stay as they are.
    pub(super) at_home: Option<Format>,
    /// The tensors without which servers cannot run the form.
    pub(super) needs: &'static [&'static str],
}
