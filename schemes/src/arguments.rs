//! The argument set with which compressed-tensors describes a quantization, in recipes and in `config.json`.

use serde::Serialize;

/// `weights` or `input_activations` of a compressed-tensors config group; serializes with every key the reference writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantizationArgs {
    pub num_bits: u8,
    pub kind: NumberKind,
    pub symmetric: bool,
    pub strategy: Strategy,
    pub dynamic: Dynamic,
    /// `torch.uint8` for E8M0 scales, `torch.float8_e4m3fn` for NVFP4's; `None` is the dtype of the weight.
    pub scale_dtype: Option<&'static str>,
}

impl QuantizationArgs {
    /// E4M3 numbers, under scales of the weight's dtype or of F32.
    pub fn float8(strategy: Strategy, dynamic: Dynamic) -> Self {
        Self { num_bits: 8, kind: NumberKind::Float, symmetric: true, strategy, dynamic, scale_dtype: None }
    }
}

/// What the quantized numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NumberKind {
    Float,
    Int,
}

/// Which elements share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All of the tensor.
    Tensor,
    /// A row of a weight.
    Channel,
    /// A token of an activation.
    Token,
    /// So many consecutive columns of a row.
    Group(usize),
    /// As `Group`, under a second scale for the tensor (NVFP4).
    TensorGroup(usize),
    /// A tile of `[rows, columns]`.
    Block([usize; 2]),
}

/// When a scale is computed.
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
