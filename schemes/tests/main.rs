//! The schemes from outside, in one binary: contract, bytes, scales, presets.

mod conformance;
mod golden;
mod golden_vectors;
mod odd_scales;
mod pairs;
mod presets;
mod properties;
mod recorded;
mod reference;
