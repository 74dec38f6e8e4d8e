//! The memory of a GPU: what vLLM may take, what weights take, what a step takes for a moment, and what is left for the
//! cache.
//!
//! Weights and cache are counted. What a step takes is what vLLM measures in a run of its own when it starts; here it is an
//! estimate, whose formula is shown.

use schemars::JsonSchema;
use serde::Serialize;

use super::figures::ConfigFigures;
use super::request::FitRequest;
use super::vision::Sight;
use crate::checkpoint::text::{count, grouped};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// vLLM's share of a GPU, in hundredths: the default of `--gpu-memory-utilization` (`config/cache.py`).
pub(super) const UTILIZATION: u64 = 92;

/// Libraries and their workspaces, which come with the first step; with several GPUs also the buffers of NCCL.
const LIBRARIES: u64 = 256 * MIB;
const LIBRARIES_OF_SEVERAL: u64 = 640 * MIB;
/// Bytes of a CUDA graph for a layer and a size of batch.
const GRAPH: u64 = MIB / 4;
/// Bytes of one logit: in BF16, in F32, and its place while a sampler sorts.
const LOGIT: u64 = 2 + 4 + 4;

/// The memory of one GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MemoryBudget {
    /// Bytes that vLLM may take.
    pub usable: u64,
    /// Bytes of weights.
    pub weights: u64,
    /// What is estimated.
    pub estimates: Vec<MemoryEstimate>,
    /// Bytes that are left for the cache.
    pub cache: u64,
    /// Bytes that are missing where nothing is left.
    pub missing: u64,
}

/// A part of the memory that vLLM measures when it starts, estimated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MemoryEstimate {
    pub what: &'static str,
    pub bytes: u64,
    /// The formula, with its figures.
    pub how: String,
}

/// The tokens that vLLM computes in a step by default: by the memory of the GPU (`engine/arg_utils.py`).
pub(super) fn batched_tokens(vram: u64) -> u64 {
    match vram {
        _ if vram >= 160 * GIB => 16384,
        _ if vram >= 70 * GIB => 8192,
        _ => 2048,
    }
}

/// The most requests that vLLM runs at once by default.
pub(super) fn most_requests(vram: u64) -> u64 {
    if vram >= 70 * GIB { 1024 } else { 256 }
}

/// Computes the budget of a GPU that holds so many bytes of weights and runs so many requests at once.
pub(super) fn budget(
    figures: &ConfigFigures<'_>,
    sight: Option<&Sight>,
    request: &FitRequest,
    weights: u64,
    requests: u64,
) -> MemoryBudget {
    let usable = (u128::from(request.vram) * u128::from(UTILIZATION)).div_ceil(100);
    let usable = u64::try_from(usable).unwrap_or(u64::MAX);
    let mut estimates = vec![activations(figures, request), logits(figures, request, requests)];
    estimates.extend(sight.map(tower));
    estimates.push(graphs(figures, request, requests));
    estimates.push(libraries(request.gpus));
    let taken = estimates.iter().map(|estimate| estimate.bytes).fold(weights, u64::saturating_add);
    MemoryBudget {
        usable,
        weights,
        estimates,
        cache: usable.saturating_sub(taken),
        missing: taken.saturating_sub(usable),
    }
}

/// A figure of config.json where it is one that can be; else 0, which makes the estimate small rather than the command
/// fail.
fn figure(figures: &ConfigFigures<'_>, keys: &[&str]) -> u64 {
    figures.number(keys).ok().flatten().unwrap_or(0)
}

fn activations(figures: &ConfigFigures<'_>, request: &FitRequest) -> MemoryEstimate {
    let tokens = batched_tokens(request.vram);
    let hidden = figure(figures, &["hidden_size", "n_embd", "d_model"]);
    let dense = figure(figures, &["intermediate_size", "n_inner", "ffn_dim"]) / request.gpus;
    let expert = figure(figures, &["moe_intermediate_size", "intermediate_size"]) / request.gpus;
    let chosen = figure(figures, &["num_experts_per_tok", "moe_k", "top_k_experts", "num_experts_per_token"]);
    let of_dense = 3 * dense;
    let of_experts = chosen.saturating_mul(3 * expert + hidden);
    let width = of_dense.max(of_experts).saturating_add(3 * hidden);
    let what_is_wide = if of_experts > of_dense {
        format!("{chosen} experts × (3 × {} + {})", grouped(expert), grouped(hidden))
    } else {
        format!("3 × {}", grouped(dense))
    };
    MemoryEstimate {
        what: "activations",
        bytes: tokens.saturating_mul(2).saturating_mul(width),
        how: format!("{} tokens × 2 bytes × (3 × {} + {what_is_wide})", grouped(tokens), grouped(hidden)),
    }
}

fn logits(figures: &ConfigFigures<'_>, request: &FitRequest, requests: u64) -> MemoryEstimate {
    let vocabulary = figure(figures, &["vocab_size"]);
    let rows = requests.min(batched_tokens(request.vram));
    MemoryEstimate {
        what: "logits",
        bytes: rows.saturating_mul(vocabulary).saturating_mul(LOGIT),
        how: format!("{} × {} × {LOGIT} bytes", of_requests(rows), grouped(vocabulary)),
    }
}

fn tower(sight: &Sight) -> MemoryEstimate {
    MemoryEstimate {
        what: "vision tower",
        bytes: sight.patches.saturating_mul(sight.bytes_per_patch),
        how: format!(
            "{} patches of {} × {} bytes",
            grouped(sight.patches),
            if sight.is_told { "the largest image" } else { "an image of 1,024 × 1,024, which is assumed" },
            grouped(sight.bytes_per_patch)
        ),
    }
}

fn graphs(figures: &ConfigFigures<'_>, request: &FitRequest, requests: u64) -> MemoryEstimate {
    let layers = figure(figures, &["num_hidden_layers", "n_layers", "n_layer"]);
    let largest = requests.saturating_mul(2).min(512).min(batched_tokens(request.vram));
    // 1, 2, 4, then every 8 up to 256 and every 16 beyond.
    let sizes = [1, 2, 4].iter().filter(|size| **size <= largest).count() as u64
        + largest.min(255) / 8
        + (largest + 16).saturating_sub(256) / 16;
    MemoryEstimate {
        what: "CUDA graphs",
        bytes: layers.saturating_mul(sizes).saturating_mul(GRAPH),
        how: format!("{} × {} of batches × 256 KiB", count_of(layers, "layer"), count_of(sizes, "size")),
    }
}

fn libraries(gpus: u64) -> MemoryEstimate {
    let (bytes, how) = match gpus {
        1 => (LIBRARIES, "256 MiB for what libraries keep"),
        _ => (LIBRARIES_OF_SEVERAL, "640 MiB for what libraries keep, NCCL among them"),
    };
    MemoryEstimate { what: "libraries", bytes, how: how.to_owned() }
}

fn of_requests(number: u64) -> String {
    count_of(number, "request")
}

fn count_of(number: u64, noun: &str) -> String {
    usize::try_from(number).map_or_else(|_| format!("{number} {noun}s"), |number| count(number, noun))
}
