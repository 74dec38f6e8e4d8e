//! Misfits: layers that the blocks or groups of a scheme do not fit in a way that servers read.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use qwen_fp8_schemes::{Format, Strategy};

use crate::checkpoint::models::{FusedLayer, Model};
use crate::checkpoint::pattern::MatchError;
use crate::checkpoint::text::shown;
use crate::recipe::{MisfitPolicy, Rule};

use super::planned_input::PlannedInput;

/// The block size that servers have kernels for.
pub(super) const KERNEL_BLOCK: [usize; 2] = [128, 128];

/// The help that names the policy which leaves misfits out.
pub(super) const LEAVE: &str = "`on_misfit: leave` in the rule leaves out whatever its scheme does not fit";

/// Returns the help that names what fits every shape: the rule's own scheme with a scale for each row where it has such an
/// option, else FP8.
pub(super) fn way_out(rule: &Rule, format: Format) -> String {
    let mut options = rule.options.clone();
    options.insert("group_size".to_owned(), "channel".into());
    let by_row = rule.registration.build(options.into(), format).ok().flatten();
    if by_row.is_some_and(|scheme| scheme.weights().strategy == Strategy::Channel) {
        return "one scale per row fits every shape: `group_size: channel` in the rule".to_owned();
    }
    "one FP8 scale per row fits every shape: `scheme: FP8_DYNAMIC` without `block_size`, in `format: compressed-tensors`"
        .to_owned()
}

/// Reports whether a matrix ends inside a block of this size, given the modules beside it.
type Cut = fn(&PlannedInput, [usize; 2], &AllModules<'_>) -> bool;

/// The model, and the names of all its modules.
pub(crate) struct AllModules<'a> {
    model: &'a Model,
    inputs: &'a [PlannedInput],
    /// Few layers ask for them, and a model may have 70,000.
    names: OnceCell<BTreeSet<&'a str>>,
}

/// The reason for which a rule leaves a layer to the rules after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// The blocks or groups do not fit it.
    Cut(&'static str),
    /// Servers fuse it with this module, which they do not fit.
    FusedWith(Arc<str>),
}

/// The misfits of a rule, by number of the input.
pub(super) type Misfits = BTreeMap<usize, Misfit>;

/// The ends that some server cannot read, and why.
pub(super) const CUTS: [(&str, Cut); 4] = [
    ("servers fail on columns that end inside a block", |module, [_, columns], _| {
        !module.shape[1].is_multiple_of(columns)
    }),
    // A layer of fewer rows than a block has one scale, which every server reads alike.
    ("transformers reads rows wrong that end inside a block", |module, [rows, _], all| {
        module.shape[0] > rows
            && !module.shape[0].is_multiple_of(rows)
            // What the official files have so, people serve with vLLM and SGLang.
            && !all.model.may_cut_rows(module.module())
    }),
    ("vLLM fuses it with the layers behind it, whose blocks would begin inside a block of this one", {
        |module, [rows, _], all| {
            module.shape[0] < rows && all.model.has_parts_behind(module.module(), |name| all.has(name))
        }
    }),
    ("vLLM sees several layers in it, such as queries, keys and values, and one of them ends inside a block", {
        |module, [rows, _], all| {
            let parts = all.model.parts_of_rows(module.layer, module.shape[0], 1);
            parts.split_last().is_some_and(|(_, before)| before.iter().any(|(_, part)| !part.is_multiple_of(rows)))
        }
    }),
];

impl<'a> AllModules<'a> {
    /// The modules of these inputs.
    pub(crate) fn of(model: &'a Model, inputs: &'a [PlannedInput]) -> Self {
        Self { model, inputs, names: OnceCell::new() }
    }

    fn has(&self, module: &str) -> bool {
        self.names.get_or_init(|| self.inputs.iter().map(PlannedInput::module).collect()).contains(module)
    }
}

/// Reports whether a server cannot read this matrix in the blocks that servers have kernels for.
pub(crate) fn is_cut(matrix: &PlannedInput, all: &AllModules<'_>) -> bool {
    cut(matrix, Strategy::Block(KERNEL_BLOCK), all).is_some()
}

/// Returns why servers cannot read this matrix with such scales, `None` where they can.
fn cut(matrix: &PlannedInput, strategy: Strategy, all: &AllModules<'_>) -> Option<&'static str> {
    match strategy {
        Strategy::Block(size) => CUTS.iter().find(|(_, is_cut)| is_cut(matrix, size, all)).map(|(why, _)| *why),
        Strategy::Group(columns) | Strategy::TensorGroup(columns) => (!matrix.shape[1].is_multiple_of(columns))
            .then_some("groups have one size, and the last columns of a row would make a smaller one"),
        Strategy::Tensor | Strategy::Channel | Strategy::Token => None,
    }
}

/// Returns what the rule leaves to the rules after it, as its `on_misfit` says, of what it takes by `is_taken`: what its
/// scheme does not fit, and the layers that servers fuse with that.
///
/// # Errors
/// A regex that gives up on a name.
pub(super) fn of_rule(
    rule: &Rule,
    model: &Model,
    inputs: &[PlannedInput],
    is_taken: impl Fn(&PlannedInput) -> Result<bool, MatchError>,
) -> Result<Misfits, MatchError> {
    let mut misfits = Misfits::new();
    let Some(scheme) = rule.scheme.as_deref().filter(|_| rule.on_misfit == MisfitPolicy::Leave) else {
        return Ok(misfits);
    };
    let strategy = scheme.weights().strategy;
    let all = AllModules::of(model, inputs);
    for (index, input) in inputs.iter().enumerate().filter(|(_, input)| input.shape.len() == 2) {
        if let Some(why) = cut(input, strategy, &all)
            && is_taken(input)?
        {
            misfits.insert(index, Misfit::Cut(why));
        }
    }
    let mut touched: BTreeMap<FusedLayer<'_>, Arc<str>> = BTreeMap::new();
    for module in misfits.keys().map(|&index| inputs[index].module()) {
        model.fused_layer(module).map(|layer| touched.entry(layer).or_insert_with(|| module.into()));
    }
    if touched.is_empty() {
        return Ok(misfits);
    }
    for (index, input) in inputs.iter().enumerate().filter(|(_, input)| input.parameter() == "weight") {
        let with = model.fused_layer(input.module()).and_then(|layer| touched.get(&layer));
        if let Some(with) = with.filter(|_| !misfits.contains_key(&index))
            && is_taken(input)?
        {
            misfits.insert(index, Misfit::FusedWith(with.clone()));
        }
    }
    Ok(misfits)
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(why) => f.write_str(why),
            Self::FusedWith(module) => {
                write!(f, "servers fuse it with {}, which the scheme does not fit", shown(module))
            }
        }
    }
}
