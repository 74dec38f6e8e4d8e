//! Reasons for which stacks of experts cannot be taken apart.

use safetensors::Dtype;

use crate::text::shown;

/// A reason for which a stack of experts cannot be taken apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpertsError {
    #[error("{} has no {} beside it, whose shape would tell how both are stored", shown(.tensor), shown(.partner))]
    NoPartner { tensor: String, partner: &'static str },
    #[error("{} {shape:?} and {} {other:?} are no stacks of the same experts: expected {expected}", shown(.tensor), shown(.partner))]
    Shapes { tensor: String, shape: Vec<usize>, partner: String, other: Vec<usize>, expected: &'static str },
    #[error("{} {shape:?} holds no experts with {}: expected {expected}", shown(.tensor), .holds.join(" and "))]
    Shape { tensor: String, shape: Vec<usize>, holds: Vec<String>, expected: &'static str },
    #[error("{} is {dtype}, and stacks of BF16, F16 or F32 can be taken apart", shown(.tensor))]
    Dtype { tensor: String, dtype: Dtype },
    #[error("{} belongs to experts with biases, and no family's file says how these lie (`bias` of `stacks`)", shown(.tensor))]
    Biases { tensor: String },
    #[error("there would be up to {matrices} matrices, more than the limit of {MAX_MATRICES}")]
    TooMany { matrices: usize },
    #[error("no family's file says what {} holds (`stacks`)", shown(.tensor))]
    Unknown { tensor: String },
}

/// The most matrices that stacks may be taken apart into, more than any model has: small headers can claim any number
/// of them that hold next to nothing.
pub(super) const MAX_MATRICES: usize = 1 << 19;
