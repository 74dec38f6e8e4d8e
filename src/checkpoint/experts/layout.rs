//! The layout of the stacks of a module, from what is known of the model and from their shapes.

use std::collections::BTreeSet;

use safetensors::Dtype;

use super::error::ExpertsError;
use crate::models::catalogue::{KnownStack, StackLayout, StackNames};
use crate::models::{Model, is_down_projection, target_name};
use crate::tensor::Tensor;

/// A stack, and what is known of it.
pub(super) struct Described<'a> {
    pub(super) tensor: &'a Tensor,
    pub(super) known: &'a KnownStack,
    pub(super) names: StackNames,
    pub(super) shape: [usize; 3],
    /// The number of parts that the outputs are of; a projection that servers load in one piece may be two.
    parts: usize,
}

/// Hidden and intermediate size of experts.
type Sizes = [usize; 2];

/// Describes a stack.
///
/// # Errors
/// One that is not known, that has biases of which nothing is known, or that is no stack of floats.
pub(super) fn describe<'a>(
    tensor: &'a Tensor,
    model: &'a Model,
    there: &BTreeSet<&str>,
) -> Result<Described<'a>, ExpertsError> {
    let name = || tensor.name.clone();
    let shape = <[usize; 3]>::try_from(tensor.shape.as_slice()).ok();
    let Some(((known, names), shape)) = model.stack(&tensor.name).zip(shape) else {
        return Err(ExpertsError::Unknown { tensor: name() });
    };
    if !matches!(tensor.dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32) {
        return Err(ExpertsError::Dtype { tensor: name(), dtype: tensor.dtype });
    }
    let bias = ["_bias", ".bias"].map(|suffix| format!("{}{suffix}", target_name(&tensor.name)));
    let is_told = |bias: &String| known.names_by_bias(bias).is_some();
    if bias.iter().any(|bias| there.contains(bias.as_str()) && !is_told(bias)) {
        return Err(ExpertsError::Biases { tensor: name() });
    }
    let parts = known.holds.iter().map(|projection| model.parts_of_fused(projection)).sum();
    Ok(Described { tensor, known, names, shape, parts })
}

/// Returns for each stack of a module whether it is stored transposed.
///
/// # Errors
/// Shapes that no such stacks have, or that do not tell.
pub(super) fn layout(stacks: &[Described<'_>]) -> Result<Vec<bool>, ExpertsError> {
    let is_by_shape = |stack: &&Described<'_>| stack.known.stored == StackLayout::ByShape;
    let Some(open) = stacks.iter().find(is_by_shape) else {
        return agreed(stacks, false).map_err(|(stack, partner)| wrong(stack, partner));
    };
    // Without both, either layout would fit whatever the shape is.
    let is_down = |stack: &&Described<'_>| stack.is_down();
    let partner = match (stacks.iter().find(is_down), stacks.iter().find(|stack| !stack.is_down())) {
        (Some(down), Some(gate_up)) => {
            if open.is_down() {
                gate_up
            } else {
                down
            }
        }
        (down, _) => {
            let partner = if down.is_some() { "gate_up_proj" } else { "down_proj" };
            return Err(ExpertsError::NoPartner { tensor: open.tensor.name.clone(), partner });
        }
    };
    match (agreed(stacks, true), agreed(stacks, false)) {
        (Ok(columns), Err(_)) | (Err(_), Ok(columns)) => Ok(columns),
        _ => Err(wrong(open, Some(partner))),
    }
}

/// Returns for each stack whether it is stored transposed, where those that may be either are so or not.
///
/// # Errors
/// A stack that holds no such experts, or other experts than the one beside it.
fn agreed<'s, 'a>(
    stacks: &'s [Described<'a>],
    columns: bool,
) -> Result<Vec<bool>, (&'s Described<'a>, Option<&'s Described<'a>>)> {
    let mut first: Option<(&Described<'_>, usize, Sizes)> = None;
    let mut all = Vec::with_capacity(stacks.len());
    for stack in stacks {
        let columns = match stack.known.stored {
            StackLayout::Rows => false,
            StackLayout::Columns => true,
            StackLayout::ByShape => columns,
        };
        let sizes = stack.sizes(columns).ok_or((stack, None))?;
        let (with, experts, same) = *first.get_or_insert((stack, stack.shape[0], sizes));
        if (stack.shape[0], sizes) != (experts, same) {
            return Err((with, Some(stack)));
        }
        all.push(columns);
    }
    Ok(all)
}

fn wrong(stack: &Described<'_>, partner: Option<&Described<'_>>) -> ExpertsError {
    let tensor = stack.tensor.name.clone();
    let shape = stack.tensor.shape.clone();
    let either = "[experts, hidden, 2 × intermediate] and [experts, intermediate, hidden], or the last two of each the \
                  other way round";
    match partner {
        Some(partner) => ExpertsError::Shapes {
            tensor,
            shape,
            partner: partner.tensor.name.clone(),
            other: partner.tensor.shape.clone(),
            expected: if stack.known.stored == StackLayout::ByShape { either } else { stack.expected() },
        },
        None => ExpertsError::Shape { tensor, shape, holds: stack.known.holds.clone(), expected: stack.expected() },
    }
}

impl Described<'_> {
    /// Reports whether the stack holds nothing but the projection back to the hidden size.
    fn is_down(&self) -> bool {
        matches!(&self.known.holds[..], [only] if is_down_projection(only))
    }

    /// Returns the sizes of the experts, if the shape is one of such a stack.
    fn sizes(&self, columns: bool) -> Option<Sizes> {
        let [_, a, b] = self.shape;
        let [outputs, inputs] = if columns { [b, a] } else { [a, b] };
        let each = outputs.is_multiple_of(self.parts).then_some(outputs / self.parts)?;
        let sizes = if self.is_down() { [each, inputs] } else { [inputs, each] };
        (!sizes.contains(&0) && self.shape[0] > 0).then_some(sizes)
    }

    /// The shapes of stacks that are stored in this way.
    fn expected(&self) -> &'static str {
        match self.known.stored {
            StackLayout::Columns => "[experts, inputs, outputs]",
            StackLayout::Rows | StackLayout::ByShape => "[experts, outputs, inputs]",
        }
    }
}
