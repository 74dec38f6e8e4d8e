//! The kinds of the layers of a model, one by one, by what config.json says of them.

use crate::fit::error::CacheUnknown;
use crate::fit::figures::{ConfigFigures, numbers};

/// The kind of a layer, as far as it decides the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KindOfLayer {
    Full,
    Sliding,
    Chunked,
    State,
    /// Attention and a state side by side.
    Both,
    /// Neither: experts or an MLP alone.
    Neither,
}

/// Keys under which the kinds of layers are listed one by one.
const LISTS: [&str; 2] = ["layer_types", "layers_block_type"];

/// The most layers that are believed.
const MOST_LAYERS: u64 = 10_000;

/// Returns the kind of each layer.
///
/// # Errors
/// The number of layers is missing or absurd, or a layer is of a kind that is not known.
pub(super) fn kinds(figures: &ConfigFigures<'_>) -> Result<Vec<KindOfLayer>, CacheUnknown> {
    let keys = ["num_hidden_layers", "n_layers", "n_layer", "num_layers"];
    let pattern = figures.text("hybrid_override_pattern");
    let listed = pattern.map(str::len).or_else(|| LISTS.iter().find_map(|key| Some(figures.words(key)?.len())));
    let count = match (figures.number(&keys)?, listed) {
        (None, Some(listed)) => listed as u64,
        _ => figures.required(&keys)?,
    };
    if count > MOST_LAYERS {
        return Err(CacheUnknown::Absurd { key: keys[0].to_owned(), value: count.to_string() });
    }
    if let Some(pattern) = pattern {
        return pattern.chars().take(count as usize).map(of_letter).collect();
    }
    let by = |is_full: &dyn Fn(u64) -> bool, others: KindOfLayer| {
        Ok((0..count).map(|layer| if is_full(layer) { KindOfLayer::Full } else { others }).collect())
    };
    // What vLLM asks first: the same file may have `layer_types` that say something else.
    if let Some(word) = figures.every_layer() {
        return Ok(vec![of_word(figures, word)?; count as usize]);
    }
    if let Some(pattern) = figures.list("hybrid_layer_pattern") {
        return by(&|layer| pattern.get(layer as usize) == Some(&0), KindOfLayer::Sliding);
    }
    for key in LISTS {
        if let Some(words) = figures.words(key).filter(|words| words.len() as u64 >= count) {
            return words.iter().take(count as usize).map(|word| of_word(figures, word)).collect();
        }
    }
    let is_listed = |key: &str| figures.list(key).map(|list| move |layer: u64| list.contains(&layer));
    // Kimi Linear counts its layers from 1.
    if let Some(full) = figures.inner("linear_attn_config", "full_attn_layers").and_then(numbers) {
        return by(&|layer| full.contains(&(layer + 1)), KindOfLayer::State);
    }
    if let Some(types) = figures.list("attn_type_list") {
        return by(&|layer| types.get(layer as usize) == Some(&1), KindOfLayer::State);
    }
    for key in ["attn_layer_indices", "full_attn_idxs"] {
        if let Some(is_full) = is_listed(key) {
            return by(&is_full, KindOfLayer::State);
        }
    }
    if let Some(period) = figures.number(&["attn_layer_period"])?.filter(|period| *period > 0) {
        let offset = figures.number(&["attn_layer_offset"])?.unwrap_or(0);
        return by(&|layer| layer % period == offset, KindOfLayer::State);
    }
    if let Some(every) = figures.number(&["full_attention_interval"])?.filter(|every| *every > 0) {
        return by(&|layer| (layer + 1).is_multiple_of(every), KindOfLayer::State);
    }
    if figures.number(&["attention_chunk_size"])?.is_some() {
        let without = figures.list("no_rope_layers").filter(|list| list.len() as u64 >= count);
        let every = figures.number(&["no_rope_layer_interval"])?.unwrap_or(4).max(1);
        return match without {
            // 1 is a layer with rotary embeddings, whose attention goes by chunks.
            Some(rotary) => by(&|layer| rotary.get(layer as usize) == Some(&0), KindOfLayer::Chunked),
            None => by(&|layer| (layer + 1).is_multiple_of(every), KindOfLayer::Chunked),
        };
    }
    if let Some(word) = figures.every_layer() {
        return Ok(vec![of_word(figures, word)?; count as usize]);
    }
    if let Some(every) = figures.number(&["sliding_window_pattern", "_sliding_window_pattern"])?.filter(|n| *n > 0)
        && window(figures)?.is_some()
    {
        return by(&|layer| (layer + 1).is_multiple_of(every), KindOfLayer::Sliding);
    }
    // A window alone, as Mistral's first files have it, makes vLLM keep all tokens.
    Ok(vec![KindOfLayer::Full; count as usize])
}

/// The window of sliding attention, unless it is switched off.
///
/// # Errors
/// It is no number that a window can be.
pub(super) fn window(figures: &ConfigFigures<'_>) -> Result<Option<u64>, CacheUnknown> {
    let is_off = figures.value("use_sliding_window").is_some() && !figures.is_on("use_sliding_window");
    if is_off { Ok(None) } else { Ok(figures.number(&["sliding_window", "sliding_window_size"])?.filter(|n| *n > 0)) }
}

/// Reads a letter of Nemotron-H's pattern.
fn of_letter(letter: char) -> Result<KindOfLayer, CacheUnknown> {
    match letter {
        'M' => Ok(KindOfLayer::State),
        '*' => Ok(KindOfLayer::Full),
        '-' | 'E' => Ok(KindOfLayer::Neither),
        _ => Err(CacheUnknown::Kind { word: letter.to_string() }),
    }
}

fn of_word(figures: &ConfigFigures<'_>, word: &str) -> Result<KindOfLayer, CacheUnknown> {
    match word {
        "full_attention" | "attention" | "global_attention" => Ok(KindOfLayer::Full),
        "sliding_attention" | "local_attention" => match window(figures)? {
            Some(_) => Ok(KindOfLayer::Sliding),
            None => Ok(KindOfLayer::Full),
        },
        "chunked_attention" => Ok(KindOfLayer::Chunked),
        "linear_attention" | "mamba" | "mamba2" | "conv" | "kda" => Ok(KindOfLayer::State),
        "hybrid" => Ok(KindOfLayer::Both),
        "mlp" | "moe" | "none" => Ok(KindOfLayer::Neither),
        _ => Err(CacheUnknown::Kind { word: word.to_owned() }),
    }
}
