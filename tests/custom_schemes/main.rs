//! Schemes of strangers, registered for the whole process: recipes know them, and a run treats them as its own.
//!
//! A target of its own, because the snapshots of the scheme list and the checked-in schema would see them.

mod recipe;
mod roles;
