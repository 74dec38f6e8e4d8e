//! The schemes from outside, in one binary: contract, bytes, scales, presets.

mod conformance;
mod degenerate_scales;
mod division_free_cast;
mod golden;
mod golden_vectors;
mod group_search;
mod presets;
mod properties;
mod recorded;
mod reference;
