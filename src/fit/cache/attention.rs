//! Bytes per token of attention: grouped heads, latents (MLA), and the indexer of sparse attention.

use super::dtype::CacheDtype;
use super::product;
use crate::checkpoint::config::Config;
use crate::fit::error::CacheUnknown;
use crate::fit::figures::ConfigFigures;

/// Bytes of a token in FlashMLA's own form of an FP8 cache: 512 codes, 16 bytes of scales, 128 of the rotary part.
const FP8_SPARSE_LATENT: u64 = 656;
/// Bytes of the scale beside each of the indexer's keys.
const INDEXER_SCALE: u64 = 4;

/// The widths of attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attention<'a> {
    figures: &'a ConfigFigures<'a>,
    gpus: u64,
    dtype: CacheDtype,
}

impl<'a> Attention<'a> {
    pub(super) fn new(figures: &'a ConfigFigures<'a>, gpus: u64, dtype: CacheDtype) -> Self {
        Self { figures, gpus, dtype }
    }

    /// Bytes of a token in this layer, of full attention.
    pub(super) fn full(&self, layer: usize) -> Result<u64, CacheUnknown> {
        let same = self.figures.is_on("attention_k_eq_v");
        let heads = self.figures.number(&["num_global_key_value_heads"])?.filter(|_| same);
        let head = self.figures.number(&["global_head_dim"])?;
        let [heads, head] =
            [self.of_layer(layer, "num_key_value_heads").or(heads), self.of_layer(layer, "head_dim").or(head)];
        self.keys_and_values(heads, head, &["v_head_dim"])
    }

    /// Bytes of a token in this layer, of sliding attention.
    pub(super) fn sliding(&self, layer: usize) -> Result<u64, CacheUnknown> {
        let heads =
            self.of_layer(layer, "num_key_value_heads").or(self.figures.number(&["swa_num_key_value_heads"])?);
        let head = self.of_layer(layer, "head_dim").or(self.figures.number(&["swa_head_dim"])?);
        self.keys_and_values(heads, head, &["swa_v_head_dim", "v_head_dim"])
    }

    /// A figure of one layer alone, as transformers 5 writes those that differ.
    fn of_layer(&self, layer: usize, key: &str) -> Option<u64> {
        let figure = self.figures.inner("per_layer_config", &layer.to_string())?.get(key)?.as_u64();
        figure.filter(|figure| (1..1 << 32).contains(figure))
    }

    fn keys_and_values(&self, heads: Option<u64>, head: Option<u64>, values: &[&str]) -> Result<u64, CacheUnknown> {
        let heads = match heads {
            Some(heads) => heads,
            None => self.key_heads()?,
        };
        let head = match head {
            Some(head) => head,
            None => self.head()?,
        };
        // Values are padded to the width of keys there.
        let narrow = self.figures.number(values)?.filter(|width| *width > 0 && !self.figures.keeps_keys());
        let value = narrow.unwrap_or(head);
        // With more GPUs than heads, several GPUs hold the same head.
        let heads = (heads / self.gpus).max(1);
        product(&[heads, head + value, self.dtype.bytes()]).ok_or(CacheUnknown::Overflow)
    }

    fn query_heads(&self) -> Result<u64, CacheUnknown> {
        self.figures.required(&Config::QUERY_HEADS)
    }

    fn key_heads(&self) -> Result<u64, CacheUnknown> {
        if self.figures.is_on("multi_query") && !self.figures.is_on("new_decoder_architecture") {
            return Ok(1);
        }
        let grouped = self.figures.number(&Config::KEY_HEADS)?;
        match grouped.filter(|heads| *heads > 0) {
            Some(heads) => Ok(heads),
            None => self.query_heads(),
        }
    }

    fn head(&self) -> Result<u64, CacheUnknown> {
        if self.figures.keeps_keys() {
            return Ok(self.figures.required(&["qk_nope_head_dim"])? + self.figures.required(&["qk_rope_head_dim"])?);
        }
        if let Some(head) = self.figures.number(&["head_dim", "kv_channels"])?.filter(|head| *head > 0) {
            return Ok(head);
        }
        Ok(self.figures.required(&["hidden_size", "n_embd", "d_model"])? / self.query_heads()?)
    }

    /// Bytes of a token in a layer that keeps a latent in place of keys and values, `None` where layers keep none. Every
    /// GPU holds all of it.
    pub(super) fn latent(&self) -> Result<Option<u64>, CacheUnknown> {
        let rank = self.figures.number(&["kv_lora_rank"])?.filter(|rank| *rank > 0 && !self.figures.keeps_keys());
        let Some(rank) = rank else { return Ok(None) };
        if self.is_sparse() && self.dtype == CacheDtype::Fp8 {
            return Ok(Some(FP8_SPARSE_LATENT));
        }
        let rotary = self.figures.required(&["qk_rope_head_dim"])?;
        product(&[rank + rotary, self.dtype.bytes()]).map(Some).ok_or(CacheUnknown::Overflow)
    }

    /// Reports whether an indexer chooses the tokens that are attended to.
    pub(super) fn is_sparse(&self) -> bool {
        self.figures.value("index_topk").is_some()
    }

    /// Bytes of a token that the indexer of a layer keeps: a key in FP8 and its scale.
    pub(super) fn indexer(&self) -> Result<u64, CacheUnknown> {
        Ok(self.figures.required(&["index_head_dim"])? + INDEXER_SCALE)
    }
}
