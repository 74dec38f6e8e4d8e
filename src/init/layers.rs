//! The linear layers that a first recipe quantizes, and the reasons for leaving the others unquantized.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::models::catalogue::{KnownScales, NotLoaded};
use crate::checkpoint::models::{LayerKind, Model, Part};
use crate::plan::{AllModules, PlannedInput, is_cut, with_fused};

use super::request::DraftGranularity;

/// The linear layers of a checkpoint, sorted by what becomes of them.
pub(super) struct Layers<'a> {
    /// The model family, if it is a known one.
    pub(super) family: Option<&'a str>,
    pub(super) granularity: DraftGranularity,
    /// The reason for rows that nobody asked for.
    pub(super) rows_because: Option<RowsBecause<'a>>,
    /// The modules that stay unquantized.
    pub(super) unquantized: BTreeMap<Why, Vec<&'a str>>,
    /// The shapes that no block fits.
    pub(super) cut: BTreeSet<&'a [usize]>,
    /// True where servers fuse layers that blocks do fit with others of these shapes.
    pub(super) draws_along: bool,
    /// The number of linear layers that are quantized.
    pub(super) taken: usize,
    /// Tensors of stacked experts that cannot be split.
    pub(super) stacked: Vec<&'a PlannedInput>,
    /// The number of stacks that are split into matrices.
    pub(super) split: usize,
}

/// The reason for leaving a linear layer unquantized; the rules stand in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// It belongs to a part of the model that `Linear` does not take.
    Part(Part),
    /// No block of 128 fits it or another part of its fused layer.
    Misfit,
}

/// The reason for taking rows where blocks are the default.
#[derive(Clone, Copy, Debug)]
pub(super) enum RowsBecause<'a> {
    /// Blocks would fit less than half of the weights.
    Misfits,
    /// Blocks do not fit this layer, and no list makes vLLM leave it unquantized.
    MustBeQuantized(&'a str),
    /// A server loads no blocks.
    NotLoaded(&'a NotLoaded),
}

impl<'a> Layers<'a> {
    /// Sorts the layers for the wanted granularity, or for the one that suits the checkpoint.
    pub(super) fn of(model: &'a Model, inputs: &'a [PlannedInput], wanted: Option<DraftGranularity>) -> Self {
        let family = model.family();
        let mut unquantized: BTreeMap<Why, Vec<&str>> = BTreeMap::new();
        let mut candidates = Vec::new();
        for tensor in inputs.iter().filter(|tensor| tensor.kind() == LayerKind::Linear) {
            match tensor.layer.part {
                Part::Decoder => candidates.push(tensor),
                part => unquantized.entry(Why::Part(part)).or_default().push(tensor.module()),
            }
        }
        let all = AllModules::of(model, inputs);
        let cut: Vec<&PlannedInput> = candidates.iter().copied().filter(|tensor| is_cut(tensor, &all)).collect();
        let misfits = with_fused_candidates(model, inputs, &cut, &candidates);
        let bytes = |tensors: &mut dyn Iterator<Item = &&PlannedInput>| tensors.map(|tensor| tensor.len).sum::<u64>();
        let is_misfit = |tensor: &&&PlannedInput| misfits.contains(tensor.module());
        let most_misfit = bytes(&mut candidates.iter().filter(is_misfit)) * 2 > bytes(&mut candidates.iter());
        let because_of_layer = || {
            let layer = misfits.iter().copied().find(|module| model.is_always_quantized(module));
            layer.map(RowsBecause::MustBeQuantized).or(most_misfit.then_some(RowsBecause::Misfits))
        };
        let against_blocks =
            model.refuses_scales(KnownScales::Block).map(RowsBecause::NotLoaded).or_else(because_of_layer);
        let rows_because = against_blocks.filter(|_| wanted.is_none());
        let or_blocks = if rows_because.is_some() { DraftGranularity::Channel } else { DraftGranularity::Block };
        let granularity = wanted.unwrap_or(or_blocks);
        let mut taken = candidates.len();
        let draws_along = cut.iter().map(|tensor| tensor.module()).collect::<BTreeSet<_>>().len() < misfits.len();
        if granularity == DraftGranularity::Block && !misfits.is_empty() {
            taken -= candidates.iter().filter(is_misfit).count();
            unquantized.insert(Why::Misfit, misfits.into_iter().collect());
        }
        let stacked = inputs.iter().filter(|tensor| tensor.kind() == LayerKind::Experts).collect();
        let stacks: BTreeSet<&str> = inputs.iter().filter_map(|tensor| tensor.part_of.as_deref()).collect();
        let cut = cut.into_iter().map(|tensor| tensor.shape.as_slice()).collect();
        Self { family, granularity, rows_because, unquantized, cut, draws_along, taken, stacked, split: stacks.len() }
    }

    /// The number of linear layers of each part that stays unquantized.
    pub(super) fn by_part(&self) -> BTreeMap<Part, usize> {
        let parts = self.unquantized.iter().filter_map(|(why, modules)| match why {
            Why::Part(part) => Some((*part, modules.len())),
            Why::Misfit => None,
        });
        parts.collect()
    }
}

/// Returns these layers, and the candidates that belong to a fused layer with one of them.
fn with_fused_candidates<'a>(
    model: &Model,
    inputs: &'a [PlannedInput],
    cut: &[&'a PlannedInput],
    candidates: &[&'a PlannedInput],
) -> BTreeSet<&'a str> {
    let cut: Vec<&str> = cut.iter().map(|tensor| tensor.module()).collect();
    let all: BTreeSet<&str> = with_fused(model, inputs, &cut).into_iter().collect();
    candidates.iter().map(|tensor| tensor.module()).filter(|module| all.contains(module)).collect()
}
