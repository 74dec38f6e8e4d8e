//! A request for a first recipe.

/// A request for a recipe.
#[derive(Clone, Debug)]
pub struct Request {
    /// The checkpoint as it was named: a directory or a model id.
    pub model: String,
    /// `None` takes blocks where they fit most of the weights.
    pub scales: Option<DraftScales>,
}

/// The granularity of scales, and with it the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DraftScales {
    /// 128 × 128 of them, in the layout of the official Qwen checkpoints.
    Blocks,
    /// A row, in llm-compressor's layout.
    Rows,
}
