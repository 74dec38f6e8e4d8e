//! One input of a plan: its values' dtype and shape, and where in the source they come from.

use std::sync::Arc;

use qwen_fp8_schemes::{CodeFormat, Dtype, Format, TensorRole, WordOrder};

use crate::checkpoint::Tensor;
use crate::checkpoint::adapter::ChangeKind;
use crate::checkpoint::experts::ElementSteps;
use crate::checkpoint::models::{self, Layer, LayerKind};

use super::served_form::ServedForm;

/// One input of a plan: a tensor of values, and where in the source they come from.
#[derive(Debug)]
pub struct PlannedInput {
    pub name: String,
    /// The dtype of the values, whatever they are stored as.
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Bytes of the values, as many as dtype and shape make.
    pub len: u64,
    pub data: InputData,
    /// The stack of experts that holds the values, where the input is one matrix of it.
    pub part_of: Option<Arc<str>>,
    /// The kind of layer and the part of the model, as far as they are known.
    pub layer: Layer,
    /// What adapters change of the values, one after the other; each time they are rounded to the dtype.
    pub merged: Vec<Merge>,
}

/// The place of an input's values, by shard of the checkpoint and offset in its file.
#[derive(Debug)]
pub enum InputData {
    /// Stored row after row from this place on.
    Stored { shard: usize, offset: u64 },
    /// Stored in steps from this place on: rows between those of another matrix, or as columns.
    Strided { shard: usize, offset: u64, steps: ElementSteps },
    /// Stored as codes and their scales.
    // Boxed: a model with split experts has tens of thousands of inputs, few of which are quantized.
    Quantized(Box<QuantizedSource>),
}

/// A change of an adapter that is merged into an input.
#[derive(Clone, Debug)]
pub struct Merge {
    /// Number of the adapter among those of the checkpoint.
    pub adapter: usize,
    pub change: ChangeKind,
}

/// A weight that is quantized in the source.
#[derive(Debug)]
pub struct QuantizedSource {
    /// The name of its layout in messages, such as `FP8`.
    pub name: &'static str,
    /// The stored tensor of codes, row after row.
    pub codes: Tensor,
    /// The stored tensor of scales, row of granules by row of granules.
    pub scales: Tensor,
    /// The scale above the scales.
    pub global: Option<GlobalScale>,
    /// The zero points, one for each scale.
    pub zeros: Option<ZeroPointTensor>,
    pub format: CodeFormat,
    /// Rows and columns that share a scale; the last ones may be cut short.
    pub granule: [usize; 2],
    /// The rows of codes that hold the values.
    pub rows: CodeRows,
    /// Set where all tensors hold the transposed weight, integers in words: AWQ's and GPTQ's.
    pub transposed: Option<Transposed>,
    /// The form in which the output can hold the same bytes, or why it cannot.
    pub carried: Result<CarriedForm, &'static str>,
}

/// The stored rows of codes that hold the values of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeRows {
    /// All of them, each a row of the weight.
    All,
    /// Those of one matrix of a stack: so many, every `step`th from `first` on.
    Some { first: usize, count: usize, step: usize },
    /// All of them, matrix by matrix of so many rows, each a column of the values.
    Columns { of_matrix: usize },
}

/// The integers of a weight that is stored transposed.
#[derive(Debug)]
pub struct Transposed {
    pub order: WordOrder,
    /// Zero points are stored less one.
    pub zeros_less_one: bool,
    /// The group of each column, where the source says it: neighbours need not share one then.
    pub groups: Option<Tensor>,
}

/// A scale above the scales of a weight.
#[derive(Debug)]
pub struct GlobalScale {
    /// The stored tensor of one F32.
    pub tensor: Tensor,
    /// Scales are divided by it; else they are multiplied by it.
    pub divides: bool,
}

/// The zero points of a weight.
#[derive(Debug)]
pub struct ZeroPointTensor {
    pub tensor: Tensor,
    /// The bits of each where they are packed, down the rows unless the weight is transposed; else each has a byte.
    pub packed: Option<u32>,
}

/// The form in which a quantized weight of the source passes through.
#[derive(Debug)]
pub struct CarriedForm {
    pub form: ServedForm,
    /// Every tensor of the weight: codes, then scales, then the others.
    pub parts: Vec<SourcePart>,
    /// The output format in which names and dtypes stay those of the source.
    pub at_home: Option<Format>,
    /// Set where no output format holds the form: names, dtypes and `quantization_config` are the source's.
    pub keeps_config: bool,
}

/// A stored tensor of a quantized weight that passes through.
#[derive(Debug)]
pub struct SourcePart {
    pub tensor: Tensor,
    pub role: TensorRole,
    /// Parameter name in compressed-tensors' layout.
    pub suffix: &'static str,
    /// Dtype in compressed-tensors' layout, as wide as the stored one.
    pub dtype: Dtype,
}

impl QuantizedSource {
    /// The stored tensors that decoding reads.
    pub fn read(&self) -> impl Iterator<Item = &Tensor> {
        let global = self.global.as_ref().map(|global| &global.tensor);
        let zeros = self.zeros.as_ref().map(|zeros| &zeros.tensor);
        let groups = self.transposed.as_ref().and_then(|transposed| transposed.groups.as_ref());
        [&self.codes, &self.scales].into_iter().chain(global).chain(zeros).chain(groups)
    }

    /// Bytes that the weight takes up of a stored tensor.
    fn bytes_of(&self, tensor: &Tensor) -> u64 {
        match self.rows {
            CodeRows::All | CodeRows::Columns { .. } => tensor.len,
            CodeRows::Some { count, .. } => {
                // Codes and scales of a stack have as many rows, whatever their dimensions are.
                let of_stack: usize = tensor.shape.iter().take(2).product();
                tensor.len / of_stack.max(1) as u64 * count as u64
            }
        }
    }
}

impl PlannedInput {
    /// The input whose values are a stored tensor as it is.
    pub fn stored(tensor: &Tensor) -> Self {
        Self {
            name: tensor.name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
            len: tensor.len,
            data: InputData::Stored { shard: tensor.shard, offset: tensor.offset },
            part_of: None,
            layer: tensor.layer,
            merged: Vec::new(),
        }
    }

    /// The module the input belongs to: its name up to the last dot.
    pub fn module(&self) -> &str {
        models::split_name(&self.name).0
    }

    /// The part of the name behind the last dot: `weight`, `bias`, …
    pub fn parameter(&self) -> &str {
        models::split_name(&self.name).1
    }

    /// The name that patterns are matched with: the module for a weight or bias, else the input's own name.
    pub fn target_name(&self) -> &str {
        models::target_name(&self.name)
    }

    /// The kind of layer.
    pub fn kind(&self) -> LayerKind {
        self.layer.kind
    }

    /// The codes and scales of an input that is quantized in the source.
    pub fn quantized(&self) -> Option<&QuantizedSource> {
        match &self.data {
            InputData::Quantized(source) => Some(source),
            InputData::Stored { .. } | InputData::Strided { .. } => None,
        }
    }

    /// The adapters that are merged into the values, each once, counted from 1.
    pub fn adapters(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = self.merged.iter().map(|merge| merge.adapter + 1).collect();
        numbers.dedup();
        numbers
    }

    /// The dtype that the source stores: of the codes where it is quantized.
    pub fn stored_dtype(&self) -> Dtype {
        self.quantized().map_or(self.dtype, |source| source.codes.dtype)
    }

    /// Bytes of the source that hold the values, of the codes alone where it is quantized.
    pub fn stored_len(&self) -> u64 {
        self.quantized().map_or(self.len, |source| source.bytes_of(&source.codes))
    }

    /// Bytes of the source that the input takes up, scales included.
    pub fn source_bytes(&self) -> u64 {
        self.quantized().map_or(self.len, |source| source.read().map(|tensor| source.bytes_of(tensor)).sum())
    }

    /// The source shard that holds the values, or the codes where the input is quantized.
    pub fn shard(&self) -> usize {
        match &self.data {
            InputData::Stored { shard, .. } | InputData::Strided { shard, .. } => *shard,
            InputData::Quantized(source) => source.codes.shard,
        }
    }

    /// The name for the stored byte at `offset` of a shard, where the input is made of it: its own, or that of its
    /// scales.
    pub fn name_of_byte(&self, shard: usize, offset: u64) -> Option<&str> {
        let holds = |at_shard, start: u64, len| shard == at_shard && (start..start + len).contains(&offset);
        match &self.data {
            InputData::Stored { shard, offset } => holds(*shard, *offset, self.len).then_some(&self.name),
            // What belongs to one matrix lies between that of others.
            InputData::Strided { .. } => None,
            InputData::Quantized(source) if matches!(source.rows, CodeRows::Some { .. }) => None,
            InputData::Quantized(source) => source
                .read()
                .find(|stored| holds(stored.shard, stored.offset, stored.len))
                .map(|stored| stored.name.as_str()),
        }
    }
}
