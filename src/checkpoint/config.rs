//! `config.json`: read as text per top-level key, so that a rewrite changes one key and no other character of a value.

use std::fmt;

use indexmap::IndexMap;
use indexmap::map::Entry;
use safetensors::Dtype;
use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::text::sentence;

/// The largest `config.json` that is read, in bytes.
pub const MAX_CONFIG: u64 = 64 << 20;

/// The deepest nesting of arrays and objects that is read.
const MAX_DEPTH: usize = 128;

/// The name of the file.
const CONFIG: &str = "config.json";

/// The key that a quantized checkpoint adds.
const QUANTIZATION_CONFIG: &str = "quantization_config";

/// The key of the language model's own config in a model of several parts.
const TEXT_CONFIG: &str = "text_config";

/// A model's `config.json`; every value stays the text that it was.
#[derive(Clone, Debug)]
pub struct Config {
    entries: Entries,
    pub(super) declared_in: &'static str,
    /// The declaration of a file that counts only where there is none here.
    pub(super) beside: Option<Value>,
}

/// A reason to refuse a `config.json`.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("it is not valid UTF-8: byte {at}")]
    NotUtf8 { at: usize },
    #[error("it is no valid JSON object: {}", sentence(detail))]
    Json { detail: String },
    #[error("its JSON is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("it describes no model: neither `model_type` nor `architectures` is there")]
    NoModel,
}

impl Config {
    /// Reads the text of a `config.json`.
    ///
    /// # Errors
    /// It is no JSON object, names a top-level key twice, or describes no model.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let text = std::str::from_utf8(bytes).map_err(|error| ConfigError::NotUtf8 { at: error.valid_up_to() })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let config: Self =
            serde_json::from_str(text).map_err(|error| ConfigError::Json { detail: describe(text, &error) })?;
        if config.entries.values().any(|value| depth(value.get()) >= MAX_DEPTH) {
            return Err(ConfigError::TooDeep);
        }
        if !["model_type", "architectures"].iter().any(|key| config.entries.contains_key(*key)) {
            return Err(ConfigError::NoModel);
        }
        Ok(config)
    }

    /// The text of a top-level value.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(|value| value.get())
    }

    /// The top-level keys, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The value at this path of keys, such as `["text_config", "num_hidden_layers"]`; `None` where there is none, and
    /// for one that holds a number which no machine type holds.
    pub fn value(&self, path: &[&str]) -> Option<Value> {
        let (first, rest) = path.split_first()?;
        let mut text = self.get(first)?;
        for key in rest {
            // One level at a time, so that a number beside the path does not matter.
            text = serde_json::from_str::<IndexMap<String, &RawValue>>(text).ok()?.get(*key)?.get();
        }
        serde_json::from_str(text).ok()
    }

    pub fn model_type(&self) -> Option<String> {
        self.value(&["model_type"])?.as_str().map(str::to_owned)
    }

    /// The class names under `architectures`.
    pub fn architectures(&self) -> Vec<String> {
        let names = self.value(&["architectures"]);
        let names = names.as_ref().and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Reports whether the output head is the embedding; the top level counts before `text_config`, as in vLLM.
    pub fn tie_word_embeddings(&self) -> Option<bool> {
        self.value(&["tie_word_embeddings"]).or_else(|| self.value(&["text_config", "tie_word_embeddings"]))?.as_bool()
    }

    /// The keys that name the number of query heads of attention, and those that name the number of key-value heads where
    /// it is another one, as families call them.
    pub const QUERY_HEADS: [&str; 4] = ["num_attention_heads", "n_head", "n_heads", "num_heads"];
    pub const KEY_HEADS: [&str; 4] = ["num_key_value_heads", "n_head_kv", "num_kv_heads", "multi_query_group_num"];

    /// An unsigned number of the language model: from `text_config` where there is one, else from the top level.
    pub fn text_number(&self, key: &str) -> Option<u64> {
        self.value(&["text_config", key]).or_else(|| self.value(&[key]))?.as_u64()
    }

    /// Reports whether a switch of the language model is on, in `text_config` where there is one, else at the top level.
    pub fn text_flag(&self, key: &str) -> bool {
        let value = self.value(&[TEXT_CONFIG, key]).or_else(|| self.value(&[key]));
        value.as_ref().and_then(Value::as_bool).unwrap_or(false)
    }

    /// The float dtype that the model's weights are in, by `dtype` or its older name.
    pub fn float_dtype(&self) -> Option<Dtype> {
        let paths = [&["dtype"][..], &["torch_dtype"], &["text_config", "dtype"], &["text_config", "torch_dtype"]];
        let name = paths.into_iter().find_map(|path| self.value(path)?.as_str().map(str::to_owned))?;
        match name.trim_start_matches("torch.") {
            "bfloat16" => Some(Dtype::BF16),
            "float16" => Some(Dtype::F16),
            "float32" => Some(Dtype::F32),
            _ => None,
        }
    }

    /// The text of `quantization_config`, unless it is null: at the top level, else inside `text_config`, as in vLLM.
    pub fn quantization_config(&self) -> Option<&str> {
        let at_top = self.get(QUANTIZATION_CONFIG).filter(|text| *text != "null");
        at_top.or_else(|| {
            let text: IndexMap<String, &RawValue> = serde_json::from_str(self.get(TEXT_CONFIG)?).ok()?;
            Some(text.get(QUANTIZATION_CONFIG)?.get()).filter(|text| *text != "null")
        })
    }

    /// The file in which the quantization is declared, where it is.
    pub fn declared_in(&self) -> &'static str {
        self.declared_in
    }

    /// The keys that lead to `quantization_config`, as [`Config::quantization_config`] finds it.
    pub fn quantization_path(&self) -> &'static [&'static str] {
        let is_nested =
            self.get(QUANTIZATION_CONFIG).is_none_or(|text| text == "null") && self.quantization_config().is_some();
        if is_nested { &[TEXT_CONFIG, QUANTIZATION_CONFIG] } else { &[QUANTIZATION_CONFIG] }
    }

    /// The text of this config with `quantization_config` set: in its old place, else at the end.
    pub fn with_quantization_config(&self, quantization_config: &Value) -> String {
        let mut config = self.clone();
        config.remove_nested_quantization();
        config.set(&[QUANTIZATION_CONFIG], quantization_config);
        config.text()
    }

    /// The text of this config without `quantization_config`.
    pub fn without_quantization_config(&self) -> String {
        let mut config = self.clone();
        config.remove_nested_quantization();
        config.entries.shift_remove(QUANTIZATION_CONFIG);
        config.text()
    }

    /// Takes `quantization_config` out of `text_config`, where one stands.
    fn remove_nested_quantization(&mut self) {
        let Some(text) = self.get(TEXT_CONFIG) else { return };
        let Ok(mut inner) = serde_json::from_str::<Entries>(text) else { return };
        if inner.shift_remove(QUANTIZATION_CONFIG).is_some()
            && let Ok(raw) = RawValue::from_string(object_text(&inner, 2))
        {
            self.entries.insert(TEXT_CONFIG.to_owned(), raw);
        }
    }

    /// Sets the value at this path of keys, in its old place, else at the end of its object; a path through something
    /// that is no object changes nothing.
    pub fn set(&mut self, path: &[&str], value: &Value) {
        set(&mut self.entries, path, value, 1);
    }

    /// The whole text: keys in their order and every value the text that it was; top-level keys are indented by two.
    pub fn text(&self) -> String {
        object_text(&self.entries, 1) + "\n"
    }
}

type Entries = IndexMap<String, Box<RawValue>>;

/// Sets a value in an object whose keys are indented by `depth` steps.
fn set(entries: &mut Entries, path: &[&str], value: &Value, depth: usize) {
    let indented = |text: String| text.replace('\n', &format!("\n{}", "  ".repeat(depth)));
    let text = match path {
        [] => return,
        [_] => indented(format!("{value:#}")),
        [key, rest @ ..] => {
            let Some(inner) = entries.get(*key) else { return };
            let Ok(mut inner) = serde_json::from_str::<Entries>(inner.get()) else { return };
            set(&mut inner, rest, value, depth + 1);
            object_text(&inner, depth + 1)
        }
    };
    if let Ok(raw) = RawValue::from_string(text) {
        entries.insert(path[0].to_owned(), raw);
    }
}

/// An object as text, its keys indented by `depth` steps and its values as they are.
fn object_text(entries: &Entries, depth: usize) -> String {
    let mut text = String::from("{");
    for (i, (key, value)) in entries.iter().enumerate() {
        text.push_str(if i == 0 { "\n" } else { ",\n" });
        text.push_str(&"  ".repeat(depth));
        text.push_str(&Value::from(key.as_str()).to_string());
        text.push_str(": ");
        text.push_str(value.get());
    }
    text.push('\n');
    text.push_str(&"  ".repeat(depth - 1));
    text.push('}');
    text
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ConfigVisitor;

        impl<'de> Visitor<'de> for ConfigVisitor {
            type Value = Config;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
                let mut entries = IndexMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    match entries.entry(key) {
                        Entry::Vacant(entry) => entry.insert(map.next_value()?),
                        Entry::Occupied(entry) => {
                            return Err(de::Error::custom(format_args!("duplicate key `{}`", entry.key())));
                        }
                    };
                }
                Ok(Config { entries, declared_in: CONFIG, beside: None })
            }
        }

        deserializer.deserialize_map(ConfigVisitor)
    }
}

/// Describes a parser's error, and names Python where it wrote `NaN` or `Infinity`, which are no JSON.
fn describe(text: &str, error: &serde_json::Error) -> String {
    let line = error.line().checked_sub(1).and_then(|line| text.lines().nth(line)).unwrap_or_default();
    let rest = error.column().checked_sub(1).and_then(|column| line.get(column..)).unwrap_or_default();
    match ["NaN", "Infinity"].iter().find(|word| rest.starts_with(**word)) {
        Some(word) => format!("`{word}` is no JSON, though Python writes it: {error}"),
        None => error.to_string(),
    }
}

/// Returns the depth to which the brackets of valid JSON text nest.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rewrite_changes_one_value_only() {
        let text = "{\"b\": {\n        \"x\": 1e-06,   \"ü\": \"\\u00fc [\"}, \"model_type\":\"qwen3_vl\",\n\
                    \"big\":1000000000000000019884624838656,\"tiny\": 1e-400, \"a\":[1 ,2.50]}";
        let config = Config::parse(text.as_bytes()).unwrap();
        let expected = "{\n  \"b\": {\n        \"x\": 1e-06,   \"ü\": \"\\u00fc [\"},\n  \"model_type\": \"qwen3_vl\",\n  \
                        \"big\": 1000000000000000019884624838656,\n  \"tiny\": 1e-400,\n  \"a\": [1 ,2.50],\n  \
                        \"quantization_config\": {\n    \"quant_method\": \"fp8\",\n    \"weight_block_size\": [\n      \
                        128,\n      128\n    ]\n  }\n}\n";
        let value = json!({ "quant_method": "fp8", "weight_block_size": [128, 128] });
        assert_eq!(config.with_quantization_config(&value), expected);
        // A second rewrite replaces in place, and reads its own text back unchanged.
        let again = Config::parse(expected.as_bytes()).unwrap();
        assert_eq!(again.with_quantization_config(&value), expected);
        assert_eq!(again.quantization_config().and_then(|text| serde_json::from_str(text).ok()), Some(value));
        let middle = Config::parse(br#"{"quantization_config":null,"model_type":"m"}"#).unwrap();
        assert_eq!(middle.quantization_config(), None);
        assert_eq!(
            middle.with_quantization_config(&json!({})),
            "{\n  \"quantization_config\": {},\n  \"model_type\": \"m\"\n}\n"
        );
    }

    #[test]
    fn a_nested_value_is_set_in_place() {
        let mut config =
            Config::parse(br#"{"model_type":"m","text_config":{"eps":1e-06,"num_hidden_layers":36,"x":[1, 2]},"z":1}"#)
                .unwrap();
        config.set(&["text_config", "num_hidden_layers"], &json!(2));
        config.set(&["model_type", "below"], &json!(3));
        config.set(&["absent", "below"], &json!(3));
        assert_eq!(
            config.text(),
            "{\n  \"model_type\": \"m\",\n  \"text_config\": {\n    \"eps\": 1e-06,\n    \"num_hidden_layers\": 2,\n    \
             \"x\": [1, 2]\n  },\n  \"z\": 1\n}\n"
        );
    }

    #[test]
    fn getters_look_where_servers_look() {
        let config = Config::parse(
            br#"{"architectures":["A",7],"model_type":"m","hidden_size":9223372036854775808,"layers":-1,
                 "text_config":{"num_hidden_layers":36,"tie_word_embeddings":true,"odd":"128","eps":1e999}}"#,
        )
        .unwrap();
        assert_eq!(config.architectures(), ["A"]);
        assert_eq!(config.model_type().as_deref(), Some("m"));
        assert_eq!(config.text_number("num_hidden_layers"), Some(36));
        assert_eq!(config.text_number("hidden_size"), Some(1 << 63));
        assert_eq!((config.text_number("layers"), config.text_number("odd")), (None, None));
        assert_eq!(config.tie_word_embeddings(), Some(true));
        assert_eq!(config.keys().last(), Some("text_config"));
        let tied = Config::parse(
            br#"{"model_type":"m","tie_word_embeddings":false,"text_config":{"tie_word_embeddings":true}}"#,
        );
        assert_eq!(tied.unwrap().tie_word_embeddings(), Some(false));
    }

    #[test]
    fn broken_configs_are_refused() {
        let nested = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        for (text, message) in [
            ("", "EOF"),
            ("model_type: qwen3\n", "line 1 column 1"),
            ("[]", "expected an object"),
            (r#"{"model_type":"a","model_type":"b"}"#, "duplicate key `model_type`"),
            (
                r#"{"model_type":"a","x":NaN}"#,
                "`NaN` is no JSON, though Python writes it: expected value at line 1 column 23",
            ),
            ("{\"model_type\":\"a\",\n \"x\": [-Infinity]}", "`Infinity` is no JSON"),
            (r#"{"api_key":"s3cr3t"}"#, "it describes no model"),
            (nested.as_str(), "nested more than 128 deep"),
        ] {
            let found = Config::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(found.contains(message), "{found}");
        }
        assert!(matches!(Config::parse(b"{\"a\":\"\xff\"}"), Err(ConfigError::NotUtf8 { at: 6 })));
        Config::parse("\u{feff}{\"model_type\":\"a\"}".as_bytes()).unwrap();
    }
}
