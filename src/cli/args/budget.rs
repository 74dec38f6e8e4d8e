//! The arguments of `init` for a recipe by budget.

use clap::{Args, ValueEnum};

use super::fit::{CacheDtypeName, memory};

#[derive(Debug, Args)]
pub(in crate::cli) struct BudgetArgs {
    /// Draft the recipe that loses least of those that fit GPUs with so much memory, such as 16GiB: what each scheme loses
    /// is measured on the weights
    #[arg(long, value_name = "SIZE", value_parser = memory, conflicts_with = "scheme")]
    pub(in crate::cli) fit: Option<u64>,

    /// Tokens of context that are to fit, of prompt and answer together
    #[arg(long, value_name = "N", default_value_t = 8192, requires = "fit")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub(in crate::cli) context: u64,

    /// Requests of that context that are to fit at once
    #[arg(long, value_name = "N", default_value_t = 1, requires = "fit")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(in crate::cli) concurrency: u64,

    /// GPUs that share the model
    #[arg(long, value_name = "N", default_value_t = 1, requires = "fit")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(in crate::cli) tensor_parallel: u64,

    /// The dtype of keys and values in the cache
    #[arg(long, value_enum, value_name = "DTYPE", default_value = "auto", requires = "fit")]
    pub(in crate::cli) kv_cache_dtype: CacheDtypeName,

    /// The generation of the GPUs, whose kernels decide which schemes there are [default: what all have kernels for]
    #[arg(long, value_enum, value_name = "GENERATION", requires = "fit")]
    pub(in crate::cli) gpu: Option<GpuName>,

    /// The server that is to run the result
    #[arg(long, value_enum, value_name = "SERVER", default_value = "vllm", requires = "fit")]
    pub(in crate::cli) server: ServerName,
}

/// A generation of GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum GpuName {
    /// RTX 20, T4
    Turing,
    /// RTX 30, A10, A100
    Ampere,
    /// RTX 40, L4, L40S
    Ada,
    /// H100, H200
    Hopper,
    /// RTX 50, B200, B300
    Blackwell,
}

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ServerName {
    Vllm,
    Sglang,
    Transformers,
}
