//! Output tensors of a scheme: name, role, dtype, shape, and the source rows that each part is made from.

use std::ops::Range;

use safetensors::Dtype;

/// Maximum number of tensors that a scheme may write for one weight.
///
/// A worker keeps a slice for each output on its stack, so that a band allocates nothing. Known layouts have at most
/// four outputs: codes, scales, zero points and the shape.
pub const MAX_OUTPUTS: usize = 8;

/// One tensor that a scheme writes for a source weight.
///
/// # Examples
/// Scales of 128 x 128 blocks, of which a band of 128 source rows fills one row:
/// ```
/// use qwen_fp8_schemes::{Dtype, Extent, TensorRole, TensorSpec};
///
/// let scales = TensorSpec {
///     suffix: "weight_scale",
///     role: TensorRole::Scale,
///     dtype: Dtype::BF16,
///     shape: vec![2, 4],
///     extent: Extent::Rows(128),
/// };
/// assert_eq!(scales.bytes(), 2 * 4 * 2);
/// assert_eq!(scales.band_range(128, 128), 8..16);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The part of the name after `<module>.` in the compressed-tensors layout: `weight`, `weight_scale`, …
    pub suffix: &'static str,
    /// Meaning of the tensor, which the engine goes by; the suffix is a name only.
    pub role: TensorRole,
    /// Dtype of the stored elements.
    pub dtype: Dtype,
    /// Shape as the header states it, outermost dimension first.
    pub shape: Vec<usize>,
    /// Source rows that each part of the tensor is made from.
    pub extent: Extent,
}

impl TensorSpec {
    /// Describes a matrix of which each row is made from the source row of the same number.
    pub fn per_row(suffix: &'static str, role: TensorRole, dtype: Dtype, shape: [usize; 2]) -> Self {
        Self { suffix, role, dtype, shape: shape.to_vec(), extent: Extent::Rows(1) }
    }

    /// Returns the size of the whole tensor in bytes.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }

    /// Returns the byte range of this tensor that a band of source rows `first_row..first_row + rows` fills.
    pub fn band_range(&self, first_row: usize, rows: usize) -> Range<usize> {
        match self.extent {
            Extent::Rows(per_row) => self.rows_bytes(first_row / per_row, (first_row + rows).div_ceil(per_row)),
            Extent::Packed { words, rows: per_words } => {
                self.rows_bytes(first_row * words / per_words, ((first_row + rows) * words).div_ceil(per_words))
            }
            Extent::Whole if first_row == 0 => 0..self.bytes(),
            Extent::Whole => 0..0,
        }
    }

    fn rows_bytes(&self, first: usize, end: usize) -> Range<usize> {
        let stride = self.shape[1..].iter().product::<usize>() * self.dtype.bitsize() / 8;
        first * stride..end * stride
    }
}

/// Meaning of an output tensor, from which follow the engine's checks and the name in the `fp8` format.
///
/// The engine checks [`TensorRole::Scale`] and [`TensorRole::GlobalScale`] of dtype BF16, F16 and F32, under any name: an
/// infinite or NaN one ends the run, and a sample of them must be positive before an output is published. Degenerate
/// scales (of groups that are zero, underflowed or subnormal) are counted for [`TensorRole::Scale`] alone.
///
/// # Examples
/// ```
/// use qwen_fp8_schemes::{Dtype, TensorRole, TensorSpec};
///
/// // An infinite factor ends the run, although nothing in its name says that it is a scale.
/// let factors = TensorSpec::per_row("weight_factor", TensorRole::Scale, Dtype::F32, [4, 1]);
/// assert!(factors.role.is_scale());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorRole {
    /// The quantized values as they are stored, packed or not.
    Codes,
    /// A scale for each granule: tensor, channel, group or block.
    Scale,
    /// A scale above the scales, one for the tensor or for a fused layer (NVFP4).
    GlobalScale,
    /// A zero point for each granule.
    ZeroPoint,
    /// Rows and columns of the weight, which packed codes no longer show.
    Shape,
    /// Any other tensor, such as a permutation of columns. The engine writes it and checks nothing of it.
    Other,
}

impl TensorRole {
    /// Returns whether codes are multiplied by the tensor, or divided by it, when they are decoded.
    pub fn is_scale(self) -> bool {
        matches!(self, Self::Scale | Self::GlobalScale)
    }
}

/// Source rows that a part of an output tensor is made from.
///
/// # Examples
/// Three-bit zero points, packed down the rows, fill three words per 32 rows:
/// ```
/// use qwen_fp8_schemes::{Dtype, Extent, TensorRole, TensorSpec};
///
/// let packed = TensorSpec {
///     suffix: "weight_zero_point",
///     role: TensorRole::ZeroPoint,
///     dtype: Dtype::I32,
///     shape: vec![6, 1],
///     extent: Extent::Packed { words: 3, rows: 32 },
/// };
/// assert_eq!(packed.band_range(32, 32), 12..24);
/// // A tensor that is written once comes with the band of row 0.
/// let shape = TensorSpec { extent: Extent::Whole, ..packed };
/// assert_eq!((shape.band_range(0, 32), shape.band_range(32, 32)), (0..24, 0..0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Row `i` of the output comes from source rows `i * n .. (i + 1) * n`; `n` divides [`Scheme::band_rows`](crate::Scheme::band_rows).
    Rows(usize),
    /// Values are packed down the rows into words and may straddle two: `words` output rows come from `rows` source
    /// rows, which divide [`Scheme::band_rows`](crate::Scheme::band_rows).
    Packed {
        /// Rows of the output that are filled together.
        words: usize,
        /// Source rows whose values fill them.
        rows: usize,
    },
    /// The tensor is written once, with the band that holds row 0.
    Whole,
}
