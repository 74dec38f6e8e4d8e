#![no_main]

#[path = "../checks/fit.rs"]
mod fit;
#[path = "../checks/header.rs"]
mod header;
#[path = "../checks/message.rs"]
mod message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| header::check(data));
