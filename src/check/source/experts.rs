//! Experts that a source stacks in three dimensions.

use std::collections::BTreeMap;

use crate::element;
use crate::original::Slice;
use qwen_fp8_checkpoint::models;
use qwen_fp8_checkpoint::{Checkpoint, Tensor};

/// The experts of a layer: gate and up projections in one stack, down projections in the other.
#[derive(Debug)]
pub(super) struct Experts<'a> {
    gate_up: &'a Tensor,
    down: &'a Tensor,
    /// Whether a matrix is stored with its columns as rows, as on the hub.
    transposed: bool,
    number: usize,
    hidden: usize,
    inner: usize,
}

/// The stacks of a checkpoint whose layout can be told, by module.
pub(super) fn stacked(checkpoint: &Checkpoint) -> BTreeMap<&str, Experts<'_>> {
    let mut stacks: BTreeMap<&str, [Option<&Tensor>; 2]> = BTreeMap::new();
    let mut with_biases = Vec::new();
    for tensor in &checkpoint.tensors {
        let name = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
        let (module, parameter) = models::split_name(name);
        if !module.ends_with("experts") {
            continue;
        }
        match parameter {
            "gate_up_proj" => stacks.entry(module).or_default()[0] = Some(tensor),
            "down_proj" => stacks.entry(module).or_default()[1] = Some(tensor),
            parameter if parameter.ends_with("_bias") || parameter == "bias" => with_biases.push(module),
            _ => {}
        }
    }
    let stacks = stacks.into_iter().filter(|(module, _)| !with_biases.contains(module));
    let experts = stacks.filter_map(|(module, stacks)| {
        let experts = Experts::of(stacks[0]?, stacks[1]?)?;
        experts.agrees(checkpoint).then_some((module, experts))
    });
    experts.collect()
}

/// `a.experts.17.up_proj.weight` → (`a.experts`, 17, `up_proj`).
pub(super) fn parse(name: &str) -> Option<(&str, usize, &str)> {
    let (expert, part) = models::split_name(name.strip_suffix(".weight")?);
    let (module, number) = models::split_name(expert);
    let expert: usize = number.parse().ok()?;
    // Another spelling is another name.
    (expert.to_string() == number).then_some((module, expert, part))
}

impl<'a> Experts<'a> {
    /// The layout follows from both shapes: one stack has twice the inner size where the other has it once.
    fn of(gate_up: &'a Tensor, down: &'a Tensor) -> Option<Self> {
        let [[number, a, b], [other, x, y]] =
            [gate_up, down].map(|stack| <[usize; 3]>::try_from(&*stack.shape).ok()).map(Option::unwrap_or_default);
        let floats = [gate_up, down].iter().all(|stack| element::width(stack.dtype).is_some());
        let is =
            |hidden: [usize; 2], inner: [usize; 2]| hidden[0] == hidden[1] && Some(inner[0]) == inner[1].checked_mul(2);
        let (transposed, hidden, inner) = match (is([a, y], [b, x]), is([b, x], [a, y])) {
            (true, false) => (true, a, x),
            (false, true) => (false, b, y),
            _ => return None,
        };
        let is_known = floats && number > 0 && number == other && hidden > 0 && inner > 0;
        is_known.then_some(Self { gate_up, down, transposed, number, hidden, inner })
    }

    /// Whether config.json says nothing else of the sizes.
    fn agrees(&self, checkpoint: &Checkpoint) -> bool {
        let says = |key: &str, size: usize| checkpoint.config.text_number(key).is_none_or(|said| said == size as u64);
        says("hidden_size", self.hidden) && says("moe_intermediate_size", self.inner)
    }

    /// One projection of one expert.
    pub(super) fn slice(&self, expert: usize, part: &str) -> Option<Slice<'a>> {
        let (tensor, first, matrix) = match part {
            "gate_proj" => (self.gate_up, 0, [self.inner, self.hidden]),
            "up_proj" => (self.gate_up, self.inner, [self.inner, self.hidden]),
            "down_proj" => (self.down, 0, [self.hidden, self.inner]),
            _ => return None,
        };
        (expert < self.number).then_some(Slice { tensor, expert, first, transposed: self.transposed, matrix })
    }

    /// The matrices that the stack with this name holds.
    pub(super) fn parts_of(&self, name: &str) -> Option<Vec<(usize, &'static str)>> {
        let parts = match name {
            _ if name == self.gate_up.name => &models::EXPERT_PROJECTIONS[..2],
            _ if name == self.down.name => &models::EXPERT_PROJECTIONS[2..],
            _ => return None,
        };
        Some((0..self.number).flat_map(|expert| parts.iter().map(move |part| (expert, *part))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_experts_are_read_as_they_are_written() {
        assert_eq!(parse("a.experts.17.up_proj.weight"), Some(("a.experts", 17, "up_proj")));
        for name in ["a.experts.017.up_proj.weight", "a.experts.up_proj.weight", "a.experts.1.up_proj", "weight"] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
