#![no_main]

#[path = "../checks/config.rs"]
mod config;
#[path = "../checks/fit.rs"]
mod fit;
#[path = "../checks/message.rs"]
mod message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| config::check(data));
