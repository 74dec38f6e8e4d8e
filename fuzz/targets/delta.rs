#![no_main]

#[path = "../checks/delta.rs"]
mod delta;
#[path = "../checks/fit.rs"]
mod fit;
#[path = "../checks/message.rs"]
mod message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| delta::check(data));
