//! What the configs of AWQ and GPTQ have in common: one form for every layer that has codes.

use serde_json::Value;

use super::declared::{ConfigGroup, DeclaredConfig, DeclaredForm, GroupTarget, StoredActivations};
use super::fault::ConfigFault;
use super::ignore_list::IgnoreList;
use super::method::QuantMethod;
use crate::decode::{Granularity, OfficialForm, TransposedStorage, official};
use qwen_fp8_checkpoint::models::Model;
use qwen_fp8_checkpoint::text::shown;

impl DeclaredConfig {
    /// Reads the groups of a method that stores weights transposed.
    pub(super) fn transposed(
        method: QuantMethod,
        value: &Value,
        form: TransposedStorage,
        list: Option<(&str, &Value)>,
        model: &Model,
        faults: &mut Vec<ConfigFault>,
    ) -> Option<Self> {
        let size = value.get("group_size").filter(|size| !size.is_null());
        let granularity = match size.map_or(Some(128), Value::as_i64) {
            Some(-1) => Granularity::Channel,
            Some(size @ 1..) => Granularity::Group(size as usize),
            _ => {
                let size = size.map(Value::to_string).unwrap_or_default();
                let message = format!("`group_size` is {}, not a number of columns or -1", shown(&size));
                faults.push(ConfigFault::invalid(message, "/group_size"));
                return None;
            }
        };
        let form = DeclaredForm::new(official(OfficialForm::Transposed(form)), granularity, StoredActivations::Nothing);
        let groups = vec![ConfigGroup { targets: vec![GroupTarget::Linear], form }];
        let ignored = IgnoreList::read(method, model, list, faults);
        Some(Self { method, ignored, model: model.clone(), groups, others: Vec::new() })
    }
}
