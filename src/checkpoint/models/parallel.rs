//! How servers split a linear layer over several GPUs.

use super::split_name;

/// The side along which tensor parallelism splits a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParallelSplit {
    /// Row parallel: along the input.
    Columns,
    /// Column parallel: along the output.
    Rows,
    /// Column parallel over key-value heads: with more GPUs than heads, several GPUs hold the same head.
    KeyRows,
    /// Replicated: every GPU holds all of it.
    Replicated,
}

/// Returns how servers split the module, by the last part of its name.
pub fn parallel_split(module: &str) -> ParallelSplit {
    match split_name(module).1 {
        "o_proj" | "down_proj" | "out_proj" | "wo" | "w2" | "dense_4h_to_h" => ParallelSplit::Columns,
        "k_proj" | "v_proj" => ParallelSplit::KeyRows,
        "q_a_proj" | "kv_a_proj_with_mqa" => ParallelSplit::Replicated,
        _ => ParallelSplit::Rows,
    }
}
