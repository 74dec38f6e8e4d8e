//! `verify`, `lint` and `diff` over results of `apply`, sound and spoilt.

mod agreement;
mod architectures;
mod command;
mod diff;
mod float8_source;
mod layouts;
mod mse_search;
mod mutations;
mod official;
mod progress;
mod recorded_source;
mod sarif;
mod schemes;
mod stacks;
mod verdict;
