//! Schemes of strangers, registered for the whole process: recipes know them, and a run treats them as its own.
//!
//! A package of its own, because the engine's snapshots of the scheme list and the checked-in schema would see them.

#[cfg(test)]
mod recipe;
#[cfg(test)]
mod roles;
