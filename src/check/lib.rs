//! Independent proof of a result: its structure by rules of its own, its content by a decoder of its own.
//!
//! Nothing here shares code with the kernels that quantize or the pipeline that writes; of the rest of the program
//! only `qwen-fp8-checkpoint` is used, and Cargo keeps it so. The rooms, each of which knows those before it alone:
//!
//! | room | holds |
//! |---|---|
//! | `report` | findings, figures, thresholds, SARIF |
//! | `decode` | from bytes to values; a storage form is a file in `decode/storage/` and a row of its table |
//! | `config` | what `quantization_config` declares, as vLLM reads it |
//! | `source` | the source behind a result, and the comparison with it |
//! | `rules` | a file per family of codes: each rule's texts and check |
//! | `structure`, `content` | the two passes over a checkpoint, which call the rules |
//! | `verify`, `lint`, `diff`, `distribution` | what the program offers |

#![forbid(unsafe_code)]

mod config;
mod content;
mod decode;
mod diff;
mod distribution;
mod lint;
mod open;
mod pool;
mod report;
mod rules;
mod source;
mod structure;
mod verify;

pub use diff::{
    ConfigDifference, DescribedTensor, Difference, KindDifference, LayerDifference, Renamed, StoredAs,
    TensorDifference, diff, diff_at,
};
pub use distribution::{Distribution, Histogram, distributions};
pub use lint::{lint, lint_at, sarif};
pub use open::CheckError;
pub use pool::{on_all_processors, on_threads_for};
pub use report::sarif as sarif_format;
pub use report::{Figures, Finding, LintRule, Location, Severity, Threshold, ThresholdError, WorstBlock};
pub use rules::RULES;
pub use source::{AdapterFault, CheckedAs, CheckedTensor, NoSource, recorded_source};
pub use verify::{KindQuality, Verdict, Verification, verify, verify_at, verify_merged};

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// The rooms in their order: each may name those before it.
    const ROOMS: [&str; 5] = ["report", "decode", "config", "source", "rules"];

    /// Reads a room's file and the files of its folder.
    fn read(path: &Path, text: &mut String) {
        if path.is_dir() {
            std::fs::read_dir(path).unwrap().for_each(|entry| read(&entry.unwrap().path(), text));
        } else if path.exists() {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }

    #[test]
    fn folders_import_only_those_before_them() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (at, room) in ROOMS.iter().enumerate() {
            let mut text = String::new();
            read(&root.join(format!("{room}.rs")), &mut text);
            read(&root.join(room), &mut text);
            assert!(!text.is_empty(), "{room}");
            for rest in text.split("crate::").skip(1) {
                let named = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap();
                assert!(named == *room || ROOMS[..at].contains(&named), "{room} names {named}");
            }
        }
    }
}
