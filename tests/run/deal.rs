//! Parts of a plan are equally large, whatever the shards.

use std::path::Path;

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::plan::Plan;
use qwen_fp8::recipe::{Recipe, RecipeText};
use qwen_fp8::run::bytes_of_parts;

use crate::support::shapes::qwen3::{qwen3_30b_a3b, qwen3_moe};
use crate::support::shapes::{self, Shapes, Text};

const BLOCKS: &str = "format: fp8\nscheme: FP8_DYNAMIC\nblock_size: 128\ntargets: Linear\nignore: [lm_head]\n";
const NVFP4: &str = "format: compressed-tensors\nscheme: NVFP4A16\ntargets: Linear\nignore: [lm_head]\n";
const STACKS: &str = "
format: compressed-tensors
experts: split
scheme: NVFP4A16
targets: Linear
ignore: [lm_head, 're:.*visual.*']
";

fn plan(recipe: &str, shapes: &Shapes, shard_bytes: u64) -> Plan {
    let dir = shapes.write(shard_bytes);
    let recipe = Recipe::parse(RecipeText::new(Path::new("recipe.yaml"), recipe)).unwrap();
    Plan::build(recipe, Checkpoint::open(dir.path()).unwrap())
        .unwrap_or_else(|refused| panic!("{:?}", refused.diagnostics))
}

/// The largest part of each number of parts is at most 5 % above the mean.
fn is_balanced(name: &str, plan: &Plan) {
    let total: u64 = plan.shards.iter().map(|shard| shard.data_len()).sum();
    for parts in (2..=16).chain([24, 31, 32, 47, 48, 63, 64]) {
        let bytes = bytes_of_parts(plan, parts).unwrap();
        assert_eq!((bytes.len(), bytes.iter().sum::<u64>()), (parts, total), "{name}, {parts} parts");
        let largest = bytes.iter().max().copied().unwrap_or_default();
        assert!(largest * 100 * parts as u64 <= total * 105, "{name}, {parts} parts: {largest} of {total}: {bytes:?}");
    }
}

/// An MoE of 94 layers and 128 experts, and one of a terabyte in BF16.
fn moe(layers: usize, hidden: usize, experts: (usize, usize)) -> Shapes {
    let text =
        Text { hidden, layers, intermediate: 12288, heads: 64, kv_heads: 4, tied: false, experts: Some(experts) };
    qwen3_moe(&text)
}

#[test]
fn parts_of_8b_are_equally_large() {
    let shapes = shapes::qwen3_8b();
    for (recipe, shard_bytes) in [(BLOCKS, 4 << 30), (NVFP4, 4 << 30), (BLOCKS, u64::MAX)] {
        is_balanced("8B", &plan(recipe, &shapes, shard_bytes));
    }
}

#[test]
fn parts_of_30b_a3b_are_equally_large() {
    is_balanced("30B-A3B per expert", &plan(BLOCKS, &qwen3_30b_a3b(), 4 << 30));
    is_balanced("30B-A3B of stacks", &plan(STACKS, &shapes::qwen3_vl_30b_stacked(), 5 << 30));
}

#[test]
fn parts_of_235b_are_equally_large() {
    let shapes = moe(94, 4096, (128, 1536));
    assert!((460_000_000_000..480_000_000_000).contains(&shapes.bytes()), "{}", shapes.bytes());
    is_balanced("235B", &plan(BLOCKS, &shapes, 4 << 30));
}

#[test]
fn parts_of_a_terabyte_are_equally_large() {
    let shapes = moe(61, 7168, (384, 2048));
    assert!((1_000_000_000_000..2_100_000_000_000).contains(&shapes.bytes()), "{}", shapes.bytes());
    is_balanced("1 TB", &plan(BLOCKS, &shapes, 10 << 30));
}
