//! Deltas: what changed between two checkpoints, in one file, from which the new one follows given the old one.
//!
//! A delta is made piece by piece: a piece that did not change costs its checksum, and of one that did the differences of its
//! words are stored, each in as many bits as it is surprising given the old word. `docs/deltas.md` has the format.
//!
//! Every byte of a delta is untrusted, as every byte of a checkpoint is: sizes are checked before memory is taken, and no
//! byte of the result rests on one whose checksum was not compared.

#![forbid(unsafe_code)]

mod base;
mod bits;
mod contents;
mod error;
mod figures;
mod files;
mod make;
mod open;
mod piece;
mod rans;
mod record;
mod restore;
mod words;

pub use base::BaseFiles;
pub use contents::{ContentFile, DeltaContents, MAGIC as DELTA_MAGIC};
pub use error::DeltaError;
pub use figures::{DeltaFigures, OmittedFile};
pub use make::make;
pub use open::{DeltaReader, OpenDelta};
