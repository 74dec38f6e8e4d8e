//! Models on the Hugging Face hub: found by their id, pinned to a commit, and read by HTTP ranges.
//!
//! Every answer is untrusted: its length is compared with what was asked for before a byte is taken, names that lead out
//! of the repository are refused, and the token goes to the hub's own host alone.

#![forbid(unsafe_code)]

mod access;
mod address;
mod client;
mod error;
mod model_info;
mod pause;
mod repository;

pub use access::HubAccess;
pub use error::HubError;
pub use repository::HubRepository;
