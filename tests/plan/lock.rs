//! Locks: what a plan decided, read again and held against other plans; and names written as ranges.

use std::collections::BTreeSet;

use proptest::prelude::*;
use qwen_fp8::plan::Plan;
use qwen_fp8::plan::changes::Changes;
use qwen_fp8::plan::lock::{LockError, PlanLock};
use qwen_fp8::plan::name_ranges::{NameRangesError, compressed, expanded};
use serde_json::{Value, json};

use super::{BLOCKS, plan};
use crate::support::shapes;

fn read_again(plan: &Plan) -> PlanLock {
    PlanLock::parse(&PlanLock::of(plan).text()).unwrap()
}

#[test]
fn a_lock_holds_what_was_decided_of_every_tensor() {
    let plan = plan(BLOCKS, &shapes::qwen3_vl_8b());
    let lock = read_again(&plan);
    assert_eq!(lock, PlanLock::of(&plan));
    assert_eq!(lock.quantization_config["weight_block_size"], json!([128, 128]));
    let names: BTreeSet<String> =
        lock.tensors.iter().flat_map(|tensors| &tensors.names).flat_map(|names| expanded(names).unwrap()).collect();
    assert_eq!(names, plan.inputs.iter().map(|input| input.name.clone()).collect());
    let gates =
        lock.tensors.iter().find(|tensors| tensors.names.iter().any(|name| name.contains("gate_proj"))).unwrap();
    assert!(gates.names.contains(&"model.language_model.layers.[0-35].mlp.gate_proj.weight".to_owned()));
    assert_eq!(gates.treatment.scheme.as_ref().unwrap().options["block_size"], 128);
    assert!(Changes::between(&lock, &PlanLock::of(&plan)).unwrap().is_empty());
}

#[test]
fn each_kind_of_change_is_found_with_its_tensors() {
    let shapes = shapes::qwen3_vl_8b();
    let before = PlanLock::of(&plan(BLOCKS, &shapes));
    let after = |recipe: &str| Changes::between(&before, &PlanLock::of(&plan(recipe, &shapes))).unwrap();

    let kept =
        after(&BLOCKS.replace("targets: Linear", "targets: Linear\n    ignore: ['re:.*layers\\.(3|4|5)\\.mlp.*']"));
    let changed: Vec<&String> = kept.tensors.iter().flat_map(|change| &change.names).collect();
    let rest = ["gate_proj", "up_proj", "down_proj"];
    assert_eq!(changed, rest.map(|name| format!("model.language_model.layers.[3-5].mlp.{name}.weight")).each_ref());
    assert_eq!(kept.tensors(), 9);
    assert!(kept.tensors.iter().all(|change| change.after.as_ref().unwrap().after[0].dtype == "BF16"));
    let keys: Vec<&str> = kept.settings.iter().map(|setting| setting.key.as_str()).collect();
    assert_eq!(keys, ["quantization_config.ignored_layers", "quantization_config.modules_to_not_convert"]);

    let searched = after(&BLOCKS.replace("block_size: 128", "block_size: 128\n    scale_search: mse"));
    assert_eq!((searched.settings.len(), searched.tensors()), (0, 252));

    let other = after(&BLOCKS.replace("format: fp8", "format: compressed-tensors"));
    assert!(other.settings.iter().any(|setting| setting.key == "format" && setting.after == "compressed-tensors"));

    let policy = after(&format!("on_nonfinite: keep\n{BLOCKS}"));
    assert_eq!((policy.settings[0].key.as_str(), policy.tensors()), ("on_nonfinite", 0));
}

#[test]
fn other_headers_are_changes() {
    let shapes = shapes::qwen3_vl_8b();
    let before = PlanLock::of(&plan(BLOCKS, &shapes));
    let mut other = shapes.clone();
    other.tensors.retain(|tensor| tensor.name != "model.visual.merger.norm.bias");
    for tensor in other.tensors.iter_mut().filter(|tensor| tensor.name == "lm_head.weight") {
        tensor.dtype = "F32";
    }
    let changes = Changes::between(&before, &PlanLock::of(&plan(BLOCKS, &other))).unwrap();
    let of = |name: &str| changes.tensors.iter().find(|change| change.names == [name]).unwrap();
    assert_eq!(of("model.visual.merger.norm.bias").after, None);
    assert_eq!(of("lm_head.weight").after.as_ref().unwrap().before.dtype, "F32");
    assert_eq!(changes.tensors(), 2);
}

#[test]
fn another_arithmetic_is_a_change() {
    let before = PlanLock::of(&plan(BLOCKS, &shapes::qwen3_vl_8b()));
    let mut after = before.clone();
    let schemes = after.tensors.iter_mut().filter_map(|tensors| tensors.treatment.scheme.as_mut());
    schemes.for_each(|scheme| scheme.version += 1);
    assert_eq!(Changes::between(&before, &after).unwrap().tensors(), 252);
}

#[test]
fn what_is_no_lock_says_why() {
    let lock = PlanLock::of(&plan(BLOCKS, &shapes::qwen3_vl_8b()));
    let with = |change: fn(&mut Value)| {
        let mut value: Value = serde_json::from_str(&lock.text()).unwrap();
        change(&mut value);
        PlanLock::parse(&value.to_string())
    };
    assert!(matches!(PlanLock::parse("{}"), Err(LockError::Json(_))));
    assert!(matches!(PlanLock::parse("format: fp8"), Err(LockError::Json(_))));
    assert!(matches!(with(|lock| lock["lock_version"] = 2.into()), Err(LockError::Version(2))));
    assert!(matches!(with(|lock| lock["tensors"][0]["action"] = "melt".into()), Err(LockError::Json(_))));
    let twice = with(|lock| lock["tensors"][0]["names"] = json!(["lm_head.weight", "lm_head.weight"])).unwrap();
    assert!(matches!(Changes::between(&twice, &lock), Err(LockError::Twice(_))));
    let huge = with(|lock| lock["tensors"][0]["names"] = json!(["a.[0-2000].[0-2000].[0-2000]"])).unwrap();
    assert!(matches!(Changes::between(&huge, &lock), Err(LockError::Names(NameRangesError::TooMany(_)))));
}

#[test]
fn ranges_are_written_and_read() {
    let names = |texts: &[&str]| texts.iter().flat_map(|text| expanded(text).unwrap()).collect::<Vec<_>>();
    for (texts, first, number) in [
        (
            &["model.layers.[0-2,5].mlp.experts.[0-127].up_proj.weight"][..],
            "model.layers.0.mlp.experts.0.up_proj.weight",
            512,
        ),
        (&["a.7.b", "a.[1-2].c"], "a.7.b", 3),
        // No product: layer 0 has fewer experts.
        (&["e.0.[0-1]", "e.[1-2].[0-3]"], "e.0.0", 10),
        // Not what a number looks like.
        (&["a.007.b", "a.1.b"], "a.007.b", 2),
    ] {
        let all = names(texts);
        assert_eq!((all[0].as_str(), all.len()), (first, number));
        let mut again = compressed(all.iter().map(String::as_str));
        again.sort_unstable();
        let mut texts = texts.to_vec();
        texts.sort_unstable();
        assert_eq!(again, texts);
    }
    for bad in ["a.[]", "a.[1-]", "a.[2-1]", "a.[x]", "a.[0-4294967295]", "a.[01-2]"] {
        assert!(matches!(expanded(bad), Err(NameRangesError::Set(_))), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_names_come_back(names in proptest::collection::btree_set("(a|b)(\\.(0|1|2|3|10|007|x)){0,4}", 0..60)) {
        let texts = compressed(names.iter().map(String::as_str));
        let again: Vec<String> = texts.iter().flat_map(|text| expanded(text).unwrap()).collect();
        prop_assert_eq!(again.len(), names.len());
        prop_assert_eq!(again.into_iter().collect::<BTreeSet<_>>(), names);
    }
}
