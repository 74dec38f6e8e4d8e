//! A run writes what its plan says, or nothing.

mod changes;
mod failures;
mod fixture;
mod manifest;
mod output;
mod resume;
mod roles;
