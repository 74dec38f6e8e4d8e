//! Object stores: Amazon S3 and what speaks its protocol, Google Cloud Storage and Azure Blob Storage. A prefix of one is
//! read as the checkpoint that lies there, by ranges, and written to as an output.
//!
//! Calls block, and any number of threads may make them; what is asynchronous in the library below stays in this package.

#![forbid(unsafe_code)]

mod bucket;
mod completion;
mod connector;
mod error;
mod kind;
mod location;
mod output;
mod profile;
mod repository;
mod uploads;
mod wait;

pub use bucket::Bucket;
pub use error::StoreError;
pub use kind::StoreKind;
pub use location::StoreLocation;
pub use repository::StoreRepository;
