//! Reports in narrow terminals: every line fits, and no word is broken.

use std::collections::BTreeSet;
use std::path::Path;

use super::{BLOCKS, FIXTURE, Folder, assert_seen, command};
use crate::support::folder::{Base, Folder as Checkpoint};

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
    let parts: Vec<&str> = word.split_inclusive(['.', '/']).collect();
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
