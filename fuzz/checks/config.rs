//! The rewrite of `config.json`: one value changes, no character of any other.

use indexmap::IndexMap;
use qwen_fp8::checkpoint::config::Config;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::message::message;

const KEY: &str = "quantization_config";

pub(crate) fn check(bytes: &[u8]) {
    let config = match Config::parse(bytes) {
        Ok(config) => config,
        Err(error) => return drop(message(&error)),
    };
    read_all(&config);

    let value = json!({ "quant_method": "fp8", "weight_block_size": [128, 128], "ignored_layers": ["a\"\u{1b}"] });
    let text = config.with_quantization_config(&value);
    let again = parse(&text);
    check_others(&config, &again);
    let written = again.quantization_config().and_then(|text| serde_json::from_str::<Value>(text).ok());
    assert_eq!(written.as_ref(), Some(&value));
    assert_eq!(again.with_quantization_config(&value), text, "a second rewrite changes something");
    assert_eq!(again.text(), text);
    check_nested(&config);
}

/// All other values are the same, and `text_config` too but for a quantization that stood inside it. Each is compared as
/// text: what the text means may be held by no type, a single surrogate or a very large number.
fn check_others(config: &Config, again: &Config) {
    let nested = |config: &Config| inner(config).is_some_and(|inner| inner.contains_key(KEY));
    assert!(!nested(again), "a quantization is left inside `text_config`");
    let keys = if nested(config) { vec![KEY, "text_config"] } else { vec![KEY] };
    let others = |config: &Config| -> Vec<(String, Option<String>)> {
        let all = without(config, KEY).filter(|(key, _)| !keys.contains(key));
        all.map(|(key, text)| (key.to_owned(), text.map(str::to_owned))).collect()
    };
    assert_eq!(others(config), others(again), "another value changed");
    if nested(config) {
        let rest = |config: &Config| {
            let mut inner = inner(config);
            inner.as_mut().map(|inner| inner.shift_remove(KEY));
            inner
        };
        assert_eq!(rest(config), rest(again), "another value of `text_config` changed");
    }
}

/// The values of `text_config` as text, where it is an object.
fn inner(config: &Config) -> Option<IndexMap<String, String>> {
    let inner: IndexMap<String, &RawValue> = serde_json::from_str(config.get("text_config")?).ok()?;
    Some(inner.into_iter().map(|(key, value)| (key, value.get().to_owned())).collect())
}

/// The getters, which must not fall over anything.
fn read_all(config: &Config) {
    let _ = (config.model_type(), config.architectures(), config.tie_word_embeddings());
    let _ = (config.text_number("num_hidden_layers"), config.quantization_config());
    for key in config.keys() {
        let _ = config.value(&[key, "a", "b"]);
    }
}

/// A nested value is set without a change beside it.
fn check_nested(config: &Config) {
    let mut set = config.clone();
    set.set(&["text_config", "num_hidden_layers"], &json!(2));
    let again = parse(&set.text());
    assert!(without(config, "text_config").eq(without(&again, "text_config")), "another value changed");
    let (Some(before), Some(after)) = (config.value(&["text_config"]), again.value(&["text_config"])) else { return };
    let (Value::Object(mut before), Value::Object(mut after)) = (before, after) else { return };
    assert_eq!(after.get("num_hidden_layers"), Some(&json!(2)));
    before.remove("num_hidden_layers");
    after.remove("num_hidden_layers");
    assert_eq!(before, after);
}

fn parse(text: &str) -> Config {
    Config::parse(text.as_bytes()).expect("what we write we read")
}

/// The entries in their order, but one.
fn without<'a>(config: &'a Config, key: &'a str) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
    config.keys().filter(move |found| *found != key).map(|found| (found, config.get(found)))
}
