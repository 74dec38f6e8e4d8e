//! Numbered layers of the language model, and the layers that predict further tokens (MTP).

/// Returns the module's name up to its part `mtp`, which holds the layers that predict further tokens.
pub fn mtp_part(module: &str) -> Option<&str> {
    let mut end = 0;
    for part in module.split('.') {
        end += part.len();
        if part == "mtp" {
            return Some(&module[..end]);
        }
        end += 1;
    }
    None
}
