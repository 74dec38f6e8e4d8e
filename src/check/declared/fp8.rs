//! `quant_method: fp8`, the layout of Qwen and DeepSeek.

use serde_json::Value;

use super::{Declared, Form, Group, IgnoreList, Inputs, Method, Target, block, check_block};
use crate::finding::Finding;
use crate::grid::Grid;
use crate::rules;
use crate::storage::{Float8, Kind};
use qwen_fp8_checkpoint::text::shown;

/// The two keys that hold the list, in the order in which vLLM looks.
const LISTS: [&str; 2] = ["ignored_layers", "modules_to_not_convert"];

pub(super) fn read(value: &Value, findings: &mut Vec<Finding>) -> Option<Declared> {
    let static_activations = activations(value, findings);
    if let Some(fmt) = value.get("fmt")
        && fmt.as_str() != Some("e4m3")
    {
        let message = format!("`fmt` is {}, and servers read the weights as `e4m3`", shown(&fmt.to_string()));
        findings.push(Finding::new(&rules::BAD_CONFIG, message).config("/fmt"));
    }
    if let Some(scale_fmt) = value.get("scale_fmt").and_then(Value::as_str)
        && scale_fmt != "float"
    {
        let message = format!("scales in {} are not checked", shown(scale_fmt));
        findings.push(Finding::new(&rules::UNKNOWN_METHOD, message).config("/scale_fmt"));
        return None;
    }
    let grid = match value.get("weight_block_size").filter(|value| !value.is_null()) {
        None => Grid::Tensor,
        Some(sides) => match block(sides) {
            Some(sides) => {
                check_block(sides, "/weight_block_size", findings);
                if static_activations {
                    let message = "`activation_scheme` is `static`, and blocks take `dynamic` only";
                    findings.push(Finding::new(&rules::BAD_CONFIG, message).config("/activation_scheme"));
                }
                Grid::Block(sides)
            }
            None => {
                let sides = sides.to_string();
                let message = format!(
                    "`weight_block_size` is {}, not two numbers that make a block of 128 weights or more",
                    shown(&sides)
                );
                findings.push(Finding::new(&rules::BAD_CONFIG, message).config("/weight_block_size"));
                return None;
            }
        },
    };
    let inputs = if static_activations { Inputs::Static } else { Inputs::Nothing };
    let form = Form { kind: Kind::Float8(Float8), grid, inputs };
    let groups = vec![Group { targets: vec![Target::Linear], form }];
    Some(Declared { method: Method::Fp8, list: list(value, findings), groups })
}

/// Whether activations are static.
fn activations(value: &Value, findings: &mut Vec<Finding>) -> bool {
    match value.get("activation_scheme").map(|scheme| scheme.as_str().ok_or_else(|| scheme.to_string())) {
        Some(Ok("dynamic")) => false,
        Some(Ok("static")) => true,
        None => {
            let message = "`activation_scheme` is missing: vLLM refuses to load without it";
            let finding = Finding::new(&rules::BAD_CONFIG, message).config("/activation_scheme");
            findings.push(finding.help("add `\"activation_scheme\": \"dynamic\"`"));
            false
        }
        Some(Ok(other)) => odd_activations(other, findings),
        Some(Err(other)) => odd_activations(&other, findings),
    }
}

fn odd_activations(other: &str, findings: &mut Vec<Finding>) -> bool {
    let message = format!("`activation_scheme` is {}, not `dynamic` or `static`", shown(other));
    findings.push(Finding::new(&rules::BAD_CONFIG, message).config("/activation_scheme"));
    false
}

/// The list that vLLM reads: the first that is there and not empty.
fn list(value: &Value, findings: &mut Vec<Finding>) -> IgnoreList {
    let full = |key: &&str| value.get(*key).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let key = LISTS.into_iter().find(|key| full(key));
    if LISTS.iter().all(full) {
        let names = |key: &str| {
            let entries = value[key].as_array().into_iter().flatten();
            let mut names: Vec<&str> = entries.filter_map(Value::as_str).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let (first, second) = (names(LISTS[0]), names(LISTS[1]));
        if first != second {
            let only =
                |a: &[&str], b: &[&str]| a.iter().find(|name| !b.contains(name)).map(|name| shown(name).to_string());
            let example = only(&first, &second).or_else(|| only(&second, &first)).unwrap_or_default();
            let message = format!("`{}` and `{}` differ, such as in {example}", LISTS[0], LISTS[1]);
            findings.push(Finding::new(&rules::LISTS_DIFFER, message).config(&format!("/{}", LISTS[1])));
        }
    }
    IgnoreList::read(Method::Fp8, key.map(|key| (key, &value[key])), findings)
}
