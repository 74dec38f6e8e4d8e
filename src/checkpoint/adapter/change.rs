//! What an adapter changes: tensors of a model, and what is done to each.

use super::names::spellings;
use crate::tensor::Tensor;

/// What an adapter does to one tensor of a model.
#[derive(Clone, Debug)]
pub struct AdapterChange {
    /// The tensor as PEFT's names have it.
    pub tensor: String,
    pub kind: ChangeKind,
}

/// The way in which an adapter changes a tensor.
#[derive(Clone, Debug)]
pub enum ChangeKind {
    /// This tensor takes its place, rounded to its dtype.
    Replace(Tensor),
    /// Scaling × B × A is added to it.
    LowRank(Box<LowRankTensors>),
    /// This bias of B, scaled, is added to it.
    AddBias { bias: Tensor, scaling: f32 },
}

/// The tensors of a low-rank change.
#[derive(Clone, Debug)]
pub struct LowRankTensors {
    /// Rank × columns; of an embedding, rank × rows.
    pub a: Tensor,
    /// Rows × rank; of an embedding, columns × rank.
    pub b: Tensor,
    /// DoRA's length of each row.
    pub magnitude: Option<Tensor>,
    pub rank: usize,
    pub scaling: f32,
    /// Both factors lie transposed, and PEFT rounds the product to the dtype of the weight before it adds it.
    pub is_embedding: bool,
}

impl AdapterChange {
    /// Returns the names of the tensors that the change may be of, among those that there are: the one of its own name, or
    /// those that other versions of the model's class call so.
    pub fn places(&self, is_there: impl Fn(&str) -> bool) -> Vec<String> {
        if is_there(&self.tensor) {
            return vec![self.tensor.clone()];
        }
        spellings(&self.tensor).into_iter().filter(|name| is_there(name)).collect()
    }
}

impl ChangeKind {
    /// Returns the tensor of the adapter that does not go with a tensor of this shape; `None` where all do.
    pub fn misfit(&self, shape: &[usize]) -> Option<&Tensor> {
        let low = match self {
            Self::Replace(tensor) | Self::AddBias { bias: tensor, .. } => {
                return (tensor.shape != shape).then_some(tensor);
            }
            Self::LowRank(low) => low,
        };
        // The side of each factor that is not the rank.
        let of_a = low.a.shape.get(1).copied();
        let of_b = low.b.shape.first().copied();
        let (rows, columns) = if low.is_embedding { (of_a, of_b) } else { (of_b, of_a) };
        let (by_rows, by_columns) = if low.is_embedding { (&low.a, &low.b) } else { (&low.b, &low.a) };
        let &[height, width] = shape else { return Some(&low.a) };
        if rows != Some(height) {
            return Some(by_rows);
        }
        if columns != Some(width) {
            return Some(by_columns);
        }
        low.magnitude.as_ref().filter(|magnitude| magnitude.shape.iter().product::<usize>() != height)
    }

    /// The tensors of the adapter that the change reads.
    pub fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Self::Replace(tensor) | Self::AddBias { bias: tensor, .. } => vec![tensor],
            Self::LowRank(low) => [&low.a, &low.b].into_iter().chain(&low.magnitude).collect(),
        }
    }

    /// What it does, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Replace(_) => "a tensor of the adapter takes its place".to_owned(),
            Self::AddBias { scaling, .. } => format!("a bias is added, times {scaling}"),
            Self::LowRank(low) => {
                let what = if low.magnitude.is_some() { "DoRA" } else { "LoRA" };
                format!("{what} of rank {}, times {}", low.rank, low.scaling)
            }
        }
    }
}
