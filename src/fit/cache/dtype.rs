//! The dtype of the cache.

use std::fmt;

/// The dtype of keys and values in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheDtype {
    /// The model's own, of two bytes.
    #[default]
    Auto,
    Fp8,
}

impl CacheDtype {
    /// Bytes of one number.
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
