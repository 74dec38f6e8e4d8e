//! The options of an adapter: those that decide what is merged, and a refusal of all that are not known to change nothing.

use serde_json::{Map, Value};

use super::error::AdapterError;
use crate::models::LayerKind;
use crate::pattern::Pattern;
use crate::text::{shown, unquoted};

/// What `adapter_config.json` says of the merge.
#[derive(Debug)]
pub(super) struct AdapterConfig {
    /// The model that it was trained on, as it was named then.
    pub(super) base: Option<String>,
    rank: usize,
    alpha: f64,
    /// Divides alpha by the square root of the rank.
    is_stabilized: bool,
    ranks: Vec<(Pattern, usize)>,
    alphas: Vec<(Pattern, f64)>,
    pub(super) has_magnitudes: bool,
    /// B has a bias.
    pub(super) has_bias: bool,
}

/// Options that say which layers were trained, and how: the tensors tell what came of them.
const OF_TRAINING: [&str; 24] = [
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "modules_to_save",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "init_lora_weights",
    "peft_type",
];

/// Options that are read.
const READ: [&str; 8] =
    ["r", "lora_alpha", "use_rslora", "use_dora", "lora_bias", "rank_pattern", "alpha_pattern", "fan_in_fan_out"];

/// Ways to begin that leave the weights of the model as they are. The others take a part of each weight away, which PEFT
/// repeats when it loads the adapter.
const HARMLESS_BEGINNINGS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

impl AdapterConfig {
    /// Reads the text of the file.
    pub(super) fn parse(text: &[u8]) -> Result<Self, AdapterError> {
        let value: Value = serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        let Value::Object(options) = value else { return Err(wrong("it is no JSON object".to_owned())) };
        refuse_others(&options)?;
        let rank = number(&options, "r")?.unwrap_or(8.0);
        let alpha = number(&options, "lora_alpha")?.unwrap_or(8.0);
        let ranks = patterns(&options, "rank_pattern")?.into_iter();
        Ok(Self {
            base: options.get("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned),
            rank: whole("r", rank)?,
            alpha,
            is_stabilized: flag(&options, "use_rslora")?,
            ranks: ranks
                .map(|(pattern, rank)| Ok((pattern, whole("rank_pattern", rank)?)))
                .collect::<Result<_, _>>()?,
            alphas: patterns(&options, "alpha_pattern")?,
            has_magnitudes: flag(&options, "use_dora")?,
            has_bias: flag(&options, "lora_bias")?,
        })
    }

    /// Returns the rank of a module, and the factor of its product.
    ///
    /// # Errors
    /// A pattern gives up on the module's name.
    pub(super) fn rank_and_scaling(&self, module: &str) -> Result<(usize, f32), AdapterError> {
        let rank = matching(&self.ranks, module)?.unwrap_or(self.rank);
        let alpha = matching(&self.alphas, module)?.unwrap_or(self.alpha);
        let divisor = if self.is_stabilized { (rank as f64).sqrt() } else { rank as f64 };
        // As Python divides, and torch takes the quotient to the dtype of the product.
        Ok((rank, (alpha / divisor) as f32))
    }
}

/// The number of the first pattern that takes a module.
fn matching<T: Copy>(patterns: &[(Pattern, T)], module: &str) -> Result<Option<T>, AdapterError> {
    for (pattern, number) in patterns {
        if pattern.matches(module, LayerKind::Other).map_err(|error| wrong(error.to_string()))? {
            return Ok(Some(*number));
        }
    }
    Ok(None)
}

/// Refuses other types of adapters, and options that may change what is merged.
fn refuse_others(options: &Map<String, Value>) -> Result<(), AdapterError> {
    let not_merged = |what: String| Err(AdapterError::NotMerged { what });
    match options.get("peft_type") {
        Some(Value::String(kind)) if kind == "LORA" => {}
        Some(Value::String(kind)) => return not_merged(format!("an adapter of the type {}", shown(kind))),
        Some(_) | None => return Err(wrong("it has no `peft_type`, so that it is no adapter of PEFT".to_owned())),
    }
    match options.get("init_lora_weights") {
        None | Some(Value::Bool(_) | Value::Null) => {}
        Some(Value::String(beginning)) if HARMLESS_BEGINNINGS.contains(&beginning.as_str()) => {}
        Some(other) => {
            let other = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            return not_merged(format!(
                "`init_lora_weights: {}`, which changes the weights of the model,",
                unquoted(&other)
            ));
        }
    }
    if flag(options, "fan_in_fan_out")? {
        return not_merged("`fan_in_fan_out`, of layers whose weights lie transposed,".to_owned());
    }
    for (key, value) in options {
        let is_unset = match value {
            Value::Null | Value::Bool(false) => true,
            Value::Array(entries) => entries.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            _ => false,
        };
        if !is_unset && !READ.contains(&key.as_str()) && !OF_TRAINING.contains(&key.as_str()) {
            return not_merged(format!("the option {}", shown(key)));
        }
    }
    Ok(())
}

fn flag(options: &Map<String, Value>, key: &str) -> Result<bool, AdapterError> {
    match options.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(wrong(format!("`{key}` must be true or false"))),
    }
}

fn number(options: &Map<String, Value>, key: &str) -> Result<Option<f64>, AdapterError> {
    match options.get(key) {
        None => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| wrong(format!("`{key}` must be a number"))),
    }
}

/// The largest rank that is taken: more than any layer has columns.
const MAX_RANK: f64 = (1 << 20) as f64;

fn whole(key: &str, number: f64) -> Result<usize, AdapterError> {
    if number.fract() == 0.0 && (1.0..=MAX_RANK).contains(&number) {
        return Ok(number as usize);
    }
    Err(wrong(format!("`{key}` must be a positive whole number, not {number}")))
}

/// The numbers of modules by regexes of the ends of their names, in the order of the file.
fn patterns(options: &Map<String, Value>, key: &str) -> Result<Vec<(Pattern, f64)>, AdapterError> {
    let entries = match options.get(key) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(entries)) => entries,
        Some(_) => return Err(wrong(format!("`{key}` must be an object"))),
    };
    let pattern = |(regex, number): (&String, &Value)| {
        let of = |reason: String| wrong(format!("`{key}`, {}: {reason}", shown(regex)));
        // As `peft.utils.other.get_pattern_key` matches it.
        let pattern = Pattern::parse(&format!(r"re:(.*\.)?({regex})$")).map_err(|error| of(error.to_string()))?;
        Ok((pattern, number.as_f64().ok_or_else(|| of("its value must be a number".to_owned()))?))
    };
    entries.iter().map(pattern).collect()
}

fn wrong(reason: String) -> AdapterError {
    AdapterError::Config { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AdapterConfig, String> {
        AdapterConfig::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_pattern_that_ends_a_name_decides() {
        let config = parse(
            r#"{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "rank_pattern": {"q_proj": 4, "0.self_attn.q_proj": 2},
                "alpha_pattern": {"layers\\.1\\.mlp\\.\\w+_proj": 3}}"#,
        )
        .unwrap();
        let of = |module| config.rank_and_scaling(module).unwrap();
        assert_eq!(of("model.layers.0.self_attn.q_proj"), (4, 4.0));
        assert_eq!(of("model.layers.0.self_attn.xq_proj"), (8, 2.0));
        assert_eq!(of("model.layers.1.mlp.up_proj"), (8, 0.375));
        assert_eq!(of("q_proj"), (4, 4.0));
        let stabilized = parse(r#"{"peft_type": "LORA", "r": 3, "lora_alpha": 16, "use_rslora": true}"#).unwrap();
        assert_eq!(stabilized.rank_and_scaling("a").unwrap(), (3, (16.0 / 3f64.sqrt()) as f32));
    }

    #[test]
    fn what_would_be_merged_in_another_way_is_refused_by_name() {
        for (option, named) in [
            (r#""peft_type": "IA3""#, "IA3"),
            (r#""peft_type": "LORA", "init_lora_weights": "pissa_niter_4""#, "pissa_niter_4"),
            (r#""peft_type": "LORA", "fan_in_fan_out": true"#, "fan_in_fan_out"),
            (r#""peft_type": "LORA", "target_parameters": ["mlp.experts.gate_up_proj"]"#, "target_parameters"),
            (r#""peft_type": "LORA", "layer_replication": [[0, 4]]"#, "layer_replication"),
            (r#""peft_type": "LORA", "use_qalora": true"#, "use_qalora"),
            (r#""peft_type": "LORA", "kasa_config": {"a": 1}"#, "kasa_config"),
            (r#""peft_type": "LORA", "an_option_of_tomorrow": 1"#, "an_option_of_tomorrow"),
        ] {
            let error = parse(&format!("{{{option}}}")).unwrap_err();
            assert!(error.contains(named) && error.ends_with("is not merged here"), "{error}");
        }
        for broken in [
            "[]",
            "{",
            "{}",
            r#"{"peft_type": "LORA", "r": 0}"#,
            r#"{"peft_type": "LORA", "r": "8"}"#,
            r#"{"peft_type": "LORA", "use_dora": 1}"#,
            r#"{"peft_type": "LORA", "rank_pattern": {"(": 4}}"#,
            r#"{"peft_type": "LORA", "rank_pattern": {"a": 1.5}}"#,
            r#"{"peft_type": "LORA", "alpha_pattern": []}"#,
        ] {
            assert!(parse(broken).is_err(), "{broken}");
        }
    }
}
