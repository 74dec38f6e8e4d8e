//! Findings in SARIF 2.1.0, which code-scanning services and editors read.

use std::path::Path;

use qwen_fp8_checkpoint::CheckpointPlace;
use serde_json::{Value, json};

use super::{Finding, LintRule};

/// Writes the log of one run over the checkpoint at `place`, with all rules that there are.
pub(crate) fn log(findings: &[Finding], place: &CheckpointPlace, rules: &[&LintRule]) -> Value {
    let described: Vec<Value> = rules
        .iter()
        .map(|rule| {
            json!({
                "id": rule.code,
                "name": rule.name,
                "shortDescription": { "text": plain(rule.title) },
                "fullDescription": { "text": plain(&rule.text()) },
                "defaultConfiguration": { "level": rule.severity.name() },
            })
        })
        .collect();
    let mut log = log_of(&described, &findings.iter().map(|finding| result(finding, rules)).collect::<Vec<_>>());
    let uri = match place {
        CheckpointPlace::Directory(dir) => file_uri(dir),
        CheckpointPlace::Repository(repository) => repository.address().to_owned(),
    };
    log["runs"][0]["originalUriBaseIds"] = json!({ "CHECKPOINT": { "uri": format!("{uri}/") } });
    log
}

/// Writes the log of one run of this program, with these rules and results.
pub fn log_of(rules: &[Value], results: &[Value]) -> Value {
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "qwen-fp8", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(finding: &Finding, rules: &[&LintRule]) -> Value {
    let index = rules.iter().position(|rule| *rule == finding.rule);
    let text = match &*finding.help {
        "" => finding.message.clone(),
        help => format!("{}; {help}", finding.message),
    };
    // A tensor without a file is somewhere in the checkpoint, and config.json is the one file that every checkpoint
    // has.
    let file = finding.place.file.as_deref().unwrap_or("config.json");
    let mut location =
        json!({ "physicalLocation": { "artifactLocation": { "uri": encoded(file), "uriBaseId": "CHECKPOINT" } } });
    let logical: Vec<Value> = [&finding.place.pointer, &finding.place.tensor]
        .into_iter()
        .flatten()
        .map(|name| json!({ "fullyQualifiedName": name }))
        .collect();
    if !logical.is_empty() {
        location["logicalLocations"] = Value::from(logical);
    }
    json!({
        "ruleId": finding.rule.code,
        "ruleIndex": index,
        "level": finding.severity.name(),
        "message": { "text": plain(&text) },
        "locations": [location],
    })
}

/// Escapes a text so that a viewer finds no placeholders and no links in it.
// Names of the input are in messages. Braces stand for themselves when they are doubled; what looks like a Markdown
// link is torn apart, since a viewer would follow it to wherever a name leads.
pub fn plain(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}").replace("](", "] (")
}

/// The URI of a file or directory of this machine.
pub fn file_uri(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    format!("file://{}", encoded(&path.to_string_lossy()))
}

/// Percent-encodes what may not stand in the path of a URI.
pub fn encoded(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Severity;

    static RULE: LintRule = LintRule {
        code: "Q203",
        name: "prefix-entry",
        severity: Severity::Warning,
        strict: Severity::Error,
        title: "An entry is a prefix.",
        why: "It lists nothing.",
    };

    #[test]
    fn a_result_has_the_rule_level_and_place_of_its_finding() {
        let finding = Finding::new(&RULE, "`model.visual` is a prefix").config("/ignored_layers/3");
        let log = log(&[finding.tensor("model.visual.merger")], &Path::new("/tmp/a b").into(), &[&RULE]);
        let run = &log["runs"][0];
        assert_eq!(run["originalUriBaseIds"]["CHECKPOINT"]["uri"], "file:///tmp/a%20b/");
        let result = &run["results"][0];
        assert_eq!((&result["ruleId"], &result["level"]), (&json!("Q203"), &json!("warning")));
        let index = result["ruleIndex"].as_u64().unwrap() as usize;
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], "Q203");
        assert_eq!(
            result["locations"],
            json!([{
                "physicalLocation": { "artifactLocation": { "uri": "config.json", "uriBaseId": "CHECKPOINT" } },
                "logicalLocations": [
                    { "fullyQualifiedName": "/quantization_config/ignored_layers/3" },
                    { "fullyQualifiedName": "model.visual.merger" },
                ],
            }])
        );
    }
}
