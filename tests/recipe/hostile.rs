//! Recipes that are meant to hurt: every one is an error that names the place, soon and in few words.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use qwen_fp8::recipe::diagnostic::render;
use qwen_fp8::recipe::{Recipe, RecipeError, RecipeText};

const GOOD: &str = "scheme: FP8_DYNAMIC\ntargets: [Linear]\n";

fn parse(name: &str, text: &str) -> Result<Recipe, RecipeError> {
    Recipe::parse(RecipeText::new(Path::new(name), text))
}

/// The message for a text that is refused, which is short and holds nothing that a terminal acts on.
fn refused(name: &str, text: &str) -> String {
    let error = match parse(name, text) {
        Ok(_) => panic!("accepted: {}", &text[..text.len().min(200)]),
        Err(error) => error,
    };
    let shown = render(&error.diagnostics, &error.text, false);
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    assert!(shown.len() < 40_000, "{} bytes of message", shown.len());
    assert!(shown.lines().all(|line| line.chars().count() < 420), "{shown}");
    shown
}

#[test]
fn bombs_are_refused_by_a_limit() {
    let nested = |open: &str, close: &str, depth: usize| format!("x: {}1{}\n", open.repeat(depth), close.repeat(depth));
    for text in [nested("[", "]", 100_000), nested("{a: ", "}", 50_000), format!("x: {}", "[".repeat(200_000))] {
        let message = refused("a.yaml", &text);
        assert!(message.contains("nested") || message.contains("recursion"), "{message}");
    }
    refused("a.yaml", &format!("x:\n{}1\n", "- ".repeat(20_000)));
    refused("a.yaml", &format!("x: {}\n", "a: ".repeat(30_000)));
    let mut laughs = "a0: &a0 [a, a, a, a, a, a, a, a, a]\n".to_owned();
    for step in 1..10 {
        let alias = format!("*a{}", step - 1);
        laughs.push_str(&format!("a{step}: &a{step} [{}]\n", vec![alias; 9].join(", ")));
    }
    assert!(refused("a.yaml", &format!("{laughs}{GOOD}")).contains("aliases expand beyond the limit"));
    let quadratic = format!("a: &a \"{}\"\nignore: [{}]\n{GOOD}", "x".repeat(100_000), vec!["*a"; 20_000].join(","));
    assert!(refused("a.yaml", &quadratic).contains("limit"));
    assert!(refused("a.yaml", "targets: &a [*a]\nscheme: FP8\n").contains("an alias cannot stand inside"));
    let brackets = format!("x = {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    assert!(refused("a.toml", &brackets).contains("recursion"));
    assert!(refused("a.toml", &format!("{} = 1\n", vec!["a"; 20_000].join("."))).contains("recursion"));
    refused("a.toml", &format!("x = {}1{}\n", "{a = ".repeat(50_000), "}".repeat(50_000)));
}

#[test]
fn long_lines_are_cut() {
    let long = "k".repeat(500_000);
    refused("a.yaml", &format!("{long}: 1\n"));
    refused("a.yaml", &format!("scheme: {long}\ntargets: Linear\n"));
    refused("a.yaml", &format!("scheme: FP8_DYNAMIC\ntargets: Linear\nignore: ['re:({long}']\n"));
    refused("a.yaml", &format!("scheme: FP8_DYNAMIC\ntargets: Linear\nblock_size: \"{long}\" # {long}\n"));
    refused("a.toml", &format!("scheme = {long}\n"));
    refused("a.toml", &format!("{long} = 1\n"));
    let many: String = (0..20_000).map(|index| format!("k{index}: 1\n")).collect();
    assert!(refused("a.yaml", &many).contains("more errors are not shown"));
}

#[test]
fn control_characters_are_escaped() {
    for (name, text) in [
        ("a.yaml", "scheme: \"\\e]0;pwned\\a\\e[31mFP8\"\ntargets: Linear\n"),
        ("a.yaml", "\"\\e[2Jkey\": 1\nscheme: FP8\ntargets: Linear\n"),
        ("a.yaml", "scheme: FP8_DYNAMIC\ntargets: \"re:(\\e[31m\"\n"),
        ("a.toml", "scheme = \"\\u001b[31mX\"\n"),
        ("a.toml", "\"\\u001b[31m\" = 1\n"),
        ("\u{1b}[31m.yaml", "scheme: X\n"),
        ("a.\u{1b}[31m", "scheme: X\n"),
    ] {
        refused(name, text);
    }
}

#[test]
fn yaml_booleans_tags_and_duplicates_mean_nothing_unexpected() {
    // `no` and `on` are names here, not booleans.
    let recipe = parse("a.yaml", "scheme: FP8_DYNAMIC\ntargets: [no, on, y]\n").unwrap();
    assert_eq!(recipe.rules[0].targets[0].value.text(), "no");
    for text in [
        "scheme: FP8_DYNAMIC\ntargets: Linear\nscheme: FP8_BLOCK\n",
        "scheme: !!python/object/apply:os.system ['true']\ntargets: Linear\n",
        "scheme: !include /etc/passwd\ntargets: Linear\n",
        "scheme: ${SCHEME}\ntargets: Linear\n",
        "? [a, b]\n: 1\nscheme: FP8\ntargets: Linear\n",
        "scheme: FP8_BLOCK\nblock_size: .nan\ntargets: Linear\n",
        "scheme: FP8_BLOCK\nblock_size: 1e999\ntargets: Linear\n",
        "scheme: FP8_BLOCK\nblock_size: 99999999999999999999999999\ntargets: Linear\n",
        "scheme: FP8_BLOCK\nblock_size: 128\ntargets: Linear\n---\n",
        "scheme: FP8\u{0}_DYNAMIC\ntargets: Linear\n",
    ] {
        refused("a.yaml", text);
    }
}

#[test]
fn line_ends_byte_order_marks_json_and_directives_are_read() {
    let crlf = GOOD.replace('\n', "\r\n");
    let bom = format!("\u{feff}{GOOD}");
    let json = r#"{"scheme": "FP8_DYNAMIC", "targets": ["Linear"]}"#;
    let directives = format!("%YAML 1.2\n---\n{GOOD}...\n");
    for text in [GOOD, GOOD.trim_end(), &crlf, &bom, json, &directives] {
        let recipe = parse("a.yaml", text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let span = recipe.rules[0].targets[0].span.clone();
        assert_eq!(recipe.text.text[span].trim_matches('"'), "Linear", "{text}");
    }
    let many: String = (0..10_000).map(|index| format!("  - model.layers.{index}.mlp.gate\n")).collect();
    assert_eq!(parse("a.yml", &format!("{GOOD}ignore:\n{many}")).unwrap().rules[0].ignore.len(), 10_000);
}

#[test]
fn crlf_does_not_move_the_mark() {
    let shown = refused("a.yaml", "scheme: FP8_DYNAMIC\r\ntargts: Linear\r\n");
    assert!(shown.contains("a.yaml:2:1") && shown.contains("2 | targts: Linear\n"), "{shown}");
}

fn read(path: &Path) -> String {
    let error = Recipe::read(path).unwrap_err();
    render(&error.diagnostics, &error.text, false).replace(&*path.to_string_lossy(), "PATH")
}

#[test]
fn missing_and_irregular_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    assert!(read(&at("missing.yaml")).starts_with("error: the recipe does not exist"));
    fs::create_dir(at("dir.yaml")).unwrap();
    assert!(read(&at("dir.yaml")).starts_with("error: the recipe is a directory, not a regular file"));
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo.yaml"), rustix::fs::Mode::RUSR).unwrap();
    assert!(read(&at("fifo.yaml")).starts_with("error: the recipe is a pipe (FIFO), not a regular file"));
    std::os::unix::fs::symlink("/dev/zero", at("zero.yaml")).unwrap();
    assert!(read(&at("zero.yaml")).starts_with("error: the recipe is a device, not a regular file"));
    fs::File::create(at("sparse.yaml")).unwrap().set_len(100_000_000).unwrap();
    assert!(read(&at("sparse.yaml")).starts_with("error: the recipe is too large: 100.00 MB"));
    fs::write(at("latin1.yaml"), b"scheme: FP8\n# gr\xf6\xdfer\n").unwrap();
    assert!(read(&at("latin1.yaml")).starts_with("error: the recipe is not UTF-8: byte 16 starts no character"));
    fs::write(at("recipe.txt"), GOOD).unwrap();
    assert!(read(&at("recipe.txt")).starts_with("error: a recipe cannot end in `.txt`"));
    fs::write(at("recipe"), GOOD).unwrap();
    assert!(read(&at("recipe")).starts_with("error: the recipe's file name has no extension"));
}

#[test]
fn links_and_upper_case_extensions_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("recipe.YML");
    fs::write(&file, GOOD).unwrap();
    assert!(Recipe::read(&file).is_ok());
    std::os::unix::fs::symlink(&file, dir.path().join("link.yaml")).unwrap();
    assert!(Recipe::read(&dir.path().join("link.yaml")).is_ok());
}

/// Pieces of recipes in any order: texts that get further than random ones.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "scheme",
        "targets",
        "rules",
        "ignore",
        "FP8_DYNAMIC",
        "Linear",
        "a_stage",
        "b_modifiers",
        "QuantizationModifier",
        "config_groups",
        "weights",
        "FP8Modifier",
        "block_size",
        ": ",
        ":\n",
        "\n",
        "\n  ",
        "\n    ",
        "\n      ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "128",
        "\"",
        "'",
        "&a ",
        "*a",
        "<<: ",
        "!!",
        "# ",
        "---\n",
        "re:",
        "(",
        "ä",
        "\u{1b}",
        "\t",
        " = ",
        "[[",
        "]]",
        "~",
        "null",
        "|\n",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// Whatever the text: a recipe, or diagnostics whose places are in the text.
    #[test]
    fn any_text_is_a_recipe_or_diagnostics(text in pieces(), toml in any::<bool>()) {
        let name = if toml { "a.toml" } else { "a.yaml" };
        match parse(name, &text) {
            Ok(recipe) => prop_assert!(!recipe.rules.is_empty()),
            Err(error) => {
                prop_assert!(!error.diagnostics.is_empty());
                for diagnostic in &error.diagnostics {
                    if let Some(span) = &diagnostic.span {
                        prop_assert!(span.start <= span.end && span.end <= error.text.text.len(), "{diagnostic:?}");
                    }
                    prop_assert!(!diagnostic.message.contains(char::is_control), "{diagnostic:?}");
                }
                let shown = render(&error.diagnostics, &error.text, false);
                prop_assert!(!shown.contains(|c: char| c.is_control() && c != '\n'));
            }
        }
    }
}
