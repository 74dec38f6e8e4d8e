//! Reports in narrow terminals: every line fits, and no word is broken.

use std::collections::BTreeSet;
use std::path::Path;

use super::{BLOCKS, FIXTURE, Folder, assert_seen, command};
use crate::support::folder::{Base, Folder as Checkpoint};
use crate::support::terminal::shown_in_terminal;

fn shown(folder: &Folder, line: &str, columns: Option<usize>) -> String {
    let words = line.split(' ').map(|word| match word.strip_prefix('@') {
        Some(name) => folder.path(name),
        None => word.to_owned(),
    });
    let words: Vec<String> = words.collect();
    let mut command = command(&words.iter().map(String::as_str).collect::<Vec<_>>());
    if let Some(columns) = columns {
        command.env("COLUMNS", columns.to_string());
    }
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// The parts into which a name may be broken, and every run of them.
fn runs(word: &str) -> Vec<String> {
    let parts: Vec<&str> = word.split_inclusive(['.', '/', ',']).collect();
    (0..parts.len())
        .flat_map(|from| (from..parts.len()).map(move |to| (from, to)))
        .map(|(from, to)| parts[from..=to].concat())
        .collect()
}

fn scene() -> (Folder, Vec<String>) {
    let folder = Folder::new(BLOCKS);
    Checkpoint::read(Base::Block.dir()).write(Path::new(&folder.path("good")));
    let mut spoilt = Checkpoint::read(Base::Block.dir());
    spoilt.remove("model.language_model.layers.1.mlp.down_proj.weight_scale_inv");
    spoilt.write(Path::new(&folder.path("spoilt")));
    let lines = vec![
        format!("plan @recipe.yaml --model {FIXTURE}"),
        format!("explain @recipe.yaml model.language_model.layers.1.mlp.up_proj --model {FIXTURE}"),
        format!("inspect {FIXTURE}"),
        format!("verify @good --source {FIXTURE}"),
        "verify @spoilt --no-source".to_owned(),
        "lint @spoilt".to_owned(),
        format!("diff {FIXTURE} @good"),
        "schemes".to_owned(),
        "schemes FP8_BLOCK".to_owned(),
        "schemes W4A16".to_owned(),
        "schemes test MXFP8 passthrough".to_owned(),
    ];
    (folder, lines)
}

#[test]
fn lines_fit_and_words_stay_whole() {
    let (folder, lines) = scene();
    for line in lines {
        let wide = shown(&folder, &line, None);
        let bare = |word: &str| word.trim_end_matches([',', ':']).to_owned();
        let words: BTreeSet<String> =
            wide.split_whitespace().flat_map(|word| runs(&bare(word))).map(|run| bare(&run)).collect();
        assert!(wide.lines().any(|line| line.chars().count() > 60), "{line} has no long line");
        for columns in [40, 60, 80, 120] {
            let narrow = shown(&folder, &line, Some(columns));
            for shown in narrow.lines() {
                let is_one_word = shown.split_whitespace().count() == 1;
                assert!(is_one_word || shown.chars().count() <= columns, "{line} at {columns}: {shown}");
            }
            // The one sign that stands for a column's name is in narrow tables only.
            for word in narrow.split_whitespace().filter(|word| *word != "×") {
                assert!(words.contains(&bare(word)), "{line} at {columns}: {word:?}\n{narrow}");
            }
        }
        // A file or a pipe has no width.
        assert_eq!(shown(&folder, &line, Some(10_000)), wide, "{line}");
    }
}

#[test]
fn narrow_reports_read_well() {
    let (folder, lines) = scene();
    let of =
        |at: usize, columns| shown(&folder, &lines[at], Some(columns)).replace(folder.0.path().to_str().unwrap(), "@");
    let seen = [of(0, 80), of(0, 40), of(2, 40), of(3, 80), of(9, 60)];
    assert_seen!("narrow", seen.join("\n=====\n"));
}

/// The lines that a command says in a terminal, without what belongs to a bar: it is drawn over itself, with returns.
fn said(folder: &Folder, line: &str, columns: u16) -> Vec<String> {
    if line.starts_with("apply ") {
        // It writes over nothing.
        let _ = std::fs::remove_dir_all(folder.path("out"));
    }
    let words: Vec<String> = line
        .split(' ')
        .map(|word| word.strip_prefix('@').map_or_else(|| word.to_owned(), |name| folder.path(name)))
        .collect();
    let mut command = command(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let shown = shown_in_terminal(command.arg("--color=never"), columns, false);
    // A bar ends in returns and in what clears its line.
    let lines = shown.lines().map(|line| line.rsplit(['\r', '\u{1b}']).next().unwrap_or(line));
    let lines = lines.map(|line| line.strip_prefix("[2K").unwrap_or(line)).filter(|line| !line.contains('█'));
    lines.map(str::to_owned).collect()
}

#[test]
fn messages_fit_a_terminal_and_words_stay_whole() {
    let folder = Folder::new(BLOCKS);
    std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURE), folder.path("tiny-qwen3-vl"))
        .unwrap();
    for (name, recipe) in [
        ("scheme.yaml", "scheme: FP8_BLOCK\ntargets: Linear\nfrobnicate: 8\ntargets_too: []\n"),
        ("unsuitable.yaml", "format: fp8\nscheme: FP8_DYNAMIC\ntargets: Linear\nignore: ['re:visual.*']\n"),
        ("missed.yaml", "scheme: FP8_DYNAMIC\ntargets: ['re:.*layers.1.*q_prj', 're:nothing_is_called_so']\n"),
        ("kinds.yaml", "scheme: FP8_DYNAMIC\ntargets: ['re:.*_proj', '*embed_tokens*']\n"),
    ] {
        std::fs::write(folder.path(name), recipe).unwrap();
    }
    let lines = [
        "validate @scheme.yaml",
        "plan @unsuitable.yaml --model @tiny-qwen3-vl",
        "plan @missed.yaml --model @tiny-qwen3-vl",
        "plan @kinds.yaml --model @tiny-qwen3-vl",
        "plan @recipe.yaml --model Qwen/Qwen3-VL-8B-Instruct",
        "apply @recipe.yaml --model @tiny-qwen3-vl --output @out",
        "verify @out",
    ];
    // A label that does not fit beside its mark follows a colon.
    let bare = |word: &str| word.trim_end_matches(':').to_owned();
    // Times differ from run to run.
    let is_figure = |word: &str| !word.contains(char::is_alphabetic) && word.contains(|c: char| c.is_ascii_digit());
    for line in lines {
        let wide = said(&folder, line, 10_000);
        let text = wide.join(" ");
        assert!(wide.iter().any(|line| line.chars().count() > 60), "{line} says no long line:\n{text}");
        let words: BTreeSet<String> = text.split_whitespace().flat_map(runs).map(|run| bare(&run)).collect();
        for columns in [40, 60, 80] {
            for shown in said(&folder, line, columns) {
                // A place, a path and a line to be typed are as long as they are.
                let is_whole =
                    shown.contains("--> ") || shown.starts_with("to ") || shown.split_whitespace().count() == 1;
                let is_recipe = shown.contains(" | ");
                let fits = shown.chars().count() <= usize::from(columns);
                assert!(is_whole || fits, "{line} at {columns}: {shown}");
                for word in shown.split_whitespace().filter(|word| !is_recipe && !is_whole && !is_figure(word)) {
                    assert!(words.contains(&bare(word)), "{line} at {columns}: {word:?} of {shown:?}");
                }
            }
        }
    }
    let shown = |line| said(&folder, line, 60).join("\n").replace(folder.0.path().to_str().unwrap(), "@");
    assert_seen!("narrow_messages", lines[..3].iter().map(|line| shown(line)).collect::<Vec<_>>().join("\n=====\n"));
}

#[test]
fn rules_of_lint_are_a_table_for_people_and_for_files() {
    let folder = Folder::new("");
    let for_files = shown(&folder, "lint --rules", None);
    assert!(for_files.starts_with("| code | name |"), "{for_files}");
    for columns in [40, 60, 80, 120] {
        let narrow = shown(&folder, "lint --rules", Some(columns));
        for line in narrow.lines() {
            assert!(line.chars().count() <= columns, "at {columns}: {line}");
        }
        assert_eq!(narrow.matches("Q304").count(), for_files.matches("Q304").count(), "{narrow}");
    }
}
