//! The pool of blocks: layers in groups that share a table of blocks, as vLLM's `kv_cache_planning.py` forms them.

use std::collections::BTreeMap;

use super::layers::ModelCache;
use super::{LayerCache, Reach};
use crate::fit::error::CacheUnknown;

/// The least block of a hybrid with latents: its decode kernels want 128 tokens.
const LATENT_HYBRID_BLOCK: u64 = 128;

/// A group of layers that share a table of blocks.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct CacheGroup {
    /// What its layers keep: `all tokens`, `a window of 128 tokens`, `a state`, …
    pub keeps: String,
    pub layers: u64,
    /// The tokens of a block; of states, those between two that are kept.
    pub block_tokens: u64,
    /// Bytes of a block, of all layers of the group.
    pub block_bytes: u64,
    #[serde(skip)]
    unit: Unit,
}

/// The cache of one GPU, cut into blocks of one size.
#[derive(Clone, Debug)]
pub struct CachePool {
    pub groups: Vec<CacheGroup>,
    /// Bytes of a block of the pool: those of the largest group.
    pub bytes_per_block: u64,
    /// Tokens that may be under way, whose cache is not freed yet.
    in_flight: u64,
}

/// The cache of one layer, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Unit {
    kept: Kept,
    block: u64,
    page: u64,
    bytes_per_token: u64,
    latent: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    Tokens(Reach),
    States(u64),
}

impl CachePool {
    /// Groups the layers of a model, of which one GPU computes `in_flight` tokens before it frees any.
    ///
    /// # Errors
    /// vLLM would not group them, or the sizes overflow.
    pub(in crate::fit) fn of(cache: &ModelCache, in_flight: u64) -> Result<Option<Self>, CacheUnknown> {
        let units = units(cache)?;
        let Some(first) = units.first().copied() else { return Ok(None) };
        let is_uniform = units.iter().all(|unit| unit.block == first.block && unit.kept == first.kept)
            && (units.iter().all(|unit| unit.page == first.page) || matches!(first.kept, Kept::Tokens(_)));
        let groups = if is_uniform { vec![one_group(&units)?] } else { of_one_page(&units)? };
        let bytes_per_block = groups.iter().map(|group| group.block_bytes).max().unwrap_or(0);
        if bytes_per_block == 0 { Ok(None) } else { Ok(Some(Self { groups, bytes_per_block, in_flight })) }
    }

    /// The blocks that `bytes` hold.
    pub fn blocks(&self, bytes: u64) -> u64 {
        bytes / self.bytes_per_block
    }

    /// The blocks that a request of so many tokens takes, at most.
    pub fn blocks_of_request(&self, tokens: u64) -> u64 {
        self.groups.iter().map(|group| group.unit.blocks(tokens, self.in_flight)).fold(0, u64::saturating_add)
    }

    /// The tokens of context that vLLM reports for so many blocks, where requests have `tokens`.
    pub fn tokens(&self, blocks: u64, tokens: u64) -> u64 {
        let needed = u128::from(self.blocks_of_request(tokens).max(1));
        u64::try_from(u128::from(blocks) * u128::from(tokens) / needed).unwrap_or(u64::MAX)
    }

    /// The requests of so many tokens that fit at once. vLLM keeps a block for itself.
    pub fn requests(&self, blocks: u64, tokens: u64) -> u64 {
        blocks.saturating_sub(1) / self.blocks_of_request(tokens).max(1)
    }

    /// The longest context, up to `limit`, of which `requests` fit at once; 0 where none does.
    pub fn longest(&self, blocks: u64, requests: u64, limit: u64) -> u64 {
        let fits = |tokens: u64| self.requests(blocks, tokens) >= requests;
        let (mut fitting, mut beyond) = (0, limit.saturating_add(1));
        while beyond - fitting > 1 {
            let middle = fitting + (beyond - fitting) / 2;
            if fits(middle) { fitting = middle } else { beyond = middle }
        }
        fitting
    }
}

impl Unit {
    fn blocks(&self, tokens: u64, in_flight: u64) -> u64 {
        match self.kept {
            Kept::Tokens(Reach::All) => tokens.div_ceil(self.block),
            // A window may begin inside a block.
            Kept::Tokens(Reach::Window(window)) => {
                (window - 1).saturating_add(in_flight).min(tokens).div_ceil(self.block) + 1
            }
            Kept::Tokens(Reach::Chunk(chunk)) => chunk.saturating_add(in_flight).min(tokens).div_ceil(self.block),
            Kept::States(kept) => kept,
        }
    }

    fn keeps(&self) -> String {
        match self.kept {
            Kept::Tokens(Reach::All) => "all tokens".to_owned(),
            Kept::Tokens(Reach::Window(window)) => format!("a window of {window} tokens"),
            Kept::Tokens(Reach::Chunk(chunk)) => format!("a chunk of {chunk} tokens"),
            Kept::States(_) => "a state".to_owned(),
        }
    }

    fn group(self, layers: u64, block_bytes: u64) -> CacheGroup {
        CacheGroup { keeps: self.keeps(), layers, block_tokens: self.block, block_bytes, unit: self }
    }
}

/// Cuts the caches of layers into pages. Beside states, blocks of tokens are as long as makes their pages as large.
fn units(cache: &ModelCache) -> Result<Vec<Unit>, CacheUnknown> {
    let of_tokens = cache.layers.iter().filter_map(|layer| match layer {
        LayerCache::Tokens { bytes_per_token, latent, .. } => Some((*bytes_per_token, *latent)),
        LayerCache::State { .. } => None,
    });
    let states = cache.layers.iter().filter_map(|layer| match layer {
        LayerCache::State { bytes, .. } => Some(*bytes),
        LayerCache::Tokens { .. } => None,
    });
    let (widest, largest) = (of_tokens.clone().max(), states.max());
    let (mut block, mut padded) = (cache.block, None);
    if let (Some((bytes, latent)), Some(state)) = (widest, largest) {
        let step = if latent { block.max(LATENT_HYBRID_BLOCK) } else { block };
        let of_step = step.checked_mul(bytes).filter(|bytes| *bytes > 0).ok_or(CacheUnknown::Overflow)?;
        block = block.max(step.checked_mul(state.div_ceil(of_step)).ok_or(CacheUnknown::Overflow)?);
        padded = Some(block.checked_mul(bytes).ok_or(CacheUnknown::Overflow)?);
    }
    let of_layer = |layer: &LayerCache| match *layer {
        LayerCache::Tokens { reach, bytes_per_token, latent } => {
            let page = block.checked_mul(bytes_per_token).ok_or(CacheUnknown::Overflow)?;
            Ok(Unit { kept: Kept::Tokens(reach), block, page, bytes_per_token, latent })
        }
        LayerCache::State { bytes, kept } => {
            // Where no prefix is cached, the last state is kept alone.
            let kept = if cache.caches_prefixes { kept } else { 1 };
            let page = padded.unwrap_or(bytes).max(bytes);
            Ok(Unit { kept: Kept::States(kept), block, page, bytes_per_token: 0, latent: false })
        }
    };
    cache.layers.iter().map(of_layer).collect()
}

/// The group of layers that keep the same tokens.
fn one_group(units: &[Unit]) -> Result<CacheGroup, CacheUnknown> {
    let bytes = units.iter().try_fold(0_u64, |sum, unit| sum.checked_add(unit.page)).ok_or(CacheUnknown::Overflow)?;
    Ok(units[0].group(units.len() as u64, bytes))
}

/// The groups of layers that keep different tokens: pages become equally large, and groups about equally many layers.
fn of_one_page(units: &[Unit]) -> Result<Vec<CacheGroup>, CacheUnknown> {
    let page = units.iter().map(|unit| unit.page).max().unwrap_or(0);
    let mut buckets: BTreeMap<Unit, u64> = BTreeMap::new();
    for unit in units {
        let is_whole = unit.page > 0 && page.is_multiple_of(unit.page) && matches!(unit.kept, Kept::Tokens(_));
        if !is_whole && unit.latent {
            let reason = "its pages of latents and of other layers have no common size".to_owned();
            return Err(CacheUnknown::Family { reason });
        }
        let longer = if is_whole { page / unit.page } else { 1 };
        let block = unit.block.checked_mul(longer).ok_or(CacheUnknown::Overflow)?;
        *buckets.entry(Unit { block, page, ..*unit }).or_default() += 1;
    }
    let (least, most) = (buckets.values().min().copied().unwrap_or(1), buckets.values().max().copied().unwrap_or(1));
    // Padding a few layers wastes less than a second group.
    let size = if 2 * most < 3 * least { most } else { least };
    let mut groups = Vec::new();
    for (unit, layers) in buckets {
        let count = layers.div_ceil(size);
        for group in 0..count {
            let layers = (layers - group).div_ceil(count);
            groups.push(unit.group(layers, layers.checked_mul(page).ok_or(CacheUnknown::Overflow)?));
        }
    }
    Ok(groups)
}
