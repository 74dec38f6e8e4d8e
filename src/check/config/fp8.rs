//! `quant_method: fp8` and `mxfp8`, the layouts of Qwen's, DeepSeek's, Mistral's and MiniMax's checkpoints.

use serde_json::Value;

use super::block::{block, check_block};
use super::declared::{ConfigGroup, DeclaredConfig, DeclaredForm, GroupTarget, StoredActivations};
use super::fault::{ConfigFault, FaultKind};
use super::ignore_list::IgnoreList;
use super::method::QuantMethod;
use crate::decode::{Granularity, OfficialForm, official};
use qwen_fp8_checkpoint::models::Model;
use qwen_fp8_checkpoint::text::shown;

/// The two keys that hold the ignore list, in the order in which vLLM and SGLang look.
const LISTS: [&str; 2] = ["ignored_layers", "modules_to_not_convert"];

pub(super) fn read(value: &Value, model: &Model, faults: &mut Vec<ConfigFault>) -> Option<DeclaredConfig> {
    let static_activations = activations(value, faults);
    format_of_codes(value, faults);
    let storage = match value.get("scale_fmt").and_then(Value::as_str) {
        None | Some("float") => official(OfficialForm::Fp8),
        Some("ue8m0") => official(OfficialForm::Fp8PowersOfTwo),
        Some(other) => {
            let message = format!("scales in {} are not checked", shown(other));
            faults.push(ConfigFault::unchecked(message, "/scale_fmt"));
            return None;
        }
    };
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
    // DeepSeek's name, which vLLM wants for blocks; of a whole tensor vLLM and transformers have a name each. V4 has
    // one of its own.
    let scales: &'static [&'static str] = match granularity {
        Granularity::Block(_) => &["weight_scale_inv", "scale"],
        _ => &["weight_scale", "weight_scale_inv", "scale"],
    };
    let form = DeclaredForm { scales, ..DeclaredForm::new(storage, granularity, activations) };
    let groups = vec![ConfigGroup { targets: vec![GroupTarget::Linear], form }];
    let experts = official(OfficialForm::Mxfp4);
    let others = vec![DeclaredForm::new(experts, Granularity::Group(32), StoredActivations::Nothing)];
    let ignored = ignored(QuantMethod::Fp8, value, model, faults);
    Some(DeclaredConfig { method: QuantMethod::Fp8, ignored, model: model.clone(), groups, others })
}

/// Reads `quant_method: mxfp8`.
pub(super) fn read_mxfp8(value: &Value, model: &Model, faults: &mut Vec<ConfigFault>) -> Option<DeclaredConfig> {
    format_of_codes(value, faults);
    if let Some(sides) = value.get("weight_block_size").filter(|sides| !sides.is_null())
        && *sides != serde_json::json!([1, 32])
    {
        let message = format!("`weight_block_size` is {}, and MXFP8 has groups of 1 × 32", shown(&sides.to_string()));
        faults.push(ConfigFault::invalid(message, "/weight_block_size"));
        return None;
    }
    let storage = official(OfficialForm::Mxfp8);
    let form = DeclaredForm::new(storage, Granularity::Group(32), StoredActivations::Nothing);
    let groups = vec![ConfigGroup { targets: vec![GroupTarget::Linear], form }];
    let ignored = ignored(QuantMethod::Mxfp8, value, model, faults);
    Some(DeclaredConfig { method: QuantMethod::Mxfp8, ignored, model: model.clone(), groups, others: Vec::new() })
}

/// Checks `fmt`: vLLM ignores it and reads E4M3 in any case, so that another value promises codes that no server decodes.
fn format_of_codes(value: &Value, faults: &mut Vec<ConfigFault>) {
    if let Some(fmt) = value.get("fmt")
        // MiniMax writes PyTorch's name.
        && !matches!(fmt.as_str(), Some("e4m3" | "float8_e4m3fn"))
    {
        let message = format!("`fmt` is {}, and servers read the weights as `e4m3`", shown(&fmt.to_string()));
        faults.push(ConfigFault::invalid(message, "/fmt"));
    }
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
fn ignored(method: QuantMethod, value: &Value, model: &Model, faults: &mut Vec<ConfigFault>) -> IgnoreList {
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
    IgnoreList::read(method, model, key.map(|key| (key, &value[key])), faults)
}
