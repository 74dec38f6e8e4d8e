//! The quality of a result by kind of layer.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::source::{CheckedAs, CheckedTensor};
use qwen_fp8_checkpoint::models::{self, Model};

/// The tensors of one kind of layer, together.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct KindQuality {
    /// The last part of the module's name, such as `q_proj`, for quantized tensors; the kind of layer for others.
    pub kind: String,
    /// The outcome of their check.
    pub action: CheckedAs,
    pub tensors: u64,
    pub bytes: u64,
    /// The lowest signal-to-noise ratio of a tensor; null where none has noise.
    pub min_sqnr_db: Option<f64>,
    /// The largest error of a tensor.
    pub max_error: Option<f64>,
    /// The lowest cosine of a tensor.
    pub min_cosine: Option<f64>,
    pub saturated: u64,
    pub flushed: u64,
}

/// Sums up tensors by kind; quantized ones come first.
pub(super) fn by_kind(tensors: &[CheckedTensor]) -> Vec<KindQuality> {
    let mut kinds: BTreeMap<(bool, String), KindQuality> = BTreeMap::new();
    // It remembers what it decided for names of one form.
    let model = Model::default();
    for tensor in tensors {
        let kind = match tensor.storage {
            Some(_) => models::split_name(models::split_name(&tensor.name).0).1.to_owned(),
            // The rank of a tensor that is not decoded is unknown by now; two is that of all but a few.
            None => model.layer(&tensor.name, 2).kind.name().to_owned(),
        };
        let empty = KindQuality {
            kind: kind.clone(),
            action: tensor.action,
            tensors: 0,
            bytes: 0,
            min_sqnr_db: None,
            max_error: None,
            min_cosine: None,
            saturated: 0,
            flushed: 0,
        };
        let quality = kinds.entry((tensor.storage.is_none(), kind)).or_insert(empty);
        quality.tensors += 1;
        quality.bytes += tensor.bytes;
        if let Some(figures) = &tensor.figures {
            quality.min_sqnr_db = least(quality.min_sqnr_db, figures.sqnr_db);
            quality.min_cosine = least(quality.min_cosine, Some(figures.cosine));
            quality.max_error = Some(quality.max_error.map_or(figures.max_error, |max| max.max(figures.max_error)));
            quality.saturated += figures.saturated;
            quality.flushed += figures.flushed;
        }
    }
    kinds.into_values().collect()
}

fn least(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
