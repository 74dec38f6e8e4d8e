//! The argument set with which compressed-tensors describes a quantization, in recipes and in `config.json`.

use serde::Serialize;

/// `weights` or `input_activations` of a compressed-tensors config group.
///
/// It serializes with every key that the reference writes.
///
/// # Examples
/// Arguments of E4M3 weights in 128 x 128 blocks:
/// ```
/// use qwen_fp8_schemes::{Dynamic, QuantizationArgs, Strategy};
///
/// let weights = QuantizationArgs::float8(Strategy::Block([128, 128]), Dynamic::Static);
/// let json = serde_json::to_value(&weights)?;
/// assert_eq!((&json["type"], &json["strategy"]), (&"float".into(), &"block".into()));
/// assert_eq!(json["block_structure"], serde_json::json!([128, 128]));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantizationArgs {
    /// Bits of a quantized value.
    pub num_bits: u8,
    /// Kind of the quantized values, `type` in JSON.
    pub kind: NumberKind,
    /// False where each granule has a zero point.
    pub symmetric: bool,
    /// Fp8Granularity of the scales.
    pub strategy: Strategy,
    /// Time at which the scales are computed.
    pub dynamic: Dynamic,
    /// Dtype of the scales: `torch.uint8` for E8M0 scales, `torch.float8_e4m3fn` for NVFP4's; `None` for the dtype of
    /// the weight.
    pub scale_dtype: Option<&'static str>,
}

impl QuantizationArgs {
    /// Describes E4M3 values under scales of the weight's dtype or of F32.
    pub fn float8(strategy: Strategy, dynamic: Dynamic) -> Self {
        Self { num_bits: 8, kind: NumberKind::Float, symmetric: true, strategy, dynamic, scale_dtype: None }
    }
}

/// Kind of the quantized values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NumberKind {
    /// Floating point: E4M3 with 8 bits, E2M1 with 4.
    Float,
    /// Integers.
    Int,
}

/// Fp8Granularity of scales: the elements that share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All of the tensor.
    Tensor,
    /// A row of a weight.
    Channel,
    /// A token of an activation.
    Token,
    /// This number of consecutive columns of a row.
    Group(usize),
    /// Groups of this number of columns, under a second scale for the tensor (NVFP4).
    TensorGroup(usize),
    /// A block of `[rows, columns]`.
    Block([usize; 2]),
}

/// Time at which a scale is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dynamic {
    /// Once, and stored.
    Static,
    /// While the model runs.
    Dynamic,
    /// While the model runs, under a stored scale for the tensor.
    Local,
}

impl Serialize for QuantizationArgs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let (strategy, group_size, block) = match self.strategy {
            Strategy::Tensor => ("tensor", None, None),
            Strategy::Channel => ("channel", None, None),
            Strategy::Token => ("token", None, None),
            Strategy::Group(size) => ("group", Some(size), None),
            Strategy::TensorGroup(size) => ("tensor_group", Some(size), None),
            Strategy::Block(block) => ("block", None, Some(block)),
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("num_bits", &self.num_bits)?;
        map.serialize_entry("type", &self.kind)?;
        map.serialize_entry("symmetric", &self.symmetric)?;
        map.serialize_entry("strategy", strategy)?;
        map.serialize_entry("group_size", &group_size)?;
        map.serialize_entry("block_structure", &block)?;
        match self.dynamic {
            Dynamic::Static => map.serialize_entry("dynamic", &false)?,
            Dynamic::Dynamic => map.serialize_entry("dynamic", &true)?,
            Dynamic::Local => map.serialize_entry("dynamic", "local")?,
        }
        map.serialize_entry("actorder", &None::<&str>)?;
        map.serialize_entry("scale_dtype", &self.scale_dtype)?;
        map.serialize_entry("zp_dtype", &(!self.symmetric).then_some("torch.int8"))?;
        map.serialize_entry("observer", &None::<&str>)?;
        map.serialize_entry("observer_kwargs", &serde_json::Map::new())?;
        map.end()
    }
}
