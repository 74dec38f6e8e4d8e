//! A layer's kind and part, which together say whether servers build it quantized.

use super::catalogue::StoredFused;
use super::kind::LayerKind;
use super::part::Part;

/// The kind of a layer, and the part of the model that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    pub kind: LayerKind,
    pub part: Part,
    /// What its rows are where servers see several layers in them.
    pub stored_fused: Option<StoredFused>,
}

impl Layer {
    /// Reports whether servers build the layer as a quantized linear layer: what `Linear` takes.
    pub fn is_quantizable(self) -> bool {
        self.kind == LayerKind::Linear && self.part == Part::Decoder
    }
}
