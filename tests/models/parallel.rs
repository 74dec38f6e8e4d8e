//! How servers split layers over several GPUs, against the classes that vLLM builds them as.

use qwen_fp8::checkpoint::config::Config;
use qwen_fp8::checkpoint::models::{Model, ParallelSplit, parallel_split};
use serde_json::{Value, json};

use super::facts::all_facts;

/// How vLLM's class splits a layer: `Some(true)` along the input, `Some(false)` along the output, `None` not at all.
fn split_of(class: &str) -> Option<Option<bool>> {
    match class {
        "RowParallelLinear" => Some(Some(true)),
        "ColumnParallelLinear" | "MergedColumnParallelLinear" | "QKVParallelLinear" => Some(Some(false)),
        "ReplicatedLinear" => Some(None),
        _ => None,
    }
}

/// The layers on disk that vLLM builds quantized under a class of its own, and the name of that class.
fn layers(facts: &Value) -> impl Iterator<Item = (&str, &str)> {
    let layers = facts["vllm"]["layers"].as_array().into_iter().flatten();
    let quantized = layers.filter(|layer| !matches!(layer["quantized"], Value::Null | Value::Bool(false)));
    quantized.flat_map(|layer| {
        let from = layer["from"].as_array().into_iter().flatten().filter_map(Value::as_str);
        from.filter_map(|form| Some((form.strip_suffix(".weight")?, layer["class"].as_str()?)))
    })
}

#[test]
fn layers_are_split_as_vllm_splits_them() {
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for facts in all_facts() {
        // The fallback splits as transformers' plan for the model says, or not at all.
        if facts["vllm"]["class"].as_str().is_none_or(|class| class.starts_with("Transformers")) {
            continue;
        }
        let config = json!({ "architectures": [facts["architecture"]], "model_type": facts["model_type"] });
        let model = Model::of(&Config::parse(config.to_string().as_bytes()).unwrap(), std::iter::empty());
        for (form, class) in layers(&facts) {
            let module = form.replace('*', "0");
            let Some(split) = split_of(class) else { continue };
            if !model.layer(&format!("{module}.weight"), 2).is_quantizable() {
                continue;
            }
            compared += 1;
            let ours = match parallel_split(&module) {
                ParallelSplit::Columns => Some(true),
                ParallelSplit::Rows | ParallelSplit::KeyRows => Some(false),
                ParallelSplit::Replicated => None,
            };
            // Held whole: a fused layer whose class is that of split ones, with `disable_tp`.
            let is_whole = module.ends_with(".q_a_proj") || module.ends_with(".kv_a_proj_with_mqa");
            if ours != split && !is_whole {
                wrong.push(format!("{}: {module} is a {class}", facts["model_type"]));
            }
        }
    }
    assert!(compared > 500, "{compared}");
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}
