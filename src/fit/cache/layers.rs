//! The caches of all layers of a model, by what config.json says.

use super::attention::Attention;
use super::dtype::CacheDtype;
use super::kinds::{KindOfLayer, kinds, window};
use super::state::state;
use super::{LayerCache, Reach};
use crate::checkpoint::config::Config;
use crate::checkpoint::models::Model;
use crate::fit::error::CacheUnknown;
use crate::fit::figures::ConfigFigures;

/// The caches of all layers on one GPU.
#[derive(Clone, Debug)]
pub(in crate::fit) struct ModelCache {
    /// Those of one layer side by side.
    pub(super) layers: Vec<LayerCache>,
    /// The least tokens of a block.
    pub(super) block: u64,
    /// False in a model without attention, of which vLLM caches no prefixes.
    pub(super) caches_prefixes: bool,
}

/// The tokens of a block: vLLM's default, which FlashAttention takes.
const BLOCK: u64 = 16;
/// The tokens of a block of sparse attention: its indexer takes no other.
const SPARSE_BLOCK: u64 = 64;

/// Returns the caches that one of `gpus` GPUs keeps.
///
/// # Errors
/// The reason for which they are not known.
pub(in crate::fit) fn layers(
    config: &Config,
    model: &Model,
    gpus: u64,
    dtype: CacheDtype,
) -> Result<ModelCache, CacheUnknown> {
    if let Some(reason) = model.cache_not_known() {
        return Err(CacheUnknown::Family { reason: reason.to_owned() });
    }
    let figures = ConfigFigures::of(config, model);
    let kinds = kinds(&figures)?;
    let attention = Attention::new(&figures, gpus, dtype);
    let shared = figures.number(&["num_kv_shared_layers"])?.unwrap_or(0);
    let own = (kinds.len() as u64).saturating_sub(shared);
    let indexers = figures.words("indexer_types");
    let mut layers = Vec::new();
    for (layer, kind) in kinds.iter().enumerate() {
        // The last layers read the cache of one before them.
        let has_cache = (layer as u64) < own;
        match kind {
            KindOfLayer::Neither => {}
            KindOfLayer::State => layers.push(state(&figures, gpus)?),
            _ if !has_cache => {}
            KindOfLayer::Both => {
                layers.push(tokens(Reach::All, attention.full(layer)?));
                layers.push(state(&figures, gpus)?);
            }
            KindOfLayer::Full => match attention.latent()? {
                Some(bytes_per_token) => {
                    layers.push(LayerCache::Tokens { reach: Reach::All, bytes_per_token, latent: true });
                    let shares = indexers.as_ref().and_then(|types| types.get(layer)).is_some_and(|it| it == "shared");
                    if attention.is_sparse() && !shares {
                        let bytes_per_token = attention.indexer()?;
                        layers.push(LayerCache::Tokens { reach: Reach::All, bytes_per_token, latent: true });
                    }
                }
                None => layers.push(tokens(Reach::All, attention.full(layer)?)),
            },
            KindOfLayer::Sliding => {
                let window = window(&figures)?.ok_or(CacheUnknown::Missing { key: "sliding_window" })?;
                layers.push(tokens(Reach::Window(window), attention.sliding(layer)?));
            }
            KindOfLayer::Chunked => {
                let chunk = figures.required(&["attention_chunk_size"])?;
                layers.push(tokens(Reach::Chunk(chunk), attention.full(layer)?));
            }
        }
    }
    let block = if attention.is_sparse() { SPARSE_BLOCK } else { BLOCK };
    let caches_prefixes = figures.every_layer().is_none() || !kinds.iter().all(|kind| *kind == KindOfLayer::State);
    Ok(ModelCache { layers, block, caches_prefixes })
}

fn tokens(reach: Reach, bytes_per_token: u64) -> LayerCache {
    LayerCache::Tokens { reach, bytes_per_token, latent: false }
}
