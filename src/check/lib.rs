//! Independent proof of a result: structure by rules of its own, content by a decoder of its own.
//!
//! Nothing here shares code with the kernels that quantize or the pipeline that writes; of the rest of the program only
//! the readers of headers, index, config and manifest are used.

#![forbid(unsafe_code)]

mod codebook;
mod coded;
mod content;
mod declared;
mod diff;
mod element;
mod finding;
mod grid;
mod lint;
mod modules;
mod names;
mod open;
mod original;
mod packing;
mod pool;
mod quality;
mod recorded;
mod recorded_source;
mod rules;
mod sarif;
mod shards;
mod source;
mod storage;
mod structure;
mod threshold;
mod verify;

pub use content::{Checked, CheckedTensor};
pub use diff::{
    ConfigDifference, Described, Difference, KindDifference, LayerDifference, Renamed, Stored, TensorDifference, diff,
};
pub use finding::{Finding, Place};
pub use lint::lint;
pub use open::CheckError;
pub use pool::on_all_processors;
pub use quality::{Figures, WorstBlock};
pub use recorded_source::{NoSource, recorded_source};
pub use rules::{RULES, Rule, Severity};
pub use sarif::sarif;
pub use threshold::{Threshold, ThresholdError};
pub use verify::{KindQuality, Verification, verify};
