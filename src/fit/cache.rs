//! The cache that vLLM keeps for each request: keys and values, latents, and states of linear attention.
//!
//! The arithmetic is that of vLLM 0.33 (`v1/kv_cache_interface.py`, `v1/core/kv_cache_planning.py`), with the blocks that its
//! FlashAttention backends take; `tests/fit/` holds it against vLLM's own code.

mod attention;
mod dtype;
mod groups;
mod kinds;
mod layers;
mod state;

pub use dtype::CacheDtype;
pub use groups::{CacheGroup, CachePool};

pub(super) use layers::layers;

/// The cache of one layer on one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LayerCache {
    /// Keys and values, or what stands for both, of each token in reach.
    Tokens { reach: Reach, bytes_per_token: u64, latent: bool },
    /// A state of fixed size, of which vLLM keeps several per request where it caches prefixes.
    State { bytes: u64, kept: u64 },
}

/// The tokens of a request that a layer keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    All,
    Window(u64),
    Chunk(u64),
}

/// The product of some numbers, `None` where it overflows.
fn product(factors: &[u64]) -> Option<u64> {
    factors.iter().try_fold(1_u64, |product, &factor| product.checked_mul(factor))
}
