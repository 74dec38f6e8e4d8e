//! One tensor of both checkpoints, compared by bytes and by value.

use rayon::prelude::*;

use super::{Described, Side, Stored, TensorDifference};
use crate::coded::{Coded, Scratch};
use crate::content::first_difference;
use crate::original::Original;
use crate::quality::Sums;
use crate::shards::{Piece, Shards, pieces};
use qwen_fp8_checkpoint::Tensor;
use qwen_fp8_checkpoint::source::SourceError;

/// A tensor, and what it takes to decode it.
#[derive(Clone, Debug)]
pub(super) struct Logical<'a> {
    /// That of the weight, also where its codes have another.
    pub(super) name: String,
    pub(super) tensor: &'a Tensor,
    pub(super) coded: Option<&'a Coded<'a>>,
}

impl<'a> Logical<'a> {
    pub(super) fn described(&self) -> Described {
        Described { name: self.name.clone(), stored: self.stored() }
    }

    fn stored(&self) -> Stored {
        let form = match self.coded {
            None => self.tensor.dtype.to_string(),
            Some(coded) => format!("{}, {}", coded.form.numbers(), coded.form.grid.describe()),
        };
        Stored { form, shape: self.shape() }
    }

    /// The shape of the weight, also where its codes have another.
    pub(super) fn shape(&self) -> Vec<usize> {
        self.coded.map_or_else(|| self.tensor.shape.clone(), |coded| coded.matrix.to_vec())
    }

    /// The tensor as numbers, where it can be read so.
    fn values(&self, shards: &'a Shards) -> Option<Values<'a>> {
        match self.coded {
            Some(coded) => Some(Values::Coded(shards, coded)),
            None => Some(Original::stored(shards, self.tensor)).filter(Original::is_numbers).map(Values::Plain),
        }
    }
}

/// How B's tensor differs from A's; `None` where they are the same bytes in the same form.
pub(super) fn compare(
    side_a: &Side<'_>,
    a: &Logical<'_>,
    side_b: &Side<'_>,
    b: &Logical<'_>,
) -> Result<Option<TensorDifference>, SourceError> {
    if is_same(side_a, a, side_b, b)? {
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
    let columns = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().rev().skip(1).product();
    let parts = pieces([rows, columns], 1)
        .into_par_iter()
        .map_init(
            || (Scratch::default(), Vec::new(), Vec::new()),
            |(scratch, numbers_a, numbers_b), piece| {
                of_a.read(&piece, scratch, numbers_a)?;
                of_b.read(&piece, scratch, numbers_b)?;
                Ok(sum(&piece, numbers_a, numbers_b))
            },
        )
        .collect::<Result<Vec<_>, SourceError>>()?;
    let mut sums = Sums::default();
    parts.iter().for_each(|part| sums.merge(part));
    Ok(difference(Some(sums)))
}

fn is_same(side_a: &Side<'_>, a: &Logical<'_>, side_b: &Side<'_>, b: &Logical<'_>) -> Result<bool, SourceError> {
    let is_same = |a: &Tensor, b: &Tensor| {
        let same_form = (a.dtype, &a.shape) == (b.dtype, &b.shape);
        Ok(same_form && first_difference(&side_a.shards, a, &Original::stored(&side_b.shards, b))?.is_none())
    };
    let (of_a, of_b) = match (a.coded, b.coded) {
        (None, None) => return is_same(a.tensor, b.tensor),
        (Some(of_a), Some(of_b)) => (of_a, of_b),
        _ => return Ok(false),
    };
    let stored_alike = (of_a.form.kind, of_a.form.grid) == (of_b.form.kind, of_b.form.grid);
    if !stored_alike || !is_same(a.tensor, b.tensor)? || !is_same(of_a.scale, of_b.scale)? {
        return Ok(false);
    }
    for ((_, beside_a), (_, beside_b)) in of_a.beside.iter().zip(&of_b.beside) {
        if !is_same(beside_a, beside_b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn sum(piece: &Piece, of_a: &[f32], of_b: &[f32]) -> Sums {
    let mut sums = Sums { elements: of_a.len() as u64, ..Sums::default() };
    for (index, (&a, &b)) in of_a.iter().zip(of_b).enumerate() {
        let (a, b) = (f64::from(a), f64::from(b));
        let error = (a - b).abs();
        sums.source += a * a;
        sums.decoded += b * b;
        sums.product += a * b;
        sums.error += error * error;
        if error > sums.max_error {
            let width = piece.columns.len();
            sums.max_error = error;
            sums.max_error_at = [piece.rows.start + index / width, piece.columns.start + index % width];
        }
    }
    sums
}

/// A tensor, read as numbers.
enum Values<'a> {
    Plain(Original<'a>),
    Coded(&'a Shards, &'a Coded<'a>),
}

impl Values<'_> {
    fn read(&self, piece: &Piece, scratch: &mut Scratch, out: &mut Vec<f32>) -> Result<(), SourceError> {
        match self {
            Self::Plain(original) => original.read(piece, scratch, out),
            Self::Coded(shards, coded) => coded.decode(shards, piece, scratch, out),
        }
    }
}
