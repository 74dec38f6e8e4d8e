//! The adapters of a source: what they make of its tensors, computed once more, by an arithmetic of its own.

use std::collections::BTreeMap;
use std::ops::Range;

use fearless_simd::{Level, Simd, dispatch};
use safetensors::Dtype;

use crate::decode::{narrow, round, widen, width};
use qwen_fp8_checkpoint::adapter::{AdapterChange, ChangeKind, LowRankTensors};
use qwen_fp8_checkpoint::source::SourceError;
use qwen_fp8_checkpoint::text::shown;
use qwen_fp8_checkpoint::{Checkpoint, ShardFile, Tensor};

/// A reason for which adapters cannot be merged into a source.
#[derive(Debug, thiserror::Error)]
pub enum AdapterFault {
    #[error("the adapter {} changes {}, which the source does not have in that shape", shown(adapter), shown(tensor))]
    NoTensor { adapter: String, tensor: String },
    #[error(transparent)]
    Read(#[from] SourceError),
}

/// Open adapters, and what they change.
#[derive(Debug, Default)]
pub(crate) struct SourceAdapters<'a> {
    files: Vec<ShardFile>,
    /// By name of the source's tensor: the number of the adapter, and the change, one after the other.
    changes: BTreeMap<String, Vec<(usize, &'a ChangeKind)>>,
}

/// The changes of one tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorChanges<'a> {
    files: &'a [ShardFile],
    changes: &'a [(usize, &'a ChangeKind)],
}

impl<'a> SourceAdapters<'a> {
    /// Opens the adapters of a source; `shape` tells the shape of a tensor that it has, or that is made of what it has.
    ///
    /// # Errors
    /// An adapter cannot be opened, or changes what the source does not have.
    pub(super) fn open(
        checkpoint: &'a Checkpoint,
        shape: impl Fn(&str) -> Option<Vec<usize>>,
    ) -> Result<Self, AdapterFault> {
        let mut opened = Self::default();
        for (number, adapter) in checkpoint.adapters.iter().enumerate() {
            opened.files.push(adapter.weights.open()?);
            for change in &adapter.changes {
                if checkpoint.is_cut_away(&change.tensor) {
                    continue;
                }
                let name = name(change, &shape).ok_or_else(|| AdapterFault::NoTensor {
                    adapter: adapter.name.name.clone(),
                    tensor: change.tensor.clone(),
                })?;
                opened.changes.entry(name).or_default().push((number, &change.kind));
            }
        }
        Ok(opened)
    }

    /// Returns the changes of a tensor; `None` where there are none.
    pub(super) fn of(&self, name: &str) -> Option<TensorChanges<'_>> {
        Some(TensorChanges { files: &self.files, changes: self.changes.get(name)? })
    }

    /// Proves that no file changed while it was read.
    pub(super) fn check_unchanged(&self) -> Result<(), SourceError> {
        self.files.iter().try_for_each(ShardFile::check_unchanged)
    }
}

/// The one tensor of the source that a change is of, if it has its shape.
fn name(change: &AdapterChange, shape: impl Fn(&str) -> Option<Vec<usize>>) -> Option<String> {
    let mut places = change.places(|name| shape(name).is_some());
    let place = places.pop().filter(|_| places.is_empty())?;
    change.kind.misfit(&shape(&place)?).is_none().then_some(place)
}

impl TensorChanges<'_> {
    /// Changes whole rows of a tensor of `dtype`, given as they are stored; it has so many rows and columns.
    pub(super) fn apply(
        &self,
        dtype: Dtype,
        rows: &Range<usize>,
        [height, columns]: [usize; 2],
        bytes: &mut Vec<u8>,
    ) -> Result<(), SourceError> {
        let mut values = Vec::new();
        for &(adapter, change) in self.changes {
            let file = &self.files[adapter];
            widen(dtype, bytes, &mut values);
            match change {
                ChangeKind::Replace(tensor) => {
                    values = numbers(file, tensor, rows.start * columns, rows.len() * columns)?;
                }
                ChangeKind::AddBias { bias, scaling } => {
                    let added = numbers(file, bias, 0, columns)?;
                    values.iter_mut().zip(added).for_each(|(value, added)| *value += added * scaling);
                }
                ChangeKind::LowRank(low) => low_rank(file, low, dtype, rows, [height, columns], &mut values)?,
            }
            narrow(dtype, &values, bytes);
        }
        Ok(())
    }
}

/// Adds a product of two factors to rows of a weight.
fn low_rank(
    file: &ShardFile,
    low: &LowRankTensors,
    dtype: Dtype,
    rows: &Range<usize>,
    [height, columns]: [usize; 2],
    values: &mut [f32],
) -> Result<(), SourceError> {
    let rank = low.rank;
    let (a, b) = if low.is_embedding {
        let a = transposed(&numbers(file, &low.b, 0, columns * rank)?, rank);
        let mut of_rows = Vec::new();
        for k in 0..rank {
            of_rows.extend(numbers(file, &low.a, k * height + rows.start, rows.len())?);
        }
        (a, transposed(&of_rows, rows.len()))
    } else {
        (numbers(file, &low.a, 0, rank * columns)?, numbers(file, &low.b, rows.start * rank, rows.len() * rank)?)
    };
    let magnitudes = match &low.magnitude {
        Some(tensor) => numbers(file, tensor, rows.start, rows.len())?,
        None => Vec::new(),
    };
    let (level, mut product) = (Level::new(), vec![0.0; columns]);
    for (row, values) in values.chunks_exact_mut(columns.max(1)).enumerate() {
        let factors = &b[row * rank..(row + 1) * rank];
        // Compiled once for each instruction set, so that a multiply-add is one instruction where there is one.
        dispatch!(level, simd => simd.vectorize(
            #[inline(always)]
            || multiply(factors, &a, &mut product)
        ));
        for (value, product) in values.iter_mut().zip(&product) {
            let added = product * low.scaling;
            *value += if low.is_embedding { round(added, dtype) } else { added };
        }
        if let Some(magnitude) = magnitudes.get(row) {
            let factor = magnitude / length(values);
            values.iter_mut().for_each(|value| *value *= factor);
        }
    }
    Ok(())
}

/// Multiplies a row of factors by rows of A, one after the other.
#[inline(always)]
fn multiply(factors: &[f32], a: &[f32], product: &mut [f32]) {
    product.fill(0.0);
    for (factor, a) in factors.iter().zip(a.chunks_exact(product.len().max(1))) {
        for (product, a) in product.iter_mut().zip(a) {
            *product = factor.mul_add(*a, *product);
        }
    }
}

/// The length of a row as torch has it: eight sums of squares side by side, then their sum, then what is left of the row.
fn length(row: &[f32]) -> f32 {
    let whole = row.len() / 8 * 8;
    let side = |lane: usize| row[..whole].iter().skip(lane).step_by(8).fold(0.0, |sum: f32, value| sum + value * value);
    let sides = (1..8).map(side).fold(side(0), |sum, of_lane| sum + of_lane);
    row[whole..].iter().fold(sides, |sum, value| sum + value * value).sqrt()
}

/// Turns rows of so many numbers into columns.
fn transposed(numbers: &[f32], across: usize) -> Vec<f32> {
    let column = |at: usize| numbers.iter().skip(at).step_by(across.max(1)).copied();
    (0..across).flat_map(column).collect()
}

/// Reads numbers of a tensor from its element `from` on.
fn numbers(file: &ShardFile, tensor: &Tensor, from: usize, len: usize) -> Result<Vec<f32>, SourceError> {
    let size = width(tensor.dtype).unwrap_or(1);
    let mut bytes = vec![0; len * size];
    file.read_exact_at(&mut bytes, tensor.offset + (from * size) as u64)?;
    let mut numbers = Vec::new();
    widen(tensor.dtype, &bytes, &mut numbers);
    Ok(numbers)
}
