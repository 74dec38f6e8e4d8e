//! The question: GPUs, memory, and what is to be served on them.

use super::cache::CacheDtype;

/// The GPUs, and what is to be served on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FitRequest {
    /// Bytes of memory of each GPU.
    pub vram: u64,
    /// GPUs that share the model by tensor parallelism.
    pub gpus: u64,
    /// Tokens of context, of prompt and answer together; `None` asks for the most that fits.
    pub context: Option<u64>,
    /// Requests of that context at once; `None` asks for the most that fits.
    pub concurrency: Option<u64>,
    pub cache_dtype: CacheDtype,
}
