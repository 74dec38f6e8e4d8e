//! Figures of config.json that cannot be, or are not there: said, and never a panic.

use qwen_fp8::fit::{CacheDtype, pool};
use serde_json::{Value, json};

use super::model_of;

fn plain() -> Value {
    json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16
    })
}

/// What is said of a config with these keys changed; null takes one out.
fn said(changes: Value) -> Result<u64, String> {
    let mut config = plain();
    for (key, value) in changes.as_object().unwrap() {
        config[key.as_str()] = value.clone();
    }
    let (config, model) = model_of(&config);
    pool(&config, &model, 1, CacheDtype::Auto, 2048)
        .map(|pool| pool.map_or(0, |pool| pool.bytes_per_block))
        .map_err(|unknown| unknown.to_string())
}

#[test]
fn a_cache_is_counted_by_the_kind_of_each_layer() {
    let of_layer = 2 * 16 * 2 * 2 * 16;
    for (changes, layers) in [
        (json!({}), 4),
        (json!({"num_key_value_heads": null}), 8),
        (json!({"head_dim": null}), 4),
        (json!({"num_kv_shared_layers": 1}), 3),
        (json!({"sliding_window": 32}), 4),
        (json!({"sliding_window": 32, "use_sliding_window": false}), 4),
        // Two groups share the bytes of one.
        (
            json!({"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]}),
            2,
        ),
        (
            json!({"attention_chunk_size": 32, "layer_types": ["chunked_attention", "full_attention", "full_attention", "chunked_attention"]}),
            2,
        ),
        (json!({"layer_types": ["moe", "full_attention", "mlp", "full_attention"]}), 2),
    ] {
        assert_eq!(said(changes.clone()), Ok(layers * of_layer), "{changes}");
    }
    // A latent of 32 and its rotary part of 8 stand for keys and values; an indexer makes blocks of 64.
    let latent = json!({"kv_lora_rank": 32, "qk_rope_head_dim": 8});
    assert_eq!(said(latent), Ok(4 * 40 * 2 * 16));
    let sparse = json!({"kv_lora_rank": 32, "qk_rope_head_dim": 8, "index_topk": 4, "index_head_dim": 16});
    assert_eq!(said(sparse), Ok(4 * (40 * 2 + 16 + 4) * 64));
}

#[test]
fn figures_that_cannot_be_are_named() {
    let most = u64::from(u32::MAX);
    for (changes, expected) in [
        (json!({"num_hidden_layers": null}), "config.json has no `num_hidden_layers`"),
        (json!({"num_hidden_layers": 0}), "`num_hidden_layers` of config.json is 0, which is no size that a model has"),
        (json!({"num_hidden_layers": 1_u64 << 40}), "`num_hidden_layers` of config.json is 1099511627776,"),
        (json!({"num_hidden_layers": "4"}), "`num_hidden_layers` of config.json is \"4\","),
        (json!({"num_hidden_layers": -4}), "`num_hidden_layers` of config.json is -4,"),
        (json!({"head_dim": 1.5}), "`head_dim` of config.json is 1.5,"),
        (json!({"head_dim": null, "hidden_size": null}), "config.json has no `hidden_size`"),
        (json!({"head_dim": null, "num_attention_heads": 0}), "`num_attention_heads` of config.json is 0,"),
        (
            json!({"head_dim": most, "num_key_value_heads": most}),
            "the figures of config.json make a cache of more bytes",
        ),
        (json!({"kv_lora_rank": 32}), "config.json has no `qk_rope_head_dim`"),
        (json!({"layer_types": ["a", "b", "c", "d"]}), "layers of the kind `a`, whose cache is not known"),
        (
            json!({"layer_types": ["linear_attention", "full_attention", "full_attention", "full_attention"]}),
            "`linear attention`",
        ),
        (json!({"attention_chunk_size": 0}), "`attention_chunk_size` of config.json is 0,"),
        (json!({"hybrid_override_pattern": "M?"}), "layers of the kind"),
    ] {
        let said = said(changes.clone()).expect_err("it must be refused");
        assert!(said.contains(expected), "{changes}: {said}");
    }
}

#[test]
fn gpus_and_tokens_may_be_any_number() {
    let (config, model) = model_of(&plain());
    for gpus in [1, 3, 1000, u64::MAX] {
        let pool = pool(&config, &model, gpus, CacheDtype::Fp8, 2048).unwrap().unwrap();
        assert_eq!(pool.longest(0, 1, u64::MAX), 0);
        assert_eq!(pool.requests(u64::MAX, u64::MAX), 15);
        assert_eq!(pool.longest(u64::MAX, u64::MAX, u64::MAX), 0);
        assert_eq!(pool.tokens(u64::MAX, u64::MAX), u64::MAX);
    }
}
