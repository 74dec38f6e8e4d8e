//! Options of the integer schemes: each is written once and flattened into the sets that presets have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Strategy;
use crate::float8::{GroupScaleSearch, QuotientDtype};

/// Options of an integer scheme, with the values that its preset fixes filled in.
#[derive(Clone, Copy, Debug)]
pub(super) struct IntegerOptions {
    pub(super) group_size: GroupSize,
    pub(super) symmetric: bool,
    pub(super) activations: IntegerActivations,
    pub(super) quotient_dtype: QuotientDtype,
    pub(super) scale_search: GroupScaleSearch,
}

/// Options of presets with groups of 128 columns that do not quantize activations to integers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupOptions {
    #[serde(flatten)]
    group: GroupSizeOption,

    #[serde(flatten)]
    symmetry: SymmetricOption,

    #[serde(flatten)]
    rounding: RoundingOptions,
}

/// Options of presets with groups of 128 columns that quantize activations to integers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupActivationOptions {
    #[serde(flatten)]
    group: GroupSizeOption,

    #[serde(flatten)]
    symmetry: SymmetricOption,

    #[serde(flatten)]
    rounding: RoundingOptions,

    #[serde(flatten)]
    activations: ActivationsOption,
}

/// Options of presets whose groups of 128 columns always have zero points.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AsymmetricOptions {
    #[serde(flatten)]
    group: GroupSizeOption,

    #[serde(flatten)]
    rounding: RoundingOptions,
}

/// Options of presets with a scale per row that quantize activations to integers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelActivationOptions {
    /// Columns of a row that share a scale; `channel` for all of a row, `tensor` for all rows. Servers have kernels for
    /// the latter two.
    #[serde(default = "channel")]
    #[schemars(example = &"tensor")]
    group_size: GroupSize,

    #[serde(flatten)]
    symmetry: SymmetricOption,

    #[serde(flatten)]
    rounding: RoundingOptions,

    #[serde(flatten)]
    activations: ActivationsOption,
}

fn channel() -> GroupSize {
    GroupSize::All(GroupSpan::Channel)
}

impl From<GroupOptions> for IntegerOptions {
    fn from(GroupOptions { group, symmetry, rounding }: GroupOptions) -> Self {
        Self {
            group_size: group.group_size,
            symmetric: symmetry.symmetric,
            activations: IntegerActivations::Dynamic,
            quotient_dtype: rounding.quotient_dtype,
            scale_search: rounding.scale_search,
        }
    }
}

impl From<GroupActivationOptions> for IntegerOptions {
    fn from(options: GroupActivationOptions) -> Self {
        let GroupActivationOptions { group, symmetry, rounding, activations } = options;
        Self { activations: activations.activations, ..GroupOptions { group, symmetry, rounding }.into() }
    }
}

impl From<AsymmetricOptions> for IntegerOptions {
    fn from(AsymmetricOptions { group, rounding }: AsymmetricOptions) -> Self {
        GroupOptions { group, symmetry: SymmetricOption { symmetric: false }, rounding }.into()
    }
}

impl From<ChannelActivationOptions> for IntegerOptions {
    fn from(options: ChannelActivationOptions) -> Self {
        let ChannelActivationOptions { group_size, symmetry, rounding, activations } = options;
        GroupActivationOptions { group: GroupSizeOption { group_size }, symmetry, rounding, activations }.into()
    }
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
struct RoundingOptions {
    /// Dtype that the quotient of weight and scale is rounded to before it is rounded to an integer.
    #[serde(default)]
    #[schemars(example = &"source")]
    quotient_dtype: QuotientDtype,

    /// Rule for scale and zero point: `absmax` takes them from the largest weight, or with zero points from the least and the
    /// greatest, `mse` searches for those that leave the least error; not for `group_size: tensor`.
    #[serde(default)]
    #[schemars(example = &"mse")]
    scale_search: GroupScaleSearch,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
struct SymmetricOption {
    /// `true`: zero is the integer 0, and a group reaches as far below it as above. `false`: each group stores a zero
    /// point of its own and covers its least to its greatest weight.
    #[serde(default = "symmetric")]
    #[schemars(example = false)]
    symmetric: bool,
}

fn symmetric() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
struct GroupSizeOption {
    /// Columns of a row that share a scale; `channel` for all of a row, `tensor` for all rows. vLLM has kernels for 32,
    /// 64, 128 and `channel`.
    #[serde(default)]
    #[schemars(example = 64, example = &"channel")]
    group_size: GroupSize,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
struct ActivationsOption {
    /// Quantization of the layer's input, as the server is told. It changes `config.json` alone, not the tensors.
    #[serde(default)]
    #[schemars(example = &"dynamic_asymmetric")]
    activations: IntegerActivations,
}

/// Quantization of the layer's input to integers by the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum IntegerActivations {
    /// Integers, with a scale per token made while the model runs.
    #[default]
    Dynamic,
    /// Integers, with a scale and a zero point per token made while the model runs.
    DynamicAsymmetric,
}

/// Columns of a row that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum GroupSize {
    /// A number of columns.
    Columns(#[schemars(range(min = 1))] u32),
    /// All columns, of a row or of all rows.
    All(GroupSpan),
}

/// A granule that is larger than a group of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum GroupSpan {
    /// A scale for each row.
    Channel,
    /// A scale for the tensor.
    Tensor,
}

impl Default for GroupSize {
    fn default() -> Self {
        Self::Columns(128)
    }
}

impl GroupSize {
    pub(super) fn strategy(self) -> Strategy {
        match self {
            Self::Columns(columns) => Strategy::Group(columns as usize),
            Self::All(GroupSpan::Channel) => Strategy::Channel,
            Self::All(GroupSpan::Tensor) => Strategy::Tensor,
        }
    }
}
