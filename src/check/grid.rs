//! Which weights of a matrix share a scale.

use std::ops::Range;

/// Which weights share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grid {
    Tensor,
    Channel,
    /// So many consecutive columns of a row.
    Columns(usize),
    Block([usize; 2]),
}

impl Grid {
    /// Rows and columns that share a scale, of a matrix with this shape.
    pub(super) fn sides(self, [rows, columns]: [usize; 2]) -> [usize; 2] {
        match self {
            Self::Tensor => [rows.max(1), columns.max(1)],
            Self::Channel => [1, columns.max(1)],
            Self::Columns(width) => [1, width],
            Self::Block(sides) => sides,
        }
    }

    /// How many groups lie beside each other.
    pub(super) fn across(self, matrix: [usize; 2]) -> usize {
        matrix[1].div_ceil(self.sides(matrix)[1])
    }

    /// The rows of groups that these rows of the matrix touch.
    pub(super) fn touched(self, matrix: [usize; 2], rows: &Range<usize>) -> Range<usize> {
        let height = self.sides(matrix)[0];
        rows.start / height..rows.end.div_ceil(height)
    }

    /// The shape of the scales of a matrix with this shape, where groups fit it.
    pub(super) fn scales(self, [rows, columns]: [usize; 2]) -> Option<Vec<usize>> {
        match self {
            Self::Tensor => Some(vec![1]),
            Self::Channel => Some(vec![rows, 1]),
            Self::Columns(width) => columns.is_multiple_of(width).then(|| vec![rows, columns / width]),
            Self::Block([height, width]) => Some(vec![rows.div_ceil(height), columns.div_ceil(width)]),
        }
    }

    /// Whether a scale of this shape fits a matrix of that one.
    pub(super) fn takes(self, scale: &[usize], matrix: [usize; 2]) -> bool {
        let is_scalar = self == Self::Tensor && scale.is_empty();
        is_scalar || self.scales(matrix).is_some_and(|shape| shape == scale)
    }

    /// The shape that [`Grid::takes`], in words.
    pub(super) fn expected(self, matrix: [usize; 2]) -> String {
        match (self, self.scales(matrix)) {
            (_, Some(shape)) => format!("{shape:?}"),
            (grid, None) => format!("none: {} columns make no {}", matrix[1], grid.describe()),
        }
    }

    pub(super) fn describe(self) -> String {
        match self {
            Self::Tensor => "one scale".to_owned(),
            Self::Channel => "a scale per row".to_owned(),
            Self::Columns(width) => format!("groups of {width} columns"),
            Self::Block([height, width]) => format!("blocks of {height} × {width}"),
        }
    }
}
