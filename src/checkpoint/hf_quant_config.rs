//! `hf_quant_config.json`: ModelOpt's declaration of a quantization, which servers read where `config.json` has none.

use serde_json::Value;

use crate::config::{Config, ConfigError};
use crate::text::{sentence, shown};

/// The name of the file.
pub const HF_QUANT_CONFIG: &str = "hf_quant_config.json";

impl Config {
    /// Takes in the text of the file: as `quantization_config`, where `config.json` has none, and else to be compared with
    /// that.
    ///
    /// # Errors
    /// It would have to be read, and says nothing.
    pub(super) fn read_hf_quant_config(&mut self, text: &[u8]) -> Result<(), ConfigError> {
        let value: Result<Value, _> = serde_json::from_slice(text);
        let inner = value.as_ref().ok().and_then(|value| value.get("quantization")).filter(|inner| inner.is_object());
        match (self.quantization_config(), inner) {
            // Nobody reads it then.
            (Some(_), None) => {}
            (Some(_), Some(inner)) => self.beside = Some(inner.clone()),
            (None, Some(inner)) => {
                let mut declared = inner.clone();
                declared["quant_method"] = Value::from("modelopt");
                self.set(&["quantization_config"], &declared);
                self.declared_in = HF_QUANT_CONFIG;
            }
            (None, None) => {
                let detail = match value {
                    Err(error) => sentence(&error.to_string()).to_string(),
                    Ok(_) => "it has no object `quantization`".to_owned(),
                };
                return Err(ConfigError::Json { detail });
            }
        }
        Ok(())
    }

    /// Returns what differs between `config.json` and a `hf_quant_config.json` beside it, where both declare a
    /// quantization.
    pub fn conflicting_declarations(&self) -> Option<String> {
        let here: Value = serde_json::from_str(self.quantization_config()?).ok()?;
        let there = self.beside.as_ref()?;
        let word = |value: &Value| value.get("quant_algo")?.as_str().map(str::to_ascii_uppercase);
        let inner = here.get("quantization").unwrap_or(&here);
        let said = match here.get("quant_method").and_then(Value::as_str) {
            Some(method) if !method.starts_with("modelopt") => method.to_owned(),
            _ => word(inner)?,
        };
        let other = word(there).unwrap_or_else(|| "nothing".to_owned());
        (said != other).then(|| {
            format!(
                "`config.json` declares {} and `{HF_QUANT_CONFIG}` {}: take away the one that is wrong",
                shown(&said),
                shown(&other)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_file_declares_where_config_json_does_not() {
        let mut plain = config(r#"{"model_type":"m","quantization_config":null}"#);
        let file =
            br#"{"producer":{"name":"modelopt"},"quantization":{"quant_algo":"NVFP4","exclude_modules":["lm_head"]}}"#;
        plain.read_hf_quant_config(file).unwrap();
        let declared: Value = serde_json::from_str(plain.quantization_config().unwrap()).unwrap();
        assert_eq!(
            declared,
            serde_json::json!({"quant_algo":"NVFP4","exclude_modules":["lm_head"],"quant_method":"modelopt"})
        );
        assert_eq!((plain.declared_in, plain.conflicting_declarations()), (HF_QUANT_CONFIG, None));
        for bad in [&b"{"[..], b"[]", b"{\"quantization\":7}", b"\xff"] {
            let error = config(r#"{"model_type":"m"}"#).read_hf_quant_config(bad).unwrap_err();
            assert!(matches!(error, ConfigError::Json { .. }));
        }
    }

    #[test]
    fn two_declarations_are_held_against_each_other() {
        let both = |here: &str, there: &str| {
            let mut config = config(&format!(r#"{{"model_type":"m","quantization_config":{here}}}"#));
            config.read_hf_quant_config(there.as_bytes()).unwrap();
            config.conflicting_declarations()
        };
        let modelopt = r#"{"quant_method":"modelopt","quant_algo":"nvfp4"}"#;
        assert_eq!(both(modelopt, r#"{"quantization":{"quant_algo":"NVFP4"}}"#), None);
        assert_eq!(both(modelopt, "not read"), None);
        let said = both(modelopt, r#"{"quantization":{"quant_algo":"FP8"}}"#).unwrap();
        assert!(said.starts_with("`config.json` declares `NVFP4` and `hf_quant_config.json` `FP8`"), "{said}");
        let said = both(r#"{"quant_method":"fp8"}"#, r#"{"quantization":{"quant_algo":"FP8"}}"#).unwrap();
        assert!(said.contains("declares `fp8`"), "{said}");
    }
}
