//! What a run leaves to be read: tables for people, the manifest for whoever wants proof.

pub mod manifest;
pub mod table;
pub mod timings;
