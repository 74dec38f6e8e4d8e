//! The recipe files of llm-compressor: which work, and what is in the way of the others.

use std::path::Path;

use qwen_fp8::recipe::{Dialect, Recipe};
use qwen_fp8::schemes::Format;

/// Each file's outcome: its rules, or its diagnostics with their lines.
#[test]
fn every_file_works_or_is_refused_at_its_line() {
    let mut paths: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recipes-upstream"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    assert_eq!(paths.len(), 34);
    let lines: Vec<_> = paths.iter().map(|path| outcome(path)).collect();
    assert_eq!(lines.iter().filter(|line| line.contains("accepted")).count(), 4);
    insta::assert_snapshot!(lines.join("\n"));
}

fn outcome(path: &Path) -> String {
    let mut lines = vec![path.file_name().unwrap().to_str().unwrap().to_owned()];
    match Recipe::read(path) {
        Ok(recipe) => {
            assert_eq!((recipe.dialect, recipe.format), (Dialect::LlmCompressor, Format::CompressedTensors));
            for rule in &recipe.rules {
                let targets: Vec<_> = rule.targets.iter().map(|target| target.value.text()).collect();
                lines.push(format!("  accepted: {} {} {:?}", rule.label, targets.join(" "), rule.scheme));
            }
        }
        Err(error) => {
            for diagnostic in &error.diagnostics {
                let line = error.text.text[..diagnostic.span.clone().unwrap().start].matches('\n').count() + 1;
                lines.push(format!("  line {line}: {}", diagnostic.message));
            }
        }
    }
    lines.join("\n")
}
