//! The packages of the repository, as the tests of walls and circles read them.

use crate::support::rust_imports::Package;
use crate::support::rust_source::SourceText;

/// Reads all packages; the engine's modules have no prefix, those of the others the name that the engine gives them.
pub(super) fn packages(sources: &[SourceText]) -> [Package<'_>; 7] {
    [
        Package::new(sources, "schemes/src/", &["schemes"], &[]),
        Package::new(sources, "src/checkpoint/", &["checkpoint"], &[]),
        Package::new(sources, "src/check/", &["check"], &[]),
        Package::new(sources, "src/delta/", &["delta"], &[]),
        Package::new(sources, "src/hub/", &["hub"], &[]),
        Package::new(sources, "src/stores/", &["stores"], &[]),
        Package::new(sources, "src/", &[], &["src/check/", "src/checkpoint/", "src/delta/", "src/hub/", "src/stores/"]),
    ]
}
