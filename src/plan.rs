//! A plan: for every tensor one action and the rule that decided it, and every byte offset of the output.

use qwen_fp8_schemes::TensorSpec;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::layout::ShardLayout;
use crate::finding::Finding;
use crate::recipe::Recipe;

/// Everything that a run needs to know, fixed before the first byte is read or written.
#[derive(Debug)]
pub struct Plan {
    pub recipe: Recipe,
    pub checkpoint: Checkpoint,
    /// One per tensor of the checkpoint, in its order.
    pub decisions: Vec<Decision>,
    /// One per tensor of the checkpoint, in its order.
    pub jobs: Vec<Job>,
    /// The output's safetensors files.
    pub shards: Vec<ShardLayout>,
    /// Output files other than shards and copies, in the order in which they are written: the index, then `config.json`.
    pub documents: Vec<(String, Vec<u8>)>,
    pub warnings: Vec<Finding>,
}

/// What happens to one tensor, and why.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The rule that took the tensor, and which of its targets matched; `None` when no rule did.
    pub rule: Option<(usize, usize)>,
}

/// The work for one source tensor.
#[derive(Clone, Debug)]
pub enum Job {
    /// The bytes go unchanged to this place.
    Copy { to: Slot },
    /// The scheme of this rule writes these tensors.
    Quantize { rule: usize, outputs: Vec<(TensorSpec, Slot)> },
}

/// A tensor of the output: `shards[shard].tensors[tensor]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub shard: usize,
    pub tensor: usize,
}
