//! The dtype of the cache.

use std::fmt;

use serde_json::Value;

pub use crate::recipe::CacheDtype;

impl CacheDtype {
    /// Returns the dtype that vLLM takes from a `quantization_config` where its command asks for none.
    pub(in crate::fit) fn declared(config: &Value) -> Self {
        let method = config["quant_method"].as_str().unwrap_or_default();
        let scheme = &config["kv_cache_scheme"];
        let is_fp8 = (scheme["num_bits"].as_u64(), scheme["type"].as_str()) == (Some(8), Some("float"));
        let algorithm = config["kv_cache_quant_algo"].as_str().filter(|_| method.starts_with("modelopt"));
        let reads_scheme = method == "compressed-tensors" || method.starts_with("modelopt");
        match algorithm {
            Some(algorithm) if algorithm.eq_ignore_ascii_case("fp8") => Self::Fp8,
            _ if reads_scheme && is_fp8 => Self::Fp8,
            _ => Self::Auto,
        }
    }

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
