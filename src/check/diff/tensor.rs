//! One tensor of both checkpoints, compared by bytes and by value.

use rayon::prelude::*;

use super::{Described, Side, Stored, TensorDifference};
use crate::check::codebook::E4M3;
use crate::check::content::first_difference;
use crate::check::element::{self, widen};
use crate::check::quality::Sums;
use crate::check::shards::{Piece, Shards, pieces};
use crate::check::structure::Coded;
use crate::checkpoint::Tensor;
use crate::checkpoint::source::SourceError;

/// A tensor, and what it takes to decode it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logical<'a> {
    pub(super) tensor: &'a Tensor,
    pub(super) coded: Option<Coded<'a>>,
}

impl Logical<'_> {
    pub(super) fn described(&self) -> Described {
        Described { name: self.tensor.name.clone(), stored: self.stored() }
    }

    fn stored(&self) -> Stored {
        let form = match &self.coded {
            None => self.tensor.dtype.to_string(),
            Some(coded) => format!("{}, {}", self.tensor.dtype, coded.grid.describe()),
        };
        Stored { form, shape: self.tensor.shape.clone() }
    }

    /// Bytes of an element, where it can be read as a number.
    fn width(&self) -> Option<usize> {
        if self.coded.is_some() { Some(1) } else { element::width(self.tensor.dtype) }
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
    let (name, stored_a, stored_b) = (a.tensor.name.clone(), a.stored(), b.stored());
    let difference = |sums: Option<Sums>| {
        let figures = sums.as_ref().map(Sums::figures);
        Some(TensorDifference { name, a: stored_a, b: stored_b, figures, sums: sums.unwrap_or_default() })
    };
    let (Some(width_a), Some(width_b)) = (a.width(), b.width()) else { return Ok(difference(None)) };
    if a.tensor.shape != b.tensor.shape {
        return Ok(difference(None));
    }
    let columns = a.tensor.shape.last().copied().unwrap_or(1);
    let rows = a.tensor.shape.iter().rev().skip(1).product();
    let (a, b) = (Values::of(&side_a.shards, a, columns, width_a)?, Values::of(&side_b.shards, b, columns, width_b)?);
    let parts = pieces([rows, columns])
        .into_par_iter()
        .map_init(
            || (Vec::new(), Vec::new(), Vec::new()),
            |(bytes, of_a, of_b), piece| {
                a.read(&piece, bytes, of_a)?;
                b.read(&piece, bytes, of_b)?;
                Ok(sum(&piece, of_a, of_b))
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
        Ok(same_form && first_difference(&side_a.shards, a, &side_b.shards, b)?.is_none())
    };
    match (&a.coded, &b.coded) {
        (None, None) => is_same(a.tensor, b.tensor),
        (Some(of_a), Some(of_b)) => {
            Ok(of_a.grid == of_b.grid && is_same(a.tensor, b.tensor)? && is_same(of_a.scale, of_b.scale)?)
        }
        _ => Ok(false),
    }
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
struct Values<'a> {
    shards: &'a Shards,
    tensor: &'a Tensor,
    columns: usize,
    width: usize,
    /// Rows and columns that share a scale, and the scales.
    scales: Option<([usize; 2], Vec<f32>)>,
}

impl<'a> Values<'a> {
    fn of(shards: &'a Shards, of: &Logical<'a>, columns: usize, width: usize) -> Result<Self, SourceError> {
        let scales = match &of.coded {
            None => None,
            Some(coded) => Some((coded.grid.sides([of.tensor.shape[0], columns]), shards.scales(coded)?)),
        };
        Ok(Self { shards, tensor: of.tensor, columns, width, scales })
    }

    fn read(&self, piece: &Piece, bytes: &mut Vec<u8>, out: &mut Vec<f32>) -> Result<(), SourceError> {
        self.shards.read_piece(self.tensor, self.columns, self.width, piece, bytes)?;
        let Some(([height, width], scales)) = &self.scales else {
            widen(self.tensor.dtype, bytes, out);
            return Ok(());
        };
        out.clear();
        let across = self.columns.div_ceil(*width);
        for (row, codes) in piece.rows.clone().zip(bytes.chunks(piece.columns.len())) {
            let scales = &scales[row / height * across..][..across];
            let number = |(column, &code): (usize, &u8)| E4M3.value[usize::from(code)] * scales[column / width];
            out.extend(piece.columns.clone().zip(codes).map(number));
        }
        Ok(())
    }
}
