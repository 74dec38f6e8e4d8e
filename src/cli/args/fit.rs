//! The arguments of `fit`.

use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use crate::checkpoint::text::{meant_size, parse};
use crate::cli::completers;

/// The least memory that a GPU is believed to have.
const LEAST: u64 = 256 << 20;

#[derive(Debug, Args)]
pub(in crate::cli) struct FitArgs {
    /// What is to be served: a recipe, whose output it will be, or a checkpoint as it is: a directory, or a model id of the
    /// Hugging Face hub
    #[arg(value_name = "RECIPE|DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) subject: String,

    /// The memory of each GPU, such as 16GiB; a card that is sold with 16 GB has 16GiB
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub(in crate::cli) vram: u64,

    /// GPUs that share the model
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(in crate::cli) tensor_parallel: u64,

    /// Tokens of context, of prompt and answer together [default: as many as fit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub(in crate::cli) context: Option<u64>,

    /// Requests at once [default: as many as fit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub(in crate::cli) concurrency: Option<u64>,

    /// The dtype of keys and values in the cache
    #[arg(long, value_enum, value_name = "DTYPE", default_value = "auto")]
    pub(in crate::cli) kv_cache_dtype: CacheDtypeName,

    /// The checkpoint, instead of the recipe's `model`: a directory, or a model id of the Hugging Face hub
    #[arg(short, long, value_name = "DIR|ID", add = ArgValueCompleter::new(completers::checkpoints))]
    pub(in crate::cli) model: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum CacheDtypeName {
    /// What config.json asks for, else that of the model
    Auto,
    /// FP8, half as large
    Fp8,
}

/// Reads the memory of a GPU.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    match parse(text) {
        Ok(bytes) if bytes < LEAST => {
            let number = text.trim().trim_end_matches(|c: char| !c.is_ascii_digit());
            Err(format!("no GPU has {bytes} bytes: did you mean {number}GiB?"))
        }
        Ok(bytes) => Ok(bytes),
        Err(expected) => Err(match meant_size(text) {
            Some(size) => format!("{expected}; did you mean {size}?"),
            None => expected,
        }),
    }
}
