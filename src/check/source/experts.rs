//! Experts that a source stacks in three-dimensional tensors.

use std::collections::{BTreeMap, BTreeSet};

use super::original::ExpertSlice;
use crate::decode::width;
use qwen_fp8_checkpoint::experts::BlockStack;
use qwen_fp8_checkpoint::models::catalogue::{KnownStack, StackLayout, StackNames};
use qwen_fp8_checkpoint::models::{LayerKind, Model, is_down_projection, target_name};
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

/// The stacks that hold the experts of a layer.
#[derive(Debug, Default)]
pub(super) struct StackedExperts<'a> {
    stacks: Vec<Stack<'a>>,
}

/// A stack of matrices, or of their biases.
#[derive(Debug)]
struct Stack<'a> {
    tensor: &'a Tensor,
    known: &'a KnownStack,
    names: StackNames,
    /// Set where the rows of a stored matrix are the columns of the projection, as in checkpoints on the hub.
    transposed: bool,
    /// The blocks that the matrices are stored as, where they are.
    blocks: Option<BlockStack<'a>>,
    /// The number of parts that the outputs of each expert are of.
    parts: usize,
    /// Experts, outputs of one projection, inputs; a bias has one input.
    sizes: [usize; 3],
}

/// Collects the stacks of a checkpoint whose layout is certain, by module of experts; `blocks` are those in MXFP4.
pub(super) fn stacked<'a>(
    checkpoint: &'a Checkpoint,
    blocks: &[BlockStack<'a>],
) -> BTreeMap<String, StackedExperts<'a>> {
    let mut modules: BTreeMap<String, Vec<(&Tensor, &KnownStack, StackNames)>> = BTreeMap::new();
    let names: BTreeSet<&str> = checkpoint.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut uncertain = BTreeSet::new();
    for tensor in checkpoint.tensors.iter().filter(|tensor| tensor.kind() == LayerKind::Experts) {
        let Some((known, of)) = checkpoint.model.stack(&tensor.name) else { continue };
        // Biases of which no file says how they lie would have to be split as well, which nothing here does.
        let biases = ["_bias", ".bias"].map(|suffix| format!("{}{suffix}", target_name(&tensor.name)));
        if biases.iter().any(|bias| names.contains(bias.as_str()) && known.names_by_bias(bias).is_none()) {
            uncertain.insert(of.experts.clone());
        }
        modules.entry(of.experts.clone()).or_default().push((tensor, known, of));
    }
    modules.retain(|module, _| !uncertain.contains(module));
    let certain = modules
        .into_iter()
        .filter_map(|(module, stacks)| Some((module, StackedExperts::of(stacks, &checkpoint.model)?)));
    let mut experts: BTreeMap<_, _> = certain.filter(|(_, experts)| experts.is_certain(checkpoint)).collect();
    for stack in blocks {
        let Some(stack) = Stack::of_blocks(stack, &checkpoint.model) else { continue };
        experts.entry(stack.names.experts.clone()).or_default().stacks.push(stack);
    }
    for tensor in &checkpoint.tensors {
        let Some((known, names)) = checkpoint.model.stack_of_biases(&tensor.name) else { continue };
        let Some(stacks) = experts.get_mut(&names.experts) else { continue };
        stacks.add_biases(tensor, known, names);
    }
    experts
}

/// Returns each way to read a name as that of an expert's matrix or bias: the module of all experts, and the number.
pub(super) fn readings(name: &str) -> impl Iterator<Item = (&str, usize)> {
    name.match_indices('.').filter_map(|(at, _)| {
        let number = name[at + 1..].split('.').next()?;
        let expert: usize = number.parse().ok()?;
        // `017` is the name of another tensor.
        (expert.to_string() == number).then_some((&name[..at], expert))
    })
}

impl<'a> StackedExperts<'a> {
    /// Reads the layout of the stacks of one module. `None` where it is not certain.
    fn of(stacks: Vec<(&'a Tensor, &'a KnownStack, StackNames)>, model: &Model) -> Option<Self> {
        let as_stored = |transposed: bool| -> Option<Vec<Stack<'a>>> {
            let stack = |(tensor, known, names): &(&'a Tensor, &'a KnownStack, StackNames)| {
                let transposed = match known.stored {
                    StackLayout::Rows => false,
                    StackLayout::Columns => true,
                    StackLayout::ByShape => transposed,
                };
                Stack::of(tensor, known, (names.clone(), transposed), model)
            };
            let stacks: Vec<Stack<'_>> = stacks.iter().map(stack).collect::<Option<_>>()?;
            let first = stacks.first()?.of_experts();
            stacks.iter().all(|stack| stack.of_experts() == first).then_some(stacks)
        };
        let is_open = stacks.iter().any(|(_, known, _)| known.stored == StackLayout::ByShape);
        let stacks = match (as_stored(false), as_stored(true)) {
            (rows, _) if !is_open => rows?,
            // One shape alone fits both: the stack beside it has to tell.
            (Some(stacks), None) | (None, Some(stacks)) => stacks,
            _ => return None,
        };
        Some(Self { stacks })
    }

    /// Reports whether nothing speaks against the layout: a family's file tells it, or config.json has these sizes or none.
    fn is_certain(&self, checkpoint: &Checkpoint) -> bool {
        // Experts may be wider than the model, where they stand behind a projection of their own.
        if self.stacks.iter().all(|stack| stack.known.stored != StackLayout::ByShape) {
            return true;
        }
        let says = |key: &str, size: usize| checkpoint.config.text_number(key).is_none_or(|said| said == size as u64);
        self.stacks.first().is_some_and(|stack| {
            let [_, hidden, inner] = stack.of_experts();
            says("hidden_size", hidden) && says("moe_intermediate_size", inner)
        })
    }

    /// Adds the biases of a stack that is here, if they have its sizes.
    fn add_biases(&mut self, tensor: &'a Tensor, known: &'a KnownStack, names: StackNames) {
        let Some(stack) = self.stacks.iter().find(|stack| std::ptr::eq(stack.known, known)) else { return };
        let [experts, outputs, _] = stack.sizes;
        if tensor.shape == [experts, outputs * known.holds.len()] && width(tensor.dtype).is_some() {
            // A bias is a row whose columns are outputs, as a stored matrix of one input that is transposed.
            self.stacks.push(Stack {
                tensor,
                known,
                names,
                transposed: true,
                blocks: None,
                parts: 1,
                sizes: [experts, outputs, 1],
            });
        }
    }

    /// Returns the matrix or bias of an expert that has this name.
    pub(super) fn slice(&self, expert: usize, name: &str) -> Option<ExpertSlice<'_>> {
        self.stacks.iter().find_map(|stack| {
            let number = (0..stack.known.holds.len()).find(|number| stack.name(expert, *number) == name)?;
            stack.slice(expert, number)
        })
    }

    /// Lists the names of what is in the stack with this name.
    pub(super) fn parts_of(&self, name: &str) -> Option<Vec<String>> {
        let stack = self.stacks.iter().find(|stack| stack.tensor.name == name)?;
        let held = stack.known.holds.len();
        Some((0..stack.sizes[0]).flat_map(|expert| (0..held).map(move |number| stack.name(expert, number))).collect())
    }
}

impl<'a> Stack<'a> {
    fn of(
        tensor: &'a Tensor,
        known: &'a KnownStack,
        (names, transposed): (StackNames, bool),
        model: &Model,
    ) -> Option<Self> {
        let [experts, a, b] = <[usize; 3]>::try_from(tensor.shape.as_slice()).ok()?;
        let [outputs, inputs] = if transposed { [b, a] } else { [a, b] };
        let held = known.holds.len();
        let parts: usize = known.holds.iter().map(|projection| model.parts_of_fused(projection)).sum();
        let is_whole = outputs.is_multiple_of(parts) && [experts, outputs, inputs].iter().all(|size| *size > 0);
        let sizes = [experts, outputs / held, inputs];
        (is_whole && width(tensor.dtype).is_some()).then_some(Self {
            tensor,
            known,
            names,
            transposed,
            blocks: None,
            parts,
            sizes,
        })
    }

    /// Describes a stack of blocks, which lie along the inputs whatever the unquantized stack has for rows.
    fn of_blocks(stack: &BlockStack<'a>, model: &'a Model) -> Option<Self> {
        let (known, names) = model.stack(stack.name)?;
        let (held, tensor) = (known.holds.len(), stack.blocks);
        let parts = known.holds.iter().map(|projection| model.parts_of_fused(projection)).sum();
        let sizes = [stack.experts, stack.outputs / held, stack.inputs];
        let blocks = Some(stack.clone());
        let whole = Self { tensor, known, names, transposed: false, blocks, parts, sizes };
        stack.outputs.is_multiple_of(held).then_some(whole)
    }

    /// Returns the number of experts, and the hidden and the intermediate size that follow from the stack.
    fn of_experts(&self) -> [usize; 3] {
        let [experts, outputs, inputs] = self.sizes;
        match &self.known.holds[..] {
            [only] if is_down_projection(only) => [experts, outputs, inputs],
            holds => [experts, inputs, outputs * holds.len() / self.parts],
        }
    }

    fn is_bias(&self) -> bool {
        self.tensor.shape.len() == 2
    }

    fn name(&self, expert: usize, number: usize) -> String {
        let parameter = if self.is_bias() { "bias" } else { "weight" };
        format!("{}.{parameter}", self.names.matrix(expert, &self.known.holds[number]))
    }

    fn slice(&self, expert: usize, number: usize) -> Option<ExpertSlice<'_>> {
        let [experts, outputs, inputs] = self.sizes;
        let held = self.known.holds.len();
        let (first, step) = if self.known.interleaved { (number, held) } else { (number * outputs, 1) };
        let [stored_rows, stored_columns] =
            if self.transposed { [inputs, outputs * held] } else { [outputs * held, inputs] };
        (expert < experts).then_some(ExpertSlice {
            tensor: self.tensor,
            stored: [stored_rows, stored_columns],
            expert,
            first,
            step,
            transposed: self.transposed,
            blocks: self.blocks.as_ref(),
            shape: [outputs, inputs],
            rank: if self.is_bias() { 1 } else { 2 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_those_of_experts() {
        let read = |name| readings(name).collect::<Vec<_>>();
        assert_eq!(read("a.experts.17.up_proj.weight"), [("a.experts", 17)]);
        assert_eq!(read("a.3.experts.0.mlp.w1.bias"), [("a", 3), ("a.3.experts", 0)]);
        for name in ["a.experts.017.up_proj.weight", "a.experts.up_proj.weight", "weight"] {
            assert_eq!(read(name), [], "{name}");
        }
    }
}
