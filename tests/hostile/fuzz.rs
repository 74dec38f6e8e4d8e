//! What the fuzz targets check, over their seeds and everything that was ever found.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

#[path = "../../fuzz/checks/config.rs"]
mod config;
#[path = "../../fuzz/checks/delta.rs"]
mod delta;
#[path = "../../fuzz/checks/fit.rs"]
mod fit;
#[path = "../../fuzz/checks/header.rs"]
mod header;
#[path = "../../fuzz/checks/index.rs"]
mod index;
#[path = "../../fuzz/checks/message.rs"]
mod message;
#[path = "../../fuzz/checks/pattern.rs"]
mod pattern;
#[path = "../../fuzz/checks/recipe.rs"]
mod recipe;

/// The inputs of a target: its seeds, at least one, and what was found with it.
fn inputs(target: &str) -> Vec<PathBuf> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let files = |dir: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(fuzz.join(dir).join(target)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let seeds = files("corpus");
    assert!(!seeds.is_empty(), "no seeds for {target}");
    [seeds, files("regressions")].concat()
}

fn replay(target: &str, check: fn(&[u8])) {
    let failed: Vec<PathBuf> = inputs(target)
        .into_iter()
        .filter(|path| {
            let bytes = fs::read(path).unwrap();
            panic::catch_unwind(AssertUnwindSafe(|| check(&bytes))).is_err()
        })
        .collect();
    assert!(failed.is_empty(), "{target} fails on {failed:#?}");
}

#[test]
fn the_recipe_check_holds_for_seeds_and_regressions() {
    replay("recipe", recipe::check);
}

#[test]
fn the_header_check_holds_for_seeds_and_regressions() {
    replay("header", header::check);
}

#[test]
fn the_index_check_holds_for_seeds_and_regressions() {
    replay("index", index::check);
}

#[test]
fn the_config_check_holds_for_seeds_and_regressions() {
    replay("config", config::check);
}

#[test]
fn the_pattern_check_holds_for_seeds_and_regressions() {
    replay("pattern", pattern::check);
}

#[test]
fn the_delta_check_holds_for_seeds_and_regressions() {
    replay("delta", delta::check);
    for seed in inputs("delta")
        .iter()
        .filter(|path| path.starts_with(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")))
    {
        let outcome = delta::outcome(&fs::read(seed).unwrap()).unwrap();
        assert!(outcome.is_ok(), "{}: {outcome:?}", seed.display());
    }
}
