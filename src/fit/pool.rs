//! The pool of cache blocks of one GPU.

use super::budget::batched_tokens;
use super::cache::{CacheDtype, CachePool, layers};
use super::error::CacheUnknown;
use super::request::FitRequest;
use super::subject::FitSubject;
use crate::checkpoint::config::Config;
use crate::checkpoint::models::Model;

/// Returns the pool of blocks of one GPU, `None` where the model keeps no cache.
///
/// `batched` are the tokens that a step computes.
///
/// # Errors
/// The reason for which it is not known.
pub fn pool(
    config: &Config,
    model: &Model,
    gpus: u64,
    dtype: CacheDtype,
    batched: u64,
) -> Result<Option<CachePool>, CacheUnknown> {
    let layers = layers(config, model, gpus, dtype)?;
    // Steps overlap: the next one is computed before the tokens of the last one are settled.
    CachePool::of(&layers, 2 * batched)
}

/// Returns the pool of blocks of one of the GPUs that a request names.
pub(super) fn pool_for(
    subject: &FitSubject<'_>,
    request: &FitRequest,
    dtype: CacheDtype,
) -> Result<Option<CachePool>, CacheUnknown> {
    pool(subject.config, subject.model, request.gpus, dtype, batched_tokens(request.vram))
}
