//! Names of heads.

use super::kind::split_name;

/// Returns whether the module is an output head.
pub fn is_head(module: &str) -> bool {
    split_name(module).1 == "lm_head"
}
