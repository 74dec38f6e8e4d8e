//! Which linear layers a first recipe quantizes, and why it keeps the others.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::config::Config;
use crate::checkpoint::models::{self, LayerKind};
use crate::plan::{PlannedInput, is_cut, with_fused};

use super::Scales;

/// The linear layers of a checkpoint, sorted by what becomes of them.
pub(super) struct Layers<'a> {
    /// The model family, if it is a known one.
    pub(super) family: Option<&'static str>,
    pub(super) scales: Scales,
    /// Whether blocks would have fitted less than half of the weights, so that rows were taken.
    pub(super) misfits_decided: bool,
    /// The modules that stay as they are.
    pub(super) kept: BTreeMap<Why, Vec<&'a str>>,
    /// The shapes that no block fits.
    pub(super) cut: BTreeSet<&'a [usize]>,
    /// How many are quantized.
    pub(super) taken: usize,
    /// Tensors of stacked experts that cannot be taken apart.
    pub(super) stacked: Vec<&'a PlannedInput>,
    /// How many stacks are taken apart.
    pub(super) split: usize,
}

/// Why a linear layer stays, in the order in which the rules say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// It belongs to a vision tower.
    Vision,
    /// It predicts further tokens.
    NextTokens,
    /// It is none of the language model's layers.
    Outside,
    /// It has a few rows for each head of linear attention.
    LinearAttention,
    /// The family is unknown, and so is a projection of this name.
    Unknown,
    /// No block of 128 fits it, or a layer that servers merge it with.
    Misfit,
}

impl<'a> Layers<'a> {
    /// Sorts the layers for these scales, or those that suit the checkpoint.
    pub(super) fn of(config: &Config, inputs: &'a [PlannedInput], wanted: Option<Scales>) -> Self {
        let family = models::family(config);
        let stems = stems(inputs);
        let mut kept: BTreeMap<Why, Vec<&str>> = BTreeMap::new();
        let mut candidates = Vec::new();
        for tensor in inputs.iter().filter(|tensor| tensor.kind() == LayerKind::Linear) {
            match why_kept(tensor.module(), &stems, family.is_some()) {
                Some(why) => kept.entry(why).or_default().push(tensor.module()),
                None => candidates.push(tensor),
            }
        }
        let names: BTreeSet<&str> = inputs.iter().map(PlannedInput::module).collect();
        let cut: Vec<&PlannedInput> = candidates.iter().copied().filter(|tensor| is_cut(tensor, &names)).collect();
        let misfits = with_merged(inputs, &cut, &candidates);
        let bytes = |tensors: &mut dyn Iterator<Item = &&PlannedInput>| tensors.map(|tensor| tensor.len).sum::<u64>();
        let is_misfit = |tensor: &&&PlannedInput| misfits.contains(tensor.module());
        let most_misfit = bytes(&mut candidates.iter().filter(is_misfit)) * 2 > bytes(&mut candidates.iter());
        let scales = wanted.unwrap_or(if most_misfit { Scales::Rows } else { Scales::Blocks });
        let mut taken = candidates.len();
        if scales == Scales::Blocks && !misfits.is_empty() {
            taken -= candidates.iter().filter(is_misfit).count();
            kept.insert(Why::Misfit, misfits.into_iter().collect());
        }
        let stacked = inputs.iter().filter(|tensor| tensor.kind() == LayerKind::Experts).collect();
        let stacks: BTreeSet<&str> = inputs.iter().filter_map(|tensor| tensor.part_of.as_deref()).collect();
        let misfits_decided = wanted.is_none() && most_misfit;
        let cut = cut.into_iter().map(|tensor| tensor.shape.as_slice()).collect();
        Self { family, scales, misfits_decided, kept, cut, taken, stacked, split: stacks.len() }
    }
}

/// The modules that hold a token embedding and, beside it, the layers of a language model.
fn stems(inputs: &[PlannedInput]) -> Vec<&str> {
    let embeddings = inputs.iter().filter(|tensor| tensor.kind() == LayerKind::Embedding);
    embeddings.map(|tensor| models::split_name(tensor.module()).0).collect()
}

fn why_kept(module: &str, stems: &[&str], is_known: bool) -> Option<Why> {
    let is_in = |stem: &&str| {
        let below = match stem.is_empty() {
            true => Some(module),
            false => module.strip_prefix(*stem).and_then(|below| below.strip_prefix('.')),
        };
        below.is_some_and(|below| below.split('.').any(|part| part.parse::<u32>().is_ok()))
    };
    if models::is_vision(module) {
        return Some(Why::Vision);
    }
    if models::is_next_token_layer(module) {
        return Some(Why::NextTokens);
    }
    if !stems.iter().any(is_in) {
        return Some(Why::Outside);
    }
    if models::is_gate_of_linear_attention(module) {
        return Some(Why::LinearAttention);
    }
    let last = models::split_name(module).1;
    (!is_known && !models::is_known_projection(last)).then_some(Why::Unknown)
}

/// These layers, with the candidates that servers merge with one of them.
fn with_merged<'a>(
    inputs: &'a [PlannedInput],
    cut: &[&'a PlannedInput],
    candidates: &[&'a PlannedInput],
) -> BTreeSet<&'a str> {
    let cut: Vec<&str> = cut.iter().map(|tensor| tensor.module()).collect();
    let all: BTreeSet<&str> = with_fused(inputs, &cut).into_iter().collect();
    candidates.iter().map(|tensor| tensor.module()).filter(|module| all.contains(module)).collect()
}
