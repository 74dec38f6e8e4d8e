//! Nothing is lost and nothing is invented, whatever the checkpoint and the rules are.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::checkpoint::layout::byte_len;
use qwen_fp8::plan::summary::Summary;
use qwen_fp8::plan::{Job, Plan};

use super::recipe;
use crate::support::shapes::{Shapes, bf16, of_tensors};

/// A few names that rules hit and miss, of several ranks.
fn tensors() -> impl Strategy<Value = Shapes> {
    let module = prop::sample::select(vec![
        "model.layers.0.self_attn.o_proj",
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.down_proj",
        "model.layers.1.self_attn.o_proj",
        "model.layers.1.mlp.gate",
        "model.layers.1.mlp.experts.0.up_proj",
        "model.layers.10.input_layernorm",
        "model.visual.blocks.0.attn.qkv",
        "model.visual.pos_embed",
        "model.embed_tokens",
        "lm_head",
        "é\"\\.x",
    ]);
    let shape = prop_oneof![
        4 => (1..300usize, 1..300usize).prop_map(|(rows, columns)| vec![rows, columns]),
        1 => (0..40usize).prop_map(|length| vec![length]),
        1 => Just(vec![2, 3, 4]),
        1 => Just(vec![]),
    ];
    let parameter = prop_oneof![4 => Just("weight"), 1 => Just("bias"), 1 => Just("A_log")];
    let dtype = prop_oneof![4 => Just("BF16"), 1 => Just("F16"), 1 => Just("F32"), 1 => Just("I64")];
    prop::collection::btree_map((module, parameter), (shape, dtype), 1..14).prop_map(|tensors| {
        let mut shapes = of_tensors([]);
        shapes.tensors.extend(tensors.into_iter().map(|((module, parameter), (shape, dtype))| {
            let mut tensor = bf16(format!("{module}.{parameter}"), &shape);
            tensor.dtype = dtype;
            tensor
        }));
        shapes
    })
}

fn rules() -> impl Strategy<Value = String> {
    let scheme = prop::sample::select(vec![
        "PASSTHROUGH",
        "FP8_DYNAMIC",
        "FP8_DYNAMIC, block_size: 128",
        "FP8_BLOCK, block_size: [64, 32], scale_dtype: f32",
        "FP8",
    ]);
    let pattern = prop::sample::select(vec![
        "Linear",
        "'re:.*layers.*'",
        "'*_proj'",
        "lm_head",
        "'re:.*visual.*'",
        "model.embed_tokens",
        "Router",
        "'re:.*1.*'",
    ]);
    let patterns = |count| prop::collection::vec(pattern.clone(), count).prop_map(|patterns| patterns.join(", "));
    let rule = (scheme, patterns(1..4), patterns(0..3)).prop_map(|(scheme, targets, ignore)| {
        format!("  - {{scheme: {scheme}, targets: [{targets}], ignore: [{ignore}], optional: true}}\n")
    });
    let header = (prop::option::of(1..200_000u32), any::<bool>()).prop_map(|(size, official)| {
        let size = size.map_or_else(String::new, |size| format!("max_shard_size: {size}B\n"));
        format!("{size}format: {}\nserving: warn\nrules:\n", if official { "fp8" } else { "compressed-tensors" })
    });
    (header, prop::collection::vec(rule, 1..4)).prop_map(|(header, rules)| header + &rules.concat())
}

/// Asserts that every source tensor has one job, every output tensor one maker, and that all fits together.
fn check(plan: &Plan) -> Result<(), TestCaseError> {
    let tensors = &plan.inputs;
    prop_assert_eq!((plan.jobs.len(), plan.decisions.len()), (tensors.len(), tensors.len()));
    let mut made = BTreeSet::new();
    let mut names = BTreeSet::new();
    for ((tensor, job), decision) in tensors.iter().zip(&plan.jobs).zip(&plan.decisions) {
        if let Job::Quantize { rule, .. } = job {
            prop_assert_eq!(decision.rule.map(|(rule, _)| rule), Some(*rule));
        }
        let slots = job.slots();
        for slot in &slots {
            prop_assert!(made.insert((slot.shard, slot.tensor)), "made twice");
            let placed = &plan.shards[slot.shard].tensors[slot.tensor];
            prop_assert!(names.insert(placed.entry.name.clone()), "{} is there twice", placed.entry.name);
            prop_assert_eq!(byte_len(placed.entry.dtype, &placed.entry.shape), Some(placed.len));
        }
        match job {
            Job::Copy { to } => {
                let placed = &plan.shards[to.shard].tensors[to.tensor];
                prop_assert_eq!((&placed.entry.name, placed.entry.dtype), (&tensor.name, tensor.dtype));
                prop_assert_eq!((&placed.entry.shape, placed.len), (&tensor.shape, tensor.len));
            }
            Job::PassThrough { .. } | Job::Dequantize { .. } => prop_assert!(false, "nothing is FP8 here"),
            Job::Quantize { outputs, .. } => {
                prop_assert_eq!(slots.len(), outputs.len());
                for ((spec, slot), suffix) in outputs.iter().zip(["weight", "weight_scale"]) {
                    let entry = &plan.shards[slot.shard].tensors[slot.tensor].entry;
                    let wanted = format!("{}.{suffix}", tensor.module());
                    prop_assert!(entry.name.starts_with(&wanted), "not {}", wanted);
                    prop_assert_eq!((entry.dtype, &entry.shape), (spec.dtype, &spec.shape));
                }
            }
        }
    }
    let there: usize = plan.shards.iter().map(|shard| shard.tensors.len()).sum();
    prop_assert_eq!(made.len(), there, "an output tensor that nothing makes");
    let mut bytes = 0;
    for shard in &plan.shards {
        prop_assert!(!shard.tensors.is_empty(), "an empty shard");
        let mut end = shard.header.len() as u64;
        for placed in &shard.tensors {
            prop_assert_eq!(placed.offset, end, "a gap or an overlap");
            end += placed.len;
        }
        prop_assert_eq!(end, shard.size);
        bytes += shard.data_len();
    }
    let files: BTreeMap<&str, u64> = plan.shards.iter().map(|shard| (shard.file_name.as_str(), shard.size)).collect();
    prop_assert_eq!(files.len(), plan.shards.len(), "two shards have one name");
    let summary = Summary::of(plan);
    prop_assert_eq!(summary.output_bytes, bytes);
    prop_assert_eq!(summary.rows.iter().map(|row| row.count).sum::<usize>(), tensors.len());
    prop_assert_eq!(summary.quantized_tensors + summary.copied_tensors, tensors.len());
    Ok(())
}

fn outcome(text: &str, dir: &std::path::Path) -> Result<Plan, String> {
    Plan::build(recipe(text), Checkpoint::open(dir).unwrap()).map_err(|refused| format!("{:#?}", refused.diagnostics))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_tensor_is_planned_exactly_once((shapes, text, size) in (tensors(), rules(), 1..100_000u64)) {
        let dir = shapes.write(size);
        match (outcome(&text, dir.path()), outcome(&text, dir.path())) {
            (Ok(plan), Ok(again)) => {
                check(&plan)?;
                let bytes = |plan: &Plan| plan.shards.iter().flat_map(|shard| shard.header.clone()).collect::<Vec<_>>();
                prop_assert_eq!(bytes(&plan), bytes(&again));
                prop_assert_eq!(&plan.documents, &again.documents);
                prop_assert_eq!(&plan.decisions, &again.decisions);
                prop_assert_eq!(&plan.warnings, &again.warnings);
                for (tensor, decision) in plan.inputs.iter().zip(&plan.decisions) {
                    // What explains a tensor is what decided it.
                    let explained = qwen_fp8::plan::explain::explain(&plan, &tensor.name).unwrap();
                    let explained = explained.iter().find(|found| found.tensor == tensor.name).unwrap();
                    let decider = explained.rules.iter().position(|said| said.decides);
                    prop_assert_eq!(decider, decision.rule.map(|(rule, _)| rule));
                }
            }
            (Err(first), Err(again)) => prop_assert_eq!(first, again),
            _ => prop_assert!(false, "planned once, refused once"),
        }
    }
}
