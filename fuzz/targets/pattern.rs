#![no_main]

#[path = "../checks/fit.rs"]
mod fit;
#[path = "../checks/message.rs"]
mod message;
#[path = "../checks/pattern.rs"]
mod pattern;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pattern::check(data));
