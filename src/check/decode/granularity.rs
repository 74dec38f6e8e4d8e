//! The granularity of scales: which weights of a matrix share one.

use std::ops::Range;

/// The weights that share a scale; compressed-tensors says strategy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Granularity {
    /// All of the matrix.
    Tensor,
    /// A row.
    Channel,
    /// This many consecutive columns of a row.
    Group(usize),
    /// Tiles of this height and width.
    Block([usize; 2]),
}

impl Granularity {
    /// Returns the rows and columns that share a scale in a weight of this shape.
    pub(crate) fn sides(self, [rows, columns]: [usize; 2]) -> [usize; 2] {
        match self {
            // At least 1, since callers divide by it; a matrix may have no rows or no columns.
            Self::Tensor => [rows.max(1), columns.max(1)],
            Self::Channel => [1, columns.max(1)],
            Self::Group(width) => [1, width],
            Self::Block(sides) => sides,
        }
    }

    /// Returns the number of groups side by side.
    pub(crate) fn across(self, weight: [usize; 2]) -> usize {
        weight[1].div_ceil(self.sides(weight)[1])
    }

    /// Returns the rows of groups that these rows of the weight touch.
    pub(crate) fn touched(self, weight: [usize; 2], rows: &Range<usize>) -> Range<usize> {
        let height = self.sides(weight)[0];
        rows.start / height..rows.end.div_ceil(height)
    }

    /// Returns the shape of the scales of a weight; `None` where groups do not fit it.
    pub(crate) fn scales(self, [rows, columns]: [usize; 2]) -> Option<Vec<usize>> {
        match self {
            Self::Tensor => Some(vec![1]),
            // Two-dimensional: vLLM's loader fails on a flat one.
            Self::Channel => Some(vec![rows, 1]),
            Self::Group(width) => columns.is_multiple_of(width).then(|| vec![rows, columns / width]),
            // Blocks may be cut short at the end, which Q309 warns of, groups of columns may not.
            Self::Block([height, width]) => Some(vec![rows.div_ceil(height), columns.div_ceil(width)]),
        }
    }

    /// Reports whether scales of this shape fit the weight.
    pub(crate) fn takes(self, scale: &[usize], weight: [usize; 2]) -> bool {
        let is_scalar = self == Self::Tensor && scale.is_empty();
        is_scalar || self.scales(weight).is_some_and(|shape| shape == scale)
    }

    /// Describes the shape that [`Granularity::takes`].
    pub(crate) fn expected(self, weight: [usize; 2]) -> String {
        match (self, self.scales(weight)) {
            (_, Some(shape)) => format!("{shape:?}"),
            (granularity, None) => format!("none: {} columns make no {}", weight[1], granularity.describe()),
        }
    }

    /// Describes the granularity, such as `groups of 32 columns`.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Tensor => "one scale".to_owned(),
            Self::Channel => "a scale per row".to_owned(),
            Self::Group(width) => format!("groups of {width} columns"),
            Self::Block([height, width]) => format!("blocks of {height} × {width}"),
        }
    }
}
