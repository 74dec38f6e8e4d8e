//! The dtype of the cache.

use std::fmt;

pub use crate::recipe::CacheDtype;

impl CacheDtype {
    /// Bytes of one number; the model's own have two.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Auto => 2,
            Self::Fp8 => 1,
        }
    }
}

impl fmt::Display for CacheDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Fp8 => "fp8",
        })
    }
}
