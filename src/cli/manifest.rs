//! What is asked for of the manifest, as `apply` writes it and `plan` counts it.

use super::args::{ManifestArgs, Sha256Files};
use crate::run::Sha256Of;

/// The files whose SHA-256 goes into the manifest; `None` where there is no manifest.
pub(super) fn wanted(args: &ManifestArgs) -> Option<Sha256Of> {
    use Sha256Files::{All, Output, Source};
    let of = args.sha256;
    let sums = Sha256Of { output: matches!(of, Some(Output | All)), source: matches!(of, Some(Source | All)) };
    (!args.no_manifest).then_some(sums)
}
