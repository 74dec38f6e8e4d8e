//! Layers over several GPUs, and those whose rows are several layers to a server.

use serde_json::{Value, json};

use super::serving::{CHANNELS, blocks, is_quantized, refused_until_followed};
use super::{errors, plan, shown};
use crate::support::shapes::{self, Shapes};

#[test]
fn layers_are_split_over_gpus_as_servers_split_them() {
    let fits = |shapes: &Shapes, recipe: &str| -> Vec<(usize, Option<String>)> {
        plan(recipe, shapes).alignments.iter().map(|at| (at.size, at.misfit.clone())).collect()
    };
    let sizes = |found: &[(usize, Option<String>)]| -> Vec<usize> {
        found.iter().filter(|(_, misfit)| misfit.is_none()).map(|(size, _)| *size).collect()
    };
    // Two heads of each kind: two GPUs at most.
    let small = shapes::small_text();
    let found = fits(&small, &blocks("Linear"));
    assert_eq!(sizes(&found), [1, 2]);
    assert_eq!(found[2].1.as_deref(), Some("2 attention heads cannot be shared by 4 GPUs"));
    // Key heads are copied where there are fewer than GPUs, and must otherwise be shared evenly.
    let heads = |queries: u64, keys: u64| {
        small.clone().with_config("num_attention_heads", queries.into()).with_config("num_key_value_heads", keys.into())
    };
    assert_eq!(sizes(&fits(&heads(8, 1), CHANNELS)), [1, 2, 4, 8]);
    assert_eq!(sizes(&fits(&heads(24, 3), CHANNELS)), [1]);
    let mut one_head = heads(8, 1);
    one_head.tensors.retain(|tensor| tensor.name.contains("k_proj") || tensor.name.contains("lm_head"));
    for layer in 0..2 {
        one_head.tensor(&format!("model.layers.{layer}.self_attn.k_proj.weight")).shape = vec![128, 256];
    }
    assert_eq!(sizes(&fits(&one_head, &blocks("Linear"))), [1, 2, 4, 8]);
    for key in ["n_head", "n_heads", "num_heads", "decoder_attention_heads"] {
        let nameless = small.clone().with_config("num_attention_heads", Value::Null);
        let named = nameless.with_config("num_key_value_heads", Value::Null).with_config(key, 2.into());
        assert_eq!(sizes(&fits(&named, CHANNELS)), [1, 2], "{key}");
    }
    let two_heads = one_head.with_config("num_key_value_heads", 2.into());
    assert_eq!(sizes(&fits(&two_heads, &blocks("Linear"))), [1]);
    // The input of `down_proj` is cut, not its output: 512 columns are four blocks, and 256 rows are not looked at.
    let mut wide = heads(8, 1);
    wide.tensors.retain(|tensor| {
        tensor.name.contains("down_proj") || tensor.name.contains("norm") || tensor.name.contains("lm_head")
    });
    let found = fits(&wide, &blocks("Linear"));
    assert_eq!(sizes(&found), [1, 2, 4]);
    assert_eq!(
        found[3].1.as_deref(),
        Some("`model.layers.0.mlp.down_proj` has 512 columns, 64 for each of 8: no multiple of 128")
    );
    // Rows have scales of their own, so that only the count matters.
    assert_eq!(sizes(&fits(&wide, CHANNELS)), [1, 2, 4, 8]);
    wide.tensor("model.layers.1.mlp.down_proj.weight").shape = vec![256, 508];
    let found = fits(&wide, CHANNELS);
    assert_eq!(found[3].1.as_deref(), Some("`model.layers.1.mlp.down_proj` has 508 columns, no multiple of 8"));
}

/// Mamba 2's fused projection is split part by part: inner size, states and heads each have to be whole blocks.
#[test]
fn a_fused_projection_of_mamba_is_split_part_by_part() {
    let mamba = |groups: u64, heads: u64| {
        let rows = (2 * 2048 + 2 * groups * 256 + heads) as usize;
        shapes::of_tensors([("backbone.layers.0.mixer.in_proj.weight", &[rows, 256][..])])
            .with_config("architectures", json!(["NemotronHForCausalLM"]))
            .with_config("model_type", "nemotron_h".into())
            .with_config("tie_word_embeddings", true.into())
            .with_config("num_attention_heads", 8.into())
            .with_config("num_key_value_heads", 8.into())
            .with_config("mamba_num_heads", heads.into())
            .with_config("n_groups", groups.into())
            .with_config("ssm_state_size", 256.into())
    };
    let misfits = |shapes: &Shapes, recipe: &str| -> Vec<Option<String>> {
        plan(recipe, shapes).alignments.iter().take(3).map(|at| at.misfit.clone()).collect()
    };
    let heads = |parts: &str| Some(format!("`backbone.layers.0.mixer.in_proj` has {parts}: no multiple of 128"));
    // Its 4096 + 1024 + 256 rows are whole blocks for each of four.
    let found = misfits(&mamba(4, 256), &blocks("Linear"));
    assert_eq!(found, [None, None, heads("256 rows of heads, 64 for each of 4")]);
    assert_eq!(misfits(&mamba(4, 256), CHANNELS), [None, None, None]);
    let found = misfits(&mamba(2, 512), &blocks("Linear"));
    assert_eq!(found[..2], [None, None]);
    assert_eq!(found[2].as_deref(), Some("2 groups of Mamba heads cannot be shared by 4 GPUs"));
    // vLLM copies a single group to every GPU.
    let found = misfits(&mamba(1, 512), &blocks("Linear"));
    assert_eq!(found[0], None);
    assert!(found[1].as_deref().unwrap().contains("the states of one group"), "{found:?}");
    assert_eq!(misfits(&mamba(1, 512), CHANNELS), [None, None, None]);
}

/// Attention of 768 columns with its queries, keys and values in one matrix, and an MLP with gate and up in one.
fn stored_fused(queries: u64, keys: u64, gate: usize) -> Shapes {
    let rows = (queries + 2 * keys) as usize * 64;
    let [qkv, gate_up] = ["model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.mlp.gate_up_proj.weight"];
    shapes::of_tensors([(qkv, &[rows, 768][..]), (gate_up, &[2 * gate, 768])])
        .with_config("architectures", json!(["Phi3ForCausalLM"]))
        .with_config("model_type", "phi3".into())
        .with_config("tie_word_embeddings", true.into())
        .with_config("num_attention_heads", queries.into())
        .with_config("num_key_value_heads", keys.into())
}

/// vLLM looks at the blocks of queries, keys and values one by one, though a checkpoint holds them as one matrix.
#[test]
fn blocks_do_not_lie_across_parts_that_are_stored_fused() {
    for (shapes, module) in [
        // As in tiny_starcoder: 768 rows of queries, and one head of 64 for all. The 896 rows are whole blocks.
        (stored_fused(12, 1, 512), "model.layers.0.self_attn.qkv_proj"),
        (stored_fused(12, 4, 448), "model.layers.0.mlp.gate_up_proj"),
    ] {
        let plan = refused_until_followed(&blocks("Linear"), &shapes, "1 layer would be cut inside a block");
        assert!(!is_quantized(&plan, module));
    }
    let whole = plan(&blocks("Linear"), &stored_fused(12, 4, 512));
    assert!(is_quantized(&whole, "model.layers.0.self_attn.qkv_proj"));
    plan(CHANNELS, &stored_fused(12, 1, 448));
    // Other names, and one head of keys by another key; vLLM 0.33 loads what is accepted here, and stops over what is refused.
    let starcoder = |rows: usize, columns: usize, heads: u64, multi_query: bool| {
        shapes::of_tensors([("transformer.h.0.attn.c_attn.weight", &[rows, columns][..])])
            .with_config("architectures", json!(["GPTBigCodeForCausalLM"]))
            .with_config("model_type", "gpt_bigcode".into())
            .with_config("tie_word_embeddings", true.into())
            .with_config("num_attention_heads", Value::Null)
            .with_config("num_key_value_heads", Value::Null)
            .with_config("n_head", heads.into())
            .with_config("multi_query", multi_query.into())
    };
    for (rows, columns, heads) in [(896, 768, 12), (384, 256, 4), (768, 384, 2)] {
        let refused = errors(&blocks("Linear"), &starcoder(rows, columns, heads, true));
        assert!(refused[0].message.contains("1 layer would be cut inside a block"), "{}", shown(&refused));
    }
    for (rows, columns, heads, multi_query) in
        [(512, 256, 2, true), (768, 256, 1, true), (1024, 768, 6, true), (768, 256, 4, false), (1152, 384, 6, false)]
    {
        let plan = plan(&blocks("Linear"), &starcoder(rows, columns, heads, multi_query));
        assert!(is_quantized(&plan, "transformer.h.0.attn.c_attn"), "{rows} rows of {heads} heads");
    }
    // Seven heads of 42 and two thirds: what is no layout of heads is left to the server.
    plan(&blocks("Linear"), &starcoder(896, 768, 7, false));
}

#[test]
fn parts_that_are_stored_fused_are_split_one_by_one() {
    let misfits = |shapes: &Shapes| -> Vec<Option<String>> {
        plan(&blocks("Linear"), shapes).alignments.iter().take(3).map(|at| at.misfit.clone()).collect()
    };
    let said = |module: &str, why: &str| Some(format!("`model.layers.0.{module}` has {why}: no multiple of 128"));
    let found = misfits(&stored_fused(16, 4, 512));
    assert_eq!(found, [None, None, said("self_attn.qkv_proj", "64 rows of keys for each of 4")]);
    let found = misfits(&stored_fused(16, 8, 384));
    assert_eq!(found[1], said("mlp.gate_up_proj", "192 rows in each half for each of 2"));
}
