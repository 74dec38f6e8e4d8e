//! Models on the Hugging Face hub: found by their id, pinned to a commit, read by HTTP ranges, and brought into the
//! cache; and results that are pushed there.
//!
//! Every answer is untrusted: its length is compared with what was asked for before a byte is taken, names that lead out
//! of the repository are refused, and the token goes to the hub's own host alone.

#![forbid(unsafe_code)]

mod access;
mod address;
mod answer;
mod attempts;
mod cache;
mod client;
mod download;
mod error;
mod lfs;
mod model_info;
mod output;
mod pause;
mod push;
mod read_through;
mod repository;
mod send;
mod side_by_side;
mod tree;

pub use access::HubAccess;
pub use error::HubError;
pub use output::HubOutput;
pub use push::HubPush;
pub use repository::HubRepository;
