//! The house rules that no compiler holds: names that mean one thing, walls, no circles of files, prose.

mod dockerfile;
mod forbidden_imports;
mod import_cycles;
mod names;
mod packages;
mod prose;

use std::sync::OnceLock;

use crate::support::rust_source::{SourceText, read_sources};

/// All code that is held to the rules, read once.
fn sources() -> &'static [SourceText] {
    static SOURCES: OnceLock<Vec<SourceText>> = OnceLock::new();
    SOURCES.get_or_init(|| read_sources(&["schemes/src", "src"]))
}
