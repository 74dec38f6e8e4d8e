//! First recipes and ready ones on the widths of models that people serve: what is taken, counted by name.

use std::collections::BTreeMap;
use std::fs;

use qwen_fp8::checkpoint::Checkpoint;
use qwen_fp8::init::{DraftGranularity, Request, draft};
use qwen_fp8::plan::{Job, Plan};

use super::{plan, try_plan};
use crate::support::shapes::Shapes;
use crate::support::shapes::published::{self, Published};

/// The ready recipe for blocks, and the one for rows.
const BLOCKS: &str = "fp8_dynamic.yaml";
const ROWS: &str = "fp8_per_channel.yaml";

fn ready(name: &str) -> String {
    fs::read_to_string(format!("{}/recipes/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn init(shapes: &Shapes, granularity: Option<DraftGranularity>) -> String {
    let dir = shapes.write_single();
    let request = Request { model: "org/model".to_owned(), schema: None, granularity };
    draft(Checkpoint::open(dir.path()).unwrap(), &request).unwrap_or_else(|error| panic!("{error:#?}"))
}

/// The quantized modules with a star for each number, and how many there are of each.
fn taken(plan: &Plan) -> BTreeMap<String, usize> {
    let mut taken = BTreeMap::new();
    for (input, _) in plan.inputs.iter().zip(&plan.jobs).filter(|(_, job)| matches!(job, Job::Quantize { .. })) {
        let parts = input.module().split('.').map(|part| if part.parse::<u32>().is_ok() { "*" } else { part });
        *taken.entry(parts.collect::<Vec<_>>().join(".")).or_default() += 1;
    }
    taken
}

#[track_caller]
fn assert_taken(text: &str, shapes: &Shapes, expected: &BTreeMap<String, usize>) {
    let planned = plan(text, shapes);
    assert_eq!(&taken(&planned), expected, "{}: {text}", shapes.config["model_type"]);
    assert!(planned.warnings.is_empty(), "{}: {:#?}", shapes.config["model_type"], planned.warnings);
}

#[test]
fn blocks_and_rows_take_what_servers_build_quantized() {
    for model in [
        published::glm_4_5(),
        published::kimi_k2(),
        published::minimax_m2(),
        published::qwen3_omni(),
        published::granite_4_micro(),
        published::bge_m3(),
        published::bge_reranker_v2_m3(),
    ] {
        let (shapes, expected) = (model.shapes(), model.taken());
        for text in [ready(BLOCKS), ready(ROWS), init(&shapes, None), init(&shapes, Some(DraftGranularity::Channel))] {
            assert_taken(&text, &shapes, &expected);
        }
    }
}

/// Models that no block fits, or whose class in vLLM loads no blocks of `format: fp8`.
#[test]
fn rows_fit_where_blocks_do_not() {
    let refused = |model: &Published| try_plan(&ready(BLOCKS), &model.shapes()).unwrap_err()[0].message.clone();
    for (model, why) in [
        (published::nemotron_nano_9b(), "would be cut inside a block"),
        (published::mistral_small_3_2(), "vLLM 0.33 cannot load this"),
    ] {
        assert!(refused(&model).contains(why), "{}", refused(&model));
        let (shapes, expected) = (model.shapes(), model.taken());
        for text in [ready(ROWS), init(&shapes, Some(DraftGranularity::Channel))] {
            assert_taken(&text, &shapes, &expected);
        }
        assert!(plan(&init(&shapes, None), &shapes).warnings.is_empty());
    }
}
