//! The figures of a delta.

use schemars::JsonSchema;
use serde::Serialize;

/// What changed between two checkpoints, as a delta holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DeltaFigures {
    /// Bytes of the delta.
    pub delta_bytes: u64,
    /// Bytes of the new checkpoint's files.
    pub new_bytes: u64,
    /// Files of the new checkpoint.
    pub files: u64,
    /// Tensors of the new checkpoint that are stored by the checksums of the base's bytes alone.
    pub unchanged_tensors: u64,
    /// Tensors that the old checkpoint has too, under this name or another, and that differ in values, shape or dtype.
    pub changed_tensors: u64,
    /// Tensors that are held against one of another name.
    pub renamed_tensors: u64,
    /// Tensors of which the old checkpoint has nothing.
    pub new_tensors: u64,
    /// Tensors of the old checkpoint of which the new one has nothing.
    pub removed_tensors: u64,
    /// Files of the old checkpoint of whose name the new one has none.
    pub removed_files: u64,
    /// Pieces of 1 MiB, or what is left of a tensor or file, that changed.
    pub changed_pieces: u64,
    /// All pieces.
    pub pieces: u64,
    /// Files of the new checkpoint's directory that are no part of the model, and in no delta.
    pub left_out: Vec<OmittedFile>,
}

/// A file that a delta leaves out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OmittedFile {
    pub name: String,
    pub why: String,
}
