//! A run writes what its plan says, or nothing.

mod apply;
mod changes;
mod experts;
mod failures;
mod float8;
mod fused;
mod manifest;
mod nonfinite;
mod output;
mod resume;
