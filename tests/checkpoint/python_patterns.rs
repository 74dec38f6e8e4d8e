//! Regexes against what Python's `re.match` made of them, by the table of `python_patterns.py`.

use qwen_fp8::checkpoint::models::LayerKind;
use qwen_fp8::checkpoint::pattern::Pattern;

const TABLE: &str = include_str!("python_patterns.tsv");

/// Valid in Python, and refused here: each with a message, none with another answer.
fn is_beyond_us(message: &str) -> bool {
    [
        // A condition on a group that comes after it holds in a loop only.
        "which is not before it",
        // Names of characters beyond ASCII.
        "is not one of an ASCII character",
    ]
    .iter()
    .any(|known| message.contains(known))
}

#[test]
fn regexes_take_the_names_that_pythons_re_takes() {
    let mut wrong = Vec::new();
    let mut beyond = 0;
    for line in TABLE.lines() {
        let [answer, regex, name] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let text = |json: &str| serde_json::from_str::<String>(json).unwrap();
        let ours = match Pattern::parse(&format!("re:{}", text(regex))) {
            Ok(pattern) => match pattern.matches(&text(name), LayerKind::Linear) {
                Ok(true) => "match".to_owned(),
                Ok(false) => "none".to_owned(),
                Err(error) => error.to_string(),
            },
            Err(error) if answer == "refused" => {
                assert!(error.to_string().contains("not a valid regex"), "{regex}: {error}");
                continue;
            }
            Err(error) if is_beyond_us(&error.to_string()) => {
                beyond += 1;
                continue;
            }
            Err(error) => error.to_string(),
        };
        if ours != answer {
            wrong.push(format!("{regex} on {name}: Python says {answer}, we say {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{} lines differ:\n{}", wrong.len(), wrong.join("\n"));
    let lines = TABLE.lines().count();
    assert!(beyond * 100 < lines, "{beyond} of {lines} lines, which Python takes, are refused");
}
