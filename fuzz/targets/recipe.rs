#![no_main]

#[path = "../checks/message.rs"]
mod message;
#[path = "../checks/recipe.rs"]
mod recipe;

libfuzzer_sys::fuzz_target!(|data: &[u8]| recipe::check(data));
