//! The comparison of one tensor of both checkpoints, by bytes and by value.

use rayon::prelude::*;

use super::described::{DescribedTensor, StoredAs, TensorDifference};
use super::side::DiffSide;
use crate::decode::{Meter, Piece, QuantizedWeight, Scratch, Shards, pieces};
use crate::report::Sums;
use crate::source::{Original, first_difference};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::source::SourceError;

/// A tensor, or a quantized weight with all its tensors.
#[derive(Clone, Debug)]
pub(super) struct LogicalTensor<'a> {
    /// The name of the weight, also where its codes have another.
    pub(super) name: String,
    pub(super) tensor: &'a Tensor,
    pub(super) quantized: Option<&'a QuantizedWeight<'a>>,
}

impl<'a> LogicalTensor<'a> {
    pub(super) fn described(&self) -> DescribedTensor {
        DescribedTensor { name: self.name.clone(), stored: self.stored() }
    }

    fn stored(&self) -> StoredAs {
        let form = match self.quantized.map(|weight| weight.form) {
            None => self.tensor.dtype.to_string(),
            Some(form) => format!("{}, {}", form.storage.values(), form.granularity.describe()),
        };
        StoredAs { form, shape: self.shape() }
    }

    /// Returns the shape of the weight, also where its codes have another.
    pub(super) fn shape(&self) -> Vec<usize> {
        self.quantized.map_or_else(|| self.tensor.shape.clone(), |weight| weight.shape.to_vec())
    }

    /// Returns the bytes of all its tensors.
    pub(super) fn bytes(&self) -> u64 {
        self.quantized.map_or(self.tensor.len, QuantizedWeight::bytes)
    }

    /// Returns the tensor as values, where it can be read as such.
    fn values(&self, shards: &'a Shards) -> Option<TensorValues<'a>> {
        match self.quantized {
            Some(weight) => Some(TensorValues::Quantized(shards, weight)),
            None => Some(Original::stored(shards, self.tensor)).filter(Original::is_float).map(TensorValues::Plain),
        }
    }
}

/// Elements whose largest error is looked for together.
const STRETCH: usize = 1024;

/// Sums that are kept side by side.
const LANES: usize = 4;

/// Compares B's tensor with A's; `None` where they are the same bytes in the same form.
pub(super) fn compare(
    side_a: &DiffSide<'_>,
    a: &LogicalTensor<'_>,
    side_b: &DiffSide<'_>,
    b: &LogicalTensor<'_>,
    meter: &Meter<'_>,
) -> Result<Option<TensorDifference>, SourceError> {
    if is_same(side_a, a, side_b, b, meter)? {
        return Ok(None);
    }
    let (name, stored_a, stored_b, shape) = (a.name.clone(), a.stored(), b.stored(), a.shape());
    let difference = |sums: Option<Sums>| {
        let figures = sums.as_ref().map(Sums::figures);
        Some(TensorDifference { name, a: stored_a, b: stored_b, figures, sums: sums.unwrap_or_default() })
    };
    let (Some(of_a), Some(of_b)) = (a.values(&side_a.shards), b.values(&side_b.shards)) else {
        return Ok(difference(None));
    };
    if shape != b.shape() {
        return Ok(difference(None));
    }
    // Tensors of any rank are compared as matrices of their last dimension.
    let columns = shape.last().copied().unwrap_or(1);
    let rows: usize = shape.iter().rev().skip(1).product();
    let (bytes, elements) = (u128::from(a.bytes() + b.bytes()), (rows * columns).max(1) as u128);
    let share = |piece: &Piece| (bytes * (piece.rows.len() * piece.columns.len()) as u128 / elements) as u64;
    let parts = pieces([rows, columns], 1)
        .into_par_iter()
        .map_init(
            || (Scratch::default(), Vec::new(), Vec::new()),
            |(scratch, values_a, values_b), piece| {
                of_a.read(&piece, scratch, values_a)?;
                of_b.read(&piece, scratch, values_b)?;
                meter.advance(share(&piece));
                Ok(sum(&piece, values_a, values_b))
            },
        )
        .collect::<Result<Vec<_>, SourceError>>()?;
    let mut sums = Sums::default();
    parts.iter().for_each(|part| sums.merge(part));
    Ok(difference(Some(sums)))
}

/// Reports whether both are the same bytes in the same form.
// Bytes first: checkpoints of one model share most tensors, and none of those has to be decoded.
fn is_same(
    side_a: &DiffSide<'_>,
    a: &LogicalTensor<'_>,
    side_b: &DiffSide<'_>,
    b: &LogicalTensor<'_>,
    meter: &Meter<'_>,
) -> Result<bool, SourceError> {
    let is_same = |a: &Tensor, b: &Tensor| {
        let same_form = (a.dtype, &a.shape) == (b.dtype, &b.shape);
        Ok(same_form && first_difference(&side_a.shards, a, &Original::stored(&side_b.shards, b), meter)?.is_none())
    };
    let (of_a, of_b) = match (a.quantized, b.quantized) {
        (None, None) => return is_same(a.tensor, b.tensor),
        (Some(of_a), Some(of_b)) => (of_a, of_b),
        _ => return Ok(false),
    };
    if of_a.form != of_b.form || !is_same(a.tensor, b.tensor)? || !is_same(of_a.scale, of_b.scale)? {
        return Ok(false);
    }
    if of_a.activations.is_some() != of_b.activations.is_some() {
        return Ok(false);
    }
    for (auxiliary_a, auxiliary_b) in of_a.beside().zip(of_b.beside()) {
        if !is_same(auxiliary_a, auxiliary_b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn sum(piece: &Piece, of_a: &[f32], of_b: &[f32]) -> Sums {
    let mut sums = Sums { elements: of_a.len() as u64, ..Sums::default() };
    for (stretch, (of_a, of_b)) in of_a.chunks(STRETCH).zip(of_b.chunks(STRETCH)).enumerate() {
        let [mut squares_a, mut squares_b, mut products, mut errors, mut largest] = [[0f64; LANES]; 5];
        // Several sums side by side become vector instructions, where one would wait for itself.
        let mut add = |a: &[f32], b: &[f32]| {
            for (lane, (&a, &b)) in a.iter().zip(b).enumerate() {
                let (a, b) = (f64::from(a), f64::from(b));
                let error = (a - b).abs();
                squares_a[lane] += a * a;
                squares_b[lane] += b * b;
                products[lane] += a * b;
                errors[lane] += error * error;
                largest[lane] = if error > largest[lane] { error } else { largest[lane] };
            }
        };
        of_a.chunks(LANES).zip(of_b.chunks(LANES)).for_each(|(a, b)| add(a, b));
        sums.source += squares_a.iter().sum::<f64>();
        sums.decoded += squares_b.iter().sum::<f64>();
        sums.product += products.iter().sum::<f64>();
        sums.error += errors.iter().sum::<f64>();
        let most = largest.into_iter().fold(0.0, f64::max);
        if most > sums.max_error {
            let is_most = |(&a, &b): (&f32, &f32)| (f64::from(a) - f64::from(b)).abs() == most;
            let index = stretch * STRETCH + of_a.iter().zip(of_b).position(is_most).unwrap_or_default();
            let width = piece.columns.len();
            sums.max_error = most;
            sums.max_error_at = [piece.rows.start + index / width, piece.columns.start + index % width];
        }
    }
    sums
}

/// A tensor that can be read as values.
enum TensorValues<'a> {
    Plain(Original<'a>),
    Quantized(&'a Shards, &'a QuantizedWeight<'a>),
}

impl TensorValues<'_> {
    fn read(&self, piece: &Piece, scratch: &mut Scratch, out: &mut Vec<f32>) -> Result<(), SourceError> {
        match self {
            Self::Plain(original) => original.read(piece, scratch, out),
            Self::Quantized(shards, weight) => weight.decode(shards, piece, scratch, out),
        }
    }
}
