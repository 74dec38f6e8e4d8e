//! `quant_method: fp8`, the layout of Qwen's and DeepSeek's checkpoints.

use serde_json::Value;

use super::block::{block, check_block};
use super::declared::{ConfigGroup, DeclaredConfig, DeclaredForm, GroupTarget, StoredActivations};
use super::fault::{ConfigFault, FaultKind};
use super::ignore_list::IgnoreList;
use super::method::QuantMethod;
use crate::decode::{Granularity, WeightForm, fp8};
use qwen_fp8_checkpoint::models::Model;
use qwen_fp8_checkpoint::text::shown;

/// The two keys that hold the ignore list, in the order in which vLLM and SGLang look.
const LISTS: [&str; 2] = ["ignored_layers", "modules_to_not_convert"];

pub(super) fn read(value: &Value, model: &Model, faults: &mut Vec<ConfigFault>) -> Option<DeclaredConfig> {
    let static_activations = activations(value, faults);
    // vLLM ignores `fmt` and reads E4M3 in any case: another value promises codes that no server decodes.
    if let Some(fmt) = value.get("fmt")
        && fmt.as_str() != Some("e4m3")
    {
        let message = format!("`fmt` is {}, and servers read the weights as `e4m3`", shown(&fmt.to_string()));
        faults.push(ConfigFault::invalid(message, "/fmt"));
    }
    if let Some(scale_fmt) = value.get("scale_fmt").and_then(Value::as_str)
        && scale_fmt != "float"
    {
        let message = format!("scales in {} are not checked", shown(scale_fmt));
        faults.push(ConfigFault::unchecked(message, "/scale_fmt"));
        return None;
    }
    let granularity = match value.get("weight_block_size").filter(|value| !value.is_null()) {
        // Without a block size, vLLM reads one scale per tensor.
        None => Granularity::Tensor,
        Some(sides) => match block(sides) {
            Some(sides) => {
                check_block(sides, "/weight_block_size", faults);
                if static_activations {
                    let message = "`activation_scheme` is `static`, and blocks take `dynamic` only";
                    faults.push(ConfigFault::invalid(message, "/activation_scheme"));
                }
                Granularity::Block(sides)
            }
            None => {
                let sides = sides.to_string();
                let message = format!(
                    "`weight_block_size` is {}, not two numbers that make a block of 128 weights or more",
                    shown(&sides)
                );
                faults.push(ConfigFault::invalid(message, "/weight_block_size"));
                return None;
            }
        },
    };
    let activations = if static_activations { StoredActivations::Scale } else { StoredActivations::Nothing };
    let form = DeclaredForm { weight: WeightForm { storage: fp8(), granularity }, activations };
    let groups = vec![ConfigGroup { targets: vec![GroupTarget::Linear], form }];
    Some(DeclaredConfig {
        method: QuantMethod::Fp8,
        ignored: ignored(value, model, faults),
        model: model.clone(),
        groups,
    })
}

/// Reads `activation_scheme`, and returns whether it is `static`.
fn activations(value: &Value, faults: &mut Vec<ConfigFault>) -> bool {
    match value.get("activation_scheme").map(|scheme| scheme.as_str().ok_or_else(|| scheme.to_string())) {
        Some(Ok("dynamic")) => false,
        Some(Ok("static")) => true,
        None => {
            let message = "`activation_scheme` is missing: vLLM refuses to load without it";
            let fault = ConfigFault::invalid(message, "/activation_scheme");
            faults.push(ConfigFault { help: "add `\"activation_scheme\": \"dynamic\"`", ..fault });
            false
        }
        Some(Ok(other)) => odd_activations(other, faults),
        Some(Err(other)) => odd_activations(&other, faults),
    }
}

fn odd_activations(other: &str, faults: &mut Vec<ConfigFault>) -> bool {
    let message = format!("`activation_scheme` is {}, not `dynamic` or `static`", shown(other));
    faults.push(ConfigFault::invalid(message, "/activation_scheme"));
    false
}

/// Reads the ignore list as vLLM does: the first of the two that is there and not empty.
fn ignored(value: &Value, model: &Model, faults: &mut Vec<ConfigFault>) -> IgnoreList {
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
        // Both keys with the same names are fine: older transformers read only the second one.
        let (first, second) = (names(LISTS[0]), names(LISTS[1]));
        if first != second {
            let only =
                |a: &[&str], b: &[&str]| a.iter().find(|name| !b.contains(name)).map(|name| shown(name).to_string());
            let example = only(&first, &second).or_else(|| only(&second, &first)).unwrap_or_default();
            let message = format!("only one of `{}` and `{}` has {example}", LISTS[0], LISTS[1]);
            faults.push(ConfigFault::new(FaultKind::ListsDiffer, message, &format!("/{}", LISTS[1])));
        }
    }
    IgnoreList::read(QuantMethod::Fp8, model, key.map(|key| (key, &value[key])), faults)
}
