//! The program and its library from outside: one binary for all of it, so that the engine is linked once.
//!
//! Tests lie by the module that they are about. `custom_schemes/` must not share a process with them and is a package of
//! its own, which says why.

mod architecture;
mod check;
mod checkpoint;
mod cli;
mod delta;
mod doctor;
mod fit;
mod hostile;
mod hub;
mod machine;
mod models;
mod plan;
mod recipe;
mod report;
mod run;
mod support;
