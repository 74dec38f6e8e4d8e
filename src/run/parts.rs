//! A run in parts that know nothing of each other, on as many machines, and the join that publishes them.
//!
//! All that they share is a file system, of which little is asked: that a name which was renamed or made is seen by
//! others, in the end. No lock, no clock and no list of who is there is needed. Each attempt at a part writes into a
//! directory of its own name, which nobody else writes to; a record of what it wrote, put beside it by a rename, makes
//! it count. Two attempts at one part write the same bytes, and the record names one of them.
//!
//! Parts of one shard do not write into one file: clients of network file systems keep pages of it, and where the
//! pieces of two clients share a page, the one may write back what it has read of the other's before it was written. A
//! machine that was taken for dead could even write into a checkpoint that is published. So the join takes over the
//! files of parts that have ended, by a link where a shard was made whole, and by a copy where it was cut, which
//! [`deal`](super::deal) does to few.

pub use join::{Joined, join};
pub use make::{MadePart, make_part};
pub use number::PartNumber;
pub use place::parts_made;

mod assembly;
mod join;
mod make;
pub(super) mod number;
mod place;
mod published;
mod record;
