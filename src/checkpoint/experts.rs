//! Stacked experts: three-dimensional tensors that hold one matrix per expert and projection, and where each matrix
//! lies.
//!
//! Two layouts are in use. Checkpoints of the hub hold matrices to be multiplied from the right, `gate_up_proj`
//! `[experts, hidden, 2 × intermediate]` and `down_proj` `[experts, intermediate, hidden]`; transformers 5 also writes
//! them as linear layers have them, `[experts, 2 × intermediate, hidden]` and `[experts, hidden, intermediate]`. No two
//! shapes fit both.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::Dtype;

use crate::checkpoint::Checkpoint;
use crate::models::{DOWN, GATE_UP, LayerKind, of_stack, stack_projections};
use crate::tensor::Tensor;
use crate::text::shown;

/// A reason for which a stack of experts cannot be taken apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpertsError {
    #[error("{} has no {} beside it, whose shape would tell how both are stored", shown(.tensor), shown(.partner))]
    NoPartner { tensor: String, partner: String },
    #[error(
        "{} {gate_up:?} and {} {down:?} are no stacks of the same experts: expected [experts, hidden, 2 × intermediate] \
         and [experts, intermediate, hidden], or the last two of each the other way round",
        shown(.tensor),
        shown(.partner)
    )]
    Shapes { tensor: String, gate_up: Vec<usize>, partner: String, down: Vec<usize> },
    #[error("{} is {dtype}, and stacks of BF16, F16 or F32 can be taken apart", shown(.tensor))]
    Dtype { tensor: String, dtype: Dtype },
    #[error("{} belongs to experts with biases, whose gate and up projections may be interleaved", shown(.tensor))]
    Biases { tensor: String },
    #[error("there would be up to {matrices} matrices, more than the limit of {MAX_MATRICES}")]
    TooMany { matrices: usize },
    #[error("{} is no `gate_up_proj` or `down_proj`", shown(.tensor))]
    Unknown { tensor: String },
}

/// The most matrices that stacks may be taken apart into, more than any model has: small headers can claim any number
/// of them that hold next to nothing.
const MAX_MATRICES: usize = 1 << 19;

/// The stacks of a checkpoint, with the layout of each.
#[derive(Clone, Debug)]
pub struct ExpertStacks {
    /// The layout of each stack, by module of experts such as `model.layers.0.mlp.experts`.
    layouts: BTreeMap<String, StackLayout>,
}

/// One matrix of a stack, under the name by which servers know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpertMatrix {
    pub name: String,
    /// Rows and columns of the linear layer: outputs and inputs.
    pub shape: [usize; 2],
    /// Offset of the first element in the shard's file.
    pub offset: u64,
    /// Bytes of all elements.
    pub len: u64,
    /// Bytes from one stored row to the next where the stored rows are the matrix's columns; `None` where the matrix is
    /// stored row after row.
    pub stride: Option<u64>,
}

/// The order in which the matrices of a stack are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StackLayout {
    /// A row per output, as linear layers have them.
    Rows,
    /// A column per output.
    Columns,
}

impl Checkpoint {
    /// Reports whether the checkpoint holds stacked experts.
    pub fn has_stacked_experts(&self) -> bool {
        self.tensors.iter().any(|tensor| tensor.kind() == LayerKind::Experts)
    }

    /// Tells the layout of every stack of experts from the names and shapes of the tensors.
    ///
    /// # Errors
    /// The first stack whose layout cannot be told, or more matrices than any model has.
    pub fn expert_stacks(&self) -> Result<ExpertStacks, ExpertsError> {
        let layouts = layouts(&self.tensors)?;
        let stacks = self.tensors.iter().filter(|tensor| tensor.kind() == LayerKind::Experts);
        let matrices = stacks.map(|stack| stack.shape[0].saturating_mul(2)).fold(0, usize::saturating_add);
        if matrices > MAX_MATRICES {
            return Err(ExpertsError::TooMany { matrices });
        }
        Ok(ExpertStacks { layouts })
    }
}

impl ExpertStacks {
    /// Returns the matrices of a stack in the order of the experts, `None` for a tensor that is no stack.
    pub fn matrices(&self, tensor: &Tensor) -> Option<Vec<ExpertMatrix>> {
        let layout = self.layouts.get(of_stack(&tensor.name).0)?;
        (tensor.kind() == LayerKind::Experts).then(|| matrices(tensor, *layout))
    }
}

/// The layout of the stacks of each module of experts.
fn layouts(tensors: &[Tensor]) -> Result<BTreeMap<String, StackLayout>, ExpertsError> {
    let names: BTreeSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let mut stacks: BTreeMap<&str, [Option<&Tensor>; 2]> = BTreeMap::new();
    for tensor in tensors.iter().filter(|tensor| tensor.kind() == LayerKind::Experts) {
        let (experts, projection) = of_stack(&tensor.name);
        let error_name = || tensor.name.clone();
        if !matches!(tensor.dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32) {
            return Err(ExpertsError::Dtype { tensor: error_name(), dtype: tensor.dtype });
        }
        let is_bias = |suffix: &str| names.contains(format!("{experts}.{projection}{suffix}").as_str());
        if is_bias("_bias") || is_bias(".bias") {
            return Err(ExpertsError::Biases { tensor: error_name() });
        }
        let place = match projection {
            GATE_UP => 0,
            DOWN => 1,
            _ => return Err(ExpertsError::Unknown { tensor: error_name() }),
        };
        stacks.entry(experts).or_default()[place] = Some(tensor);
    }
    let layout = |(experts, pair): (&str, [Option<&Tensor>; 2])| match pair {
        [Some(gate_up), Some(down)] => Ok((experts.to_owned(), layout(gate_up, down)?)),
        [gate_up, down] => {
            let partner = if gate_up.is_some() { DOWN } else { GATE_UP };
            let tensor = gate_up.or(down).map(|tensor| tensor.name.clone()).unwrap_or_default();
            Err(ExpertsError::NoPartner { tensor, partner: partner.to_owned() })
        }
    };
    stacks.into_iter().map(layout).collect()
}

fn layout(gate_up: &Tensor, down: &Tensor) -> Result<StackLayout, ExpertsError> {
    let sides = |tensor: &Tensor| <[usize; 3]>::try_from(tensor.shape.as_slice()).ok();
    if let (Some([experts, a, b]), Some([same, c, d])) = (sides(gate_up), sides(down))
        && experts == same
        && ![a, b, c, d].contains(&0)
    {
        // Without zeros, no shapes do both.
        if a == d && Some(b) == c.checked_mul(2) {
            return Ok(StackLayout::Columns);
        }
        if b == c && Some(a) == d.checked_mul(2) {
            return Ok(StackLayout::Rows);
        }
    }
    Err(ExpertsError::Shapes {
        tensor: gate_up.name.clone(),
        gate_up: gate_up.shape.clone(),
        partner: down.name.clone(),
        down: down.shape.clone(),
    })
}

fn matrices(stack: &Tensor, layout: StackLayout) -> Vec<ExpertMatrix> {
    let &[experts, stored_rows, stored_columns] = stack.shape.as_slice() else { return Vec::new() };
    let (module, projection) = of_stack(&stack.name);
    let names = stack_projections(projection);
    let width = (stack.dtype.bitsize() / 8) as u64;
    let shape = match layout {
        StackLayout::Rows => [stored_rows / names.len(), stored_columns],
        StackLayout::Columns => [stored_columns / names.len(), stored_rows],
    };
    let len = (shape[0] * shape[1]) as u64 * width;
    let matrix = |expert: usize, number: usize| {
        let first = stack.offset + expert as u64 * names.len() as u64 * len;
        let (offset, stride) = match layout {
            StackLayout::Rows => (first + number as u64 * len, None),
            StackLayout::Columns => (first + (number * shape[0]) as u64 * width, Some(stored_columns as u64 * width)),
        };
        ExpertMatrix { name: format!("{module}.{expert}.{}.weight", names[number]), shape, offset, len, stride }
    };
    (0..experts)
        .flat_map(|expert| (0..names.len()).map(move |number| (expert, number)))
        .map(|(expert, number)| matrix(expert, number))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Model;

    fn stack(name: &str, shape: &[usize]) -> Tensor {
        let len = 2 * shape.iter().product::<usize>() as u64;
        let layer = Model::default().layer(name, shape.len());
        Tensor { name: name.to_owned(), dtype: Dtype::BF16, shape: shape.to_vec(), shard: 0, offset: 1000, len, layer }
    }

    /// Name, shape, offset and stride.
    fn placed(matrix: &ExpertMatrix) -> (&str, [usize; 2], u64, Option<u64>) {
        (&matrix.name, matrix.shape, matrix.offset, matrix.stride)
    }

    #[test]
    fn the_shapes_tell_the_layout() {
        let layout = |gate_up: &[usize], down: &[usize]| layout(&stack("g", gate_up), &stack("d", down)).ok();
        assert_eq!(layout(&[4, 64, 48], &[4, 24, 64]), Some(StackLayout::Columns));
        assert_eq!(layout(&[4, 48, 64], &[4, 64, 24]), Some(StackLayout::Rows));
        // Square in one of the two stacks.
        assert_eq!(layout(&[4, 48, 48], &[4, 24, 48]), Some(StackLayout::Columns));
        assert_eq!(layout(&[4, 48, 48], &[4, 48, 24]), Some(StackLayout::Rows));
        assert_eq!(layout(&[4, 24, 48], &[4, 24, 24]), Some(StackLayout::Columns));
        assert_eq!(layout(&[4, 64, 48], &[5, 24, 64]), None);
        assert_eq!(layout(&[4, 64, 48], &[4, 48, 64]), None);
    }

    #[test]
    fn parts_lie_where_the_layout_puts_them() {
        let name = "m.experts.gate_up_proj";
        let found = matrices(&stack(name, &[2, 3, 8]), StackLayout::Columns);
        assert_eq!(
            found.iter().map(placed).collect::<Vec<_>>(),
            [
                ("m.experts.0.gate_proj.weight", [4, 3], 1000, Some(16)),
                ("m.experts.0.up_proj.weight", [4, 3], 1008, Some(16)),
                ("m.experts.1.gate_proj.weight", [4, 3], 1048, Some(16)),
                ("m.experts.1.up_proj.weight", [4, 3], 1056, Some(16)),
            ]
        );
        let found = matrices(&stack("m.experts.gate_up_proj.weight", &[2, 8, 3]), StackLayout::Rows);
        assert_eq!(placed(&found[1]), ("m.experts.0.up_proj.weight", [4, 3], 1024, None));
        assert_eq!(placed(&found[2]), ("m.experts.1.gate_proj.weight", [4, 3], 1048, None));
        let found = matrices(&stack("m.experts.down_proj", &[2, 4, 3]), StackLayout::Columns);
        assert_eq!(placed(&found[1]), ("m.experts.1.down_proj.weight", [3, 4], 1024, Some(6)));
    }

    #[test]
    fn stacks_of_ambiguous_layout_are_refused_by_name() {
        let refused = |tensors: &[Tensor]| layouts(tensors).unwrap_err().to_string();
        let gate_up = stack("m.experts.gate_up_proj", &[4, 64, 48]);
        assert_eq!(
            refused(std::slice::from_ref(&gate_up)),
            "`m.experts.gate_up_proj` has no `down_proj` beside it, whose shape would tell how both are stored"
        );
        let down = stack("m.experts.down_proj", &[4, 64, 24]);
        assert!(refused(&[gate_up.clone(), down]).contains("[4, 64, 48] and `m.experts.down_proj` [4, 64, 24]"));
        let down = stack("m.experts.down_proj", &[4, 24, 64]);
        let bias = stack("m.experts.gate_up_proj_bias", &[4, 48]);
        assert!(refused(&[gate_up.clone(), down.clone(), bias]).contains("biases"));
        let codes = Tensor { dtype: Dtype::F8_E4M3, ..gate_up };
        assert!(refused(&[codes, down]).contains("is F8_E4M3"));
    }

    #[test]
    fn a_header_cannot_claim_experts_without_end() {
        let stacks = |layer: usize| {
            [("gate_up_proj", [1 << 16, 2, 2]), ("down_proj", [1 << 16, 1, 2])]
                .map(|(name, shape)| stack(&format!("m.{layer}.experts.{name}"), &shape))
        };
        assert_eq!(layouts(&stacks(0)).unwrap().len(), 1);
        let checkpoint = |layers: usize| Checkpoint {
            dir: "m".into(),
            shards: Vec::new(),
            tensors: (0..layers).flat_map(stacks).collect(),
            config: crate::config::Config::parse(br#"{"model_type": "m"}"#).unwrap(),
            model: Model::default(),
            quantized: None,
            side_files: Vec::new(),
            left_out: Vec::new(),
            cut_to: None,
        };
        let one = checkpoint(1);
        let stacks = one.expert_stacks().unwrap();
        assert_eq!(one.tensors.iter().flat_map(|tensor| stacks.matrices(tensor).unwrap()).count(), 3 << 16);
        let said = checkpoint(3).expert_stacks().unwrap_err().to_string();
        assert_eq!(said, "there would be up to 786432 matrices, more than the limit of 524288");
    }
}
