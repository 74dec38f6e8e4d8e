//! Recognises a checkpoint that is quantized already, from its config or its tensors.

use safetensors::Dtype;
use serde_json::Value;

use crate::config::Config;
use crate::hf_quant_config::HF_QUANT_CONFIG;
use crate::models::is_only_of_quantized_layers;
use crate::tensor::Tensor;
use crate::text::shown;

/// Returns the sign by which a checkpoint is quantized already, `None` where it is not.
pub(super) fn describe(config: &Config, tensors: &[Tensor]) -> Option<String> {
    if let Some(text) = config.quantization_config() {
        let declared: Option<Value> = serde_json::from_str(text).ok();
        return Some(match declared.as_ref().and_then(|declared| declared.get("quant_method")?.as_str()) {
            Some(method) if config.declared_in == HF_QUANT_CONFIG => {
                let algorithm = declared.as_ref().and_then(|declared| declared.get("quant_algo")?.as_str());
                format!("`{HF_QUANT_CONFIG}` says {}", shown(algorithm.unwrap_or(method)))
            }
            Some(method) => format!("`quantization_config` in `config.json` says {}", shown(method)),
            None => "`config.json` has a `quantization_config`".to_owned(),
        });
    }
    let mut marked = tensors.iter().filter(|tensor| is_mark(tensor));
    let first = marked.next()?;
    let what = if is_only_of_quantized_layers(first.parameter()) {
        format!("it holds tensor {}", shown(&first.name))
    } else {
        format!("tensor {} is {}", shown(&first.name), first.dtype)
    };
    Some(match marked.count() {
        0 => what,
        more => format!("{what}, and {more} more are like it"),
    })
}

fn is_mark(tensor: &Tensor) -> bool {
    let parameter = tensor.parameter();
    let is_small = matches!(
        tensor.dtype,
        Dtype::F4
            | Dtype::F6_E2M3
            | Dtype::F6_E3M2
            | Dtype::F8_E4M3
            | Dtype::F8_E5M2
            | Dtype::F8_E4M3FNUZ
            | Dtype::F8_E5M2FNUZ
            | Dtype::I8
            | Dtype::U8
    );
    let is_weight = matches!(parameter, "weight" | "gate_up_proj" | "down_proj");
    is_only_of_quantized_layers(parameter) || is_small && is_weight && tensor.shape.len() >= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, dtype: Dtype, shape: &[usize]) -> Tensor {
        let layer = Default::default();
        Tensor { name: name.into(), dtype, shape: shape.into(), shard: 0, offset: 0, len: 0, layer }
    }

    #[test]
    fn a_quantized_source_is_recognised_by_config_or_tensors() {
        let config = |text: &str| Config::parse(text.as_bytes()).unwrap();
        let plain = config(r#"{"model_type":"m","quantization_config":null}"#);
        let bf16 = tensor("a.weight", Dtype::BF16, &[2, 2]);
        // Small dtypes that are no weight of a layer say nothing.
        let odd = [tensor("x.f8e5", Dtype::F8_E5M2, &[2, 2]), tensor("x.weight", Dtype::U8, &[2]), bf16.clone()];
        assert_eq!(describe(&plain, &odd), None);
        let gptq = config(r#"{"model_type":"m","quantization_config":{"quant_method":"gptq"}}"#);
        assert_eq!(describe(&gptq, &[]).unwrap(), "`quantization_config` in `config.json` says `gptq`");
        let unknown = config(r#"{"model_type":"m","quantization_config":7}"#);
        assert_eq!(describe(&unknown, &[]).unwrap(), "`config.json` has a `quantization_config`");
        let fp8 = [tensor("a.weight", Dtype::F8_E4M3, &[2, 2]), tensor("a.weight_scale", Dtype::F32, &[1])];
        assert_eq!(describe(&plain, &fp8).unwrap(), "tensor `a.weight` is F8_E4M3, and 1 more are like it");
        let scale = [bf16, tensor("a.weight_scale_inv", Dtype::BF16, &[1, 1])];
        assert_eq!(describe(&plain, &scale).unwrap(), "it holds tensor `a.weight_scale_inv`");
    }
}
