//! The reading of `quantization_config`: the modules that it declares as quantized, and the tensors they must have.
//!
//! Configs are read as vLLM reads them, since it is the strictest of the servers and the one that fails silently.
//! What is wrong with a config is a [`ConfigFault`]; which rule that breaks is for `rules/q1_config.rs` to say.

mod arguments;
mod awq;
mod block;
mod compressed_tensors;
mod declared;
mod fault;
mod fp8;
mod gptq;
mod ignore_list;
mod method;
mod modelopt;
mod regex;
mod transposed;

use serde_json::Value;

use qwen_fp8_checkpoint::config::Config;
use qwen_fp8_checkpoint::models::Model;
use qwen_fp8_checkpoint::text::{sentence, shown};

pub(crate) use declared::{DeclaredConfig, DeclaredForm, StoredActivations};
pub(crate) use fault::{ConfigFault, FaultKind};
pub(crate) use ignore_list::{EntryReading, IgnoreEntry};
pub(crate) use method::QuantMethod;
pub(crate) use regex::ReferenceReading;

impl DeclaredConfig {
    /// Reads what a config declares; `None` where it declares nothing, or nothing that can be checked.
    pub(crate) fn read(config: &Config, model: &Model, faults: &mut Vec<ConfigFault>) -> Option<Self> {
        let text = config.quantization_config()?;
        // Read as a value and not into types: every fault is to be found, where a type would end with the first one.
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                let message = format!("`quantization_config` cannot be read: {}", sentence(&error.to_string()));
                faults.push(ConfigFault::invalid(message, ""));
                return None;
            }
        };
        if let Some(conflict) = config.conflicting_declarations() {
            faults.push(ConfigFault::invalid(conflict, "/quant_method"));
        }
        let method = value.get("quant_method").and_then(Value::as_str);
        match method {
            Some("fp8") => fp8::read(&value, model, faults),
            Some("mxfp8") => fp8::read_mxfp8(&value, model, faults),
            Some("modelopt" | "modelopt_fp4" | "modelopt_mixed") => modelopt::read(&value, model, faults),
            Some("compressed-tensors") => compressed_tensors::read(&value, model, faults),
            Some("awq") => awq::read(&value, model, faults),
            Some("gptq") => gptq::read(&value, model, faults),
            // It declares stacks of experts and no module; their tensors tell.
            Some("mxfp4") => None,
            Some(other) => {
                let message = format!("the quantization method {} is not checked", shown(other));
                faults.push(ConfigFault::unchecked(message, "/quant_method"));
                None
            }
            None => {
                let message = "`quant_method` is missing: no server knows how to read the weights";
                faults.push(ConfigFault::invalid(message, "/quant_method"));
                None
            }
        }
    }
}
