//! Rows that end inside a block, as DeepSeek's official files have them: 576 rows in five rows of scales.

use serde_json::json;

use crate::support::random::{Output, Random, Scene, Tensor, Tensors};

const HIDDEN: usize = 256;
/// Four and a half blocks, as published.
const CUT: usize = 576;
const WHOLE: usize = 640;
const FUSED: &str = "model.layers.0.self_attn.kv_a_proj_with_mqa";
const BLOCKS: &str = "format: fp8\nscheme: FP8_DYNAMIC\nblock_size: 128\ntargets: Linear\n";

fn applied(scene: &Scene, name: &str, kv_a: Tensor) -> Output {
    let mut random = Random::new(9);
    let shapes: [(&str, &[usize]); 5] = [
        ("model.embed_tokens.weight", &[8, HIDDEN]),
        ("model.layers.0.self_attn.q_a_proj.weight", &[128, HIDDEN]),
        ("model.layers.0.self_attn.o_proj.weight", &[HIDDEN, HIDDEN]),
        ("model.layers.0.mlp.down_proj.weight", &[HIDDEN, 128]),
        ("lm_head.weight", &[8, HIDDEN]),
    ];
    let mut tensors: Tensors =
        shapes.into_iter().map(|(name, shape)| (name.to_owned(), random.tensor(shape))).collect();
    tensors.insert(format!("{FUSED}.weight"), kv_a);
    let config = json!({
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "num_hidden_layers": 1,
    });
    let source = scene.checkpoint(&format!("{name}-source"), &[tensors], config);
    let output = scene.apply(BLOCKS, &source, name, &[]);
    let dir = scene.path(name);
    let arguments = ["verify", dir.to_str().unwrap(), "--source", source.to_str().unwrap(), "--require-source"];
    scene.tool(&arguments, &[]).unwrap();
    output
}

#[test]
fn the_last_scales_are_those_of_the_rows_that_are_there() {
    let scene = Scene::new();
    let cut = Random::new(7).tensor(&[CUT, HIDDEN]);
    // The same rows, and below them zeros to the end of the block, which change no amax.
    let mut whole = Tensor { shape: vec![WHOLE, HIDDEN], ..cut.clone() };
    whole.bytes.resize(WHOLE * HIDDEN * 2, 0);
    let (cut, whole) = (applied(&scene, "cut", cut), applied(&scene, "whole", whole));

    let (codes, scales) = (format!("{FUSED}.weight"), format!("{FUSED}.weight_scale_inv"));
    assert_eq!(cut.tensor(&codes).shape, [CUT, HIDDEN]);
    assert_eq!(cut.tensor(&scales).shape, [CUT.div_ceil(128), HIDDEN / 128]);
    assert_eq!(cut.tensor(&scales), whole.tensor(&scales));
    assert!(cut.tensor(&codes).bytes == whole.tensor(&codes).bytes[..CUT * HIDDEN]);
}
