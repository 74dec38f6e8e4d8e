//! The schemes from outside, in one binary: contract, bytes, scales, presets.

mod conformance;
mod degenerate_scales;
mod golden;
mod golden_vectors;
mod pairs;
mod presets;
mod properties;
mod recorded;
mod reference;
