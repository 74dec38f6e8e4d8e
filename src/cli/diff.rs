//! `qwen-fp8 diff`.

use super::args;
use super::screen::{Failure, Screen};

pub(super) fn diff(_: &args::Diff, _: &Screen) -> Result<(), Failure> {
    Ok(())
}
