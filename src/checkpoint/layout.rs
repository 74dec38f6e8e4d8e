//! The exact bytes of an output shard's header, and where each tensor lies, before anything is written.

use safetensors::Dtype;

/// A tensor that an output shard will hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// An output shard: its header and the place of every tensor.
#[derive(Clone, Debug)]
pub struct ShardLayout {
    pub file_name: String,
    /// The 8-byte length, the JSON and its padding: what the file begins with.
    pub header: Vec<u8>,
    /// In the order of the file.
    pub tensors: Vec<Placed>,
    /// Bytes of the whole file.
    pub size: u64,
}

/// A tensor and its place in its file.
#[derive(Clone, Debug)]
pub struct Placed {
    pub entry: TensorEntry,
    /// Offset of the first byte in the file.
    pub offset: u64,
    pub len: u64,
}
