//! The ways in which servers split a linear layer over several GPUs.

use super::kind::split_name;

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

/// Returns how servers split the module, by the end of its name.
pub fn parallel_split(module: &str) -> ParallelSplit {
    let (parents, last) = split_name(module);
    let parent = split_name(parents).1;
    match last {
        // BERT calls the layers on both sides of the activation `dense`, the first of them below `intermediate`.
        "dense" if parent == "intermediate" => ParallelSplit::Rows,
        "wq_b" if parent == "indexer" => ParallelSplit::Replicated,
        "proj" if parent == "attn" => ParallelSplit::Columns,
        "proj" if parent == "modality_projection" => ParallelSplit::Replicated,
        "o_proj" | "down_proj" | "out_proj" | "c_proj" | "wo" | "Wo" | "wo_b" | "w2" | "dense" | "dense_4h_to_h"
        | "fc2" | "fc_out" | "linear_2" | "linear_fc2" | "linear_right" | "to_out" | "output_linear"
        | "post_projection" => ParallelSplit::Columns,
        "k_proj" | "v_proj" => ParallelSplit::KeyRows,
        "q_a_proj"
        | "kv_a_proj_with_mqa"
        | "g_a_proj"
        | "fc1_latent_proj"
        | "fc2_latent_proj"
        | "per_layer_input_gate"
        | "per_layer_projection"
        | "embedding_projection"
        | "correction_coefs"
        | "prediction_coefs"
        | "modality_router" => ParallelSplit::Replicated,
        _ => ParallelSplit::Rows,
    }
}
