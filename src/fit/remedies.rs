//! What a fit assumes, and what would make a model fit that does not.

use super::answer::Fit;
use super::budget::batched_tokens;
use super::cache::CacheDtype;
use super::kernels::GpuKernels;
use super::pool::pool_for;
use super::request::FitRequest;
use super::subject::FitSubject;
use super::vision::Sight;
use crate::checkpoint::text::{count, grouped, human, memory, shown};
use crate::plan::SERVERS;

/// Bytes of memory that cards have.
const CARDS: [u64; 11] = [8, 12, 16, 24, 32, 40, 48, 80, 96, 141, 192];

/// Returns what is assumed and what is not known, a line each.
pub(super) fn notes(subject: &FitSubject<'_>, request: &FitRequest, fit: &Fit, sight: Option<&Sight>) -> Vec<String> {
    let mut notes = Vec::new();
    if subject.model.family().is_none() {
        let classes = subject.config.architectures().join(", ");
        notes.push(format!(
            "{} is of no family that is known here: weights and cache are counted as those of a decoder that config.json \
             describes in full",
            shown(if classes.is_empty() { "the model" } else { &classes })
        ));
    }
    let unserved = subject.unserved.iter().filter(|(server, _)| SERVERS.iter().any(|(known, _)| known == server));
    notes.extend(unserved.map(|(server, why)| format!("{server} is not known to serve it: {why}")));
    if !subject.model.is_cache_compared() && fit.cache.is_some() {
        notes.push(
            "the cache follows from config.json alone: nobody has compared it with what vLLM counts for this family"
                .to_owned(),
        );
    }
    if let Some(why) = &fit.cache_not_known {
        notes.push(format!("it is not known how vLLM sizes its cache: {why}; context and requests are not checked"));
    }
    if let Some(why) = &subject.unknown_form {
        notes.push(format!("it is not known which kernels its quantization takes: {why}"));
    }
    if let Some(padded) = subject.served.padded.as_ref().filter(|_| fit.kernels.iter().any(GpuKernels::is_marlin)) {
        let [rows, columns] = padded.share;
        notes.push(format!(
            "where Marlin runs, it pads {} to its tiles of 64 × 128 or 128 × 64, which costs speed: {} has {} × {} on each GPU",
            count(padded.layers, "layer"),
            shown(&padded.first),
            grouped(rows as u64),
            grouped(columns as u64)
        ));
    }
    notes.push(format!(
        "vLLM gets 92 % of {} and computes {} tokens in a step; nothing else runs on the GPU",
        memory(request.vram),
        grouped(batched_tokens(request.vram))
    ));
    notes.push(
        "activations, logits, graphs and libraries are estimates: vLLM measures them when it starts, and logs `Available KV \
         cache memory`"
            .to_owned(),
    );
    if fit.cache.is_some() {
        notes.push("the cache is cut into the blocks that vLLM's FlashAttention backends take".to_owned());
    }
    if let Some(sight) = sight {
        let told = if sight.is_told { "" } else { " (assumed: no file says how large images become)" };
        notes.push(format!(
            "an image takes up to {} tokens of the context{told}; smaller images take less in every way",
            grouped(sight.tokens)
        ));
    }
    if fit.weights.not_loaded > 0 {
        notes.push(format!(
            "{} of the files are not loaded: layers that predict further tokens, or a head that is the embedding",
            human(fit.weights.not_loaded)
        ));
    }
    notes
}

/// Returns what would make it fit, a line each.
pub(super) fn remedies(subject: &FitSubject<'_>, request: &FitRequest, fit: &Fit) -> Vec<String> {
    let mut remedies = Vec::new();
    if subject.served.misfit.is_some() {
        remedies.push("take a number of GPUs that shares it evenly: `qwen-fp8 plan` says which".to_owned());
        return remedies;
    }
    if let Some(most) = fit.model_context.filter(|_| fit.is_beyond_model()) {
        remedies.push(format!(
            "less context: config.json ends at {} tokens (`--context {most}`); only positions that are scaled there \
             (`rope_scaling`) reach further",
            grouped(most)
        ));
        return remedies;
    }
    if let Some(cache) = &fit.cache
        && fit.budget.missing == 0
    {
        let requests = request.concurrency.unwrap_or(1);
        let longest = cache.pool.longest(cache.blocks, requests, fit.context);
        if longest > 0 {
            let how_many = if requests == 1 { String::new() } else { format!(" for {requests} requests at once") };
            remedies.push(format!("less context: {} tokens fit{how_many} (`--context {longest}`)", grouped(longest)));
        }
        let at_once = cache.pool.requests(cache.blocks, fit.context);
        if at_once > 0 && at_once < requests {
            remedies.push(format!("fewer requests: {at_once} fit at once (`--concurrency {at_once}`)"));
        }
        if request.cache_dtype == CacheDtype::Auto
            && let Ok(Some(pool)) = pool_for(subject, request, CacheDtype::Fp8)
        {
            let longest = pool.longest(pool.blocks(fit.budget.cache), requests, fit.context);
            remedies.push(format!("a cache in FP8: {} tokens fit (`--kv-cache-dtype fp8`)", grouped(longest)));
        }
    }
    if subject.served.forms.is_empty() && subject.unknown_form.is_none() {
        remedies.push(format!(
            "quantize it: in FP8 its weights take about {} (`qwen-fp8 init` writes a recipe)",
            memory(fit.weights.per_gpu_in_fp8)
        ));
    }
    remedies.push(format!("more GPUs: `--tensor-parallel {}` shares the weights", 2 * request.gpus));
    let needed = fit.budget.usable.saturating_sub(fit.budget.cache).saturating_add(fit.budget.missing).saturating_add(
        fit.cache
            .as_ref()
            .map_or(0, |cache| cache.bytes_per_request.max(cache.bytes_per_block).saturating_mul(fit.requests.max(1))),
    );
    let needed = u64::try_from(u128::from(needed) * 100 / 92).unwrap_or(u64::MAX);
    if let Some(card) = CARDS.iter().find(|card| **card << 30 >= needed && **card << 30 > request.vram) {
        remedies.push(format!("a larger GPU: it takes {}; there are cards of {card} GiB", memory(needed)));
    }
    remedies
}
