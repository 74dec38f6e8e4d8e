//! What the integer schemes have in common: their options, and integers of 2 to 8 bits with a scale per group of columns.

use safetensors::Dtype;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::float8::QuotientDtype;
use crate::kernels::{IntegerCast, IntegerOutputs, packed_bytes, quantize_integers};
use crate::{
    AmaxScope, Band, BuildError, Dynamic, Extent, Matrix, NonFinite, NumberKind, QuantizationArgs, Role, Scheme,
    ShapeError, Strategy, TensorSpec,
};

/// The options that every integer scheme has, flattened into its own.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct QuotientOptions {
    /// What the quotient of weight and scale is rounded to before it is rounded to an integer.
    #[serde(default)]
    #[schemars(example = &"source")]
    quotient_dtype: QuotientDtype,
}

/// Whether a scheme's integers are symmetric, flattened into the options of those that leave it open.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub(crate) struct SymmetryOptions {
    /// `true`: zero is the integer 0, and a group reaches as far below it as above. `false`: each group stores a zero
    /// point of its own and covers its least to its greatest weight.
    #[serde(default = "symmetric")]
    #[schemars(example = false)]
    symmetric: bool,
}

fn symmetric() -> bool {
    true
}

/// Which columns share a scale, flattened into the options of the schemes that have groups of 128.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub(crate) struct GroupOptions {
    /// Columns of a row that share a scale; `channel` for all of a row, `tensor` for all rows. vLLM has kernels for 32,
    /// 64, 128 and `channel`.
    #[serde(default)]
    #[schemars(example = 64, example = &"channel")]
    group_size: GroupSize,
}

/// How a server is told to quantize the layer's input, flattened into the options of the schemes that do.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct ActivationOptions {
    /// How the server is told to quantize the layer's input. It changes `config.json` alone, not the tensors.
    #[serde(default)]
    #[schemars(example = &"dynamic_asymmetric")]
    activations: Activations,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Activations {
    /// To integers, with a scale per token made while the model runs.
    #[default]
    Dynamic,
    /// To integers, with a scale and a zero point per token made while the model runs.
    DynamicAsymmetric,
}

/// The columns of a row that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum GroupSize {
    /// So many.
    Columns(#[schemars(range(min = 1))] u32),
    /// All of them.
    All(Span),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Span {
    /// A scale for each row.
    Channel,
    /// A scale for the tensor.
    Tensor,
}

impl Default for GroupSize {
    fn default() -> Self {
        Self::Columns(128)
    }
}

impl GroupSize {
    pub(crate) const CHANNEL: Self = Self::All(Span::Channel);

    fn strategy(self) -> Strategy {
        match self {
            Self::Columns(columns) => Strategy::Group(columns as usize),
            Self::All(Span::Channel) => Strategy::Channel,
            Self::All(Span::Tensor) => Strategy::Tensor,
        }
    }
}

/// What the layer's input is quantized to, which is the second number in a scheme's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inputs {
    /// `A16`: nothing; the weights are packed.
    Kept,
    /// `A4`, `A8`: integers of so many bits, scaled per token.
    Integer { bits: u8, symmetric: bool },
    /// `AFP8`: E4M3, scaled per token.
    Float8,
}

impl Inputs {
    /// Integers of so many bits, as the options have them.
    pub(crate) fn integer(bits: u8, options: ActivationOptions) -> Self {
        Self::Integer { bits, symmetric: options.activations == Activations::Dynamic }
    }

    fn arguments(self) -> Option<QuantizationArgs> {
        match self {
            Self::Kept => None,
            Self::Integer { bits, symmetric } => Some(integer(bits, symmetric, Strategy::Token, Dynamic::Dynamic)),
            Self::Float8 => Some(QuantizationArgs::float8(Strategy::Token, Dynamic::Dynamic)),
        }
    }
}

/// Integers and their scales.
#[derive(Debug)]
pub(crate) struct Integer {
    bits: u8,
    group_size: GroupSize,
    symmetric: bool,
    inputs: Inputs,
    quotient_dtype: QuotientDtype,
}

impl Integer {
    /// Integers of `bits` bits, from 2 to 8.
    pub(crate) fn build(
        bits: u8,
        group_size: GroupSize,
        symmetric: bool,
        inputs: Inputs,
        quotient: QuotientOptions,
    ) -> Result<Box<dyn Scheme>, BuildError> {
        let refuse = |reason: &str| Err(BuildError { option: Some("group_size"), reason: reason.to_owned() });
        if group_size == GroupSize::Columns(0) {
            return refuse("`group_size` is 0, and a group has at least one column");
        }
        if !symmetric && group_size == GroupSize::All(Span::Tensor) {
            return refuse(
                "integers with zero points have no `group_size: tensor`: write `channel` or a number of columns",
            );
        }
        let quotient_dtype = quotient.quotient_dtype;
        Ok(Box::new(Self { bits, group_size, symmetric, inputs, quotient_dtype }))
    }

    fn packed(&self) -> bool {
        self.inputs == Inputs::Kept
    }

    /// Groups of a row, and how wide they are.
    fn groups(&self, columns: usize) -> Result<(usize, usize), ShapeError> {
        match self.group_size {
            GroupSize::All(_) => Ok((1, columns)),
            GroupSize::Columns(width) => {
                let width = width as usize;
                match columns.is_multiple_of(width) {
                    true => Ok((columns / width, width)),
                    false => Err(misfit(columns, width)),
                }
            }
        }
    }

    /// The rows whose zero points fill whole words, and those words.
    fn packed_zero_points(&self) -> (usize, usize) {
        let bits = usize::from(self.bits);
        // The first power of two that brings the bits to a multiple of 32.
        let rows = 32 >> bits.trailing_zeros();
        (rows, rows * bits / 32)
    }
}

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

impl Scheme for Integer {
    fn weights(&self) -> QuantizationArgs {
        integer(self.bits, self.symmetric, self.group_size.strategy(), Dynamic::Static)
    }

    fn input_activations(&self) -> Option<QuantizationArgs> {
        self.inputs.arguments()
    }

    fn storage_format(&self) -> &'static str {
        if self.packed() { "pack-quantized" } else { "int-quantized" }
    }

    fn outputs(&self, source: Matrix) -> Result<Vec<TensorSpec>, ShapeError> {
        let Matrix { dtype, rows, columns } = source;
        let (groups, _) = self.groups(columns)?;
        let (scales, extent) = match self.group_size {
            GroupSize::All(Span::Tensor) => (vec![1], Extent::Whole),
            _ => (vec![rows, groups], Extent::Rows(1)),
        };
        let scale =
            TensorSpec { suffix: "weight_scale", role: Role::Scale, dtype: dtype.into(), shape: scales, extent };
        let per_row = |suffix, role, dtype, columns| TensorSpec::per_row(suffix, role, dtype, [rows, columns]);
        let mut specs = if self.packed() {
            let words = packed_bytes(columns, self.bits.into()) / 4;
            let shape = TensorSpec {
                suffix: "weight_shape",
                role: Role::Shape,
                dtype: Dtype::I64,
                shape: vec![2],
                extent: Extent::Whole,
            };
            vec![per_row("weight_packed", Role::Codes, Dtype::I32, words), scale, shape]
        } else {
            vec![per_row("weight", Role::Codes, Dtype::I8, columns), scale]
        };
        if !self.symmetric {
            specs.push(if self.packed() {
                let (per_words, words) = self.packed_zero_points();
                TensorSpec {
                    suffix: "weight_zero_point",
                    role: Role::ZeroPoint,
                    dtype: Dtype::I32,
                    shape: vec![(rows * words).div_ceil(per_words), groups],
                    extent: Extent::Packed { words, rows: per_words },
                }
            } else {
                per_row("weight_zero_point", Role::ZeroPoint, Dtype::I8, groups)
            });
        }
        Ok(specs)
    }

    fn band_rows(&self) -> usize {
        if self.symmetric || !self.packed() { 1 } else { self.packed_zero_points().0 }
    }

    fn amax_scope(&self) -> AmaxScope {
        match self.group_size {
            GroupSize::All(Span::Tensor) => AmaxScope::Tensor,
            _ => AmaxScope::Band,
        }
    }

    fn quantize(&self, band: &Band<'_>, outputs: &mut [&mut [u8]]) -> Result<(), NonFinite> {
        const SLICES: &str = "a band comes with a slice for each output, and the shape has been looked at";
        let (weight, scales, rest) = match outputs {
            [weight, scales, rest @ ..] => (weight, scales, rest),
            _ => panic!("{SLICES}"),
        };
        let zero_points = match (self.packed(), rest) {
            (false, rest) => rest.first_mut(),
            (true, [shape, rest @ ..]) => {
                if !shape.is_empty() {
                    let sides = [band.source.rows, band.source.columns].map(|side| (side as u64).to_le_bytes());
                    shape.copy_from_slice(sides.as_flattened());
                }
                rest.first_mut()
            }
            (true, []) => panic!("{SLICES}"),
        };
        let (groups, width) = self.groups(band.source.columns).expect(SLICES);
        let cast = IntegerCast {
            bits: self.bits.into(),
            round_quotient: self.quotient_dtype == QuotientDtype::Source,
            packed: self.packed(),
            groups,
            width,
        };
        let zero_points = zero_points.map(|zero_points| &mut **zero_points);
        quantize_integers(cast, band, IntegerOutputs { weight, scales, zero_points })
    }
}

fn integer(num_bits: u8, symmetric: bool, strategy: Strategy, dynamic: Dynamic) -> QuantizationArgs {
    QuantizationArgs { num_bits, kind: NumberKind::Int, symmetric, strategy, dynamic, scale_dtype: None }
}

/// The options with which a scheme of `bits` bits and such `inputs` does what the arguments ask for.
///
/// Of `inputs` the kind and the bits count; whether integers are symmetric becomes an option.
pub(crate) fn options_from_arguments(
    bits: u8,
    inputs: Inputs,
    weights: &QuantizationArgs,
    activations: Option<&QuantizationArgs>,
) -> Option<Map<String, Value>> {
    let group_size: Value = match weights.strategy {
        Strategy::Group(columns) => columns.into(),
        Strategy::Channel => "channel".into(),
        Strategy::Tensor if weights.symmetric => "tensor".into(),
        _ => return None,
    };
    if *weights != integer(bits, weights.symmetric, weights.strategy, Dynamic::Static) {
        return None;
    }
    let mut options = Map::new();
    options.insert("group_size".to_owned(), group_size);
    if !weights.symmetric {
        options.insert("symmetric".to_owned(), false.into());
    }
    let asymmetric = activations.is_some_and(|activations| !activations.symmetric);
    let inputs = match inputs {
        Inputs::Integer { bits, .. } => Inputs::Integer { bits, symmetric: !asymmetric },
        other => other,
    };
    if activations != inputs.arguments().as_ref() {
        return None;
    }
    if asymmetric {
        options.insert("activations".to_owned(), "dynamic_asymmetric".into());
    }
    Some(options)
}

impl GroupOptions {
    pub(crate) fn size(self) -> GroupSize {
        self.group_size
    }
}

impl SymmetryOptions {
    pub(crate) fn symmetric(self) -> bool {
        self.symmetric
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{Format, Make, SourceDtype, find};

    fn make(name: &str, options: Value) -> Result<Box<dyn Scheme>, BuildError> {
        let Make::Quantize(make) = find(name).unwrap().make else { panic!("{name} quantizes") };
        make(options, Format::CompressedTensors)
    }

    fn outputs(name: &str, options: Value, rows: usize, columns: usize) -> Vec<(&'static str, Dtype, Vec<usize>)> {
        let scheme = make(name, options).unwrap();
        let specs = scheme.outputs(Matrix { dtype: SourceDtype::F16, rows, columns }).unwrap();
        specs.into_iter().map(|spec| (spec.suffix, spec.dtype, spec.shape)).collect()
    }

    #[test]
    fn tensors_are_those_of_compressed_tensors() {
        assert_eq!(
            outputs("INT8", json!({}), 5, 77),
            [("weight", Dtype::I8, vec![5, 77]), ("weight_scale", Dtype::F16, vec![5, 1])]
        );
        assert_eq!(
            outputs("W3A16", json!({}), 5, 256),
            [
                ("weight_packed", Dtype::I32, vec![5, 24]),
                ("weight_scale", Dtype::F16, vec![5, 2]),
                ("weight_shape", Dtype::I64, vec![2])
            ]
        );
        assert_eq!(outputs("W4A8", json!({ "group_size": "tensor" }), 5, 77)[1].2, [1]);
        let zero_points = outputs("W4A8", json!({ "symmetric": false }), 5, 256).pop().unwrap();
        assert_eq!(zero_points, ("weight_zero_point", Dtype::I8, vec![5, 2]));
    }

    #[test]
    fn zero_points_of_every_width_fill_words_down_the_rows() {
        for (bits, rows, words) in [(2, 16, 1), (3, 32, 3), (4, 8, 1), (5, 32, 5), (6, 16, 3), (7, 32, 7), (8, 4, 1)] {
            let name = format!("W{bits}A16");
            let options = if bits == 4 { json!({}) } else { json!({ "symmetric": false }) };
            let scheme = make(if bits == 4 { "W4A16_ASYM" } else { &name }, options).unwrap();
            assert_eq!(scheme.band_rows(), rows, "{name}");
            for total in [1, rows - 1, rows, rows + 1, 100] {
                let source = Matrix { dtype: SourceDtype::Bf16, rows: total, columns: 128 };
                let spec = scheme.outputs(source).unwrap().pop().unwrap();
                assert_eq!(spec.extent, Extent::Packed { words, rows });
                assert_eq!((spec.dtype, &*spec.shape), (Dtype::I32, &[(total * bits).div_ceil(32), 1][..]));
                assert_eq!(spec.band_range(0, total), 0..spec.bytes());
            }
        }
    }

    #[test]
    fn a_group_that_does_not_divide_is_refused_with_what_would() {
        let reason = |name, options, columns| {
            let source = Matrix { dtype: SourceDtype::Bf16, rows: 2, columns };
            make(name, options).unwrap().outputs(source).unwrap_err().to_string()
        };
        assert_eq!(
            reason("W4A16", json!({}), 320),
            "320 columns are no multiple of the group size 128; `group_size: 64` would fit, and `group_size: channel` \
             always does"
        );
        assert_eq!(
            reason("W4A16_ASYM", json!({ "group_size": 32 }), 100),
            "100 columns are no multiple of the group size 32; `group_size: channel` fits any"
        );
        assert!(reason("MXFP4", json!({}), 4304).starts_with("4304 columns are no multiple of 32"));
        assert!(reason("NVFP4A16", json!({}), 8).starts_with("8 columns are no multiple of 16"));
    }

    #[test]
    fn groups_that_cannot_be_are_refused() {
        for (name, options) in [
            ("W4A16", json!({ "group_size": 0 })),
            ("W4A16", json!({ "group_size": "tensor", "symmetric": false })),
            ("W4A16_ASYM", json!({ "group_size": "tensor" })),
        ] {
            assert_eq!(make(name, options).unwrap_err().option, Some("group_size"));
        }
        for options in [json!({ "group_size": -1 }), json!({ "group_size": "row" }), json!({ "scale_dtype": "f32" })] {
            make("W4A16", options).unwrap_err();
        }
        make("W4A16_ASYM", json!({ "symmetric": true })).unwrap_err();
        make("MXFP8", json!({ "quotient_dtype": "f32" })).unwrap_err();
    }

    #[test]
    fn the_shape_is_stored_with_the_first_rows_alone() {
        let scheme = make("W8A16", json!({ "group_size": "channel" })).unwrap();
        let source = Matrix { dtype: SourceDtype::F32, rows: 2, columns: 4 };
        let bytes: Vec<u8> = [1f32, -2.0, 0.5, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        for (first_row, stored) in [(0, 16), (1, 0)] {
            let (mut weight, mut scale, mut shape) = ([0; 4], [0; 4], vec![0xFF; stored]);
            let band = Band { source, first_row, rows: 1, bytes: &bytes, amax: None, simd: crate::Simd::PORTABLE };
            scheme.quantize(&band, &mut [&mut weight, &mut scale, &mut shape]).unwrap();
            assert_eq!(weight, [128 + 64, 128 - 127, 128 + 32, 128]);
            assert_eq!(f32::from_le_bytes(scale), 2.0 / 127.5);
            assert_eq!(shape, &[2, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0][..stored]);
        }
    }
}
