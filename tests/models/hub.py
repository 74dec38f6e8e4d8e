"""What published models have and transformers 5.24 does not write: variants, keys of config.json, names."""

# Variants of a model type that are models of their own on the hub: name -> model type, or model type and class.
VARIANTS = {
    "gemma4@moe": "gemma4",
    "gemma4@e4b": "gemma4",
    "deepseek_v3@noq": "deepseek_v3",
    "llama4@interleaved": "llama4",
    "nemotron_h@latent": "nemotron_h",
    "qwen3@tied": "qwen3",
}

# Embedding models and rerankers: the same type under another class.
CLASSES = {
    "bert@classify": "BertForSequenceClassification",
    "bert@tokens": "BertForTokenClassification",
    "embedding_gemma2": "EmbeddingGemma2Model",
    "gemma2@classify": "Gemma2ForSequenceClassification",
    "gemma3_text@model": "Gemma3TextModel",
    "gpt2@classify": "GPT2ForSequenceClassification",
    "gte@model": "GteModel",
    "jamba@classify": "JambaForSequenceClassification",
    "llama@classify": "LlamaForSequenceClassification",
    "llama@model": "LlamaModel",
    "mistral@classify": "MistralForSequenceClassification",
    "mistral@model": "MistralModel",
    "modernbert@classify": "ModernBertForSequenceClassification",
    "modernbert@model": "ModernBertModel",
    "nomic_bert@model": "NomicBertModel",
    "openai_privacy_filter": "OpenAIPrivacyFilterForTokenClassification",
    "qwen2@classify": "Qwen2ForSequenceClassification",
    "qwen2@model": "Qwen2Model",
    "qwen3@classify": "Qwen3ForSequenceClassification",
    "qwen3@model": "Qwen3Model",
    "roberta@classify": "RobertaForSequenceClassification",
    "roberta@tokens": "RobertaForTokenClassification",
    "xlm-roberta@classify": "XLMRobertaForSequenceClassification",
    "xlm-roberta@tokens": "XLMRobertaForTokenClassification",
}
VARIANTS.update({name: name.partition("@")[0] for name in CLASSES})

# Keys that published configs have, those of transformers no longer, and vLLM reads: put into config.json after saving.
NOAUX = {"topk_method": "noaux_tc", "scoring_func": "sigmoid"}
LFM2 = {
    "block_dim": 256,
    "block_ff_dim": 512,
    "conv_dim": 256,
    "conv_dim_out": 256,
    "block_norm_eps": 1e-5,
    "block_use_swiglu": True,
}
DSA = {
    **NOAUX,
    "layer_types": "__del__",
    "mlp_layer_types": "__del__",
    "indexer_types": "__del__",
    "first_k_dense_replace": 1,
}
HUB_KEYS = {
    "cosmos3_omni": {"architectures": ["Cosmos3ForConditionalGeneration"]},
    "deepseek_v4": {"topk_method": "noaux_tc"},
    "deepseek_v3": NOAUX,
    "deepseek_v3@noq": NOAUX,
    "deepseek_v32": DSA,
    "glm_moe_dsa": DSA,
    "kimi_k25": {"architectures": ["KimiK25ForConditionalGeneration"], "text_config": NOAUX},
    "exaone": {"architectures": ["ExaoneForCausalLM"]},
    "internlm3": {"architectures": ["InternLM3ForCausalLM"]},
    "iquestcoder": {"architectures": ["IQuestCoderForCausalLM"]},
    "gte@model": {
        "architectures": ["GteNewModel"],
        "position_embedding_type": "rope",
        "pack_qkv": True,
        "layer_norm_type": "layer_norm",
    },
    "nomic_bert@model": {
        "activation_function": "swiglu",
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "qkv_proj_bias": False,
        "rotary_emb_scale_base": None,
        "rotary_emb_interleaved": False,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_base": 1000,
        "layer_norm_epsilon": 1e-12,
        "n_inner": 512,
        "n_embd": 256,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 2048,
        "max_trained_positions": 2048,
    },
    "inkling_text": {"padded_vocab_size": 512, "use_embed_norm": True},
    "lighton_ocr": {
        "architectures": ["LightOnOCRForConditionalGeneration"],
        "vision_feature_layer": -1,
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": False,
    },
    "minimax_m3_vl": {
        "text_config": {"hidden_act": "swigluoai"},
        "vision_config": {"img_token_compression_config": {"spatial_merge_size": 2, "temporal_patch_size": 2}},
    },
    "qwen4_exp": {"vision_config": {"deepstack_visual_indexes": []}, "text_config": {"output_gate_type": "silu"}},
    "qwen4_exp_text": {"output_gate_type": "silu"},
    "sarvam_mla": {"architectures": ["SarvamMLAForCausalLM"], **NOAUX},
    "sarvam_moe": {
        "architectures": ["SarvamMoEForCausalLM"],
        "embedding_dropout": 0.0,
        "output_dropout": 0.0,
        "use_bias": False,
        "use_rmsnorm": True,
        "norm_head": False,
        "score_function": "sigmoid",
        "moe_router_enable_expert_bias": True,
    },
    "step3p7": {"vision_config": {"output_dim": None, "width": 128, "layers": 2, "heads": 2}},
    "kimi_linear": {
        "mla_use_nope": True,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "linear_attn_config": {
            "kda_layers": [1, 2],
            "full_attn_layers": [3],
            "num_heads": 4,
            "head_dim": 64,
            "short_conv_kernel_size": 4,
        },
    },
    "voxtral": {"audio_config": {"downsample_factor": 4}},
    "zamba2": {"hybrid_layer_ids": [1], "num_mem_blocks": 1},
    "phimoe": {"architectures": ["PhiMoEForCausalLM"]},
    "xlm-roberta": {"position_embedding_type": "absolute"},
    "xlm-roberta@classify": {"position_embedding_type": "absolute"},
    "ernie4_5_vl_moe": {
        "pixel_hidden_size": 128,
        "hidden_size": 256,
        "spatial_conv_size": 2,
        "temporal_conv_size": 2,
        "use_temporal_conv": True,
        "vocab_size": 512,
        "im_patch_id": 400,
        "moe_layer_start_index": [1, 1],
        "moe_layer_end_index": [1, 1],
        "moe_layer_interval": 1,
        "moe_use_aux_free": True,
        "vision_config": {"embed_dim": 128, "mlp_ratio": 2},
    },
    "glm4_moe": {"head_dim": 64},
    "glm4v_moe": {"text_config": {"head_dim": 64, "use_qk_norm": False}},
    "glm4_moe_lite": {**NOAUX, "first_k_dense_replace": 1},
    "hy_v3": {"first_k_dense_replace": 1, "expert_hidden_dim": 384, "route_norm": True, "qk_norm": True},
    "hy_v4": {"layer_types": "__del__", "first_k_dense_replace": 1},
    "lfm2": LFM2,
    "lfm2_vl": {"text_config": LFM2},
    "longcat_flash": {
        "mla_scale_q_lora": True,
        "mla_scale_kv_lora": True,
        "zero_expert_type": "identity",
        "attention_method": "MLA",
    },
    "mimo_v2_flash": {
        "hybrid_layer_pattern": [0, 1, 1, 1],
        "moe_layer_freq": [0, 1, 1, 1],
        "swa_num_attention_heads": 4,
        "swa_num_key_value_heads": 2,
        "swa_head_dim": 64,
        "swa_v_head_dim": 64,
        "add_swa_attention_sink_bias": True,
        "add_full_attention_sink_bias": False,
        "swa_rope_theta": 10000.0,
        "rope_theta": 5000000.0,
        "partial_rotary_factor": 0.334,
        "layernorm_epsilon": 1e-5,
        "sliding_window_size": 128,
        **NOAUX,
    },
    "minimax_m2": {
        "rotary_dim": 32,
        "scoring_func": "sigmoid",
        "use_routing_bias": True,
        "use_qk_norm": True,
        "qk_norm_type": "per_layer",
        "attn_type_list": [1, 1],
        "num_mtp_modules": 0,
    },
    "afmoe": {"score_func": "sigmoid", "route_norm": True, "n_group": 1, "topk_group": 1},
    "glm4v": {"text_config": {"attention_bias": True}},
    "qwen3_omni_moe": {
        "thinker_config": {
            "text_config": {"tie_word_embeddings": False},
            "vision_config": {"image_size": 768, "apply_vit_abs_pos_embed": True},
        }
    },
    "qwen3_vl_moe": {"text_config": {"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}},
    "dbrx": {
        "attn_config": {"_name_or_path": "__del__", "output_attentions": "__del__"},
        "ffn_config": {"_name_or_path": "__del__", "output_attentions": "__del__"},
    },
}

# Names of the published files that transformers reads and does not write: type -> (pattern, replacement), in order.
HUB_NAMES = {
    "kimi_k25": [
        (r"^model\.mm_projector\.", "mm_projector."),
        (r"^vision_tower\.encoder\.patch_embed\.", "vision_tower.patch_embed."),
        (r"^language_model\.model\.blocks\.", "language_model.model.layers."),
    ],
    "kimi_linear": [(r"\.block_sparse_moe\.(gate|up|down)_proj\.", r".mlp.\1_proj.")],
    # What vLLM reads, and transformers as well as what it writes.
    "olmo_hybrid": [
        (r"\.attention_layer_norm\.", ".input_layernorm."),
        (r"\.feedforward_layer_norm\.", ".post_attention_layernorm."),
    ],
    "deepseek_v4": [
        (r"^model\.hc_head\.hc_", "hc_head_"),
        (r"^model\.embed_tokens\.", "embed."),
        (r"^model\.", ""),
        (r"\.attn\.norm\.", ".attn.kv_norm."),
    ],
}

# Types whose published config.json has the keys of the language model at the top.
FLAT = {"ernie4_5_vl_moe"}
