//! Stacks of experts in MXFP4, as gpt-oss has them: a tensor of blocks and one of scales, by the stack's name.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::Dtype;
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::models::Model;
use crate::models::catalogue::StackLayout;
use crate::tensor::Tensor;
use crate::text::shown;

/// Ends of the names of the two tensors, after the name that the stack has unquantized.
const BLOCKS: &str = "_blocks";
const SCALES: &str = "_scales";

/// Columns under a scale, and the bytes that hold them.
const BLOCK_COLUMNS: usize = 32;
const BLOCK_BYTES: usize = BLOCK_COLUMNS / 2;

/// Reports whether a config declares stacks of experts in MXFP4, and nothing else.
pub fn declares_block_stacks(config: &Config) -> bool {
    let value: Option<Value> = config.quantization_config().and_then(|text| serde_json::from_str(text).ok());
    value.is_some_and(|value| value.get("quant_method").and_then(Value::as_str) == Some("mxfp4"))
}

/// Reports whether a tensor has the name of the blocks or scales of a stack.
pub(super) fn is_part(tensor: &str, stack: &str) -> bool {
    tensor.strip_prefix(stack).is_some_and(|end| end == BLOCKS || end == SCALES)
}

/// A stack of experts whose matrices are stored as blocks of MXFP4, outputs as rows.
#[derive(Clone, Debug)]
pub struct BlockStack<'a> {
    /// U8 `[experts, outputs, inputs / 32, 16]`, two codes in a byte.
    pub blocks: &'a Tensor,
    /// U8 `[experts, outputs, inputs / 32]`, the exponents of the blocks.
    pub scales: &'a Tensor,
    /// The name that the stack has unquantized: `model.layers.0.mlp.experts.gate_up_proj`.
    pub name: &'a str,
    pub experts: usize,
    pub outputs: usize,
    pub inputs: usize,
}

/// A reason for which tensors named as a stack's are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlocksError {
    #[error("{} has no {} beside it", shown(.blocks), shown(.scales))]
    NoScales { blocks: String, scales: String },
    #[error("{} has no {} beside it", shown(.scales), shown(.blocks))]
    NoBlocks { scales: String, blocks: String },
    #[error("{} is {dtype}, not U8", shown(.tensor))]
    BlocksDtype { tensor: String, dtype: Dtype },
    #[error("{} is {dtype}, not U8 or F8_E8M0", shown(.tensor))]
    ScalesDtype { tensor: String, dtype: Dtype },
    #[error("{} has shape {shape:?}, and blocks are [experts, outputs, inputs / 32, 16]", shown(.tensor))]
    BlocksShape { tensor: String, shape: Vec<usize> },
    #[error("{} has shape {shape:?}, and {} needs {expected:?}", shown(.tensor), shown(.blocks))]
    ScalesShape { tensor: String, shape: Vec<usize>, blocks: String, expected: Vec<usize> },
    #[error("no family's file says that {} holds experts as columns (`stacks`)", shown(.stack))]
    Unknown { stack: String },
}

impl BlocksError {
    /// The tensor that is at fault.
    pub fn tensor(&self) -> &str {
        match self {
            Self::NoScales { blocks: tensor, .. } | Self::NoBlocks { scales: tensor, .. } => tensor,
            Self::BlocksDtype { tensor, .. } | Self::ScalesDtype { tensor, .. } => tensor,
            Self::BlocksShape { tensor, .. } | Self::ScalesShape { tensor, .. } => tensor,
            Self::Unknown { stack } => stack,
        }
    }
}

impl Checkpoint {
    /// Returns every stack that is stored as blocks, in order of name, or why the tensors of its name are none.
    pub fn block_stacks(&self) -> Vec<Result<BlockStack<'_>, BlocksError>> {
        let by_name: BTreeMap<&str, &Tensor> =
            self.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let stem = |tensor: &'_ Tensor| -> Option<usize> {
            let ends = [BLOCKS, SCALES].iter().find(|end| tensor.name.ends_with(*end))?;
            // A tensor of floats by such a name is somebody's own.
            (tensor.dtype.bitsize() == 8).then(|| tensor.name.len() - ends.len())
        };
        let names: BTreeSet<&str> =
            self.tensors.iter().filter_map(|tensor| Some(&tensor.name[..stem(tensor)?])).collect();
        names.into_iter().map(|name| BlockStack::of(name, &by_name, &self.model)).collect()
    }
}

impl<'a> BlockStack<'a> {
    fn of(name: &'a str, by_name: &BTreeMap<&str, &'a Tensor>, model: &Model) -> Result<Self, BlocksError> {
        let [blocks_name, scales_name] = [BLOCKS, SCALES].map(|end| format!("{name}{end}"));
        let (blocks, scales) = match (by_name.get(blocks_name.as_str()), by_name.get(scales_name.as_str())) {
            (Some(blocks), Some(scales)) => (*blocks, *scales),
            (Some(_), None) => return Err(BlocksError::NoScales { blocks: blocks_name, scales: scales_name }),
            (None, _) => return Err(BlocksError::NoBlocks { scales: scales_name, blocks: blocks_name }),
        };
        if blocks.dtype != Dtype::U8 {
            return Err(BlocksError::BlocksDtype { tensor: blocks_name, dtype: blocks.dtype });
        }
        if !matches!(scales.dtype, Dtype::U8 | Dtype::F8_E8M0) {
            return Err(BlocksError::ScalesDtype { tensor: scales_name, dtype: scales.dtype });
        }
        let (&[experts, outputs, across, BLOCK_BYTES], true) = (blocks.shape.as_slice(), !blocks.shape.contains(&0))
        else {
            return Err(BlocksError::BlocksShape { tensor: blocks_name, shape: blocks.shape.clone() });
        };
        let expected = vec![experts, outputs, across];
        if scales.shape != expected {
            let shape = scales.shape.clone();
            return Err(BlocksError::ScalesShape { tensor: scales_name, shape, blocks: blocks_name, expected });
        }
        // Unquantized, inputs come before outputs: blocks lie along the inputs in either case.
        if model.stack(name).is_none_or(|(known, _)| known.stored != StackLayout::Columns) {
            return Err(BlocksError::Unknown { stack: name.to_owned() });
        }
        Ok(Self { blocks, scales, name, experts, outputs, inputs: across * BLOCK_COLUMNS })
    }

    /// The stack as it is unquantized, as a tensor of this dtype: `[experts, inputs, outputs]`, at offset 0. `None` where
    /// it would have too many bytes to be counted.
    pub fn decoded(&self, model: &Model, dtype: Dtype) -> Option<Tensor> {
        let shape = vec![self.experts, self.inputs, self.outputs];
        let elements = shape.iter().try_fold(1u64, |product, &side| product.checked_mul(side as u64))?;
        let len = elements.checked_mul((dtype.bitsize() / 8) as u64)?;
        let layer = model.layer(self.name, shape.len());
        Some(Tensor { name: self.name.to_owned(), dtype, shape, shard: self.blocks.shard, offset: 0, len, layer })
    }
}
