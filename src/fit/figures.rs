//! ConfigFigures of `config.json`: those of the language model first, then those of the whole, then what vLLM takes where the
//! file has none.

use serde_json::{Map, Value};

use super::error::CacheUnknown;
use crate::checkpoint::config::Config;
use crate::checkpoint::models::Model;

/// The places of the language model's own config, the first that is there counts.
const TEXT_CONFIGS: [&[&str]; 4] =
    [&["thinker_config", "text_config"], &["text_config"], &["llm_config"], &["language_config"]];

/// The largest figure that is believed: no model has a width or a number of layers beyond it.
const LARGEST: u64 = 1 << 32;

/// The figures of one model.
#[derive(Debug)]
pub(super) struct ConfigFigures<'a> {
    values: Map<String, Value>,
    model: &'a Model,
}

impl<'a> ConfigFigures<'a> {
    pub(super) fn of(config: &Config, model: &'a Model) -> Self {
        let mut values: Map<String, Value> =
            config.keys().filter_map(|key| Some((key.to_owned(), config.value(&[key])?))).collect();
        let texts = TEXT_CONFIGS.iter().find_map(|path| config.value(path));
        if let Some(Value::Object(text)) = texts {
            values.extend(text.into_iter().filter(|(_, value)| !value.is_null()));
        }
        Self { values, model }
    }

    /// The value of a key, `None` where it is null or missing and vLLM has none of its own.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null()).or_else(|| self.model.cache_default(key))
    }

    /// The number under the first of these keys that has one.
    ///
    /// # Errors
    /// It is negative, a fraction, or larger than any model's.
    pub(super) fn number(&self, keys: &[&str]) -> Result<Option<u64>, CacheUnknown> {
        let Some((key, value)) = keys.iter().find_map(|key| Some((*key, self.value(key)?))) else { return Ok(None) };
        let whole = value.as_u64().or_else(|| {
            let number =
                value.as_f64().filter(|number| number.fract() == 0.0 && (0.0..LARGEST as f64).contains(number));
            number.map(|number| number as u64)
        });
        match whole.filter(|number| *number <= LARGEST) {
            Some(number) => Ok(Some(number)),
            None => Err(CacheUnknown::Absurd { key: key.to_owned(), value: value.to_string() }),
        }
    }

    /// The number under the first of these keys that has one, more than zero.
    ///
    /// # Errors
    /// None has one, or it is no such number.
    pub(super) fn required(&self, keys: &[&'static str]) -> Result<u64, CacheUnknown> {
        match self.number(keys)? {
            Some(0) => Err(CacheUnknown::Absurd { key: keys[0].to_owned(), value: "0".to_owned() }),
            Some(number) => Ok(number),
            None => Err(CacheUnknown::Missing { key: keys[0] }),
        }
    }

    /// The words of a list; `None` where there is none.
    pub(super) fn words(&self, key: &str) -> Option<Vec<String>> {
        let words = self.value(key)?.as_array()?.iter().map(|word| word.as_str().map(str::to_owned));
        words.collect::<Option<Vec<_>>>().filter(|words| !words.is_empty())
    }

    /// The numbers of a list; `None` where there is none, or an empty one.
    pub(super) fn list(&self, key: &str) -> Option<Vec<u64>> {
        numbers(self.value(key)?)
    }

    /// The kind of all layers where config.json lists none.
    pub(super) fn every_layer(&self) -> Option<&str> {
        self.model.cache_of_every_layer()
    }

    /// Reports whether vLLM keeps keys and values of attention that has latents.
    pub(super) fn keeps_keys(&self) -> bool {
        self.model.cache_keeps_keys()
    }

    /// A value inside an object.
    pub(super) fn inner(&self, key: &str, inner: &str) -> Option<&Value> {
        self.value(key)?.get(inner).filter(|value| !value.is_null())
    }

    /// Reports whether a switch is on.
    pub(super) fn is_on(&self, key: &str) -> bool {
        self.value(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The text under a key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.value(key)?.as_str()
    }
}

/// The numbers of a list; `None` where it is none, or empty.
pub(super) fn numbers(list: &Value) -> Option<Vec<u64>> {
    let numbers: Option<Vec<u64>> = list.as_array()?.iter().map(Value::as_u64).collect();
    numbers.filter(|numbers| !numbers.is_empty())
}
