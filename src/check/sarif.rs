//! Findings in SARIF 2.1.0, which code-scanning services and editors read.

use std::path::Path;

use serde_json::{Value, json};

use super::finding::Finding;
use super::rules::RULES;

/// The log of one run over one checkpoint.
pub fn sarif(findings: &[Finding], dir: &Path) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.code,
                "name": rule.name,
                "shortDescription": { "text": plain(rule.summary) },
                "defaultConfiguration": { "level": rule.severity.name() },
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "qwen-fp8", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "originalUriBaseIds": { "CHECKPOINT": { "uri": directory_uri(dir) } },
            "columnKind": "unicodeCodePoints",
            "results": findings.iter().map(result).collect::<Vec<_>>(),
        }],
    })
}

fn result(finding: &Finding) -> Value {
    let index = RULES.iter().position(|rule| *rule == finding.rule);
    let text = match finding.help {
        "" => finding.message.clone(),
        help => format!("{}; {help}", finding.message),
    };
    // A tensor without a file is somewhere in the checkpoint, and config.json is the one file that every one has.
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

/// A message without placeholders and links: braces stand for themselves when they are doubled, and what looks like a link
/// is torn apart, since a viewer would follow it to wherever a name of the input leads.
fn plain(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}").replace("](", "] (")
}

fn directory_uri(dir: &Path) -> String {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    format!("file://{}/", encoded(&dir.to_string_lossy()))
}

/// Percent-encodes what may not stand in the path of a URI.
fn encoded(path: &str) -> String {
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
    use crate::rules;

    #[test]
    fn a_finding_has_its_rule_level_and_place() {
        let finding = Finding::new(&rules::PREFIX_ENTRY, "`model.visual` is a prefix").config("/ignored_layers/3");
        let log = sarif(&[finding.tensor("model.visual.merger")], Path::new("/tmp/a b"));
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
