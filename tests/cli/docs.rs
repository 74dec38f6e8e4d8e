//! What the guides quote is what the program says, their recipes are recipes, and the files that they name are there.

use std::fs;
use std::path::Path;

use qwen_fp8::recipe::{Recipe, RecipeText};

use crate::support::rust_source::read_sources;

/// The phrases in backticks that begin the rows of a guide's tables.
fn quoted(guide: &str) -> Vec<String> {
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect()
}

#[test]
fn troubleshooting_quotes_messages_that_there_are() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md");
    let guide = fs::read_to_string(guide).unwrap();
    let ours = guide.split("\n## ").find(|part| part.starts_with("Before and during")).unwrap();
    let texts: Vec<String> = read_sources(&["src"]).into_iter().map(|source| source.raw).collect();
    let phrases = quoted(ours);
    assert!(phrases.len() >= 5, "{phrases:?}");
    for phrase in phrases {
        assert!(texts.iter().any(|text| text.contains(&phrase)), "no message says `{phrase}`");
    }
}

/// README and the guides, by path from the repository's root.
fn guides() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<String> = ["README.md", "CONTRIBUTING.md"].map(str::to_owned).to_vec();
    let mut folders = vec!["docs".to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.ends_with(".md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let read = |path: String| (fs::read_to_string(root.join(&path)).unwrap(), path);
    paths.into_iter().map(read).map(|(text, path)| (path, text)).collect()
}

/// The blocks of a guide that are fenced as this language, each without the indent of its fence.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim_start() == format!("```{language}") {
            let indent = line.len() - line.trim_start().len();
            let block = lines.by_ref().take_while(|line| line.trim_start() != "```");
            blocks.push(block.map(|line| line.get(indent..).unwrap_or("").to_owned() + "\n").collect());
        }
    }
    blocks
}

#[test]
fn recipes_in_the_guides_are_valid() {
    let mut recipes = 0;
    for (path, text) in guides() {
        for (language, extension) in [("yaml", "yaml"), ("yml", "yaml"), ("toml", "toml")] {
            for block in blocks(&text, language) {
                // A part of a recipe, and what is none, has no scheme at the start of a line or of a rule.
                if !block.contains("scheme") || !block.contains("targets") {
                    continue;
                }
                recipes += 1;
                // Modifiers stand in a stage, which a part need not repeat.
                let block = if block.contains("Modifier:") && !block.contains("_stage") {
                    let indented: String = block.lines().map(|line| format!("    {line}\n")).collect();
                    format!("quant_stage:\n  quant_modifiers:\n{indented}")
                } else {
                    block
                };
                let read = Recipe::parse(RecipeText::new(Path::new(&format!("guide.{extension}")), block));
                if let Err(error) = read {
                    panic!("{path}: {error}");
                }
            }
        }
    }
    assert!(recipes >= 3, "{recipes}");
}

/// Every command of the manual for agents, in its order, on the smallest model.
#[test]
fn commands_of_the_skill_run() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/skill/SKILL.md")).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join(super::FIXTURE);
    let folder = tempfile::tempdir().unwrap();
    let console = blocks(&text, "console").concat();
    let lines: Vec<&str> = console.lines().filter_map(|line| line.strip_prefix("$ qwen-fp8 ")).collect();
    assert!(lines.len() >= 12, "{lines:?}");
    for line in lines {
        let words = line.split(' ').map(|word| if word == "MODEL" { model.to_str().unwrap() } else { word });
        let output = super::command(&words.collect::<Vec<_>>())
            .current_dir(&folder)
            .env("XDG_DATA_HOME", folder.path().join("data"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        let answer: Result<serde_json::Value, _> = serde_json::from_slice(&output.stdout);
        assert!(line.starts_with("init") || answer.is_ok(), "{line}: {}", String::from_utf8_lossy(&output.stdout));
        if line.starts_with("verify") {
            assert_eq!(answer.unwrap()["verdict"], "proven");
        }
    }
    // What it says of answers and of their codes is what they are.
    for word in ["Q201", "Q202", "Q301"] {
        let rules = super::run(&["lint", "--rules"]).stdout;
        assert!(String::from_utf8(rules).unwrap().contains(word), "no rule is called {word}");
    }
}

#[test]
fn paths_in_the_guides_exist() {
    let path =
        regex::Regex::new(r"\b(?:tests|src|schemes|recipes|fuzz|findings|benches|examples)/[A-Za-z0-9_./*-]*").unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for (guide, text) in guides() {
        for quoted in text.split('`').skip(1).step_by(2) {
            // A pattern of paths, a place to fill in and what is made by building are none.
            for found in path.find_iter(quoted) {
                let before = quoted[..found.start()].chars().next_back();
                let name = found.as_str().trim_end_matches(['.', '/']);
                if before.is_some_and(|c| !c.is_whitespace()) || name.contains('*') || is_to_fill_in(name) {
                    continue;
                }
                seen += 1;
                assert!(root.join(name).exists(), "{guide} names `{name}`");
            }
        }
    }
    assert!(seen > 50, "{seen}");
}

fn is_to_fill_in(path: &str) -> bool {
    path.split(['/', '.'])
        .any(|part| part.len() > 1 && part.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
}
