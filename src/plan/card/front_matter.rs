//! The front matter of a model card: YAML to which keys are added, and whose other lines stay as they are.

use serde_json::{Map, Value};

/// Returns the front matter with the base model and who quantized it; without either, as it is. `None` where it is no
/// YAML map, so that nothing can be added.
pub(super) fn with(matter: &str, base: Option<&str>, quantized_by: Option<&str>) -> Option<String> {
    let before = map(matter)?;
    let mut added = Vec::new();
    if let Some(base) = base {
        added.extend([("base_model", base), ("base_model_relation", "quantized")]);
    }
    added.extend(quantized_by.map(|name| ("quantized_by", name)));
    let mut text = without(matter, &added.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (key, value) in &added {
        // JSON's strings are YAML's.
        text.push_str(&format!("{key}: {}\n", Value::from(*value)));
    }
    // An unusual spelling, such as a map in braces, does not take a line more: then the card stays what it was.
    let mut expected = before;
    for (key, value) in added {
        expected.shift_remove(key);
        expected.insert(key.to_owned(), value.into());
    }
    (map(&text)? == expected).then_some(text)
}

/// Reads the map that front matter is.
fn map(matter: &str) -> Option<Map<String, Value>> {
    if matter.lines().all(|line| line.trim().is_empty() || line.starts_with('#')) {
        return Some(Map::new());
    }
    serde_yaml::from_str(matter).ok()
}

/// Leaves out the lines of these keys: each one's own, and those below it that are indented or items of its list.
fn without(matter: &str, keys: &[&str]) -> String {
    let mut kept = String::new();
    let mut is_left_out = false;
    for line in matter.split_inclusive('\n') {
        let continues = line.starts_with([' ', '\t', '-']) || line.trim().is_empty();
        if !continues {
            let key = line.split(':').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
            is_left_out = keys.contains(&key);
        }
        if !is_left_out {
            kept.push_str(line);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::with;

    const BASE: Option<&str> = Some("org/name");

    #[test]
    fn keys_are_added_and_the_rest_stays_as_it_is() {
        let matter = "license: apache-2.0  # as the base\nbase_model:\n- Qwen/Qwen3-VL-8B-Instruct\ntags:\n- \"a\"\n\n";
        assert_eq!(
            with(matter, BASE, None).unwrap(),
            "license: apache-2.0  # as the base\ntags:\n- \"a\"\n\nbase_model: \"org/name\"\nbase_model_relation: \"quantized\"\n"
        );
        assert_eq!(with(matter, None, None).unwrap(), matter);
        assert_eq!(with("a: 1", None, Some("me: \"x\"")).unwrap(), "a: 1\nquantized_by: \"me: \\\"x\\\"\"\n");
        assert_eq!(with("", None, None).unwrap(), "");
    }

    #[test]
    fn old_values_go_with_all_their_lines() {
        for matter in [
            "base_model: a/b\nbase_model_relation: finetune\nlicense: mit\n",
            "base_model:\n  - a/b\n  - c/d\nlicense: mit\n",
            "\"base_model\": [a/b,\n  c/d]\nlicense: mit\n",
            "license: mit\nbase_model: >-\n  a/b\n",
        ] {
            let expected = "license: mit\nbase_model: \"org/name\"\nbase_model_relation: \"quantized\"\n";
            assert_eq!(with(matter, BASE, None).unwrap(), expected, "{matter}");
        }
    }

    #[test]
    fn what_takes_no_line_more_stays() {
        for matter in ["{license: mit}\n", "- a\n- b\n", "a: [\n", "text\n", "a: 1\n...\n"] {
            assert_eq!(with(matter, BASE, None), None, "{matter}");
        }
    }
}
