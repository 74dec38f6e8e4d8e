#![no_main]

#[path = "../checks/fit.rs"]
mod fit;
#[path = "../checks/recipe.rs"]
mod recipe;

libfuzzer_sys::fuzz_target!(|data: &[u8]| recipe::check(data));
