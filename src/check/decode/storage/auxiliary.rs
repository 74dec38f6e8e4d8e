//! The tensors beside codes and scales.

use safetensors::Dtype;

use crate::decode::granularity::Granularity;
use crate::decode::packing::words;

/// A tensor beside the codes and scales of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AuxTensor {
    /// Parameter name, after the module's name.
    pub(crate) suffix: &'static str,
    pub(crate) dtype: Dtype,
    pub(crate) role: AuxRole,
}

/// The content of an auxiliary tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuxRole {
    /// Rows and columns of a matrix whose codes are packed into words.
    WeightShape,
    /// The factor by which scales were multiplied before they were rounded.
    GlobalScale,
    /// Zero points, a byte for each group.
    ZeroPoints,
    /// Zero points of this many bits, packed into words down the rows of groups.
    PackedZeroPoints { bits: u32 },
    /// Zero points of this many bits of a weight that is stored transposed, packed along its rows.
    TransposedZeroPoints { bits: u32 },
    /// The number of the group of each column, which is required where neighbours need not share one.
    GroupsOfColumns { required: bool },
}

impl AuxTensor {
    /// Reports whether a tensor of this shape is one of a single number, which may be written without a dimension.
    pub(crate) fn is_scalar(self, shape: &[usize]) -> bool {
        self.role == AuxRole::GlobalScale && shape.is_empty()
    }

    /// Reports whether a weight may lack the tensor.
    pub(crate) fn is_optional(self) -> bool {
        self.role == AuxRole::GroupsOfColumns { required: false }
    }

    /// Returns the tensor's shape beside a weight of this shape; `None` where groups do not fit the weight.
    pub(crate) fn shape(self, weight: [usize; 2], granularity: Granularity) -> Option<Vec<usize>> {
        match self.role {
            AuxRole::WeightShape => Some(vec![2]),
            AuxRole::GlobalScale => Some(vec![1]),
            AuxRole::ZeroPoints => granularity.scales(weight),
            // compressed-tensors packs them along dimension 0, codes along dimension 1.
            AuxRole::PackedZeroPoints { bits } => {
                let mut shape = granularity.scales(weight)?;
                shape[0] = words(shape[0], bits);
                Some(shape)
            }
            AuxRole::TransposedZeroPoints { bits } => {
                let [rows, columns] = weight;
                let groups = granularity.scales([1, columns])?.into_iter().product();
                Some(vec![groups, words(rows, bits)])
            }
            AuxRole::GroupsOfColumns { .. } => Some(vec![weight[1]]),
        }
    }
}
