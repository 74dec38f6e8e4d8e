//! Adapters in tables.

use crate::checkpoint::text::unquoted;

/// ` + my-adapter` behind what adapters are merged into; nothing where there are none.
pub(super) fn with_adapters(names: &[String]) -> String {
    names.iter().map(|name| format!(" + {}", unquoted(name))).collect()
}
