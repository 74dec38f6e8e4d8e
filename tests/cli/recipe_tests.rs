//! `test`, `plan --lock`, `plan --diff` and `apply --locked`.

use std::fs;

use super::{BLOCKS, FIXTURE, Folder, assert_seen, run};

const EXPECTING: &str = "expect:\n  quantized: 14\n  unquantized_layers: ['re:.*visual.*']\n";

/// A folder with recipes: one that holds, one that expects otherwise, one that names no checkpoint, one with a mistake.
fn scene() -> Folder {
    let folder = Folder::new(BLOCKS);
    fs::create_dir_all(folder.path("recipes/more")).unwrap();
    let model = format!("model: {FIXTURE}\n");
    for (name, text) in [
        ("recipes/a.yaml", format!("{model}{EXPECTING}{BLOCKS}")),
        ("recipes/b.yml", format!("{model}expect:\n  quantized: 13\n{BLOCKS}")),
        ("recipes/more/c.yaml", BLOCKS.to_owned()),
        ("recipes/more/d.toml", "scheme = \"FP8_BLOK\"\ntargets = [\"Linear\"]\n".to_owned()),
        ("recipes/notes.txt", "no recipe".to_owned()),
    ] {
        fs::write(folder.path(name), text).unwrap();
    }
    folder
}

#[test]
fn recipes_are_tested_and_summed_up() {
    let folder = scene();
    let junit = "test @recipes --junit @results.xml".to_owned();
    let seen =
        [junit.as_str(), "test @recipes/a.yaml", "test @recipes/more/c.yaml", "test @nowhere.yaml", "test @data"];
    fs::create_dir(folder.path("data")).unwrap();
    assert_seen!("test_recipes", seen.map(|line| folder.run(line)).join("\n\n"));
    let xml = fs::read_to_string(folder.path("results.xml")).unwrap().replace(&folder.path(""), "@/");
    let without_times: Vec<&str> =
        xml.split(" time=\"").map(|part| part.split_once('"').map_or(part, |two| two.1)).collect();
    assert_seen!("test_recipes_junit", without_times[1..].concat());
}

#[test]
fn a_lock_is_written_held_and_shown() {
    let folder = Folder::new(BLOCKS);
    fs::write(
        folder.path("other.yaml"),
        BLOCKS.replace("[lm_head]", "[lm_head, 're:.*layers.1.*up_proj', 're:.*layers.1.*gate_proj']"),
    )
    .unwrap();
    let with = format!("--model {FIXTURE}");
    let seen = [
        format!("plan @recipe.yaml --lock --quiet {with}"),
        format!("plan @recipe.yaml --diff @recipe.lock.json {with}"),
        format!("plan @recipe.yaml --diff @other.yaml {with}"),
        format!("apply @other.yaml --locked=@recipe.lock.json --output @out {with}"),
        format!("apply @other.yaml --locked --output @out {with}"),
        format!("test @recipe.yaml {with}"),
    ];
    let shown: Vec<String> =
        seen.iter().map(|line| folder.run(&line.replace("=@", &format!("={}", folder.path(""))))).collect();
    assert_seen!("plan_lock", shown.join("\n\n").replace(&folder.path(""), "@"));
    assert!(!fs::exists(folder.path("out")).unwrap());
    let locked =
        run(&["apply", "-q", &folder.path("recipe.yaml"), "--locked", "-o", &folder.path("out"), "-m", FIXTURE]);
    assert!(locked.status.success(), "{locked:?}");
}

#[test]
fn a_recipe_that_left_its_lock_fails_its_test() {
    let folder = Folder::new(BLOCKS);
    let recipe = folder.path("recipe.yaml");
    assert!(run(&["plan", "-q", &recipe, "--lock", "-m", FIXTURE]).status.success());
    fs::write(&recipe, format!("on_nonfinite: keep\n{BLOCKS}")).unwrap();
    assert_seen!("test_locked", folder.run(&format!("test @recipe.yaml --model {FIXTURE}")));
}

#[test]
fn a_difference_says_what_both_recipes_share_once() {
    let left = "{scheme: W4A16, group_size: 256, targets: Linear, on_misfit: leave, ignore: [lm_head]}\n";
    let folder = Folder::new(left);
    fs::write(folder.path("other.yaml"), left.replace("lm_head", "lm_head, 're:.*layers.1.mlp.down_proj'")).unwrap();
    let said = |other: &str| {
        let paths = [folder.path("recipe.yaml"), folder.path(other)];
        let run = run(&["plan", &paths[0], "--diff", &paths[1], "-m", FIXTURE]);
        String::from_utf8(run.stderr).unwrap()
    };
    let shared = said("recipe.yaml");
    assert_eq!(shared.matches(" unquantized, ").count(), 1, "{shared}");
    // What is said of the other alone is said.
    let other = said("other.yaml");
    assert_eq!(other.matches("other.yaml:").count(), 1, "{other}");
}
