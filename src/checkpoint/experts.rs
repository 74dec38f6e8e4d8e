//! Stacked experts: three-dimensional tensors that hold one matrix or more of every expert, and where each matrix lies.
//!
//! The catalogue says what a stack holds and how. Two layouts are in use under the same names: checkpoints of the hub
//! hold matrices to be multiplied from the right, `gate_up_proj` `[experts, hidden, 2 × intermediate]` and `down_proj`
//! `[experts, intermediate, hidden]`; transformers 5 also writes them as linear layers have them,
//! `[experts, 2 × intermediate, hidden]` and `[experts, hidden, intermediate]`. No two shapes fit both.

mod blocks;
mod error;
mod layout;

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::Checkpoint;
use crate::models::catalogue::{KnownStack, StackNames};
use crate::models::{LayerKind, Model};
use crate::tensor::Tensor;

pub use blocks::{BlockStack, BlocksError, declares_block_stacks};
pub use error::ExpertsError;

use error::MAX_MATRICES;
use layout::{Described, describe, layout};

/// The stacks of a checkpoint, with what is in each.
#[derive(Clone, Debug)]
pub struct ExpertStacks {
    /// The matrices or biases of each stack, by the name of its tensor.
    parts: BTreeMap<String, StackParts>,
}

/// One matrix of a stack, or its bias, under the name by which servers know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpertMatrix {
    pub name: String,
    /// Rows and columns of the linear layer, outputs and inputs; of a bias its outputs.
    pub shape: Vec<usize>,
    /// Offset of the first element in the shard's file.
    pub offset: u64,
    /// Bytes of all elements.
    pub len: u64,
    /// The steps between elements; `None` where the matrix is stored row after row.
    pub steps: Option<ElementSteps>,
}

/// Bytes between the elements of a matrix that is not stored row after row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementSteps {
    /// From one row to the next.
    pub row: u64,
    /// From one column to the next.
    pub column: u64,
}

/// What one stack is taken apart into.
#[derive(Clone, Debug)]
struct StackParts {
    names: StackNames,
    /// The projections that it holds of each expert.
    holds: Vec<String>,
    /// The parameter that each part is: `weight` or `bias`.
    parameter: &'static str,
    /// Set where a stored row is a column of the matrices.
    columns: bool,
    interleaved: bool,
}

impl Checkpoint {
    /// Reports whether the checkpoint holds stacked experts.
    pub fn has_stacked_experts(&self) -> bool {
        self.tensors.iter().any(|tensor| tensor.kind() == LayerKind::Experts)
    }

    /// Tells the layout of every stack of experts from what is known of the model and, where two layouts have the same
    /// names, from the shapes of the tensors.
    ///
    /// # Errors
    /// The first stack whose layout cannot be told, or more matrices than any model has.
    pub fn expert_stacks(&self) -> Result<ExpertStacks, ExpertsError> {
        parts(&self.tensors, &self.model).map(|parts| ExpertStacks { parts })
    }

    /// Tells the same of a checkpoint that has these stacks as they are unquantized, in place of their blocks and scales.
    ///
    /// # Errors
    /// Those of [`Checkpoint::expert_stacks`].
    pub fn expert_stacks_with(&self, decoded: &[Tensor]) -> Result<ExpertStacks, ExpertsError> {
        let is_of_blocks = |tensor: &&Tensor| {
            let is_of = |stack: &Tensor| blocks::is_part(&tensor.name, &stack.name);
            tensor.dtype.bitsize() == 8 && decoded.iter().any(is_of)
        };
        let others = self.tensors.iter().filter(|tensor| !is_of_blocks(tensor));
        let all: Vec<Tensor> = others.chain(decoded).cloned().collect();
        parts(&all, &self.model).map(|parts| ExpertStacks { parts })
    }
}

impl ExpertStacks {
    /// Returns the matrices of a stack, or the biases of one, in the order of the experts; `None` for a tensor that is
    /// neither.
    pub fn matrices(&self, tensor: &Tensor) -> Option<Vec<ExpertMatrix>> {
        Some(self.parts.get(&tensor.name)?.matrices(tensor))
    }
}

/// The parts of every stack and of their biases.
fn parts(tensors: &[Tensor], model: &Model) -> Result<BTreeMap<String, StackParts>, ExpertsError> {
    let there: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    // The stacks of each module of experts.
    let mut modules: BTreeMap<String, Vec<Described<'_>>> = BTreeMap::new();
    let mut matrices = 0usize;
    for tensor in tensors.iter().filter(|tensor| tensor.kind() == LayerKind::Experts) {
        let described = describe(tensor, model, &there)?;
        matrices = matrices.saturating_add(described.shape[0].saturating_mul(described.known.holds.len()));
        modules.entry(described.names.experts.clone()).or_default().push(described);
    }
    if matrices > MAX_MATRICES {
        return Err(ExpertsError::TooMany { matrices });
    }
    let mut parts = BTreeMap::new();
    let mut outputs = BTreeMap::new();
    for (module, stacks) in modules {
        let columns = layout(&stacks)?;
        for (stack, columns) in stacks.into_iter().zip(columns) {
            let [experts, a, b] = stack.shape;
            outputs.insert((module.clone(), &stack.known.holds), [experts, if columns { b } else { a }]);
            let of = StackParts::new(stack.known, stack.names, columns, "weight");
            parts.insert(stack.tensor.name.clone(), of);
        }
    }
    for tensor in tensors {
        let Some((known, names)) = model.stack_of_biases(&tensor.name) else { continue };
        let Some(shape) = outputs.get(&(names.experts.clone(), &known.holds)) else { continue };
        if tensor.shape != shape {
            let tensor = tensor.clone();
            let expected = "one bias for each output of each expert";
            return Err(ExpertsError::Shape {
                tensor: tensor.name,
                shape: tensor.shape,
                holds: known.holds.clone(),
                expected,
            });
        }
        parts.insert(tensor.name.clone(), StackParts::new(known, names, false, "bias"));
    }
    Ok(parts)
}

impl StackParts {
    fn new(known: &KnownStack, names: StackNames, columns: bool, parameter: &'static str) -> Self {
        let interleaved = known.interleaved && known.holds.len() > 1;
        Self { names, holds: known.holds.clone(), parameter, columns, interleaved }
    }

    fn matrices(&self, stack: &Tensor) -> Vec<ExpertMatrix> {
        let Some((&experts, stored)) = stack.shape.split_first() else { return Vec::new() };
        let held = self.holds.len();
        let width = (stack.dtype.bitsize() / 8) as u64;
        // A bias is a row for each expert whose columns are its outputs: as if it were stored transposed.
        let (stored_columns, shape) = match *stored {
            [outputs] => (outputs, vec![outputs / held]),
            [inputs, outputs] if self.columns => (outputs, vec![outputs / held, inputs]),
            [outputs, inputs] => (inputs, vec![outputs / held, inputs]),
            _ => return Vec::new(),
        };
        let len = shape.iter().product::<usize>() as u64 * width;
        let by_columns = self.columns || stored.len() == 1;
        // Bytes from one output to the next, without and with those of other projections between them.
        let output = if by_columns { width } else { stored_columns as u64 * width };
        let [step, apart] =
            if self.interleaved { [output * held as u64, output] } else { [output, output * shape[0] as u64] };
        let steps = match (self.columns, self.interleaved) {
            (true, _) => Some(ElementSteps { row: step, column: stored_columns as u64 * width }),
            (false, true) if stored.len() == 1 => Some(ElementSteps { row: len, column: step }),
            (false, true) => Some(ElementSteps { row: step, column: width }),
            (false, false) => None,
        };
        let matrix = |expert: usize, number: usize| {
            let offset = stack.offset + expert as u64 * held as u64 * len + number as u64 * apart;
            let name = format!("{}.{}", self.names.matrix(expert, &self.holds[number]), self.parameter);
            ExpertMatrix { name, shape: shape.clone(), offset, len, steps }
        };
        (0..experts)
            .flat_map(|expert| (0..held).map(move |number| (expert, number)))
            .map(|(expert, number)| matrix(expert, number))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;

    use super::*;
    use crate::models::catalogue::FamilyFile;

    fn stack(model: &Model, name: &str, shape: &[usize]) -> Tensor {
        let len = 2 * shape.iter().product::<usize>() as u64;
        let layer = model.layer(name, shape.len());
        Tensor { name: name.to_owned(), dtype: Dtype::BF16, shape: shape.to_vec(), shard: 0, offset: 1000, len, layer }
    }

    fn common(name: &str, shape: &[usize]) -> Tensor {
        stack(&Model::default(), name, shape)
    }

    /// The model whose file has these stacks.
    fn model_with(stacks: &str) -> Model {
        let text = format!("name: x\nstacks:\n{stacks}");
        let file: FamilyFile = crate::models::catalogue::parse("x.yaml", &text).unwrap();
        Model::of_families(vec![file])
    }

    /// Name, shape, offset, and the steps to the next row and column.
    type Placed = (String, Vec<usize>, u64, Option<[u64; 2]>);

    /// Returns every part of the tensor at `of`.
    fn placed(model: &Model, tensors: &[Tensor], of: usize) -> Vec<Placed> {
        let stacks = ExpertStacks { parts: parts(tensors, model).unwrap() };
        let matrices = stacks.matrices(&tensors[of]).unwrap().into_iter();
        matrices.map(|m| (m.name, m.shape, m.offset, m.steps.map(|steps| [steps.row, steps.column]))).collect()
    }

    fn refused(model: &Model, tensors: &[Tensor]) -> String {
        parts(tensors, model).unwrap_err().to_string()
    }

    #[test]
    fn the_shapes_tell_the_layout() {
        let columns = |gate_up: &[usize], down: &[usize]| {
            let stacks = [common("m.experts.gate_up_proj", gate_up), common("m.experts.down_proj", down)];
            parts(&stacks, &Model::default()).ok().map(|parts| parts["m.experts.down_proj"].columns)
        };
        assert_eq!(columns(&[4, 64, 48], &[4, 24, 64]), Some(true));
        assert_eq!(columns(&[4, 48, 64], &[4, 64, 24]), Some(false));
        // Square in one of the two stacks.
        assert_eq!(columns(&[4, 48, 48], &[4, 24, 48]), Some(true));
        assert_eq!(columns(&[4, 48, 48], &[4, 48, 24]), Some(false));
        assert_eq!(columns(&[4, 24, 48], &[4, 24, 24]), Some(true));
        assert_eq!(columns(&[4, 64, 48], &[5, 24, 64]), None);
        assert_eq!(columns(&[4, 64, 48], &[4, 48, 64]), None);
    }

    #[test]
    fn parts_lie_where_the_layout_puts_them() {
        let model = Model::default();
        let hub = [common("m.experts.gate_up_proj", &[2, 3, 8]), common("m.experts.down_proj", &[2, 4, 3])];
        let named = |number: usize, part: &str| format!("m.experts.{number}.{part}.weight");
        assert_eq!(
            placed(&model, &hub, 0),
            [
                (named(0, "gate_proj"), vec![4, 3], 1000, Some([2, 16])),
                (named(0, "up_proj"), vec![4, 3], 1008, Some([2, 16])),
                (named(1, "gate_proj"), vec![4, 3], 1048, Some([2, 16])),
                (named(1, "up_proj"), vec![4, 3], 1056, Some([2, 16])),
            ]
        );
        assert_eq!(placed(&model, &hub, 1)[1], (named(1, "down_proj"), vec![3, 4], 1024, Some([2, 6])));
        let rows =
            [common("m.experts.gate_up_proj.weight", &[2, 8, 3]), common("m.experts.down_proj.weight", &[2, 3, 4])];
        assert_eq!(placed(&model, &rows, 0)[1], (named(0, "up_proj"), vec![4, 3], 1024, None));
        assert_eq!(placed(&model, &rows, 0)[2], (named(1, "gate_proj"), vec![4, 3], 1048, None));
        assert_eq!(placed(&model, &rows, 1)[1], (named(1, "down_proj"), vec![3, 4], 1024, None));
    }

    #[test]
    fn projections_that_take_turns_lie_apart() {
        let text = |stored: &str| {
            format!(
                "- {{on_disk: '**.w13', holds: [w1, w3], interleaved: true, stored: {stored}, \
                 split_into: '**.{{expert}}.{{projection}}', bias: '**.w13_bias'}}"
            )
        };
        let named = |part: &str, parameter: &str| format!("m.1.{part}.{parameter}");
        let model = model_with(&text("rows"));
        let bias = |model: &Model| stack(model, "m.w13_bias", &[2, 8]);
        let stacks = [stack(&model, "m.w13", &[2, 8, 3]), bias(&model)];
        // A row has 6 bytes; the second expert begins behind 8 of them.
        assert_eq!(placed(&model, &stacks, 0)[2], (named("w1", "weight"), vec![4, 3], 1048, Some([12, 2])));
        assert_eq!(placed(&model, &stacks, 0)[3], (named("w3", "weight"), vec![4, 3], 1054, Some([12, 2])));
        assert_eq!(placed(&model, &stacks, 1)[3], (named("w3", "bias"), vec![4], 1018, Some([8, 4])));
        let model = model_with(&text("columns"));
        let stacks = [stack(&model, "m.w13", &[2, 3, 8]), bias(&model)];
        assert_eq!(placed(&model, &stacks, 0)[2], (named("w1", "weight"), vec![4, 3], 1048, Some([4, 16])));
        assert_eq!(placed(&model, &stacks, 0)[3], (named("w3", "weight"), vec![4, 3], 1050, Some([4, 16])));
        let said = refused(&model, &[stack(&model, "m.w13", &[2, 3, 8]), stack(&model, "m.w13_bias", &[2, 7])]);
        assert_eq!(
            said,
            "`m.w13_bias` [2, 7] holds no experts with w1 and w3: expected one bias for each output of each expert"
        );
        assert_eq!(
            refused(&model, &[stack(&model, "m.w13", &[2, 3, 7])]),
            "`m.w13` [2, 3, 7] holds no experts with w1 and w3: expected [experts, inputs, outputs]"
        );
    }

    #[test]
    fn stacks_of_ambiguous_layout_are_refused_by_name() {
        let model = Model::default();
        let refused = |tensors: &[Tensor]| refused(&model, tensors);
        let gate_up = common("m.experts.gate_up_proj", &[4, 64, 48]);
        assert_eq!(
            refused(std::slice::from_ref(&gate_up)),
            "`m.experts.gate_up_proj` has no `down_proj` beside it, whose shape would tell how both are stored"
        );
        let down = common("m.experts.down_proj", &[4, 64, 24]);
        assert!(refused(&[gate_up.clone(), down]).contains("[4, 64, 48] and `m.experts.down_proj` [4, 64, 24]"));
        let down = common("m.experts.down_proj", &[4, 24, 64]);
        let bias = common("m.experts.gate_up_proj_bias", &[4, 48]);
        assert!(refused(&[gate_up.clone(), down.clone(), bias]).contains("biases"));
        let codes = Tensor { dtype: Dtype::F8_E4M3, ..gate_up };
        assert!(refused(&[codes, down]).contains("is F8_E4M3"));
        assert_eq!(
            refused(&[common("m.moe.w13_weight", &[4, 48, 64])]),
            "no family's file says what `m.moe.w13_weight` holds (`stacks`)"
        );
    }

    #[test]
    fn a_stack_that_is_not_as_its_file_says_is_refused() {
        let entry = |name: &str, holds: &str| {
            format!(
                "- {{on_disk: '**.{name}', holds: [{holds}], stored: rows, split_into: '**.{{expert}}.{{projection}}'}}\n"
            )
        };
        let model = model_with(&(entry("input", "gate_proj, up_proj") + &entry("output", "down_proj")));
        let stacks =
            |input: &[usize], output: &[usize]| [stack(&model, "m.input", input), stack(&model, "m.output", output)];
        assert!(parts(&stacks(&[4, 48, 64], &[4, 64, 24]), &model).is_ok());
        assert_eq!(
            refused(&model, &stacks(&[4, 64, 48], &[4, 24, 64])),
            "`m.input` [4, 64, 48] and `m.output` [4, 24, 64] are no stacks of the same experts: expected \
             [experts, outputs, inputs]"
        );
    }

    #[test]
    fn a_header_cannot_claim_experts_without_end() {
        let stacks = |layer: usize| {
            [("gate_up_proj", [1 << 16, 2, 2]), ("down_proj", [1 << 16, 1, 2])]
                .map(|(name, shape)| common(&format!("m.{layer}.experts.{name}"), &shape))
        };
        assert_eq!(parts(&stacks(0), &Model::default()).unwrap().len(), 2);
        let checkpoint = |layers: usize| Checkpoint {
            dir: "m".into(),
            shards: Vec::new(),
            tensors: (0..layers).flat_map(stacks).collect(),
            config: crate::config::Config::parse(br#"{"model_type": "m"}"#).unwrap(),
            model: Model::default(),
            quantized: None,
            side_files: Vec::new(),
            card: None,
            left_out: Vec::new(),
            cut_to: None,
            adapters: Vec::new(),
            headers_only: false,
            repository: None,
        };
        let one = checkpoint(1);
        let stacks = one.expert_stacks().unwrap();
        assert_eq!(one.tensors.iter().flat_map(|tensor| stacks.matrices(tensor).unwrap()).count(), 3 << 16);
        let said = checkpoint(3).expert_stacks().unwrap_err().to_string();
        assert_eq!(said, "there would be up to 589824 matrices, more than the limit of 524288");
    }
}
