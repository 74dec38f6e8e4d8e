//! `quant_method: modelopt`, the layouts of NVIDIA's checkpoints.

use serde_json::Value;

use super::declared::{ConfigGroup, DeclaredConfig, DeclaredForm, GroupTarget, StoredActivations};
use super::fault::ConfigFault;
use super::ignore_list::IgnoreList;
use super::method::QuantMethod;
use crate::decode::{Granularity, OfficialForm, official};
use qwen_fp8_checkpoint::models::Model;
use qwen_fp8_checkpoint::text::shown;

/// The keys that hold the list of unquantized modules: that of newer releases and that of older ones.
const LISTS: [&str; 2] = ["ignore", "exclude_modules"];

pub(super) fn read(value: &Value, model: &Model, faults: &mut Vec<ConfigFault>) -> Option<DeclaredConfig> {
    // Older releases have all of it one level lower.
    let inner = value.get("quantization").unwrap_or(value);
    let nvfp4 = DeclaredForm::new(official(OfficialForm::Nvfp4), Granularity::Group(16), StoredActivations::MayScale);
    let fp8 = DeclaredForm {
        scales: &["weight_scale"],
        ..DeclaredForm::new(official(OfficialForm::Fp8), Granularity::Tensor, StoredActivations::MayScale)
    };
    let (form, others) = match inner.get("quant_algo").and_then(Value::as_str).map(str::to_ascii_uppercase).as_deref() {
        Some("NVFP4" | "NVFP4_W4A16" | "W4A16_NVFP4") => (nvfp4, Vec::new()),
        Some("FP8") => (fp8, Vec::new()),
        Some("MIXED_PRECISION") => (nvfp4, vec![fp8]),
        Some("MXFP8") => {
            let storage = official(OfficialForm::Mxfp8);
            (DeclaredForm::new(storage, Granularity::Group(32), StoredActivations::Nothing), Vec::new())
        }
        Some(other) => {
            let message = format!("the algorithm {} of ModelOpt is not checked", shown(other));
            faults.push(ConfigFault::unchecked(message, "/quant_algo"));
            return None;
        }
        None => {
            faults.push(ConfigFault::invalid("`quant_algo` is missing", "/quant_algo"));
            return None;
        }
    };
    let groups = vec![ConfigGroup { targets: vec![GroupTarget::Linear], form }];
    let list = LISTS.iter().find_map(|key| Some((*key, inner.get(*key).filter(|list| !list.is_null())?)));
    let ignored = IgnoreList::read(QuantMethod::ModelOpt, model, list, faults);
    Some(DeclaredConfig { method: QuantMethod::ModelOpt, ignored, model: model.clone(), groups, others })
}
