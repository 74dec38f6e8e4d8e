//! Adapters in tables.

use crate::checkpoint::text::unquoted;

/// The way out where adapters were merged and are not given.
pub(super) const GIVE_ADAPTERS: &str = "name each adapter with `--adapter`, in the order of the recipe";

/// ` + my-adapter` behind what adapters are merged into; nothing where there are none.
pub(super) fn with_adapters(names: &[String]) -> String {
    names.iter().map(|name| format!(" + {}", unquoted(name))).collect()
}
