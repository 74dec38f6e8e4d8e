//! Weights that hold what no cast should meet, dtypes and shapes that are odd, and models that are quantized already.

use std::fs;
use std::process::Command;

use crate::support::judge::Case;
use crate::support::judge::Want::{Accept, Refuse, Then};
use crate::support::program::program;
use crate::support::scene::{CONFIG, Scene, VICTIM, second, tensor};

/// Bits of BF16 into the victim, from element 7 on.
fn poke(scene: &Scene, bits: u16, count: usize) {
    let mut data = second().into_iter().find(|t| t.name == VICTIM).unwrap().data;
    for element in data.chunks_exact_mut(2).skip(7).take(count) {
        element.copy_from_slice(&bits.to_le_bytes());
    }
    scene.victim("BF16", &[16, 16], &data);
}

/// The victim made of one number of 16 bits.
fn fill(scene: &Scene, bits: u16) {
    scene.victim("BF16", &[16, 16], &bits.to_le_bytes().repeat(256));
}

/// The gate and the victim of zeros, in this shape.
fn mlp(scene: &Scene, shape: [usize; 2]) {
    let mut tensors = second();
    for tensor in tensors.iter_mut().filter(|t| t.name.contains("gate_proj") || t.name == VICTIM) {
        tensor.shape = shape.to_vec();
        tensor.data = vec![0; 2 * shape[0] * shape[1]];
    }
    scene.tensors(&tensors);
}

/// Blocks of 128 over weights of this shape.
fn blocks(scene: &Scene, shape: [usize; 2], more: &str) {
    mlp(scene, shape);
    scene.recipe(&format!("scheme: FP8_DYNAMIC\nblock_size: 128\ntargets: ['re:.*(gate|up)_proj']\n{more}"));
}

fn are_the_same_again(scene: &Scene) {
    let mut again = Command::new(program());
    again.args(["apply", "recipe.yaml", "--model", "model", "--output", "again"]).current_dir(scene.root());
    assert!(again.output().unwrap().status.success());
    for entry in fs::read_dir(scene.at("out")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(fs::read(scene.at("out").join(&name)).unwrap() == fs::read(scene.at("again").join(&name)).unwrap());
    }
}

pub(crate) const CASES: &[Case] = &[
    Case("NaN", |s| poke(s, 0x7fc1, 1), Refuse(&["up_proj", "NaN"])),
    Case("negative NaN", |s| poke(s, 0xffff, 1), Refuse(&["up_proj", "NaN"])),
    Case("signalling NaN", |s| poke(s, 0x7f81, 1), Refuse(&["up_proj", "NaN"])),
    Case("infinity", |s| poke(s, 0x7f80, 1), Refuse(&["up_proj", "inf"])),
    Case("negative infinity", |s| poke(s, 0xff80, 3), Refuse(&["up_proj", "inf"])),
    Case(
        "NaN at the last place",
        |s| s.victim("BF16", &[16, 16], &[vec![0; 510], vec![0xc0, 0x7f]].concat()),
        Refuse(&["up_proj", "NaN"]),
    ),
    Case("NaN in a norm", |s| s.extra("model.layers.0.input_layernorm.weight", "BF16", &[1], &[0xc1, 0x7f]), Accept),
    Case(
        "NaN in F32",
        |s| s.victim("F32", &[16, 16], &f32::NAN.to_le_bytes().repeat(256)),
        Refuse(&["up_proj", "NaN"]),
    ),
    Case(
        "NaN in F16",
        |s| s.victim("F16", &[16, 16], &0x7e00u16.to_le_bytes().repeat(256)),
        Refuse(&["up_proj", "NaN"]),
    ),
    Case(
        "LoRA that was not merged",
        |s| s.extra("model.layers.0.self_attn.q_proj.lora_A.default.weight", "BF16", &[2, 16], &[0; 64]),
        Refuse(&["a LoRA that was not merged", "lora_A.default.weight", "merge it first"]),
    ),
    Case(
        "LoRA of a model that is published with it",
        |s| {
            s.config(CONFIG.replace("qwen3", "phi4mm"));
            s.extra("model.layers.0.self_attn.q_proj.lora_A.vision.weight", "BF16", &[2, 16], &[0; 64])
        },
        Accept,
    ),
    Case("all zero", |s| fill(s, 0), Accept),
    Case("all negative zero", |s| fill(s, 0x8000), Accept),
    Case("one row of zeros", |s| poke(s, 0, 25), Accept),
    Case("smallest subnormals", |s| fill(s, 1), Accept),
    Case("largest subnormals", |s| fill(s, 0x007f), Accept),
    Case("smallest normals", |s| fill(s, 0x0080), Accept),
    Case("largest number", |s| poke(s, 0x7f7f, 1), Accept),
    Case("all largest", |s| fill(s, 0xff7f), Accept),
    Case("F32 too large for BF16", |s| s.victim("F32", &[16, 16], &f32::MAX.to_le_bytes().repeat(256)), Accept),
    Case("F32", |s| s.victim("F32", &[16, 16], &0.5f32.to_le_bytes().repeat(256)), Accept),
    Case("F16", |s| s.victim("F16", &[16, 16], &0x3800u16.to_le_bytes().repeat(256)), Accept),
    Case("F64 weight", |s| s.victim("F64", &[16, 16], &[0; 2048]), Refuse(&["up_proj", "F64"])),
    Case("I8 weight", |s| s.victim("I8", &[16, 16], &[0; 256]), Refuse(&["up_proj", "I8"])),
    Case("I64 weight", |s| s.victim("I64", &[16, 16], &[0; 2048]), Refuse(&["up_proj", "I64"])),
    Case("weight without elements", |s| s.victim("BF16", &[0, 16], b""), Accept),
    Case(
        "weight of one dimension",
        |s| s.victim("BF16", &[256], &[0; 512]),
        Refuse(&["up_proj", "shape [256]", "one layer"]),
    ),
    Case(
        "weight of three dimensions",
        |s| s.victim("BF16", &[2, 8, 16], &[0; 512]),
        Refuse(&["up_proj", "shape [2, 8, 16]", "one layer"]),
    ),
    Case("scalar", |s| s.extra("model.alpha", "BF16", &[], &[0; 2]), Accept),
    Case(
        "tensors without elements",
        |s| s.tensors(&[second(), (0..9).map(|i| tensor(&format!("e{i}"), "BF16", &[0, i], b"")).collect()].concat()),
        // All of them begin at one offset, and no two runs may order them in two ways.
        Then(are_the_same_again),
    ),
    Case(
        "every other dtype",
        |s| {
            let odd = [
                ("I64", 8),
                ("I32", 4),
                ("U16", 2),
                ("U32", 4),
                ("U64", 8),
                ("F64", 8),
                ("C64", 8),
                ("F8_E5M2", 1),
                ("F8_E8M0", 1),
                ("F8_E4M3FNUZ", 1),
            ];
            let odd = odd.iter().map(|&(dtype, size)| tensor(&format!("x.{dtype}"), dtype, &[1], &vec![0xa5; size]));
            s.tensors(&second().into_iter().chain(odd).collect::<Vec<_>>());
        },
        Accept,
    ),
    Case("BOOL that is neither", |s| s.extra("x.bool", "BOOL", &[2], b"\x02\xff"), Accept),
    Case("F4 that is copied", |s| s.extra("x.f4", "F4", &[2, 4], b"\x12\x34\x56\x78"), Accept),
    Case("bias", |s| s.extra("model.layers.0.mlp.up_proj.bias", "BF16", &[16], &[0; 32]), Accept),
    Case(
        "fused experts",
        |s| s.extra("model.layers.0.mlp.experts.gate_up_proj", "BF16", &[2, 16, 32], &[0; 2048]),
        Refuse(&["experts.gate_up_proj"]),
    ),
    Case("FP8 already", |s| s.victim("F8_E4M3", &[16, 16], &[0; 256]), Refuse(&["up_proj", "F8_E4M3", "already"])),
    Case(
        "FP8 by its config",
        |s| s.config_with(r#""quantization_config":{"quant_method":"fp8"}"#),
        Refuse(&["`fp8`", "already"]),
    ),
    Case(
        "GPTQ by its config",
        |s| s.config_with(r#""quantization_config":{"quant_method":"gptq","bits":4}"#),
        Refuse(&["`gptq`", "already"]),
    ),
    Case(
        "GPTQ by its tensors",
        |s| s.extra("model.layers.0.mlp.up_proj.qweight", "I32", &[2, 16], &[0; 128]),
        Refuse(&["qweight", "already"]),
    ),
    Case(
        "quantized by a number",
        |s| s.config_with(r#""quantization_config":7"#),
        Refuse(&["quantization_config", "already"]),
    ),
    Case(
        "AWQ by its config",
        |s| s.config_with(r#""quantization_config":{"quant_method":"awq","bits":4}"#),
        Refuse(&["`awq`"]),
    ),
    Case(
        "bitsandbytes by its config",
        |s| s.config_with(r#""quantization_config":{"quant_method":"bitsandbytes","load_in_4bit":true}"#),
        Refuse(&["`bitsandbytes`"]),
    ),
    Case(
        "packed by its tensors",
        |s| s.extra("model.layers.0.mlp.up_proj.weight_packed", "I32", &[16, 2], &[0; 128]),
        Refuse(&["weight_packed"]),
    ),
    Case("quantized by null", |s| s.config_with(r#""quantization_config":null"#), Accept),
    Case("tied, with a head", |s| s.config(crate::support::scene::CONFIG.replace("false", "true")), Accept),
    Case(
        "tied, without a head",
        |s| {
            s.config(crate::support::scene::CONFIG.replace("false", "true"));
            s.tensors(&second().into_iter().filter(|t| t.name != "lm_head.weight").collect::<Vec<_>>());
            s.recipe("scheme: FP8_DYNAMIC\ntargets: Linear\n");
        },
        Accept,
    ),
    Case(
        "untied, without a head",
        |s| {
            s.tensors(&second().into_iter().filter(|t| t.name != "lm_head.weight").collect::<Vec<_>>());
            s.recipe("scheme: FP8_DYNAMIC\ntargets: Linear\n");
        },
        Refuse(&["`tie_word_embeddings: false`", "no `lm_head.weight`"]),
    ),
    Case(
        "blocks that the columns end in",
        |s| blocks(s, [16, 16], ""),
        Refuse(&["cut inside a block", "shape [16, 16]"]),
    ),
    Case("blocks around one element", |s| blocks(s, [1, 1], ""), Refuse(&["cut inside a block", "shape [1, 1]"])),
    Case("blocks around one element, for whoever wants it", |s| blocks(s, [1, 1], "serving: warn\n"), Accept),
    Case("blocks that end in both, for whoever wants it", |s| blocks(s, [130, 200], "serving: warn\n"), Accept),
    Case(
        "one element per row",
        |s| {
            mlp(s, [16, 1]);
            s.recipe("scheme: FP8_DYNAMIC\ntargets: Linear\nignore: [lm_head]\n");
        },
        Accept,
    ),
    Case("another number of layers", |s| s.config_with(r#""layers":4,"x":{"num_hidden_layers":4}"#), Accept),
];
