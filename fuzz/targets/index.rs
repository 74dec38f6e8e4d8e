#![no_main]

#[path = "../checks/fit.rs"]
mod fit;
#[path = "../checks/index.rs"]
mod index;
#[path = "../checks/message.rs"]
mod message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| index::check(data));
