//! What people read: tables.

pub mod table;
pub mod timings;
