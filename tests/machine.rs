//! What the machine refuses, and how it lets the program be called: rights, limits, streams, signals.

mod environment;
mod limits;
mod permissions;
mod signals;
