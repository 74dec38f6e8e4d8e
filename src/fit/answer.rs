//! The answer to whether a model fits.

use schemars::JsonSchema;
use serde::Serialize;

use super::budget::MemoryBudget;
use super::cache::{CacheDtype, CacheGroup, CachePool};
use super::kernels::GpuKernels;
use super::lines::ServeLine;
use super::weights::WeightBytes;

/// The answer to whether a model fits.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Fit {
    /// True where the weights and at least the context and the requests that were asked for fit.
    pub fits: bool,
    /// The family of the model, as far as it is known.
    pub family: Option<String>,
    /// Bytes of memory of each GPU, and their number.
    pub vram: u64,
    pub gpus: u64,
    pub weights: WeightBytes,
    /// The memory of one GPU.
    pub budget: MemoryBudget,
    /// The cache of one GPU; null where it is not known, or where the model keeps none.
    pub cache: Option<CacheFit>,
    /// The reason why the cache is not known.
    pub cache_not_known: Option<String>,
    /// The reason why so many GPUs cannot share the model.
    pub misfit: Option<String>,
    /// The longest context of the model by config.json.
    pub model_context: Option<u64>,
    /// The longest context of a single request that fits, no longer than the model's; null where the cache is not known.
    pub longest_context: Option<u64>,
    /// The context that is served, and the requests of it that fit at once.
    pub context: u64,
    pub requests: u64,
    /// The lines that serve it; empty where it does not fit.
    pub serve: Vec<ServeLine>,
    pub kernels: Vec<GpuKernels>,
    /// What is assumed, and what is not known, a line each.
    pub notes: Vec<String>,
    /// What would make it fit, a line each; empty where it fits.
    pub remedies: Vec<String>,
}

/// The cache of one GPU.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct CacheFit {
    pub dtype: CacheDtype,
    /// Layers in groups, each with blocks of its own.
    pub groups: Vec<CacheGroup>,
    pub bytes_per_block: u64,
    /// The blocks that fit.
    pub blocks: u64,
    /// The tokens of context that fit, all requests together, where each has the context that is served: what vLLM reports as
    /// `GPU KV cache size`.
    pub tokens: u64,
    /// Bytes that a request of the context that is served takes.
    pub bytes_per_request: u64,
    #[serde(skip)]
    pub(super) pool: CachePool,
}

impl CacheFit {
    /// The pool of blocks.
    pub fn pool(&self) -> &CachePool {
        &self.pool
    }
}
