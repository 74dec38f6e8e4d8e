//! What a scheme is: its output tensors, known from the shape alone, and the kernel that fills them.

use std::fmt::Debug;

use safetensors::Dtype;

use crate::{QuantizationArgs, Simd};

/// The most tensors that a scheme may write for one weight.
///
/// Workers keep a buffer and a slice for each output on the stack. The most that a known layout has is four: codes,
/// scales, zero points and the shape.
pub const MAX_OUTPUTS: usize = 8;

/// A configured quantization scheme, ready to quantize any matrix it accepts.
pub trait Scheme: Debug + Send + Sync {
    /// How a server reads the stored weight (`weights` of compressed-tensors).
    fn weights(&self) -> QuantizationArgs;

    /// How a server quantizes the layer's input while it runs; `None` keeps activations as they are.
    fn input_activations(&self) -> Option<QuantizationArgs>;

    /// The name compressed-tensors gives this storage form, such as `float-quantized`.
    fn storage_format(&self) -> &'static str;

    /// Returns the tensors written for one source weight, in a fixed order, each named by what follows `<module>.`.
    ///
    /// There are at least one and at most [`MAX_OUTPUTS`] of them, and one or more have [`Role::Codes`]. A suffix may be
    /// any name: the engine goes by the [`Role`] alone.
    ///
    /// # Errors
    /// The shape does not fit the scheme (a group that does not divide the columns, say).
    fn outputs(&self, source: Matrix) -> Result<Vec<TensorSpec>, ShapeError>;

    /// A band starts at a multiple of this many rows; its last rows may be fewer only at the end of the matrix.
    fn band_rows(&self) -> usize {
        1
    }

    /// Over which elements an absolute maximum is needed before the first band can be quantized.
    fn amax_scope(&self) -> AmaxScope {
        AmaxScope::Band
    }

    /// Quantizes one band of rows into `outputs`, one slice per entry of [`Scheme::outputs`] and in its order.
    ///
    /// A slice holds the band's part of the tensor (see [`Extent`]); it is overwritten completely. A
    /// [`Extent::Whole`] tensor's slice is empty in every band but the one that holds row 0.
    ///
    /// # Errors
    /// The first NaN or infinity of the band, in row-major order. What was written is then meaningless.
    fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite>;

    /// Whether [`Scheme::quantize_keeping`] carries NaN and infinity. Most number formats have no place for them.
    fn keeps_non_finite(&self) -> bool {
        false
    }

    /// As [`Scheme::quantize`], but NaN and infinity go where the reference puts them. It is asked of bands that hold
    /// one or whose maximum is one; a group without one gets the bytes of [`Scheme::quantize`].
    ///
    /// # Errors
    /// The scheme does not keep them.
    fn quantize_keeping(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        self.quantize(band, outputs)
    }
}

impl dyn Scheme + '_ {
    /// Quantizes a band whatever it holds: finite ones by [`Scheme::quantize`], others by
    /// [`Scheme::quantize_keeping`], which is slower; of those, what they hold.
    ///
    /// # Errors
    /// The band holds a NaN or infinity, and the scheme does not keep them.
    pub fn quantize_any(
        &self,
        band: &Band<'_>,
        outputs: &mut [&mut [u8]],
    ) -> Result<Option<NonFiniteCount>, NonFinite> {
        if band.amax.is_none_or(f32::is_finite) {
            match self.quantize(band, outputs) {
                Ok(()) => return Ok(None),
                Err(error) if !self.keeps_non_finite() => return Err(error),
                Err(_) => {}
            }
        }
        self.quantize_keeping(band, outputs)?;
        Ok(Some(crate::non_finite(band.source, band.first_row, band.bytes)))
    }
}

/// A source weight as its header describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    pub dtype: SourceDtype,
    pub rows: usize,
    pub columns: usize,
}

impl Matrix {
    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.columns * self.dtype.bytes()
    }
}

/// A dtype that a weight to be quantized can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceDtype {
    Bf16,
    F16,
    F32,
}

impl SourceDtype {
    /// Bytes of one element.
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

/// One tensor that a scheme writes for a source weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// What follows `<module>.` in the compressed-tensors layout: `weight`, `weight_scale`, `weight_packed`, …
    pub suffix: &'static str,
    /// What the tensor is for, whatever it is called.
    pub role: Role,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub extent: Extent,
}

impl TensorSpec {
    /// A matrix each of whose rows comes from the source row of that number.
    pub fn per_row(suffix: &'static str, role: Role, dtype: Dtype, shape: [usize; 2]) -> Self {
        Self { suffix, role, dtype, shape: shape.to_vec(), extent: Extent::Rows(1) }
    }

    /// Bytes of the whole tensor.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }

    /// The byte range of this tensor that a band of source rows `first_row..first_row + rows` fills.
    pub fn band_range(&self, first_row: usize, rows: usize) -> std::ops::Range<usize> {
        match self.extent {
            Extent::Rows(per_row) => self.rows_bytes(first_row / per_row, (first_row + rows).div_ceil(per_row)),
            Extent::Packed { words, rows: per_words } => {
                self.rows_bytes(first_row * words / per_words, ((first_row + rows) * words).div_ceil(per_words))
            }
            Extent::Whole if first_row == 0 => 0..self.bytes(),
            Extent::Whole => 0..0,
        }
    }

    fn rows_bytes(&self, first: usize, end: usize) -> std::ops::Range<usize> {
        let stride = self.shape[1..].iter().product::<usize>() * self.dtype.bitsize() / 8;
        first * stride..end * stride
    }
}

/// The meaning of an output tensor: what the engine checks of it and how a format names it follow from this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The quantized values as they are stored, packed or not.
    Codes,
    /// The scale of each granule. An infinite, NaN, zero or negative one ends a run, and degenerate ones are counted.
    Scale,
    /// A scale above the scales, one for the tensor or for a fused layer (NVFP4). It is checked as [`Role::Scale`] is.
    GlobalScale,
    /// The zero point of each granule.
    ZeroPoint,
    /// Rows and columns of the weight, where packed codes no longer show them.
    Shape,
    /// Anything else, such as a permutation of columns. The engine writes it and checks nothing of it.
    Other,
}

impl Role {
    /// Returns whether codes are multiplied by the tensor when they are decoded.
    pub fn is_scale(self) -> bool {
        matches!(self, Self::Scale | Self::GlobalScale)
    }
}

/// Which source rows a part of an output tensor is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Row `i` of the output comes from source rows `i * n .. (i + 1) * n`; `n` divides [`Scheme::band_rows`].
    Rows(usize),
    /// Numbers are packed down the rows into words, and may straddle two: so many rows of the output come from so many
    /// source rows, which divide [`Scheme::band_rows`].
    Packed { words: usize, rows: usize },
    /// The tensor is written once, with the band that holds row 0.
    Whole,
}

/// Over which elements a scheme needs the absolute maximum before it can quantize a band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmaxScope {
    /// The band itself is enough.
    Band,
    /// All of the source weight: the engine makes a first pass over it.
    Tensor,
    /// All of the source weights that servers merge into one layer with this one, such as q, k and v: those of them that
    /// the same scheme takes. A weight that is merged with none is a set of its own.
    Fused,
}

/// A run of whole rows of a source weight, as little-endian bytes.
#[derive(Clone, Copy, Debug)]
pub struct Band<'a> {
    pub source: Matrix,
    /// A multiple of [`Scheme::band_rows`].
    pub first_row: usize,
    pub rows: usize,
    /// `rows * source.row_bytes()` bytes, at any alignment.
    pub bytes: &'a [u8],
    /// The absolute maximum that [`Scheme::amax_scope`] asked for; `None` for [`AmaxScope::Band`]. It is finite but in
    /// [`Scheme::quantize_keeping`].
    pub amax: Option<f32>,
    pub simd: Simd,
}

impl<'a> Band<'a> {
    /// The bytes of row `index` of the band.
    ///
    /// # Panics
    /// The band has no such row.
    pub fn row(&self, index: usize) -> &'a [u8] {
        assert!(index < self.rows, "a band of {} rows has no row {index}", self.rows);
        &self.bytes[index * self.source.row_bytes()..][..self.source.row_bytes()]
    }
}

/// A NaN or infinity in a weight that is to be quantized.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{value} at row {row}, column {column}")]
pub struct NonFinite {
    /// Row in the source weight.
    pub row: usize,
    pub column: usize,
    pub value: f32,
}

/// How many NaNs and infinities a run of rows holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NonFiniteCount {
    pub nan: u64,
    pub infinite: u64,
    /// In row-major order.
    pub first: Option<NonFinite>,
}

impl NonFiniteCount {
    /// The absolute maximum of a run that holds so many, as the reference takes it; `None` where all are finite.
    pub fn amax(&self) -> Option<f32> {
        match (self.nan, self.infinite) {
            (0, 0) => None,
            (0, _) => Some(f32::INFINITY),
            _ => Some(f32::NAN),
        }
    }
}

/// How many groups of a run of rows have a scale that says more than how large they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OddScales {
    /// Groups of zeros, whose scale would be zero and is replaced.
    pub zero: u64,
    /// Groups so small that their scale rounds to zero and is replaced by one larger than all of them.
    pub underflowed: u64,
    /// Groups whose scale is subnormal: it holds fewer digits than others.
    pub subnormal: u64,
    /// Row and column where the first of these groups begins.
    pub first: Option<[usize; 2]>,
}

impl OddScales {
    /// Takes in those of another run of the weight.
    pub fn add(&mut self, other: &Self) {
        self.zero += other.zero;
        self.underflowed += other.underflowed;
        self.subnormal += other.subnormal;
        self.first = self.first.into_iter().chain(other.first).min();
    }
}

/// A shape that a scheme cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ShapeError {
    /// What does not fit and what would, such as `320 columns are no multiple of the group size 128`.
    pub reason: String,
}

/// The layout of the output directory, which decides tensor names and `quantization_config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The official Qwen and DeepSeek layout: `quant_method: fp8`.
    Fp8,
    /// llm-compressor's layout: `quant_method: compressed-tensors`.
    CompressedTensors,
}
