//! The trait that every scheme implements, and the errors and counts that it answers with.

use std::fmt::Debug;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Band, Matrix, QuantizationArgs, TensorSpec};
#[cfg(doc)]
use crate::{Extent, MAX_OUTPUTS, TensorRole};

/// A configured quantization scheme, ready to quantize any matrix it accepts.
///
/// - [`outputs`](Scheme::outputs) depends on dtype and shape alone: the engine computes every header and offset from it
///   before it reads a weight.
/// - [`quantize`](Scheme::quantize) is called for the bands of a weight in any order, from any thread, with any
///   instruction set, and always writes the same bytes.
/// - The scale that is stored is the scale that is divided by.
/// - A row allocates nothing: the caller owns the memory.
///
/// [`conformance::check`](crate::conformance::check) tests all of this.
///
/// # Examples
/// E4M3 weights with a scale per row:
/// ```
/// use qwen_fp8_schemes::*;
///
/// #[derive(Debug)]
/// struct PerRow;
///
/// impl Scheme for PerRow {
///     fn weights(&self) -> QuantizationArgs {
///         QuantizationArgs::float8(Strategy::Channel, Dynamic::Static)
///     }
///     fn input_activations(&self) -> Option<QuantizationArgs> {
///         None
///     }
///     fn storage_format(&self) -> &'static str {
///         "naive-quantized"
///     }
///     fn outputs(&self, Matrix { rows, columns, .. }: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
///         let codes = TensorSpec::per_row("weight", TensorRole::Codes, Dtype::F8_E4M3, [rows, columns]);
///         Ok(vec![codes, TensorSpec::per_row("weight_scale", TensorRole::Scale, Dtype::F32, [rows, 1])])
///     }
///     fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
///         for row in 0..band.rows {
///             let amax = amax(band.source, band.first_row + row, band.row(row), band.simd)?;
///             let scale = (amax / 448.0).max(f32::MIN_POSITIVE);
///             let codes = &mut outputs[0][row * band.source.columns..][..band.source.columns];
///             cast_e4m3(band.source.dtype, band.row(row), scale, band.simd, codes);
///             outputs[1][row * 4..][..4].copy_from_slice(&scale.to_le_bytes());
///         }
///         Ok(())
///     }
/// }
///
/// let source = Matrix { dtype: SourceDtype::F32, rows: 1, columns: 2 };
/// let bytes = [448f32, -1.0].map(f32::to_le_bytes);
/// let written = conformance::quantize_whole(&PerRow, source, bytes.as_flattened(), 1, Simd::detect(), 0)?;
/// assert_eq!(written, [vec![0x7E, 0xB8], 1f32.to_le_bytes().to_vec()]);
/// # Ok::<(), NonFinite>(())
/// ```
pub trait Scheme: Debug + Send + Sync {
    /// Returns the arguments by which a server reads the stored weight (`weights` of compressed-tensors).
    fn weights(&self) -> QuantizationArgs;

    /// Returns the arguments by which a server quantizes the layer's input while it runs; `None` leaves activations
    /// unquantized.
    fn input_activations(&self) -> Option<QuantizationArgs>;

    /// Returns the name that compressed-tensors gives this storage form, such as `float-quantized`.
    fn storage_format(&self) -> &'static str;

    /// Returns the tensors written for one source weight, in a fixed order.
    ///
    /// There are at least one and at most [`MAX_OUTPUTS`] of them, one or more of which have [`TensorRole::Codes`].
    /// Their suffixes may be any names, since the engine goes by the roles.
    ///
    /// # Errors
    /// The shape does not fit the scheme (a group that does not divide the columns, say).
    fn outputs(&self, source: Matrix) -> Result<Vec<TensorSpec>, ShapeError>;

    /// Returns the number of rows of which a band starts at a multiple. Its last rows may be fewer only at the end of
    /// the matrix.
    fn band_rows(&self) -> usize {
        1
    }

    /// Returns the elements whose absolute maximum is needed before the first band can be quantized.
    fn amax_scope(&self) -> AmaxScope {
        AmaxScope::Band
    }

    /// Quantizes one band of rows into `outputs`, one slice per entry of [`Scheme::outputs`] and in its order.
    ///
    /// A slice holds the band's part of the tensor (see [`Extent`]); it is overwritten completely. The slice of an
    /// [`Extent::Whole`] tensor is empty in every band but the one that holds row 0.
    ///
    /// # Errors
    /// The first NaN or infinity of the band, in row-major order. The contents of `outputs` are then meaningless.
    fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite>;

    /// Returns the kernel that vLLM lacks for this configuration, where it loads the output and cannot run it. Which
    /// servers have kernels for the scheme at all is a matter of its registration ([`ServerSupport`]).
    ///
    /// [`ServerSupport`]: crate::ServerSupport
    fn missing_kernel(&self) -> Option<MissingKernel> {
        None
    }

    /// Returns the action on granules that hold a weight which is not exactly what its code stands for. `None`, of most
    /// schemes, rounds all weights and counts nothing.
    fn on_lossy(&self) -> Option<OnLossy> {
        None
    }

    /// Returns whether [`Scheme::quantize_keeping`] carries NaN and infinity. Most formats cannot represent them.
    fn keeps_non_finite(&self) -> bool {
        false
    }

    /// Quantizes a band like [`Scheme::quantize`], but puts NaN and infinity where the reference puts them.
    ///
    /// It is called for bands that hold one or whose maximum is one. A granule without one gets the bytes of
    /// [`Scheme::quantize`].
    ///
    /// # Errors
    /// The scheme does not keep them.
    fn quantize_keeping(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        self.quantize(band, outputs)
    }
}

/// A kernel that a server lacks for what a scheme writes, and the options for which it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingKernel {
    /// The weights without a kernel, such as `INT8 with a scale per 48 columns`.
    pub weights: String,
    /// The options with a kernel, such as `` `group_size: channel` and `tensor` ``.
    pub served: &'static str,
}

/// Elements whose absolute maximum a scheme needs before it can quantize a band.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AmaxScope {
    /// The band itself is enough.
    Band,
    /// All of the source weight: the engine makes a first pass over it.
    Tensor,
    /// All parts of a layer that servers fuse, such as q, k and v, as far as the same scheme takes them. A weight that
    /// is part of no fused layer stands alone.
    Fused,
}

/// A NaN or infinity in a weight that is to be quantized.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{value} at row {row}, column {column}")]
pub struct NonFinite {
    /// Row in the source weight.
    pub row: usize,
    /// Column in the source weight.
    pub column: usize,
    /// The value: NaN, infinity or negative infinity.
    pub value: f32,
}

/// Number of NaNs and infinities in a run of rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NonFiniteCount {
    /// Number of NaNs.
    pub nan: u64,
    /// Number of infinities of either sign.
    pub infinite: u64,
    /// The first one in row-major order.
    pub first: Option<NonFinite>,
}

impl NonFiniteCount {
    /// Returns the absolute maximum of a run with these values, as the reference takes it; `None` if all are finite.
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
pub struct DegenerateScales {
    /// Groups of zeros, whose scale would be zero and is replaced.
    pub zero: u64,
    /// Groups so small that their scale rounds to zero and is replaced by one larger than all of them.
    pub underflowed: u64,
    /// Groups whose scale is subnormal: it holds fewer digits than others.
    pub subnormal: u64,
    /// Row and column where the first of these groups begins.
    pub first: Option<[usize; 2]>,
}

impl DegenerateScales {
    /// Takes in those of another run of the weight.
    pub fn add(&mut self, other: &Self) {
        self.zero += other.zero;
        self.underflowed += other.underflowed;
        self.subnormal += other.subnormal;
        self.first = self.first.into_iter().chain(other.first).min();
    }
}

/// The action on a granule that a scheme was to hold exactly and cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLossy {
    /// End the run, and name the tensor, the place and the exponents of its weights.
    #[default]
    Error,
    /// Round its weights as any other scheme does, and count it.
    Round,
}

/// Granules of a run of rows that hold a weight which is not exactly what its code stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossyGranules {
    /// The number of these granules.
    pub number: u64,
    /// The first of them.
    pub first: Option<LossyGranule>,
}

/// A granule that a scheme cannot hold exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossyGranule {
    /// Row and column of the source weight where it begins.
    pub place: [usize; 2],
    /// Exponents of the lowest and of the highest bit of its weights, zeros aside.
    pub exponents: [i32; 2],
}

/// A shape that a scheme cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ShapeError {
    /// The misfit and what would fit, such as `320 columns are no multiple of the group size 128`.
    pub reason: String,
}

/// Layout of the output directory, which decides tensor names and `quantization_config`.
///
/// # Examples
/// The `fp8` format holds E4M3 weights only:
/// ```
/// use qwen_fp8_schemes::{BuildError, Format, Make, find};
///
/// let Make::Quantize(make) = find("W4A16").expect("this crate registers it").make else { unreachable!() };
/// assert!(make(serde_json::json!({}), Format::Fp8).is_err());
/// let scheme = make(serde_json::json!({}), Format::CompressedTensors)?;
/// assert_eq!(scheme.storage_format(), "pack-quantized");
/// # Ok::<(), BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// The official Qwen and DeepSeek layout: `quant_method: fp8`.
    Fp8,
    /// llm-compressor's layout: `quant_method: compressed-tensors`.
    CompressedTensors,
}
