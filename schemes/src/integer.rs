//! Integers of 2 to 8 bits with a scale per group of columns: one scheme under many names, see `integer/presets.rs`.

mod options;
mod presets;
#[cfg(test)]
mod tests;

use safetensors::Dtype;

use crate::float8::{GroupScaleSearch, QuotientDtype};
use crate::kernels::{IntegerCast, IntegerOutputs, packed_bytes, quantize_integers};
use crate::{
    AmaxScope, Band, BuildError, Dynamic, Extent, Matrix, MissingKernel, NonFinite, NumberKind, QuantizationArgs,
    Scheme, ShapeError, Strategy, TensorRole, TensorSpec,
};
use options::{GroupSize, GroupSpan, IntegerOptions};

/// Integers and their scales: packed where activations are not quantized, else in a byte each.
#[derive(Debug)]
struct IntegerScheme {
    bits: u8,
    group_size: GroupSize,
    symmetric: bool,
    quotient_dtype: QuotientDtype,
    scale_search: GroupScaleSearch,
    input_activations: Option<QuantizationArgs>,
}

impl IntegerScheme {
    /// Makes a scheme of integers of `bits` bits, from 2 to 8.
    ///
    /// # Errors
    /// Groups without columns, zero points for a scale per tensor, which compressed-tensors does not know, or a search for
    /// such a scale.
    fn new(bits: u8, options: IntegerOptions, input_activations: Option<QuantizationArgs>) -> Result<Self, BuildError> {
        let IntegerOptions { group_size, symmetric, quotient_dtype, scale_search, .. } = options;
        let refuse = |reason: &str| Err(BuildError { option: Some("group_size"), reason: reason.to_owned() });
        if group_size == GroupSize::Columns(0) {
            return refuse("`group_size` is 0, and a group has at least one column");
        }
        if !symmetric && group_size == GroupSize::All(GroupSpan::Tensor) {
            return refuse(
                "integers with zero points have no `group_size: tensor`: write `channel` or a number of columns",
            );
        }
        if scale_search == GroupScaleSearch::Mse && group_size == GroupSize::All(GroupSpan::Tensor) {
            let reason = "`scale_search: mse` does not go with `group_size: tensor`, since a search reads its group many \
                          times: write `group_size: channel` or a number of columns";
            return Err(BuildError { option: Some("scale_search"), reason: reason.to_owned() });
        }
        Ok(Self { bits, group_size, symmetric, quotient_dtype, scale_search, input_activations })
    }

    fn packed(&self) -> bool {
        self.input_activations.is_none()
    }

    /// Returns the groups of a row and their width in columns.
    fn groups(&self, columns: usize) -> Result<(usize, usize), ShapeError> {
        match self.group_size {
            GroupSize::All(_) => Ok((1, columns)),
            GroupSize::Columns(width) => {
                let width = width as usize;
                if columns.is_multiple_of(width) { Ok((columns / width, width)) } else { Err(misfit(columns, width)) }
            }
        }
    }

    /// Returns the number of rows whose zero points fill whole words, and of those words.
    fn packed_zero_points(&self) -> (usize, usize) {
        let bits = usize::from(self.bits);
        // The first power of two that brings the bits to a multiple of 32.
        let rows = 32 >> bits.trailing_zeros();
        (rows, rows * bits / 32)
    }
}

/// Columns under one scale for which vLLM has kernels of packed integers.
const PACKED_GROUPS: [u32; 3] = [32, 64, 128];

fn misfit(columns: usize, width: usize) -> ShapeError {
    let reason = format!("{columns} columns are no multiple of the group size {width}");
    let fits = [128, 64, 32, 16].into_iter().find(|&size| size < width && columns.is_multiple_of(size));
    ShapeError {
        reason: match fits {
            Some(size) => format!("{reason}; `group_size: {size}` would fit, and `group_size: channel` always does"),
            None => format!("{reason}; `group_size: channel` fits any"),
        },
    }
}

impl Scheme for IntegerScheme {
    fn weights(&self) -> QuantizationArgs {
        integer_args(self.bits, self.symmetric, self.group_size.strategy(), Dynamic::Static)
    }

    fn input_activations(&self) -> Option<QuantizationArgs> {
        self.input_activations.clone()
    }

    fn storage_format(&self) -> &'static str {
        if self.packed() { "pack-quantized" } else { "int-quantized" }
    }

    fn missing_kernel(&self) -> Option<MissingKernel> {
        if !self.packed() && !self.symmetric {
            let weights = format!("INT{} with zero points beside quantized activations", self.bits);
            return Some(MissingKernel { weights, served: "`symmetric: true`" });
        }
        let granule = match self.group_size {
            GroupSize::Columns(columns) => format!("a scale per {columns} columns"),
            GroupSize::All(GroupSpan::Tensor) => "one scale for the tensor".to_owned(),
            GroupSize::All(GroupSpan::Channel) => return None,
        };
        match (self.packed(), self.group_size) {
            (true, GroupSize::Columns(columns)) if PACKED_GROUPS.contains(&columns) => None,
            (true, _) => Some(MissingKernel {
                weights: format!("packed integers with {granule}"),
                served: "`group_size: 32`, `64`, `128` and `channel`",
            }),
            (false, GroupSize::Columns(_)) => Some(MissingKernel {
                weights: format!("INT8 with {granule}"),
                served: "`group_size: channel` and `tensor`",
            }),
            (false, GroupSize::All(_)) => None,
        }
    }

    fn outputs(&self, source: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
        let Matrix { dtype, rows, columns } = source;
        let (groups, _) = self.groups(columns)?;
        let (scales, extent) = match self.group_size {
            GroupSize::All(GroupSpan::Tensor) => (vec![1], Extent::Whole),
            _ => (vec![rows, groups], Extent::Rows(1)),
        };
        let scale =
            TensorSpec { suffix: "weight_scale", role: TensorRole::Scale, dtype: dtype.into(), shape: scales, extent };
        let per_row = |suffix, role, dtype, columns| TensorSpec::per_row(suffix, role, dtype, [rows, columns]);
        let mut specs = if self.packed() {
            let words = packed_bytes(columns, self.bits.into()) / 4;
            let shape = TensorSpec {
                suffix: "weight_shape",
                role: TensorRole::Shape,
                dtype: Dtype::I64,
                shape: vec![2],
                extent: Extent::Whole,
            };
            vec![per_row("weight_packed", TensorRole::Codes, Dtype::I32, words), scale, shape]
        } else {
            vec![per_row("weight", TensorRole::Codes, Dtype::I8, columns), scale]
        };
        if !self.symmetric {
            specs.push(if self.packed() {
                let (per_words, words) = self.packed_zero_points();
                TensorSpec {
                    suffix: "weight_zero_point",
                    role: TensorRole::ZeroPoint,
                    dtype: Dtype::I32,
                    shape: vec![(rows * words).div_ceil(per_words), groups],
                    extent: Extent::Packed { words, rows: per_words },
                }
            } else {
                per_row("weight_zero_point", TensorRole::ZeroPoint, Dtype::I8, groups)
            });
        }
        Ok(specs)
    }

    fn band_rows(&self) -> usize {
        if self.symmetric || !self.packed() { 1 } else { self.packed_zero_points().0 }
    }

    fn amax_scope(&self) -> AmaxScope {
        match self.group_size {
            GroupSize::All(GroupSpan::Tensor) => AmaxScope::Tensor,
            _ => AmaxScope::Band,
        }
    }

    fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        const SLICES: &str = "a band comes with a slice for each output, and the shape has been looked at";
        let [weight, scales, rest @ ..] = outputs else { panic!("{SLICES}") };
        let zero_points = if self.packed() {
            let [shape, zero_points @ ..] = rest else { panic!("{SLICES}") };
            if !shape.is_empty() {
                let sides = [band.source.rows, band.source.columns].map(|side| (side as u64).to_le_bytes());
                shape.copy_from_slice(sides.as_flattened());
            }
            zero_points.first_mut()
        } else {
            rest.first_mut()
        };
        let (groups, width) = self.groups(band.source.columns).expect(SLICES);
        let cast = IntegerCast {
            bits: self.bits.into(),
            round_quotient: self.quotient_dtype == QuotientDtype::Source,
            packed: self.packed(),
            groups,
            width,
            search: self.scale_search == GroupScaleSearch::Mse,
        };
        let zero_points = zero_points.map(|zero_points| &mut **zero_points);
        quantize_integers(cast, band, IntegerOutputs { weight, scales, zero_points })
    }
}

/// Returns the arguments of integers whose scales have the dtype of the weight.
fn integer_args(num_bits: u8, symmetric: bool, strategy: Strategy, dynamic: Dynamic) -> QuantizationArgs {
    QuantizationArgs { num_bits, kind: NumberKind::Int, symmetric, strategy, dynamic, scale_dtype: None }
}
