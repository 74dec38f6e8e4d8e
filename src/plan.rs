//! A plan: for every tensor one action and the rule that decided it, and every byte offset of the output.
//!
//! Only headers are read to make one, and everything about the output is known when it is made.

mod alternatives;
mod build;
pub mod expected;
pub mod explain;
mod fixes;
pub mod format;
mod fused;
mod inputs;
mod job;
mod kept_config;
mod kernels;
mod known;
mod modules;
mod non_finite;
mod output;
mod planned_input;
mod quantized_source;
mod requantized;
pub mod resolve;
mod served;
mod served_form;
mod served_weights;
mod serving;
pub mod summary;
pub mod tensor_parallel;
mod unmatched;
mod unproven;

pub use build::{Plan, Refused};
pub use job::{Decision, Job, Slot};
pub use planned_input::{
    CarriedForm, CodeRows, GlobalScale, InputData, PlannedInput, QuantizedSource, SourcePart, ZeroPointTensor,
};
pub use served_form::ServedForm;
pub use served_weights::ServedWeights;

pub(crate) use fixes::{patterns, quoted};
pub(crate) use fused::with_fused;
pub(crate) use inputs::split_where_known;
pub(crate) use serving::{AllModules, is_cut};
pub(crate) use summary::numbers_starred;
