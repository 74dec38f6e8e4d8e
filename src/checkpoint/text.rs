//! Text for people: names of untrusted input escaped for a terminal, byte counts, plurals, and hints about errors of
//! the operating system.

mod decibels;
mod escape;
mod nearest;
pub mod os_hints;
mod plural;
mod size;

pub use decibels::decibels;
pub use escape::*;
pub use nearest::nearest_word;
pub use plural::{agree, count};
pub use size::*;
