//! What people read: tables and sizes.

pub mod size;
pub mod table;
pub mod timings;
