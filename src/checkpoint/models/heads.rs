//! The numbers of attention heads, as servers count them.

use crate::config::Config;

/// The numbers of heads of the language model's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionHeads {
    pub queries: usize,
    /// Of keys, and of values.
    pub keys: usize,
}

impl AttentionHeads {
    /// The numbers of config.json, of the decoder where there is an encoder too; `None` where it says none.
    pub fn of(config: &Config) -> Option<Self> {
        let number = |key| config.text_number(key).and_then(|number| usize::try_from(number).ok()).filter(|&n| n > 0);
        let queries = Config::QUERY_HEADS.into_iter().chain(["decoder_attention_heads"]).find_map(number)?;
        // All queries share one head of keys, in Falcon unless it is of the newer architecture.
        let is_one = config.text_flag("multi_query") && !config.text_flag("new_decoder_architecture");
        let keys = if is_one { 1 } else { Config::KEY_HEADS.into_iter().find_map(number).unwrap_or(queries) };
        Some(Self { queries, keys })
    }

    /// The number of different shares of keys that so many GPUs have: where there are fewer heads, some have copies.
    pub fn shares_of_keys(self, gpus: usize) -> usize {
        self.keys.min(gpus)
    }

    /// The heads of keys that each of so many GPUs has.
    pub fn keys_of(self, gpus: usize) -> usize {
        (self.keys / gpus).max(1)
    }
}
