//! Source weights: their dtype and shape, and the bands of rows in which they reach a scheme.

use safetensors::Dtype;

use crate::Simd;

/// Dtype and shape of a source weight, as its header states them.
///
/// # Examples
/// ```
/// use qwen_fp8_schemes::{Matrix, SourceDtype};
///
/// let source = Matrix { dtype: SourceDtype::Bf16, rows: 4096, columns: 12288 };
/// assert_eq!(source.row_bytes(), 24576);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Dtype of the elements.
    pub dtype: SourceDtype,
    /// Output features of the layer.
    pub rows: usize,
    /// Input features of the layer.
    pub columns: usize,
}

impl Matrix {
    /// Returns the size of one row in bytes.
    pub fn row_bytes(&self) -> usize {
        self.columns * self.dtype.bytes()
    }
}

/// Dtype of a weight that a scheme can quantize.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceDtype {
    /// bfloat16: the exponents of F32, 7 stored bits of significand.
    Bf16,
    /// IEEE binary16.
    F16,
    /// IEEE binary32.
    F32,
}

impl SourceDtype {
    /// Returns the size of one element in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

impl TryFrom<Dtype> for SourceDtype {
    type Error = Dtype;

    fn try_from(dtype: Dtype) -> Result<Self, Dtype> {
        match dtype {
            Dtype::BF16 => Ok(Self::Bf16),
            Dtype::F16 => Ok(Self::F16),
            Dtype::F32 => Ok(Self::F32),
            other => Err(other),
        }
    }
}

impl From<SourceDtype> for Dtype {
    fn from(dtype: SourceDtype) -> Self {
        match dtype {
            SourceDtype::Bf16 => Self::BF16,
            SourceDtype::F16 => Self::F16,
            SourceDtype::F32 => Self::F32,
        }
    }
}

/// A run of whole rows of a source weight, as little-endian bytes: the unit of work.
///
/// # Examples
/// ```
/// use qwen_fp8_schemes::{Band, Matrix, Simd, SourceDtype};
///
/// let source = Matrix { dtype: SourceDtype::F32, rows: 8, columns: 1 };
/// let bytes: Vec<u8> = [1f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
/// let band = Band { source, first_row: 4, rows: 2, bytes: &bytes, amax: None, simd: Simd::detect() };
/// assert_eq!(band.row(1), 2f32.to_le_bytes());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Band<'a> {
    /// The weight that the rows belong to.
    pub source: Matrix,
    /// Number of the first row in the weight, a multiple of [`Scheme::band_rows`](crate::Scheme::band_rows).
    pub first_row: usize,
    /// Number of rows.
    pub rows: usize,
    /// `rows * source.row_bytes()` bytes, at any alignment.
    pub bytes: &'a [u8],
    /// The absolute maximum that [`Scheme::amax_scope`](crate::Scheme::amax_scope) asked for, `None` for [`AmaxScope::Band`](crate::AmaxScope::Band). It is finite except
    /// in [`Scheme::quantize_keeping`](crate::Scheme::quantize_keeping).
    pub amax: Option<f32>,
    /// Instruction set to compute with; every one must give the same bytes.
    pub simd: Simd,
}

impl<'a> Band<'a> {
    /// Returns the bytes of row `index` of the band.
    ///
    /// # Panics
    /// The band has no such row.
    pub fn row(&self, index: usize) -> &'a [u8] {
        assert!(index < self.rows, "a band of {} rows has no row {index}", self.rows);
        &self.bytes[index * self.source.row_bytes()..][..self.source.row_bytes()]
    }
}
