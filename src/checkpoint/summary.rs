//! Counts and sizes of a checkpoint's tensors by layer kind and dtype.

use std::collections::BTreeMap;

use safetensors::Dtype;

use crate::checkpoint::Checkpoint;
use crate::models::LayerKind;

/// The tensors of one layer kind and dtype, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindSummary {
    pub kind: LayerKind,
    pub dtype: Dtype,
    pub tensors: u64,
    /// Elements of all of them.
    pub parameters: u64,
    pub bytes: u64,
}

impl Checkpoint {
    /// Counts, bytes and parameters for every kind of layer and dtype that occurs, in this order.
    pub fn by_layer_kind(&self) -> Vec<KindSummary> {
        let mut kinds = BTreeMap::new();
        for tensor in &self.tensors {
            let key = (tensor.kind(), tensor.dtype);
            let empty = KindSummary { kind: key.0, dtype: key.1, tensors: 0, parameters: 0, bytes: 0 };
            let summary = kinds.entry(key).or_insert(empty);
            summary.tensors += 1;
            // Sub-byte elements number twice their bytes, and a file has less than 2^63 of those.
            summary.parameters = summary.parameters.saturating_add(tensor.parameters());
            summary.bytes += tensor.len;
        }
        kinds.into_values().collect()
    }
}
