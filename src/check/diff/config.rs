//! The differences of two config.json, key by key.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use qwen_fp8_checkpoint::config::Config;

/// A key that one config.json lacks, or that has another value in it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ConfigDifference {
    /// The JSON pointer of the key.
    pub pointer: String,
    pub a: Option<Value>,
    pub b: Option<Value>,
}

/// Lists the keys that differ, at the depth where they do.
pub(super) fn differences(a: &Config, b: &Config) -> Vec<ConfigDifference> {
    let mut differences = Vec::new();
    let keys = a.keys().chain(b.keys().filter(|key| a.get(key).is_none()));
    for key in keys {
        // Texts are compared: two numbers of more digits than F64 holds may be the same value.
        if a.get(key) != b.get(key) {
            compare(format!("/{}", escape(key)), a.value(&[key]), b.value(&[key]), &mut differences);
        }
    }
    differences
}

fn compare(pointer: String, a: Option<Value>, b: Option<Value>, differences: &mut Vec<ConfigDifference>) {
    match (a, b) {
        (Some(Value::Object(mut a)), Some(Value::Object(b))) => {
            let mut only_in_b = Vec::new();
            for (key, of_b) in b {
                match a.shift_remove(&key) {
                    Some(of_a) => compare(format!("{pointer}/{}", escape(&key)), Some(of_a), Some(of_b), differences),
                    None => only_in_b.push((key, of_b)),
                }
            }
            for (key, of_a) in a {
                compare(format!("{pointer}/{}", escape(&key)), Some(of_a), None, differences);
            }
            for (key, of_b) in only_in_b {
                compare(format!("{pointer}/{}", escape(&key)), None, Some(of_b), differences);
            }
        }
        (a, b) if a == b => {}
        (a, b) => differences.push(ConfigDifference { pointer, a, b }),
    }
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_found_in_nested_values() {
        let config = |text: &str| Config::parse(text.as_bytes()).unwrap();
        let a = config(r#"{"model_type":"m","x":{"a":1,"b":[1,2],"c/d":0},"old":null,"same":[1, 2]}"#);
        let b = config(r#"{"model_type":"m","same":[1,2],"x":{"b":[1,3],"a":1,"new":true}}"#);
        let found: Vec<_> = differences(&a, &b).into_iter().map(|found| (found.pointer, found.a, found.b)).collect();
        assert_eq!(
            found,
            [
                ("/x/b".to_owned(), Some(json!([1, 2])), Some(json!([1, 3]))),
                ("/x/c~1d".to_owned(), Some(json!(0)), None),
                ("/x/new".to_owned(), None, Some(json!(true))),
                ("/old".to_owned(), Some(json!(null)), None),
            ]
        );
        assert_eq!(differences(&a, &a), []);
    }
}
