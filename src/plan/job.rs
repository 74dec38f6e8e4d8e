//! The decision for each input of a plan, the job that follows from it, and the slots it writes to.

use qwen_fp8_schemes::TensorSpec;

use crate::recipe::Recipe;

use super::carried_scales::CarriedScales;

/// The rule that decided one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The rule that takes the input and which of its targets matched; an input that no rule takes is copied.
    pub rule: Option<(usize, usize)>,
}

impl Decision {
    /// Reports whether a rule of `recipe` with a scheme takes the input.
    pub(super) fn is_quantized(&self, recipe: &Recipe) -> bool {
        self.rule.is_some_and(|(rule, _)| recipe.rules[rule].scheme.is_some())
    }
}

/// The work for one input.
#[derive(Clone, Debug)]
pub enum Job {
    /// Writes the values to this place as they are.
    Copy { to: Slot },
    /// Writes the tensors of a quantized weight to these places: codes, scales, and what else there is. All stay as they
    /// are, but for scales whose form a rule changes.
    PassThrough { to: Vec<Slot>, scales: CarriedScales },
    /// Writes the decoded values of a quantized weight to this place.
    Dequantize { to: Slot },
    /// Writes these tensors by the scheme of this rule.
    Quantize { rule: usize, outputs: Vec<(TensorSpec, Slot)> },
}

impl Job {
    /// Returns the places that are written, in the order of what is written.
    pub fn slots(&self) -> Vec<Slot> {
        match self {
            Self::Copy { to } | Self::Dequantize { to } => vec![*to],
            Self::PassThrough { to, .. } => to.clone(),
            Self::Quantize { outputs, .. } => outputs.iter().map(|(_, slot)| *slot).collect(),
        }
    }
}

/// A tensor of the output: `shards[shard].tensors[tensor]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub shard: usize,
    pub tensor: usize,
}
