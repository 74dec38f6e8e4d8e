//! Bytes of a state: Mamba, gated delta nets, Kimi's delta attention, short convolutions.

use super::{LayerCache, product};
use crate::fit::error::CacheUnknown;
use crate::fit::figures::ConfigFigures;

/// Bytes of a state that has the dtype of the model.
const OF_MODEL: u64 = 2;
const FLOAT32: u64 = 4;

/// States that vLLM keeps of a request while it caches prefixes: that of the last step and that of the last whole block.
const KEPT: u64 = 2;
/// One more for Mamba 2, which writes the state of a block out of the middle of a step.
const KEPT_BY_MAMBA_2: u64 = 3;

/// Returns the state of one layer.
///
/// # Errors
/// The state is of no kind that is known, or config.json lacks what decides its size.
pub(super) fn state(figures: &ConfigFigures<'_>, gpus: u64) -> Result<LayerCache, CacheUnknown> {
    let has = |key: &str| figures.value(key).is_some();
    let (bytes, kept) = if has("linear_num_value_heads") {
        (gated_delta_net(figures, gpus)?, KEPT)
    } else if has("linear_attn_config") {
        (delta_attention(figures, gpus)?, KEPT)
    } else if has("conv_L_cache") {
        (short_convolution(figures, gpus)?, KEPT)
    } else if ["mamba_num_heads", "mamba_n_heads", "n_mamba_heads"].iter().any(|key| has(key))
        || has("state_size") && has("num_heads")
    {
        (mamba_2(figures, gpus)?, KEPT_BY_MAMBA_2)
    } else if has("mamba_dt_rank") || has("time_step_rank") {
        (mamba_1(figures, gpus)?, KEPT)
    } else {
        return Err(CacheUnknown::Kind { word: "linear attention".to_owned() });
    };
    Ok(LayerCache::State { bytes: bytes.ok_or(CacheUnknown::Overflow)?, kept })
}

/// Qwen3-Next and Qwen3.5.
fn gated_delta_net(figures: &ConfigFigures<'_>, gpus: u64) -> Result<Option<u64>, CacheUnknown> {
    let (keys, values) = (figures.required(&["linear_num_key_heads"])?, figures.required(&["linear_num_value_heads"])?);
    let (key, value) = (figures.required(&["linear_key_head_dim"])?, figures.required(&["linear_value_head_dim"])?);
    let taps = figures.required(&["linear_conv_kernel_dim"])? - 1;
    let width = product(&[key, keys, 2]).and_then(|queries| queries.checked_add(product(&[value, values])?));
    let convolution = width.and_then(|width| product(&[split(width, gpus), taps, OF_MODEL]));
    let state = product(&[split(values, gpus), value, key, bytes_of(figures.text("mamba_ssm_dtype"))]);
    Ok(sum(convolution, state))
}

/// Kimi Linear; the recurrent state is F32.
fn delta_attention(figures: &ConfigFigures<'_>, gpus: u64) -> Result<Option<u64>, CacheUnknown> {
    let number = |key: &'static str| {
        figures
            .inner("linear_attn_config", key)
            .and_then(serde_json::Value::as_u64)
            .filter(|number| (1..1 << 32).contains(number))
            .ok_or(CacheUnknown::Missing { key })
    };
    let (heads, head, taps) = (number("num_heads")?, number("head_dim")?, number("short_conv_kernel_size")? - 1);
    let width = product(&[heads, head, 3]);
    let convolution = width.and_then(|width| product(&[split(width, gpus), taps, OF_MODEL]));
    Ok(sum(convolution, product(&[split(heads, gpus), head, head, FLOAT32])))
}

/// LFM2.
fn short_convolution(figures: &ConfigFigures<'_>, gpus: u64) -> Result<Option<u64>, CacheUnknown> {
    let width = figures.required(&["conv_dim", "hidden_size"])?;
    Ok(product(&[split(width, gpus), figures.required(&["conv_L_cache"])? - 1, OF_MODEL]))
}

/// Mamba 2: Nemotron-H, Granite 4, Falcon-H1, Bamba, Zamba 2.
fn mamba_2(figures: &ConfigFigures<'_>, gpus: u64) -> Result<Option<u64>, CacheUnknown> {
    let heads = figures.required(&["mamba_num_heads", "mamba_n_heads", "n_mamba_heads", "num_heads"])?;
    let expanded = match figures.number(&["mamba_expand", "expand"])? {
        Some(factor) => product(&[factor, figures.required(&["hidden_size"])?]),
        None => None,
    };
    let head = match figures.number(&["mamba_head_dim", "mamba_d_head", "mamba_headdim", "head_dim"])? {
        Some(head) => head,
        None => expanded.ok_or(CacheUnknown::Missing { key: "mamba_d_head" })? / heads,
    };
    let inner = match figures.number(&["mamba_d_ssm"])? {
        Some(inner) => Some(inner),
        None => product(&[heads, head]),
    };
    let state = figures.required(&["ssm_state_size", "mamba_d_state", "state_size"])?;
    let taps = figures.required(&["conv_kernel", "mamba_d_conv"])? - 1;
    let groups = figures.required(&["n_groups", "mamba_n_groups", "mamba_ngroups"])?;
    // Groups that GPUs cannot share are copied, so that each has those of its heads.
    let groups = if groups.is_multiple_of(gpus) { groups } else { gpus };
    let width = inner.and_then(|inner| inner.checked_add(product(&[2, groups, state])?));
    let convolution = width.and_then(|width| product(&[split(width, gpus), taps, OF_MODEL]));
    let states = product(&[split(heads, gpus), head, state, bytes_of(figures.text("mamba_ssm_cache_dtype"))]);
    Ok(sum(convolution, states))
}

/// Mamba 1: Jamba, Falcon Mamba.
fn mamba_1(figures: &ConfigFigures<'_>, gpus: u64) -> Result<Option<u64>, CacheUnknown> {
    let inner = match figures.number(&["mamba_expand"])? {
        Some(factor) => product(&[factor, figures.required(&["hidden_size"])?]),
        None => Some(figures.required(&["intermediate_size"])?),
    };
    let state = figures.required(&["mamba_d_state", "state_size"])?;
    let taps = figures.required(&["mamba_d_conv", "conv_kernel"])? - 1;
    Ok(inner.and_then(|inner| product(&[split(inner, gpus), state + taps, OF_MODEL])))
}

fn split(width: u64, gpus: u64) -> u64 {
    width / gpus
}

fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a?.checked_add(b?)
}

fn bytes_of(dtype: Option<&str>) -> u64 {
    if dtype == Some("float32") { FLOAT32 } else { OF_MODEL }
}
