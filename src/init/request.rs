//! The wishes that a first recipe is drafted for.

/// A checkpoint, and the granularity that is wanted for it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The checkpoint as the user named it: a directory or a model id.
    pub model: String,
    /// The address of the recipe schema, for editors; `None` where there is no file that it could lie in.
    pub schema: Option<String>,
    /// `None` takes blocks where they fit most of the weights.
    pub granularity: Option<DraftGranularity>,
}

/// The granularity of the scales, and with it the layout of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DraftGranularity {
    /// A scale for each block of 128 × 128 weights, in the layout of the official Qwen checkpoints.
    Block,
    /// A scale for each row, in llm-compressor's layout.
    Channel,
}
