//! Tensor parallel alignment: the numbers of GPUs over which servers can split the quantized layers without cutting a
//! block.

use qwen_fp8_schemes::Strategy;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::config::Config;
use crate::checkpoint::models::{AttentionHeads, Model, ParallelSplit, parallel_split};
use crate::checkpoint::text::shown;

use super::planned_input::PlannedInput;

/// The tensor-parallel sizes that are reported.
pub const SIZES: [usize; 5] = [1, 2, 4, 8, 16];

/// The answer to whether the plan can be served over `size` GPUs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Alignment {
    pub size: usize,
    /// The first layer whose part no longer fits its blocks, and why; `None` when all fit.
    pub misfit: Option<String>,
}

/// The numbers of heads, of attention and of Mamba 2, as far as `config.json` says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads<'a> {
    model: &'a Model,
    attention: Option<AttentionHeads>,
    mamba: Option<usize>,
    /// The groups that heads of Mamba share; vLLM splits them, or copies a single one.
    groups: Option<usize>,
    /// The size of the state of a group of Mamba heads.
    state: Option<usize>,
}

impl<'a> Heads<'a> {
    pub(super) fn of(config: &Config, model: &'a Model) -> Self {
        let number = |key| config.text_number(key).and_then(|number| usize::try_from(number).ok()).filter(|&n| n > 0);
        let mamba = number("mamba_num_heads").or_else(|| number("mamba_n_heads"));
        let groups = number("mamba_n_groups").or_else(|| number("n_groups").filter(|_| mamba.is_some()));
        let state = number("ssm_state_size").or_else(|| number("mamba_d_state"));
        Self { model, attention: model.heads(), mamba, groups, state }
    }

    /// The number of different shares of keys that so many GPUs have; one for each where the number of heads is not known.
    pub(super) fn shares_of_keys(self, gpus: usize) -> usize {
        self.attention.map_or(gpus, |heads| heads.shares_of_keys(gpus))
    }

    /// Returns the parts of Mamba 2's fused projection that a server splits each by itself: the inner size (twice), the
    /// states of all groups (twice), the heads. `None` for another layer.
    fn parts_of_mamba(self, module: &str, rows: usize) -> Option<[(&'static str, usize); 3]> {
        let is_fused = module.ends_with(".mamba.in_proj") || module.ends_with(".mixer.in_proj");
        let (heads, states) = (self.mamba.filter(|_| is_fused)?, self.groups?.checked_mul(self.state?)?);
        let inner = rows.checked_sub(heads)?.checked_sub(states.checked_mul(2)?)? / 2;
        Some([("inner rows", inner), ("rows of states", states), ("rows of heads", heads)])
    }

    /// Says why heads cannot be split over `size` GPUs, or `None` where they can.
    fn misfit(self, size: usize) -> Option<String> {
        if let Some(AttentionHeads { queries, keys }) = self.attention {
            if !queries.is_multiple_of(size) {
                return Some(format!("{queries} attention heads cannot be shared by {size} GPUs"));
            }
            if !keys.is_multiple_of(size) && !size.is_multiple_of(keys) {
                return Some(format!("{keys} key-value heads cannot be shared by {size} GPUs"));
            }
        }
        if let Some(heads) = self.mamba.filter(|heads| !heads.is_multiple_of(size)) {
            return Some(format!("{heads} Mamba heads cannot be shared by {size} GPUs"));
        }
        let groups = self.groups.filter(|&groups| groups != 1 && !groups.is_multiple_of(size))?;
        Some(format!("{groups} groups of Mamba heads cannot be shared by {size} GPUs"))
    }
}

/// The alignment of `quantized` (weight, strategy of its scales) for every size of [`SIZES`].
pub(super) fn alignments<'a>(
    quantized: impl Iterator<Item = (&'a PlannedInput, Strategy)> + Clone,
    heads: Heads<'_>,
) -> Vec<Alignment> {
    SIZES.iter().map(|&size| Alignment { size, misfit: misfit_of(quantized.clone(), heads, size) }).collect()
}

/// Says why `quantized` cannot be served over `size` GPUs, or `None` where it can.
pub(super) fn misfit_of<'a>(
    mut quantized: impl Iterator<Item = (&'a PlannedInput, Strategy)>,
    heads: Heads<'_>,
    size: usize,
) -> Option<String> {
    heads.misfit(size).or_else(|| quantized.find_map(|(input, strategy)| misfit(input, strategy, size, heads)))
}

/// Reports whether `gpus` GPUs can share a weight whose scales have this strategy.
pub(crate) fn is_shared(input: &PlannedInput, strategy: Strategy, checkpoint: &Checkpoint, gpus: usize) -> bool {
    misfit(input, strategy, gpus, Heads::of(&checkpoint.config, &checkpoint.model)).is_none()
}

/// Says why a weight cannot be split over `size` GPUs, or `None` where it can.
fn misfit(input: &PlannedInput, strategy: Strategy, size: usize, heads: Heads<'_>) -> Option<String> {
    let &[rows, columns] = input.shape.as_slice() else { return None };
    let split = parallel_split(input.module());
    let (what, length, parts) = match split {
        ParallelSplit::Columns => ("columns", columns, size),
        ParallelSplit::Rows => ("rows", rows, size),
        ParallelSplit::KeyRows => ("rows", rows, heads.shares_of_keys(size)),
        ParallelSplit::Replicated => return None,
    };
    if let Strategy::Block([unit, _]) = strategy
        && let Some(parts) = heads.parts_of_mamba(input.module(), rows).filter(|_| size > 1)
    {
        let module = shown(input.module());
        if heads.groups == Some(1) {
            return Some(format!(
                "{module} has the states of one group, and vLLM copies no scales of blocks with them"
            ));
        }
        // Each GPU has a share of every part, and vLLM wants whole blocks of each.
        let (what, length) = parts.into_iter().find(|(_, length)| !(length / size).is_multiple_of(unit))?;
        let share = length / size;
        return Some(format!("{module} has {length} {what}, {share} for each of {size}: no multiple of {unit}"));
    }
    if let Strategy::Block([unit, _]) = strategy
        && size > 1
    {
        let parts = heads.model.parts_of_rows(input.layer, rows, size);
        if let Some((what, share)) = parts.into_iter().find(|(_, share)| !share.is_multiple_of(unit)) {
            return Some(format!(
                "{} has {share} {what} for each of {size}: no multiple of {unit}",
                shown(input.module())
            ));
        }
    }
    let unit = match (split, strategy) {
        (ParallelSplit::Columns, Strategy::Block([_, unit]) | Strategy::Group(unit) | Strategy::TensorGroup(unit)) => {
            unit
        }
        // A single GPU reads rows that end inside a block; what it cannot merge is refused elsewhere.
        (ParallelSplit::Rows | ParallelSplit::KeyRows, Strategy::Block([unit, _])) if parts > 1 => unit,
        _ => 1,
    };
    if length.is_multiple_of(parts) && (length / parts).is_multiple_of(unit) {
        return None;
    }
    let module = shown(input.module());
    Some(if !length.is_multiple_of(parts) {
        format!("{module} has {length} {what}, no multiple of {parts}")
    } else if parts == 1 {
        format!("{module} has {length} {what}, no multiple of {unit}")
    } else {
        format!("{module} has {length} {what}, {} for each of {parts}: no multiple of {unit}", length / parts)
    })
}
