//! The program that the tests start.

use std::sync::LazyLock;

static PROGRAM: LazyLock<String> =
    LazyLock::new(|| std::env::var("QWEN_FP8").unwrap_or_else(|_| env!("CARGO_BIN_EXE_qwen-fp8").to_owned()));

/// Returns the path of the program: the one that cargo has built for the tests, which is not optimized, or the one that the
/// variable `QWEN_FP8` names.
pub(crate) fn program() -> &'static str {
    &PROGRAM
}
